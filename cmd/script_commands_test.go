package cmd_test

import (
	"bytes"
	"database/sql"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/itchyny/gojq"
	"github.com/rogpeppe/go-internal/testscript"
	_ "modernc.org/sqlite" // for the sql command

	"keyctl/internal/access"
)

// scriptCommands are the commands that scripts know besides those of testscript. None of them takes a leading "!" unless
// it says so.
//
//	exits N [-tty] program args…   run it and compare its exit status; stdout and stderr are kept as exec keeps them. With
//	                               -tty standard error is the terminal of the ttyin before it, with -tty=out all output
//	clock +30s | TIME              move the script's clock
//	enrol                          enrol a second factor: its seed in the file seed, its recovery codes in recovery
//	code [FILE]                    $CODE is the code that the authenticator of the seed shows now, $WRONG one it never shows
//	nextcode                       move the clock to the next step, then code
//	let NAME FILTER FILE           set $NAME to what a jq filter finds in a JSON file
//	mask FILE                      write FILE to the file masked, with a word for everything that is drawn at random
//	fields FILE                    write the name and type of every field of a JSON file to the file fields
//	absent CREDENTIAL FILE…        none of the credential's secrets is in any of the files, in any usual encoding
//	sql FILE STATEMENT             change a store behind keyctl's back
//	flip FILE OFFSET               flip the lowest bit of one byte; a negative offset counts from the end
//	mode PERM FILE…                compare permissions
//	serve [args…]                  start keyctl serve on a free port; $URL is its address, $SERVER its process, and its log the file serve.log
//	stop                           end the server as systemd does; its exit status must be 0
//	alike N args…                  keyctl args… through the server ends with status N, and says the same as on the store itself
//	lock FILE, unlock              hold the write lock of a store, as another process that is busy writing does
//	unproven KEY                   make the newest credential of a key what it was before its proof
//	keyring [locked | none]        start a keyring; lock it; start a D-Bus session without one. Before that there is no session
//	dialogue N FILE program args…  run it on a terminal and hold the conversation in FILE: see script_unix_test.go
var scriptCommands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"exits": exits, "clock": clock, "enrol": enrol, "code": code, "nextcode": nextCode, "let": let, "mask": mask, "fields": fields,
	"absent": absent, "sql": tamper, "flip": flip, "mode": mode, "unproven": unproven, "lock": lock, "unlock": unlock,
	"serve": serve, "stop": stop, "alike": alike,
}

// without is the condition [without:PROGRAM], for skipping a script. Under CI nothing is skipped: there it is a failure.
func without(condition string) (bool, error) {
	program, ok := strings.CutPrefix(condition, "without:")
	if !ok {
		return false, fmt.Errorf("no condition %q", condition)
	}
	_, err := exec.LookPath(program)
	if err != nil && os.Getenv("CI") != "" {
		return true, err
	}
	return err != nil, nil
}

// usage ends the script unless the command was written as it should be.
func usage(ts *testscript.TestScript, neg, right bool, form string) {
	if neg || !right {
		ts.Fatalf("usage: %s", form)
	}
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) > 1, "exits N [-tty] program args…")
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	program := args[1:]
	// The terminal is closed as soon as the program ends, with whatever was not read of it yet: the shell stays a moment.
	const drained = `; status=$?; sleep 0.3; exit $status`
	switch program[0] {
	case "-tty":
		program = append([]string{"sh", "-c", `"$@" 2>/dev/tty` + drained, "sh"}, program[1:]...)
	case "-tty=out":
		program = append([]string{"sh", "-c", `"$@" >/dev/tty 2>&1` + drained, "sh"}, program[1:]...)
	}
	got := 0
	if err := ts.Exec(program[0], program[1:]...); err != nil {
		var failed *exec.ExitError
		if !errors.As(err, &failed) {
			ts.Fatalf("%s: %v", program[0], err)
		}
		got = failed.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}

// now is the script's clock.
func now(ts *testscript.TestScript) time.Time {
	at, err := time.Parse(time.RFC3339Nano, ts.Getenv(clockVar))
	ts.Check(err)
	return at
}

func clock(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 1, "clock +DURATION | TIME")
	at, err := time.Parse(time.RFC3339Nano, args[0])
	if strings.HasPrefix(args[0], "+") || strings.HasPrefix(args[0], "-") {
		var by time.Duration
		by, err = time.ParseDuration(args[0])
		at = now(ts).Add(by)
	}
	ts.Check(err)
	ts.Setenv(clockVar, at.Format(time.RFC3339Nano))
	writeClock(ts)
}

// writeClock shows servers the script's clock.
func writeClock(ts *testscript.TestScript) {
	staged := ts.MkAbs(ts.Getenv("WORK") + "/.clock.new")
	ts.Check(os.WriteFile(staged, []byte(ts.Getenv(clockVar)), 0o600))
	ts.Check(os.Rename(staged, clockFile(ts)))
}

func clockFile(ts *testscript.TestScript) string { return ts.Getenv("WORK") + "/.clock" }

func enrol(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 0, "enrol")
	ts.Check(ts.Exec("keyctl", "otp", "enroll", "-o", "json"))
	var enrolled struct{ Secret, URI string }
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &enrolled))
	ts.Check(os.WriteFile(ts.MkAbs("seed"), []byte(enrolled.Secret), 0o600))
	code(ts, false, nil)
	ts.Check(ts.Exec("keyctl", "otp", "confirm", "--otp", ts.Getenv("CODE")))
	ts.Check(os.WriteFile(ts.MkAbs("recovery"), []byte(ts.ReadFile("stdout")), 0o600))
}

func code(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) <= 1, "code [FILE]")
	file := "seed"
	if len(args) == 1 {
		file = args[0]
	}
	step := access.StepAt(now(ts))
	at := func(step int64) string { return access.CodeAt(readSeed(ts, ts.ReadFile(file)), step).Reveal() }
	ts.Setenv("CODE", at(step))
	for n := 0; ; n++ {
		wrong := fmt.Sprintf("%06d", n)
		if !slices.Contains([]string{at(step - 1), at(step), at(step + 1)}, wrong) {
			ts.Setenv("WRONG", wrong)
			return
		}
	}
}

// readSeed reads a seed as enrolment shows it.
func readSeed(ts *testscript.TestScript, text string) access.Seed {
	raw, err := base32.StdEncoding.DecodeString(strings.TrimSpace(text))
	ts.Check(err)
	seed, err := access.SeedFromBytes(raw)
	ts.Check(err)
	return seed
}

func nextCode(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 0, "nextcode")
	clock(ts, false, []string{"+" + access.Step.String()})
	code(ts, false, nil)
}

func let(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 3, "let NAME FILTER FILE")
	query, err := gojq.Parse(args[1])
	ts.Check(err)
	var input any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[2])), &input))
	result, _ := query.Run(input).Next()
	text, ok := result.(string)
	if !ok {
		ts.Fatalf("%s is %v, not text", args[1], result)
	}
	ts.Setenv(args[0], text)
}

// masks are the things that are drawn at random, each with the word for it. Words for ids are as long as ids, so that
// tables keep their columns.
var masks = []struct {
	pattern *regexp.Regexp
	word    string
}{
	{regexp.MustCompile(`\bKC[0-9A-Za-z]{22}\b`), "KC" + idMask},
	{regexp.MustCompile(`\b(key|ds|pk|op|st)_[0-9A-Za-z]{22}\b`), "${1}_" + idMask},
	{regexp.MustCompile(`\b(token +)[0-9A-Za-z]{12}\b`), "${1}<token>"},
	{regexp.MustCompile(`\b(kc[sx])_[0-9A-Za-z]{49}\b`), "${1}_<secret>"},
	{regexp.MustCompile(`\b([0-9]+):[0-9a-f]{64}\b`), "$1:<hash>"},
	{regexp.MustCompile(`"next_cursor":"[0-9A-Za-z_-]+"`), `"next_cursor":"<cursor>"`},
	{regexp.MustCompile(`\b[A-Z2-7]{32}\b`), "<seed>"},
	{regexp.MustCompile(`\b[A-Z2-7]{4}(-[A-Z2-7]{4}){5}\b`), "<recovery code>"},
}

var idMask = strings.Repeat(".", 22)

// masked replaces in text what differs from run to run, and from machine to machine.
func masked(ts *testscript.TestScript, text string) string {
	text = strings.ReplaceAll(text, ts.Getenv("WORK"), "$WORK")
	for _, m := range masks {
		text = m.pattern.ReplaceAllString(text, m.word)
	}
	// The operator is named after the OS user.
	if u, err := user.Current(); err == nil && u.Username != "" {
		named := regexp.MustCompile(`("(?:created_by|operator)": ?"|by |operator +|created_by: |Z,|totp/keyctl:)` + regexp.QuoteMeta(u.Username) + `\b`)
		text = named.ReplaceAllString(text, "${1}<user>")
	}
	return text
}

func mask(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 1, "mask FILE")
	ts.Check(os.WriteFile(ts.MkAbs("masked"), []byte(masked(ts, ts.ReadFile(args[0]))), 0o600))
}

func fields(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 1, "fields FILE")
	var document any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &document))
	var lines []string
	describe("", document, func(line string) { lines = append(lines, line+"\n") })
	slices.Sort(lines)
	ts.Check(os.WriteFile(ts.MkAbs("fields"), []byte(strings.Join(slices.Compact(lines), "")), 0o600))
}

// describe names every field below a JSON value with its type.
func describe(path string, value any, line func(string)) {
	switch v := value.(type) {
	case map[string]any:
		if len(v) == 0 {
			line(path + " {}")
		}
		for name, member := range v {
			describe(path+"."+name, member, line)
		}
	case []any:
		if len(v) == 0 {
			line(path + " []")
		}
		for _, element := range v {
			describe(path+"[]", element, line)
		}
	case nil:
		line(path + " null")
	case float64:
		line(path + " number")
	default:
		line(fmt.Sprintf("%s %T", path, v))
	}
}

// absent looks for secrets where they must not be: as they are, in hex and base64, and either half alone.
func absent(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) > 1, "absent CREDENTIAL FILE…")
	secrets := regexp.MustCompile(`kc[sx]_[0-9A-Za-z]{49}`).FindAllString(ts.ReadFile(args[0]), -1)
	if len(secrets) == 0 {
		ts.Fatalf("%s holds no secret", args[0])
	}
	for _, file := range args[1:] {
		content := []byte(ts.ReadFile(file))
		for _, secret := range secrets {
			raw := []byte(secret)
			half := len(raw) / 2
			for form, needle := range map[string][]byte{
				"as it is": raw, "its first half": raw[4:half], "its second half": raw[half:],
				"in hex": []byte(hex.EncodeToString(raw[4:])), "in base64": base64.RawStdEncoding.AppendEncode(nil, raw[:51]),
			} {
				if bytes.Contains(content, needle) {
					ts.Fatalf("%s holds a secret of %s, %s", file, args[0], form)
				}
			}
		}
	}
}

func tamper(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 2, "sql FILE STATEMENT")
	change(ts, args[0], args[1])
}

// change runs a statement on a database file and closes it again.
func change(ts *testscript.TestScript, file, statement string, values ...any) {
	db, err := sql.Open("sqlite", ts.MkAbs(file))
	ts.Check(err)
	_, err = db.Exec(statement, values...)
	ts.Check(errors.Join(err, db.Close()))
}

func flip(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 2, "flip FILE OFFSET")
	offset, err := strconv.Atoi(args[1])
	ts.Check(err)
	content, err := os.ReadFile(ts.MkAbs(args[0]))
	ts.Check(err)
	if offset < 0 {
		offset += len(content)
	}
	content[offset] ^= 1
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), content, 0o600))
}

func mode(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) > 1, "mode PERM FILE…")
	for _, file := range args[1:] {
		info, err := os.Stat(ts.MkAbs(file))
		ts.Check(err)
		if got := fmt.Sprintf("%04o", info.Mode().Perm()); got != args[0] {
			ts.Fatalf("%s has mode %s, want %s", file, got, args[0])
		}
	}
}

// unproven plays a command that died between hand-over and proof: it takes back what the proof wrote.
func unproven(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 1, "unproven KEY")
	const newest = `(SELECT max(seq) FROM credentials WHERE key_id = (SELECT id FROM keys WHERE name = $1 AND deleted_at IS NULL))`
	store := ts.Getenv("STORE")
	change(ts, store, `UPDATE credentials SET proven_at = NULL, previous = NULL WHERE seq = `+newest, args[0])
	change(ts, store, `UPDATE credentials SET grace_until = NULL, ended_at = NULL, ended_as = NULL WHERE generation =
		(SELECT generation - 1 FROM credentials WHERE seq = `+newest+`) AND key_id = (SELECT key_id FROM credentials WHERE seq = `+newest+`)`, args[0])
	const first = `name = $1 AND deleted_at IS NULL AND 1 = (SELECT count(*) FROM credentials WHERE key_id = keys.id)`
	change(ts, store, `UPDATE keys SET activated_at = NULL WHERE `+first, args[0])
	change(ts, store, `UPDATE datasets SET first_key_id = (SELECT id FROM keys WHERE `+first+`)
		WHERE name = $1 AND id IN (SELECT dataset_id FROM key_datasets WHERE key_id = (SELECT id FROM keys WHERE `+first+`))`, args[0])
}

// lockKey is the key of the *sql.Tx that a script holds.
type lockKey struct{}

// held is a script's value of lockKey.
type held struct{ tx *sql.Tx }

func lock(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 1, "lock FILE")
	db, err := sql.Open("sqlite", "file:"+ts.MkAbs(args[0])+"?_txlock=immediate")
	ts.Check(err)
	ts.Defer(func() { _ = db.Close() })
	ts.Value(lockKey{}).(*held).tx, err = db.Begin()
	ts.Check(err)
}

func unlock(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 0, "unlock")
	ts.Check(ts.Value(lockKey{}).(*held).tx.Rollback())
}
