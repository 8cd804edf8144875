//go:build unix

package cmd

import (
	"bytes"
	"database/sql"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/term"

	"keyctl/internal/access"
	keyctlterm "keyctl/internal/term"
)

// console is a terminal with keyctl, or a shell, running on it: what types, and remembers everything that was shown.
type console struct {
	w      *world
	c      *exec.Cmd
	master *os.File
	tty    *os.File // the terminal's own end, kept open to look at its modes
	before term.State
	shown  *watcher
	read   int // how much of what was shown was expected so far
	done   chan struct{}
	now    func() time.Time // the time it runs at
	seed   access.Seed      // that it enrolled
}

// sit starts keyctl on a terminal of its own, as a shell does: one that can do everything and answers nothing.
func (w *world) sit(args ...string) *console {
	w.t.Helper()
	return w.seat(w.command(args...), 120)
}

// seat starts a prepared command on a terminal of so many columns. What it has in its environment counts.
func (w *world) seat(c *exec.Cmd, columns int) *console {
	w.t.Helper()
	master, tty, err := pty.Open()
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { master.Close(); tty.Close() })
	if err := pty.Setsize(master, &pty.Winsize{Rows: 40, Cols: uint16(columns)}); err != nil {
		w.t.Fatal(err)
	}
	s := &console{w: w, c: c, master: master, tty: tty, shown: newWatcher("\x00 never"), done: make(chan struct{}), now: time.Now}
	s.before = s.modes()
	s.c.Stdin, s.c.Stdout, s.c.Stderr = tty, tty, tty
	// What the command says of its terminal comes last, and counts.
	s.c.Env = append([]string{"TERM=xterm-256color", "COLORTERM=truecolor", "LANG=C.UTF-8"}, c.Env...)
	s.c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := s.c.Start(); err != nil {
		w.t.Fatal(err)
	}
	go func() {
		defer close(s.done)
		buffer := make([]byte, 4096)
		for {
			n, err := master.Read(buffer)
			_, _ = s.shown.Write(buffer[:n])
			if err != nil {
				return
			}
		}
	}()
	return s
}

func (s *console) modes() term.State {
	s.w.t.Helper()
	state, err := term.GetState(int(s.tty.Fd()))
	if err != nil {
		s.w.t.Fatal(err)
	}
	return *state
}

// expect waits until the screen shows a text, below what was expected before.
func (s *console) expect(text string) *console {
	s.w.t.Helper()
	for deadline := time.Now().Add(hang); ; time.Sleep(2 * time.Millisecond) {
		shown := s.shown.String()
		if at := strings.Index(shown[s.read:], text); at >= 0 {
			s.read += at + len(text)
			return s
		}
		if time.Now().After(deadline) {
			_ = s.c.Process.Kill()
			s.w.t.Fatalf("keyctl %s shows %q, want %q on the screen", strings.Join(s.c.Args[1:], " "), shown, text)
		}
	}
}

func (s *console) types(text string) *console {
	s.w.t.Helper()
	if _, err := s.master.WriteString(text); err != nil {
		s.w.t.Fatal(err)
	}
	return s
}

// ends waits for the end and checks the exit status, and that the terminal is as it was.
func (s *console) ends(status int) string {
	s.w.t.Helper()
	s.w.wait(s.c)
	if got := s.c.ProcessState.ExitCode(); got != status {
		s.w.t.Errorf("keyctl %s = exit %d, want %d; the screen shows:\n%s", strings.Join(s.c.Args[1:], " "), got, status, s.shown)
	}
	if s.modes() != s.before {
		s.w.t.Errorf("keyctl %s left the terminal in another mode", strings.Join(s.c.Args[1:], " "))
	}
	s.tty.Close()
	select {
	case <-s.done:
	case <-time.After(hang):
		s.w.t.Error("the terminal stays open")
	}
	return s.shown.String()
}

const (
	ctrlC = "\x03"
	ctrlD = "\x04"
)

// prompts are all of keyctl's: how to get to each, and what it says.
var prompts = []struct {
	name string
	args string
	path []string // what is shown and typed in turn on the way there
	says string
	otp  bool // a second factor is enrolled
	// enrols says that the prompt comes after a seed was drawn and shown: the log tells that, nothing else has changed.
	enrols bool
}{
	{"expiry", "roll web-01 --out new.env", nil, "or a date: ", true, false},
	{"another expiry", "roll web-01 --out new.env", []string{"or a date: ", "soon\r"}, "or a date: ", true, false},
	{"code", "roll web-01 --expire 1h --out new.env", nil, "s left): ", true, false},
	{"another code", "roll web-01 --expire 1h --out new.env", []string{"s left): ", "123\r"}, "s left): ", true, false},
	{"code after expiry", "roll web-01 --out web-01.env --replace", []string{"or a date: ", "3\r"}, "s left): ", true, false},
	{"roll now", "roll web-01 --expire now", nil, "Type web-01 to confirm: ", true, false},
	{"yes or no", "keys disable web-01", nil, "[y/N]: ", true, false},
	{"name", "keys delete web-01", nil, "Type web-01 to confirm: ", true, false},
	{"detach", "datasets detach payments web-01", nil, "[y/N]: ", true, false},
	{"finish", "rolls finish web-02", nil, "[y/N]: ", true, false},
	{"dataset", "datasets delete payments --detach", nil, "Type payments to confirm: ", true, false},
	{"Primary Key", "primary-keys disable payments", nil, "Type payments to confirm: ", true, false},
	{"code after name", "primary-keys disable payments", []string{"to confirm: ", "payments\r"}, "s left): ", true, false},
	{"shut out", "keys edit web-02 --ip 10.0.0.0/8", nil, "Type web-02 to confirm: ", true, false},
	{"restore", "restore store.backup", nil, "Type keyctl.db to confirm: ", true, false},
	{"extend", "rolls extend web-02 --expire 2h", nil, "s left): ", true, false},
	{"new recovery codes", "otp recovery-codes", nil, "s left): ", true, false},
	{"recovery code", "otp reset", nil, "none left): ", true, false},
	{"break glass", "otp reset", []string{"none left): ", "\r"}, "to confirm: ", true, false},
	{"cancel", "rolls cancel web-02", nil, "s left): ", true, false},
	{"enrol on the spot", "roll web-01 --out new.env", nil, "Enrol one now? [y/N]: ", false, false},
	{"code on the spot", "roll web-01 --out new.env", []string{"[y/N]: ", "y\r"}, "s left): ", false, true},
	{"enrolment", "otp enroll", nil, "s left): ", false, true},
	{"another code of an enrolment", "otp enroll", []string{"s left): ", "123\r"}, "s left): ", false, true},
	{"confirm", "otp confirm", nil, "s left): ", false, false},
}

// At every prompt Ctrl-C and Ctrl-D end the command at once: exit 130, nothing changed, no file left, and the terminal as
// it was before.
func TestPromptsCanBeLeft(t *testing.T) {
	for _, enrolled := range []bool{true, false} {
		w := newWorld(t)
		var phone *authenticator
		if enrolled {
			phone = w.enrol()
		}
		w.ok("datasets", "create", "payments", "--no-key")
		for _, name := range []string{"web-01", "web-02"} {
			w.ok("keys", "create", name, "--dataset", "payments", "--out", name+".env")
		}
		if enrolled {
			w.ok("roll", "web-02", "--expire", "1h", "--otp", phone.code(), "--out", "web-02.env", "--replace")
			w.used("203.0.113.9")
			w.ok("backup", "store.backup")
		} else {
			w.ok("otp", "enroll")
		}
		files := strings.Join(w.files(w.dir), " ")
		copied := w.read(w.path("web-01.env"))
		for _, prompt := range prompts {
			if prompt.otp != enrolled {
				continue
			}
			for name, key := range map[string]string{"Ctrl-C": ctrlC, "Ctrl-D": ctrlD, "Ctrl-C after text": "web" + ctrlC} {
				t.Run(prompt.name+" "+name, func(t *testing.T) {
					w := *w
					w.t = t
					before := w.contents()
					s := w.sit(strings.Fields(prompt.args)...)
					for i := 0; i < len(prompt.path); i += 2 {
						s.expect(prompt.path[i]).types(prompt.path[i+1])
					}
					screen := s.expect(prompt.says).types(key).ends(exitInterrupted)
					if !strings.Contains(screen, "keyctl: interrupted") {
						t.Errorf("the screen shows %q, want it to say that the command was interrupted", screen)
					}
					if diff := cmp.Diff(before, w.contents()); diff != "" && !prompt.enrols {
						t.Errorf("the store was changed:\n%s", diff)
					}
					if got := strings.Join(w.files(w.dir), " "); got != files || w.read(w.path("web-01.env")) != copied {
						t.Errorf("the files are %q, want %q, unchanged", got, files)
					}
				})
			}
		}
		if !enrolled && strings.Contains(w.ok("otp", "status", "-o", "json"), `"enrolled": true`) {
			t.Error("an enrolment that was left is in force")
		}
	}
}

// contents is everything that is in the store, a line a row.
func (w *world) contents() (rows []string) {
	w.t.Helper()
	db := openSQL(w.t, w.store())
	defer db.Close()
	for _, table := range queryRows(w.t, db, "SELECT name FROM sqlite_schema WHERE type = 'table'") {
		for _, row := range queryRows(w.t, db, "SELECT * FROM "+table) {
			rows = append(rows, table+": "+row)
		}
	}
	slices.Sort(rows)
	return rows
}

// queryRows returns the rows that a query finds, each as one text.
func queryRows(t testing.TB, db *sql.DB, query string) (texts []string) {
	t.Helper()
	rows, err := db.Query(query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	values, targets := make([]sql.NullString, len(columns)), make([]any, len(columns))
	for i := range values {
		targets[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(targets...); err != nil {
			t.Fatal(err)
		}
		cells := make([]string, len(values))
		for i, v := range values {
			cells[i] = v.String
		}
		texts = append(texts, strings.Join(cells, " | "))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return texts
}

// used makes all credentials look as if they had just been used from an address.
func (w *world) used(from string) {
	w.t.Helper()
	db := openSQL(w.t, w.store())
	if _, err := db.Exec("UPDATE credentials SET last_used_at = $1, last_used_from = $2", time.Now().UnixMicro(), from); err != nil {
		w.t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		w.t.Fatal(err)
	}
}

// A recovery code is not shown while it is typed, neither is a wrong one.
func TestR2_RecoveryCodeIsNotEchoed(t *testing.T) {
	w := newWorld(t)
	phone := w.enrol()
	wrong := strings.Repeat("ABCD-", 5) + "ABCD"
	screen := w.sit("otp", "reset").expect("none left): ").types(wrong + "\r").ends(exitSecondFactor)
	if strings.Contains(screen, wrong) {
		t.Errorf("the screen shows %q, want no code on it", screen)
	}
	screen = w.sit("otp", "reset").expect("none left): ").types(phone.recovery[3] + "\r").ends(exitOK)
	c := newCanaries(t)
	c.addAuthenticator(phone)
	c.Absent("the screen", []byte(screen))
	if !strings.Contains(w.ok("otp", "status", "-o", "json"), `"enrolled": false`) {
		t.Error("the second factor is still there")
	}
}

// colour is the only kind of sequence that keyctl sends to a terminal.
var colour = regexp.MustCompile(`\x1b\[[0-9;]*m`)

// Nothing is ever asked of the terminal itself, neither its background (ESC ]) nor its kind (ESC [ c) nor the place of
// the cursor (ESC [ 6 n): one that does not answer, as this one, would hold keyctl up.
func TestTerminalIsNeverQueried(t *testing.T) {
	w := newWorld(t)
	w.ok("init")
	screens := map[string]string{"otp enroll": w.sit("otp", "enroll").enrols().ends(exitOK)}
	w.ok("otp", "reset", "--yes")
	w.ok("datasets", "create", "payments", "--no-key")
	w.ok("keys", "create", "web-01", "--dataset", "payments", "--ip", "10.0.0.0/8", "--out", "web-01.env")
	screens["roll, enrolling"] = w.sit("roll", "web-01").expect("[y/N]: ").types("y\r").enrols().expect("or a date: ").types("24h\r").
		expect("s left): ").types("123\r").expect("s left): ").types(ctrlC).ends(exitInterrupted)
	w.ok("otp", "reset", "--yes")
	phone := w.enrol()
	screens["roll"] = w.sit("roll", "web-01").expect("or a date: ").types("24h\r").expect("s left): ").types(phone.code() + "\r").ends(exitOK)
	for _, run := range []struct {
		line   string
		status int
	}{
		{"keys list", exitOK}, {"keys show web-01", exitOK}, {"keys list --color always", exitOK}, {"rolls list", exitOK},
		{"rolls show web-01", exitOK}, {"datasets list", exitOK}, {"datasets show payments", exitOK}, {"otp status", exitOK},
		{"audit list", exitOK}, {"audit verify", exitOK}, {"keys create web-02", exitOK}, {"keys create web-03 --format text", exitOK},
		{"keys create web-04 --out web-04.env", exitOK}, {"datasets create archive", exitOK}, {"primary-keys list", exitOK},
		{"verify web-01 --ip 192.0.2.1", exitNegative}, {"backup store.backup", exitOK}, {"restore store.backup --yes", exitOK},
		{"--help", exitOK}, {"keys create --help", exitOK}, {"help exit-codes", exitOK}, {"version", exitOK},
		{"keys show nope", exitNotFound}, {"keys lst", exitUsage}, {"keys list --nope", exitUsage}, {"session", exitUsage},
	} {
		screens[run.line] = w.sit(strings.Fields(run.line)...).ends(run.status)
	}
	coloured := false
	for line, screen := range screens {
		if rest := colour.ReplaceAllString(screen, ""); strings.ContainsAny(rest, "\x1b\u0090\u009b\u009d") {
			t.Errorf("keyctl %s sent the terminal %q", line, rest)
		}
		coloured = coloured || colour.MatchString(screen)
	}
	if !coloured {
		t.Error("there was no colour: the terminal was not taken for one")
	}
	if !strings.Contains(screens["keys create web-02"], "╰─") || !strings.Contains(screens["roll"], "works until") {
		t.Errorf("keys create shows %q and roll %q, want a box and what becomes of the old credential", screens["keys create web-02"], screens["roll"])
	}
}

var uriOnScreen = regexp.MustCompile(`otpauth://totp/\S+secret=([A-Z2-7]{32})\S+`)

// enrols goes through an enrolment, and checks that the QR code on the screen is the one of the URI on it.
func (s *console) enrols() *console {
	s.w.t.Helper()
	s.expect("s left): ")
	shown := s.shown.String()
	uri := uriOnScreen.FindStringSubmatch(shown)
	if uri == nil {
		s.w.t.Fatalf("the screen shows %q, want a URI", shown)
	}
	var code bytes.Buffer
	if _, err := keyctlterm.QR(&code, keyctlterm.Surface{Width: 60, Color: true, Unicode: true}, uri[0]); err != nil {
		s.w.t.Fatal(err)
	}
	if !strings.Contains(shown, strings.ReplaceAll(code.String(), "\n", "\r\n")+"Authenticator code (") {
		s.w.t.Errorf("the screen shows %q, want the QR code of %q right above the prompt", shown, uri[0])
	}
	s.seed = seedFromText(s.w.t, uri[1])
	return s.types(access.CodeAt(s.seed, access.StepAt(s.now())).Reveal() + "\r").expect("keep them apart")
}
