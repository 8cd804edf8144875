//go:build unix

package cmd

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"keyctl/internal/config"
	"keyctl/internal/credential"
	"keyctl/internal/desktoptest"
	"keyctl/internal/term"
)

// atDesktop moves the world to a desktop.
func (w *world) atDesktop(d *desktoptest.Desktop) { w.env = d.Environ(w.env) }

// inPlaceOf makes a script what everything in the world finds under the name of a program.
func (w *world) inPlaceOf(program, script string) {
	w.t.Helper()
	desktoptest.Script(w.t, w.path("tmp"), program, script)
	w.env = append(slices.Clone(w.env), "PATH="+w.path("tmp")+":"+os.Getenv("PATH"))
}

// pasted reads the credential on a clipboard.
func (w *world) pasted(d *desktoptest.Desktop) credential.Credential {
	w.t.Helper()
	return parseCredential(w.t, d.Paste("xsel"), "")
}

// clearing prepares the command that clears the clipboard, as the sink starts it.
func (w *world) clearing(d *desktoptest.Desktop, text string, wait time.Duration) *exec.Cmd {
	w.t.Helper()
	mark, err := term.NewClipMark(rand.Reader, credential.NewSecret(text))
	if err != nil {
		w.t.Fatal(err)
	}
	c := w.command(clipboardClear)
	c.Env, c.Stdin = d.Environ(w.env), strings.NewReader(fmt.Sprintf("%s %s\n", mark, wait))
	return c
}

// R30: from the command that fills the clipboard to its clearing, 45 seconds after, when that command is long gone.
func TestR30_ClipboardIsCleared(t *testing.T) {
	d, w := desktoptest.X11(t), newWorld(t)
	w.atDesktop(d)
	phone := w.enrol()
	d.Copy("xclip", "from before")
	c := newCanaries(t)
	c.addMasterKey(w.read(w.masterKey()))
	w.env = append(w.env, "KEYCTL_MASTER_KEY="+strings.TrimSpace(w.read(w.masterKey())), "CI=true")

	// A roll takes the place of what a create put there.
	for _, args := range [][]string{{"keys", "create", "web-01"}, {"roll", "web-01", "--expire", "1h", "--otp", phone.code()}} {
		r := w.run(append(args, "--copy", "--format", "dotenv")...)
		r.wants(t, exitOK, args...)
		text, cred := d.Paste("xsel"), w.pasted(d)
		c.addCredential(text)
		want := fmt.Sprintf("keyctl: the credential %s of key \"web-01\" is on the clipboard, which is cleared in 45 s; the key is active\n", cred.AccessKeyID)
		if r.out != "" || !strings.HasPrefix(r.err, want) {
			t.Errorf("%q says %q and %q, want nothing and %q", args, r.out, r.err, want)
		}
		if !strings.HasPrefix(text, "UBIQ_ACCESS_KEY_ID=") || cred.AccessKeyID != w.keys()["web-01"].AccessKeyID {
			t.Errorf("the clipboard does not hold the key's credential, as %s", credential.Dotenv)
		}
		w.ok("verify", "--from", w.write("pasted", text))
		c.Absent("the output", []byte(r.out+r.err))
	}
	filled := time.Now()
	found := 0
	for _, pid := range processesOf(clipboardClear) {
		found++
		c.Absent("the command line of what clears", procFile(t, pid, "cmdline"))
		c.Absent("the environment of what clears", procFile(t, pid, "environ"))
	}
	if found == 0 && exists("/proc/self/cmdline") {
		t.Error("nothing waits to clear the clipboard")
	}
	t.Parallel() // let the other tests run meanwhile
	for d.Paste("xclip") != "" {
		if time.Since(filled) > clipboardTime+hang {
			t.Fatal("the clipboard was not cleared")
		}
		time.Sleep(100 * time.Millisecond)
	}
	if after := time.Since(filled); after < clipboardTime-5*time.Second {
		t.Errorf("the clipboard was cleared after %v already, want %v", after, clipboardTime)
	}
}

// processesOf finds the processes that were started with an argument.
func processesOf(argument string) (pids []int) {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		content, err := os.ReadFile(file)
		var pid int
		if err != nil || !slices.Contains(strings.Split(string(content), "\x00"), argument) {
			continue // it has ended, or is another
		}
		if _, err := fmt.Sscanf(file, "/proc/%d/", &pid); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// What clears the clipboard leaves alone what somebody else put there, and comes early when it is asked to end.
func TestR30_ClipboardClear(t *testing.T) {
	d, w := desktoptest.X11(t), newWorld(t)
	const text = "export TEST_SECRET='canary'\n"
	for _, tt := range []struct{ held, marked, want string }{
		{text, text, ""},
		{"of the user's", text, "of the user's"},
	} {
		d.Copy("xclip", tt.held)
		r := w.finish(w.clearing(d, tt.marked, 10*time.Millisecond))
		r.wants(t, exitOK, clipboardClear)
		if got := d.Paste("xsel"); got != tt.want || r.out != "" || r.err != "" {
			t.Errorf("%q on the clipboard became %q, output %q and %q, want %q and no output", tt.held, got, r.out, r.err, tt.want)
		}
	}

	d.Copy("xclip", text)
	c := w.clearing(d, text, time.Hour)
	input, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	if _, err := io.Copy(writer, c.Stdin); err != nil {
		t.Fatal(err)
	}
	c.Stdin = input
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	waitUntilRead(t, input)
	if got := d.Paste("xsel"); got != text {
		t.Errorf("before its time the clipboard holds %q, want %q", got, text)
	}
	if err := c.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	w.wait(c)
	if got := d.Paste("xsel"); got != "" || c.ProcessState.ExitCode() != exitOK {
		t.Errorf("ended early it left %q on the clipboard, exit %d, want nothing, exit 0", got, c.ProcessState.ExitCode())
	}
}

// waitUntilRead waits until somebody has read all that is in a pipe, and closes this end of it.
func waitUntilRead(t *testing.T, pipe *os.File) {
	t.Helper()
	defer pipe.Close()
	for deadline := time.Now().Add(hang); ; time.Sleep(5 * time.Millisecond) {
		ready, err := unix.Poll([]unix.PollFd{{Fd: int32(pipe.Fd()), Events: unix.POLLIN}}, 0)
		if err == nil && ready == 0 {
			return
		}
		if err != nil && !errors.Is(err, unix.EINTR) || time.Now().After(deadline) {
			t.Fatalf("there is something left in the pipe (%v)", err)
		}
	}
}

// What is not a line of keyctl's is refused at once, without a word of it.
func TestClipboardClearRefuses(t *testing.T) {
	w := newWorld(t)
	mark, err := term.NewClipMark(rand.Reader, credential.NewSecret("text"))
	if err != nil {
		t.Fatal(err)
	}
	for _, input := range []string{
		"", "\n", "canary", "canary 45s\n", mark.String() + "\n", mark.String() + " canary\n", mark.String() + " 45\n",
		mark.String() + " -1s\n", mark.String() + " 61m\n", mark.String()[1:] + " 0s\n", strings.Repeat("canary", 1000),
	} {
		c := w.command(clipboardClear)
		c.Stdin = strings.NewReader(input)
		r := w.finish(c)
		r.wants(t, exitUsage, clipboardClear)
		if r.out != "" || strings.Contains(r.err, "canary") || !strings.Contains(r.err, "hint: ") {
			t.Errorf("clipboard-clear of %q says %q and %q, want an error with a hint that does not repeat it", input, r.out, r.err)
		}
	}
	if help := w.ok("--help"); strings.Contains(help, clipboardClear) {
		t.Error("help shows clipboard-clear, which is not for people")
	}
}

// R30: the programs that reach the clipboard are given what belongs there on their standard input, and find no secret in
// their arguments and their environment, whatever keyctl was given in its own.
func TestR30_ClipboardToolsSeeNoSecrets(t *testing.T) {
	d, w := desktoptest.X11(t), newWorld(t)
	w.atDesktop(d)
	w.ok("init")
	c := newCanaries(t)
	c.addMasterKey(w.read(w.masterKey()))
	master := strings.TrimSpace(w.read(w.masterKey()))
	w.inPlaceOf("xclip", `{ echo "called: $*"; env; } >>`+w.path("record")+"\nexec "+desktoptest.Tool(t, "xclip")+` "$@"`)
	w.env = append(w.env, "KEPT=kept", "OTHER_NAME="+master)
	for _, name := range config.SecretVariables() {
		w.env = append(w.env, name+"="+master)
	}
	seen := func(who string) {
		t.Helper()
		record := w.read(w.path("record"))
		c.Absent("what the program sees that "+who+" runs", []byte(record))
		for _, want := range []string{"called: -in", "called: -out", "KEPT=kept", "DISPLAY=:"} {
			if !strings.Contains(record, want) {
				t.Errorf("what the program sees that %s runs is %q, want %q in it", who, record, want)
			}
		}
		if err := os.Remove(w.path("record")); err != nil {
			t.Error(err)
		}
	}
	// The variable of the master key is hidden besides those that always are.
	create := w.command("keys", "create", "web-01", "--copy")
	create.Env = append(slices.Clone(w.env), "KEYCTL_CONTEXT=work")
	if err := os.MkdirAll(w.path("home", ".config", "keyctl"), 0o700); err != nil {
		t.Fatal(err)
	}
	w.write(filepath.Join("home", ".config", "keyctl", "config.yaml"), "contexts: {work: {master-key: env:OTHER_NAME}}")
	create.Env = slices.DeleteFunc(create.Env, func(entry string) bool { return strings.HasPrefix(entry, "KEYCTL_MASTER_KEY=") })
	w.finish(create).wants(t, exitOK, "keys create --copy")
	text := d.Paste("xsel")
	c.addCredential(text)
	seen("keys create")
	// What clears inherits nothing when keyctl starts it; started by somebody else, main hides the variables that it knows.
	d.Copy("xclip", text)
	clearing := w.clearing(d, text, 0)
	clearing.Env = slices.DeleteFunc(clearing.Env, func(entry string) bool { return strings.HasPrefix(entry, "OTHER_NAME=") })
	w.finish(clearing).wants(t, exitOK, clipboardClear)
	seen(clipboardClear)
}

// A delivery that comes to nothing takes the credential back from the clipboard at once, and nothing else. One that is
// refused before there is a credential leaves alone what is there.
func TestR30_ClipboardAbort(t *testing.T) {
	d, w := desktoptest.X11(t), newWorld(t)
	w.atDesktop(d)
	phone := w.enrol()
	w.ok("keys", "create", "web-01", "--out", "web-01.env")
	before := w.keys()["web-01"].AccessKeyID
	for _, meanwhile := range []string{"", "of the user's"} {
		d.Copy("xclip", "from before")
		w.run("keys", "create", "web-01", "--copy").wants(t, exitConflict, "keys create --copy")
		w.run("roll", "web-01", "--expire", "1h", "--otp", "12345", "--copy").wants(t, exitSecondFactor, "roll --copy")
		if got := d.Paste("xsel"); got != "from before" {
			t.Errorf("preparing left %q on the clipboard, want what was there", got)
		}
		c, reader, words := w.stopAtOutput("roll", "web-01", "--expire", "1h", "--otp", phone.code(), "--copy", "--print")
		for deadline := time.Now().Add(hang); !strings.Contains(d.Paste("xsel"), "SIGNING_KEY"); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("the credential did not get on the clipboard")
			}
		}
		if id := w.pasted(d).AccessKeyID; !strings.Contains(words.String(), "committed "+id) {
			t.Errorf("the clipboard holds %s, which is not what was committed: %q", id, words)
		}
		if meanwhile != "" {
			d.Copy("xclip", meanwhile)
		}
		reader.Close()
		w.wait(c)
		result{err: words.String(), status: c.ProcessState.ExitCode()}.wants(t, exitUndelivered, "roll --copy --print")
		if got := d.Paste("xsel"); got != meanwhile {
			t.Errorf("aborting left %q on the clipboard, want %q", got, meanwhile)
		}
	}
	if after := w.keys()["web-01"].AccessKeyID; after != before {
		t.Errorf("the current credential became %s, want %s", after, before)
	}
}

// Where nothing can be started that clears the clipboard, the credential is there all the same, and that is said.
func TestClipboardWithoutClearing(t *testing.T) {
	d, w := desktoptest.X11(t), newWorld(t)
	w.atDesktop(d)
	w.ok("init")
	const wait = `touch here; while [ ! -e go ]; do sleep 0.01; done; cat `
	c := w.command("keys", "create", "web-01", "--copy", "--master-key", "command:"+wait+w.masterKey())
	program, err := os.ReadFile(c.Path)
	if err != nil {
		t.Fatal(err)
	}
	c.Path = w.path("tmp", "keyctl")
	if err := os.WriteFile(c.Path, program, 0o700); err != nil {
		t.Fatal(err)
	}
	words := newWatcher("\x00 never")
	c.Stderr = words
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	waitForFile(t, w.path("here"))
	if err := os.Remove(c.Path); err != nil {
		t.Error(err)
	}
	w.write("go", "")
	w.wait(c)
	result{err: words.String(), status: c.ProcessState.ExitCode()}.wants(t, exitOK, "keys create --copy")
	if !strings.HasPrefix(words.String(), "keyctl: warning: the clipboard will not be cleared") ||
		!strings.Contains(words.String(), " is on the clipboard, until something else is; the key is active\n") {
		t.Errorf("stderr = %q, want a warning, and what to do", words)
	}
	if id := w.pasted(d).AccessKeyID; id != w.keys()["web-01"].AccessKeyID {
		t.Errorf("the clipboard holds %q, want the credential", id)
	}
}

// Without a clipboard nothing is made. One that takes nothing, or keeps nothing, fails the delivery, in words that do not
// tell the credential.
func TestR30_ClipboardFails(t *testing.T) {
	t.Parallel()
	d, w := desktoptest.X11(t), newWorld(t)
	w.atDesktop(desktoptest.None(t))
	w.ok("init")
	before := w.head()
	r := w.run("keys", "create", "web-01", "--copy")
	r.wants(t, exitUnavailable, "keys create --copy")
	const want = "keyctl: error: there is no clipboard: neither DISPLAY nor WAYLAND_DISPLAY is set\n" +
		"keyctl: hint: run it in a terminal of the desktop, or choose another place, such as --out FILE\n"
	if r.out != "" || r.err != want || w.head() != before {
		t.Errorf("without a display it says %q and %q, want %q and no change", r.out, r.err, want)
	}
	w.atDesktop(d)
	if err := os.Mkdir(w.path("out"), 0o700); err != nil {
		t.Fatal(err)
	}
	for script, why := range map[string]string{
		"kill -9 $$":   "the clipboard could not be written: signal: killed",
		"exit 3":       "the clipboard could not be written: exit status 3",
		`exit 0`:       "the clipboard does not hold what was put there",
		"exec sleep 9": "the clipboard did not answer within 3 seconds",
	} {
		w.inPlaceOf("xclip", `[ "$1" = -out ] && exit 0; cat >>`+w.path("taken")+"; "+script)
		r := w.run("keys", "create", "web-01", "--out", "out/web-01.env", "--copy")
		c := newCanaries(t)
		c.addCredential(w.read(w.path("taken")))
		if err := os.Remove(w.path("taken")); err != nil {
			t.Error(err)
		}
		w.nothingHappened(r, "web-01", w.path("out"), true)
		if !strings.Contains(r.err, "to the clipboard: "+why+"\n") || r.out != "" {
			t.Errorf("with a clipboard program of %q it says %q and %q, want %q", script, r.out, r.err, why)
		}
		c.Absent("the output", []byte(r.out+r.err))
	}
}

// The terminal's clipboard is sent the credential by what hands it out, and by nothing else.
func TestTerminalClipboard(t *testing.T) {
	w := newWorld(t)
	w.atDesktop(desktoptest.None(t))
	phone := w.enrol()
	w.env = append(w.env, "TERM=xterm") // it counts for what has no terminal of its own, too
	const begin, end = "\x1b]52;", "\x07"
	for _, args := range []string{"keys create web-01", "roll web-01 --expire 1h --otp " + phone.code()} {
		refused := w.sit(strings.Fields(strings.Replace(args, "web-01", "web-01 --keyring", 1) + " --copy=osc52")...).ends(exitUnavailable)
		if strings.Contains(refused, begin) {
			t.Errorf("%q without a keyring sent the terminal %q", args, refused)
		}
		screen := w.sit(append(strings.Fields(args), "--copy=osc52")...).ends(exitOK)
		sent, words, found := strings.Cut(screen, end)
		coded, isSequence := strings.CutPrefix(sent, begin+"c;")
		text, err := base64.StdEncoding.DecodeString(coded)
		if !found || !isSequence || err != nil || strings.Contains(words, begin) {
			t.Fatalf("%q sent the terminal %q, want one sequence and then words (%v)", args, screen, err)
		}
		id := parseCredential(t, string(text), "").AccessKeyID
		if id != w.keys()["web-01"].AccessKeyID {
			t.Errorf("%q sent the credential %s, which is not the key's", args, id)
		}
		w.ok("verify", "--from", w.write("pasted", string(text)))
		for _, want := range []string{"the credential " + id + " of key \"web-01\" is on its way to the terminal's clipboard", "hint: paste it to see that it is there"} {
			if !strings.Contains(words, want) {
				t.Errorf("%q says %q, want %q", args, words, want)
			}
		}
	}
	r := w.finish(detached(w.command("keys", "create", "web-02", "--copy=osc52")))
	r.wants(t, exitUnavailable, "keys create --copy=osc52")
	if !strings.Contains(r.err, "there is no terminal whose clipboard could be used") || !strings.Contains(r.err, "--out FILE") {
		t.Errorf("without a terminal it says %q", r.err)
	}
}

// detached prepares a command without a terminal, also where the tests have one.
func detached(c *exec.Cmd) *exec.Cmd {
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return c
}
