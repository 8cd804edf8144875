//go:build unix

package cmd

import (
	"bufio"
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

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"keyctl/internal/config"
	"keyctl/internal/credential"
	"keyctl/internal/desktoptest"
	"keyctl/internal/process"
	"keyctl/internal/term"
)

// DeliverMain is a program that carries a credential through a sink: `deliver copy|osc52 FILE STEP…`, each step a method
// of the sink or "wait", which takes a line from standard input. It tells of each how it ended. It is exported for
// TestMain, which is in cmd_test.
func DeliverMain() {
	kind, file, steps := os.Args[1], os.Args[2], os.Args[3:]
	os.Args[0] = "keyctl" // which is what has to be started to clear the clipboard
	a := newApp(&System{
		Args: []string{}, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Getenv: process.HideEnv(config.SecretVariables()...), Now: time.Now, Rand: rand.Reader,
	})
	newRoot(a)
	cfg, err := a.config()
	must(err)
	screen, err := a.terminal()
	must(err)
	text, err := os.Open(file)
	must(err)
	cred, err := credential.Parse(text, "")
	must(err)
	clipboard := &clipboardSink{format: credential.Env, cfg: cfg, getenv: a.sys.Getenv, rand: a.sys.Rand, warn: a.warn}
	osc52 := &osc52Sink{format: credential.Env, screen: screen}
	to, notice := sink(clipboard), clipboard.where
	if kind == "osc52" {
		to, notice = osc52, osc52.notice
	}
	input := bufio.NewReader(os.Stdin)
	for _, step := range steps {
		var err error
		switch step {
		case "prepare":
			err = to.prepare()
		case "fill":
			err = to.fill(issued{cred: cred})
		case "finish":
			err = to.finish()
		case "abort":
			to.abort()
		case "notice":
			fmt.Println(notice())
		case "wait":
			fmt.Println("waiting")
			_, err = input.ReadString('\n')
		}
		fmt.Println(step, err)
	}
}

func must(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// delivery prepares DeliverMain with a credential that was handed out into a file, on a desktop.
func (w *world) delivery(d *desktoptest.Desktop, kind, file string, steps ...string) *exec.Cmd {
	w.t.Helper()
	path, err := exec.LookPath("deliver")
	if err != nil {
		w.t.Fatal(err)
	}
	c := exec.Command(path, append([]string{kind, file}, steps...)...)
	c.Env, c.Dir = d.Environ(w.env), w.dir
	return c
}

// steps is what DeliverMain prints when every step succeeds.
func steps(names ...string) string { return strings.Join(names, " <nil>\n") + " <nil>\n" }

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
	d.Copy("xclip", "from before")
	w.ok("keys", "create", "web-01", "--out", "web-01.env")
	text := w.read(w.path("web-01.env"))
	c := newCanaries(t)
	c.addCredential(text)
	c.addMasterKey(w.read(w.masterKey()))
	w.env = append(w.env, "KEYCTL_MASTER_KEY="+strings.TrimSpace(w.read(w.masterKey())))

	r := w.finish(w.delivery(d, "copy", "web-01.env", "prepare", "fill", "notice", "finish", "abort"))
	filled := time.Now()
	want := steps("prepare", "fill") + "on the clipboard, which is cleared in 45 s\n" + steps("notice", "finish", "abort")
	if r.status != 0 || r.out != want || r.err != "" {
		t.Fatalf("delivery = exit %d, %q, stderr %q, want %q", r.status, r.out, r.err, want)
	}
	if got := d.Paste("xsel"); got != text {
		t.Errorf("the clipboard holds %q, want %q", got, text)
	}
	found := 0
	for _, pid := range processesOf(clipboardClear) {
		found++
		c.absent("the command line of what clears", procFile(t, pid, "cmdline"))
		c.absent("the environment of what clears", procFile(t, pid, "environ"))
	}
	if found == 0 && exists("/proc/self/cmdline") {
		t.Error("nothing waits to clear the clipboard")
	}
	c.absent("the output", []byte(r.out))
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
	w.ok("keys", "create", "web-01", "--out", "web-01.env")
	text := w.read(w.path("web-01.env"))
	c := newCanaries(t)
	c.addCredential(text)
	c.addMasterKey(w.read(w.masterKey()))
	master := strings.TrimSpace(w.read(w.masterKey()))
	desktoptest.Script(t, w.path("tmp"), "xclip", `{ echo "called: $*"; env; } >>`+w.path("record")+"\nexec "+desktoptest.Tool(t, "xclip")+` "$@"`)
	w.env = append(w.env, "PATH="+w.path("tmp")+":"+os.Getenv("PATH"), "KEPT=kept", "OTHER_NAME="+master)
	for _, name := range config.SecretVariables() {
		w.env = append(w.env, name+"="+master)
	}
	seen := func(who string) {
		t.Helper()
		record := w.read(w.path("record"))
		c.absent("what the program sees that "+who+" runs", []byte(record))
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
	deliver := w.delivery(d, "copy", "web-01.env", "prepare", "fill", "abort")
	deliver.Env = append(deliver.Env, "KEYCTL_CONTEXT=work")
	if err := os.MkdirAll(w.path("home", ".config", "keyctl"), 0o700); err != nil {
		t.Fatal(err)
	}
	w.write(filepath.Join("home", ".config", "keyctl", "config.yaml"), "contexts: {work: {master-key: env:OTHER_NAME}}")
	deliver.Env = slices.DeleteFunc(deliver.Env, func(entry string) bool { return strings.HasPrefix(entry, "KEYCTL_MASTER_KEY=") })
	if r := w.finish(deliver); r.out != steps("prepare", "fill", "abort") {
		t.Errorf("delivery = %q, %q", r.out, r.err)
	}
	seen("a delivery")
	// What clears inherits nothing when keyctl starts it; started by somebody else, main hides the variables that it knows.
	d.Copy("xclip", text)
	clearing := w.clearing(d, text, 0)
	clearing.Env = slices.DeleteFunc(clearing.Env, func(entry string) bool { return strings.HasPrefix(entry, "OTHER_NAME=") })
	w.finish(clearing).wants(t, exitOK, clipboardClear)
	seen(clipboardClear)
}

// A delivery that comes to nothing takes the credential back from the clipboard at once, and nothing else.
func TestR30_ClipboardAbort(t *testing.T) {
	d, w := desktoptest.X11(t), newWorld(t)
	w.ok("keys", "create", "web-01", "--out", "web-01.env")
	for _, meanwhile := range []string{"", "of the user's"} {
		d.Copy("xclip", "from before")
		c := w.delivery(d, "copy", "web-01.env", "prepare", "wait", "fill", "wait", "abort", "abort")
		input, err := c.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		output, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(output)
		goOn := func() {
			t.Helper()
			for lines.Scan() && lines.Text() != "waiting" {
				if !strings.HasSuffix(lines.Text(), " <nil>") {
					t.Fatalf("delivery: %s", lines.Text())
				}
			}
		}
		goOn()
		if got := d.Paste("xsel"); got != "from before" {
			t.Errorf("preparing left %q on the clipboard, want what was there", got)
		}
		fmt.Fprintln(input)
		goOn()
		if got := d.Paste("xsel"); got != w.read(w.path("web-01.env")) {
			t.Errorf("filling left %q on the clipboard, want the credential", got)
		}
		if meanwhile != "" {
			d.Copy("xclip", meanwhile)
		}
		fmt.Fprintln(input)
		goOn()
		w.wait(c)
		if got := d.Paste("xsel"); got != meanwhile {
			t.Errorf("aborting left %q on the clipboard, want %q", got, meanwhile)
		}
	}
}

// Where nothing can be started that clears the clipboard, the credential is there all the same, and that is said.
func TestClipboardWithoutClearing(t *testing.T) {
	d, w := desktoptest.X11(t), newWorld(t)
	d.Copy("xclip", "from before")
	w.ok("keys", "create", "web-01", "--out", "web-01.env")
	c := w.delivery(d, "copy", "web-01.env", "wait", "fill", "notice", "finish")
	program, err := os.ReadFile(c.Path)
	if err != nil {
		t.Fatal(err)
	}
	c.Path = w.path("tmp", "deliver")
	if err := os.WriteFile(c.Path, program, 0o700); err != nil {
		t.Fatal(err)
	}
	input, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	words, wrong := newWatcher("waiting"), newWatcher("")
	c.Stdout, c.Stderr = words, wrong
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-words.seen:
	case <-time.After(hang):
		t.Error("the delivery never came to its first step")
	}
	if err := os.Remove(c.Path); err != nil {
		t.Error(err)
	}
	fmt.Fprintln(input)
	w.wait(c)
	if !strings.Contains(words.String(), "on the clipboard, until something else is") || !strings.HasSuffix(words.String(), "finish <nil>\n") {
		t.Errorf("delivery = %q, want success and a notice that says what to do", words)
	}
	if !strings.HasPrefix(wrong.String(), "keyctl: warning: the clipboard will not be cleared") {
		t.Errorf("stderr = %q, want a warning", wrong)
	}
	if got := d.Paste("xsel"); got != w.read(w.path("web-01.env")) {
		t.Errorf("the clipboard holds %q, want the credential", got)
	}
}

// A clipboard that takes nothing fails the delivery, in words that do not tell the credential.
func TestR30_ClipboardFails(t *testing.T) {
	d, w := desktoptest.X11(t), newWorld(t)
	w.ok("keys", "create", "web-01", "--out", "web-01.env")
	c := newCanaries(t)
	c.addCredential(w.read(w.path("web-01.env")))
	r := w.finish(w.delivery(desktoptest.None(t), "copy", "web-01.env", "prepare"))
	if r.out != "prepare there is no clipboard: neither DISPLAY nor WAYLAND_DISPLAY is set\n" {
		t.Errorf("delivery without a display = %q, %q", r.out, r.err)
	}
	desktoptest.Script(t, w.path("tmp"), "xclip", "cat; kill -9 $$")
	w.env = append(w.env, "PATH="+w.path("tmp")+":"+os.Getenv("PATH"))
	r = w.finish(w.delivery(d, "copy", "web-01.env", "prepare", "fill", "abort"))
	if want := steps("prepare") + "fill the clipboard could not be written: signal: killed\n" + steps("abort"); r.out != want || r.err != "" {
		t.Errorf("delivery = %q, %q, want %q", r.out, r.err, want)
	}
	c.absent("the output", []byte(r.out+r.err))
}

// The terminal's clipboard is sent the credential by filling, and by nothing else.
func TestTerminalClipboard(t *testing.T) {
	w := newWorld(t)
	w.ok("keys", "create", "web-01", "--out", "web-01.env")
	w.env = append(w.env, "TERM=xterm")
	c := w.delivery(desktoptest.None(t), "osc52", "web-01.env", "prepare", "fill", "abort", "finish", "notice")
	terminal, err := pty.Start(c)
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	screen, err := io.ReadAll(terminal)
	if err != nil && !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	w.wait(c)
	text := w.read(w.path("web-01.env"))
	want := steps("prepare") + "\x1b]52;c;" + base64.StdEncoding.EncodeToString([]byte(text)) + "\x07" + steps("fill", "abort", "finish") +
		"paste it to see that it is there, "
	if got := strings.ReplaceAll(string(screen), "\r\n", "\n"); !strings.HasPrefix(got, want) {
		t.Errorf("the terminal was sent %q, want %q", got, want)
	}
}
