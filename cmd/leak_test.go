//go:build unix

package cmd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"keyctl/internal/credential"
	"keyctl/internal/keyringtest"
)

// sweep is a line for every command of the tree: reading ones first, then those that change what the canaries belong to.
// CODE stands for an authenticator code, which works once; with a spent one a command is refused, and that is seen too.
var sweep = []string{
	"keys", "keys list", "keys show web-01", "rolls list", "rolls show web-01", "datasets list", "datasets show payments",
	"primary-keys list", "primary-keys show payments", "otp", "otp status", "audit", "audit list", "audit head", "audit verify",
	"audit export", "doctor", "verify web-01", "verify --from web-01.env", "run --from web-01.env -- true", "credentials",
	"credentials list", "credentials show web-01", "credentials check web-01", "run --key web-01 -- true",
	"encrypt --from payments.env data --out FORMAT.enc", "decrypt --from payments.env json.enc", "usage", "usage --key payments",
	"credentials remove web-01 --yes", "version", "completion bash", "help secrets", "init",
	"dataset-formats", "exit-codes", "environment", "formatting", "secrets", "keys activate --from web-01.env", "keys activate --from old.env",
	"keys create web-02 --if-not-exists", "keys edit web-01 --label seen=yes", "keys disable web-02 --yes", "keys enable web-02",
	"roll web-01 --expire 1h --otp CODE --finish-previous", "keys roll web-01 --expire 1h --otp CODE --finish-previous",
	"rolls extend web-01 --expire 30m", "rolls cancel web-01 --otp CODE", "rolls finish web-01 --yes",
	"datasets create archive", "datasets create ssn --preset ssn", "datasets rotate ssn", "datasets edit payments --description seen", "datasets attach payments web-02", "datasets detach payments web-02 --yes",
	"primary-keys create shared", "primary-keys rotate payments", "primary-keys disable payments --otp CODE --yes", "primary-keys enable payments", "otp confirm --otp CODE",
	"otp recovery-codes --otp CODE", "otp reset --otp CODE", "otp reset --yes", "otp enroll", "backup backup.FORMAT", "restore backup.table --yes",
	"rolls", "datasets", "primary-keys", "keys delete web-02 --yes", "datasets delete archive --yes --detach", "",
	"clipboard-clear", "whoami", "operators", "operators create ann --role ci", "operators list", "operators show ann",
	"operators edit ann --role auditor", "operators edit ann --role owner --otp CODE", "operators disable ann --yes",
	"operators enable ann", "tokens", "tokens create --out FORMAT.token", "tokens list", "tokens revoke TOKEN --yes",
	"operators delete ann --yes", "context", "context add far --server https://h.example.com --token env:T", "context list",
	"context use --none", "context remove far", "login http://127.0.0.1:1", "logout", "serve --listen nowhere",
	"migrate --to sqlite:other.db",
}

// refusedLines never succeed: there is a store already, nothing is on standard input, no server is there, the server would not
// end, or there is no PostgreSQL (TestMigrate has one).
var refusedLines = []string{
	"init", "clipboard-clear", "login http://127.0.0.1:1", "logout", "serve --listen nowhere", "migrate --to sqlite:other.db",
}

// TestR1_SecretsAreShownOnce runs every command, in every format, after the secrets were shown: none shows them again.
func TestR1_SecretsAreShownOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	phone := w.enrol()
	c := newCanaries(t)
	c.addAuthenticator(phone)
	c.addMasterKey(w.read(w.masterKey()))
	w.ok("datasets", "create", "payments", "--out", "payments.env")
	w.ok("keys", "create", "web-01", "--out", "old.env")
	w.ok("roll", "web-01", "--expire", "24h", "--otp", phone.code(), "--out", "web-01.env")
	w.ok("keys", "create", "web-02", "--out", "web-02.env")
	for _, file := range []string{"payments.env", "old.env", "web-01.env", "web-02.env"} {
		c.addCredential(w.read(w.path(file)))
	}
	w.ok("tokens", "create", "--out", "me.token")
	token := credential.NewSecret(strings.TrimSpace(w.read(w.path("me.token"))))
	c.Add("operator token", token.Reveal(), nil)
	tokenID, err := credential.OperatorTokenID(token)
	if err != nil {
		t.Fatal(err)
	}
	ring := keyringtest.Missing() == nil || os.Getenv("CI") == "true"
	if ring {
		w.keyring()
		w.remember("web-01", "web-01.env")
	}
	w.write("data", "what is encrypted")
	swept := map[string]bool{}
	for _, line := range sweep {
		worked := false
		for _, format := range outputs {
			args := strings.Fields(strings.NewReplacer("CODE", phone.now(), "FORMAT", format, "TOKEN", tokenID).Replace(line))
			r := w.run(append(args, "-o", format, "-v")...)
			worked = worked || r.status == exitOK
			where := fmt.Sprintf("keyctl %s -o %s", line, format)
			c.Absent(where+": standard output", []byte(r.out))
			c.Absent(where+": standard error", []byte(r.err))
		}
		refused := slices.Contains(refusedLines, line)
		needsRing := strings.HasPrefix(line, "credentials ") || strings.HasPrefix(line, "run --key")
		if !worked && !strings.Contains(line, "CODE") && !refused && (ring || !needsRing) {
			t.Errorf("keyctl %s never succeeded: that it shows no secret proves nothing", line)
		}
		swept[commandPath(t, line)] = true
	}
	everyCommand(newRoot(newApp(&System{})), func(command *cobra.Command) {
		if !swept[command.CommandPath()] {
			t.Errorf("%q is not in the sweep", command.CommandPath())
		}
	})
}

// now is the code that the phone shows, spent or not.
func (p *authenticator) now() string {
	p.last-- // code counts on from the one given last
	return p.code()
}

// commandPath finds the command that a line runs.
func commandPath(t *testing.T, line string) string {
	t.Helper()
	c, _, err := newRoot(newApp(&System{})).Find(strings.Fields(line))
	if err != nil {
		t.Fatal(err)
	}
	return c.CommandPath()
}

// everyCommand walks the command tree.
func everyCommand(c *cobra.Command, visit func(*cobra.Command)) {
	visit(c)
	for _, child := range c.Commands() {
		everyCommand(child, visit)
	}
}

// flagsOf lists the flags of a command, those of all commands only with the root.
func flagsOf(c *cobra.Command) (names []string) {
	c.LocalFlags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	return names
}

// A secret pasted where something else belongs is not repeated: the error may end in a log (R2).
func TestR2_ErrorsRepeatNoSecret(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.ok("keys", "create", "web-01", "--out", "web-01.env")
	secret := parseCredential(t, w.read(w.path("web-01.env")), "").SigningKey.Reveal()
	c := newCanaries(t)
	c.addCredential(w.read(w.path("web-01.env")))
	lines := []string{"--SECRET", "-SECRET", "verify --ip SECRET web-01", "keys list --name [SECRET", "web-01=SECRET"}
	everyCommand(newRoot(newApp(&System{})), func(command *cobra.Command) {
		path := strings.TrimSpace(strings.TrimPrefix(command.CommandPath(), "keyctl"))
		lines = append(lines, path+" SECRET", path+" SECRET SECRET SECRET", path+" --nope=SECRET")
		for _, flag := range flagsOf(command) {
			lines = append(lines, path+" --"+flag+"=SECRET")
			// Arguments are refused before the flag's value is used; that it was parsed, the line above has seen.
			for _, args := range []string{"web-01", "web-01 web-02"} {
				if command.ValidateArgs(strings.Fields(args)) == nil {
					lines = append(lines, path+" "+args+" --"+flag+"=SECRET")
				}
			}
		}
	})
	for i, line := range lines {
		if strings.Contains(line, "--otp-command") {
			continue // a shell runs it, and says in its own words that there is no such program
		}
		command := w.command(strings.Fields(strings.ReplaceAll(line, "SECRET", secret))...)
		command.Env = append(slices.Clone(w.env), "KEYCTL_OUTPUT="+outputs[i%2])
		r := w.finish(command)
		if r.status == exitOK {
			continue // it was taken for a description, or the help was shown
		}
		c.Absent("keyctl "+line+": standard error", []byte(r.err))
		c.Absent("keyctl "+line+": standard output", []byte(r.out))
	}
}

// TestR2_NoSecretsAtRest uses everything that handles secrets and then reads everything that was written or can be seen
// from outside.
func TestR2_NoSecretsAtRest(t *testing.T) {
	w := newWorld(t)
	phone := w.enrol()
	c := newCanaries(t)
	c.addAuthenticator(phone)
	c.addMasterKey(w.read(w.masterKey()))
	reader := w.holdOpen() // so that the write-ahead log stays, with everything in it
	defer reader()
	mine := []string{w.masterKey()} // files that hold a secret because they are there for it
	show := func(r result) {
		c.Absent("standard error", []byte(r.err))
	}
	for _, name := range []string{"web-01", "web-02", "web-03"} {
		show(w.run("keys", "create", name, "--out", name+".env", "-v"))
		mine = append(mine, w.path(name+".env"))
		c.addCredential(w.read(w.path(name + ".env")))
	}
	rolled := w.run("roll", "web-01", "--expire", "1h", "--otp", phone.code(), "-v")
	rolled.wants(t, exitOK, "roll")
	c.addCredential(rolled.out)
	show(rolled)
	w.ok("datasets", "create", "payments", "--no-key")
	show(w.run("keys", "delete", "web-03", "--yes", "-v"))
	show(w.run("verify", "--from", "web-03.env", "-v"))
	show(w.run("otp", "reset", "--recovery-code-file", w.write("recovery", phone.recovery[0]), "-v"))
	mine = append(mine, w.path("recovery"))
	w.write("export", w.ok("audit", "export"))
	show(w.run("backup", "backup", "-v"))
	seen := w.search(c, mine)
	for _, want := range []string{"keyctl.db", "keyctl.db-wal", "backup", "export"} {
		if !slices.ContainsFunc(seen, func(path string) bool { return filepath.Base(path) == want }) {
			t.Errorf("there was no %s to search: %q", want, seen)
		}
	}
	// R49: what was deleted is gone from the file also when the log is folded into it.
	reader()
	w.ok("keys", "disable", "web-02", "--yes")
	w.search(c, mine)
}

// holdOpen keeps an old state of the store in use, so that no process empties the write-ahead log.
func (w *world) holdOpen() (release func()) {
	w.t.Helper()
	db := openSQL(w.t, w.store())
	tx, err := db.Begin()
	if err != nil {
		w.t.Fatal(err)
	}
	var n int
	if err := tx.QueryRow("SELECT count(*) FROM sqlite_schema").Scan(&n); err != nil {
		w.t.Fatal(err)
	}
	return func() {
		_ = tx.Rollback()
		_ = db.Close()
	}
}

// search looks for canaries in every file of the world but those that are meant to hold one, and returns what it read.
func (w *world) search(c *canaries, except []string) (seen []string) {
	w.t.Helper()
	err := filepath.WalkDir(w.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || slices.Contains(except, path) {
			return err
		}
		content, err := os.ReadFile(path)
		c.Absent(path, content)
		seen = append(seen, path)
		return err
	})
	if err != nil {
		w.t.Error(err)
	}
	return seen
}

// Other users see the command line of every process, and children are given an environment: neither holds a secret. Both
// programs that keyctl runs, for the master key and for a code, wait here until they were looked at.
func TestR2_NoSecretsInProcesses(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc")
	}
	w := newWorld(t)
	phone := w.enrol()
	w.ok("keys", "create", "web-01", "--out", "web-01.env")
	c := newCanaries(t)
	c.addAuthenticator(phone)
	c.addMasterKey(w.read(w.masterKey()))
	c.addCredential(w.read(w.path("web-01.env")))
	master := strings.TrimSpace(w.read(w.masterKey()))
	w.write("code", phone.code())
	const pause = `touch NAME.here; while [ ! -e NAME.go ]; do sleep 0.01; done; cat FILE`
	script := func(name, file string) string { return strings.NewReplacer("NAME", name, "FILE", file).Replace(pause) }
	for _, source := range []struct {
		name, flag string
		env        []string
		pauses     []string
	}{
		{"command", "command:" + script("master", w.masterKey()), nil, []string{"master", "otp"}},
		{"environment", "env:KEYCTL_MASTER_KEY", []string{"KEYCTL_MASTER_KEY=" + master}, []string{"otp"}},
		{"variable", "env:OTHER_NAME", []string{"OTHER_NAME=" + master}, []string{"otp"}},
	} {
		command := w.command("roll", "web-01", "--expire", "1h", "--master-key", source.flag, "--otp-command", script("otp", "code"), "--out", source.name, "-v")
		command.Env = append(slices.Clone(w.env), source.env...)
		words := newWatcher("proved")
		command.Stderr = words
		if err := command.Start(); err != nil {
			t.Fatal(err)
		}
		for _, name := range source.pauses {
			waitForFile(t, w.path(name+".here"))
			children := childrenOf(t, command.Process.Pid)
			if len(children) == 0 {
				t.Error("no child process was found")
			}
			c.Absent("the command line", procFile(t, command.Process.Pid, "cmdline"))
			if len(source.env) == 0 {
				c.Absent("the environment", procFile(t, command.Process.Pid, "environ"))
			}
			for _, pid := range children {
				c.Absent("a child's command line", procFile(t, pid, "cmdline"))
				c.Absent("a child's environment", procFile(t, pid, "environ"))
			}
			w.search(c, []string{w.masterKey(), w.path("web-01.env")})
			w.write(name+".go", "")
		}
		w.wait(command)
		for _, name := range source.pauses {
			_ = os.Remove(w.path(name + ".here"))
			_ = os.Remove(w.path(name + ".go"))
		}
		if source.name == "command" {
			result{err: words.String(), status: command.ProcessState.ExitCode()}.wants(t, exitOK, "roll")
			if err := os.Remove(w.path(source.name)); err != nil {
				t.Error(err)
			}
			w.ok("rolls", "finish", "web-01", "--yes")
		}
	}
}

func waitForFile(t *testing.T, path string) {
	t.Helper()
	for deadline := time.Now().Add(hang); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(path); err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s never appeared", path)
		}
	}
}

// childrenOf returns the processes below a process.
func childrenOf(t *testing.T, pid int) (below []int) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, stat := range stats {
		content, err := os.ReadFile(stat)
		if err != nil {
			continue // it has ended
		}
		var child, parent int
		_, after, _ := strings.Cut(string(content), ") ")
		if _, err := fmt.Sscanf(after, "%s %d", new(string), &parent); err != nil || parent != pid {
			continue
		}
		if child, err = strconv.Atoi(filepath.Base(filepath.Dir(stat))); err == nil {
			below = append(append(below, child), childrenOf(t, child)...)
		}
	}
	return below
}

// procFile reads what the system tells about a process. Of a process that allows no dumps it tells only root.
func procFile(t *testing.T, pid int, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), name))
	if err != nil && !os.IsPermission(err) && !os.IsNotExist(err) && !errors.Is(err, syscall.ESRCH) { // it ended while it was read
		t.Error(err)
	}
	return content
}
