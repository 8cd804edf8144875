//go:build unix

package cmd

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/term"
)

// console is a terminal with keyctl running on it: what types, and remembers everything that was shown.
type console struct {
	w      *world
	c      *exec.Cmd
	master *os.File
	tty    *os.File // the terminal's own end, kept open to look at its modes
	before term.State
	shown  *watcher
	done   chan struct{}
}

// sit starts keyctl on a terminal of its own, as a shell does.
func (w *world) sit(args ...string) *console {
	w.t.Helper()
	master, tty, err := pty.Open()
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { master.Close(); tty.Close() })
	if err := pty.Setsize(master, &pty.Winsize{Rows: 40, Cols: 120}); err != nil {
		w.t.Fatal(err)
	}
	s := &console{w: w, c: w.command(args...), master: master, tty: tty, shown: newWatcher("\x00 never"), done: make(chan struct{})}
	s.before = s.modes()
	s.c.Stdin, s.c.Stdout, s.c.Stderr = tty, tty, tty
	s.c.Env = append(w.env, "TERM=xterm-256color")
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

// expect waits until the screen shows a text.
func (s *console) expect(text string) *console {
	s.w.t.Helper()
	for deadline := time.Now().Add(hang); !strings.Contains(s.shown.String(), text); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			_ = s.c.Process.Kill()
			s.w.t.Fatalf("keyctl %s shows %q, want %q on the screen", strings.Join(s.c.Args[1:], " "), s.shown, text)
		}
	}
	return s
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
	{"code", "roll web-01 --expire 1h --out new.env", nil, "s left): ", true, false},
	{"code after expiry", "roll web-01 --out web-01.env --replace", []string{"or a date: ", "3\r"}, "s left): ", true, false},
	{"roll now", "roll web-01 --expire now", nil, "Type web-01 to confirm: ", true, false},
	{"yes or no", "keys disable web-01", nil, "[y/N]: ", true, false},
	{"name", "keys delete web-01", nil, "Type web-01 to confirm: ", true, false},
	{"recovery code", "otp reset", nil, "none left): ", true, false},
	{"break glass", "otp reset", []string{"none left): ", "\r"}, "to confirm: ", true, false},
	{"cancel", "rolls cancel web-02", nil, "s left): ", true, false},
	{"enrol on the spot", "roll web-01 --out new.env", nil, "Enrol one now? [y/N]: ", false, false},
	{"enrolment", "otp enroll", nil, "it shows now: ", false, true},
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
		for _, name := range []string{"web-01", "web-02"} {
			w.ok("keys", "create", name, "--out", name+".env")
		}
		if enrolled {
			w.ok("roll", "web-02", "--expire", "1h", "--otp", phone.code(), "--out", "web-02.env", "--replace")
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
					before := w.head()
					s := w.sit(strings.Fields(prompt.args)...)
					for i := 0; i < len(prompt.path); i += 2 {
						s.expect(prompt.path[i]).types(prompt.path[i+1])
					}
					screen := s.expect(prompt.says).types(key).ends(exitInterrupted)
					if !strings.Contains(screen, "keyctl: interrupted") {
						t.Errorf("the screen shows %q, want it to say that the command was interrupted", screen)
					}
					if after := w.head(); after != before && !prompt.enrols {
						t.Errorf("the audit log grew from %q to %q", before, after)
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
	c.absent("the screen", []byte(screen))
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
	phone := w.enrol()
	w.ok("datasets", "create", "payments", "--no-key")
	w.ok("keys", "create", "web-01", "--dataset", "payments", "--ip", "10.0.0.0/8", "--out", "web-01.env")
	screens := []string{
		w.sit("roll", "web-01").expect("or a date: ").types("24h\r").expect("s left): ").types(phone.code() + "\r").ends(exitOK),
	}
	for _, line := range []string{
		"keys list", "keys show web-01", "rolls list", "rolls show web-01", "datasets list", "otp status", "audit list",
		"audit verify", "keys create web-02", "--help", "version", "keys show nope",
	} {
		status := exitOK
		if strings.HasSuffix(line, "nope") {
			status = exitNotFound
		}
		screens = append(screens, w.sit(strings.Fields(line)...).ends(status))
	}
	all := strings.Join(screens, "")
	if rest := colour.ReplaceAllString(all, ""); strings.Contains(rest, "\x1b") {
		t.Errorf("the terminal was sent %q", rest)
	}
	if !colour.MatchString(all) {
		t.Error("there was no colour: the terminal was not taken for one")
	}
	if !strings.Contains(screens[0], "works until") || !strings.Contains(screens[0], "kcs_") {
		t.Errorf("the roll showed %q", screens[0])
	}
}
