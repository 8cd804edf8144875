//go:build unix

package term

import (
	"encoding/base64"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/creack/pty"

	"keyctl/internal/credential"
	"keyctl/internal/fault"
)

// The terminal is given the sequence and nothing else, in what hands it through a multiplexer.
func TestOSC52(t *testing.T) {
	const text = "export TEST_SECRET='canary'\nline two\n"
	encoded := base64.StdEncoding.EncodeToString([]byte(text))
	const chunk = 76 // after so many digits screen needs a new beginning
	long := strings.Repeat("0123456789abcdef", 20)
	longEncoded := base64.StdEncoding.EncodeToString([]byte(long))
	inChunks := ""
	for rest := longEncoded; rest != ""; {
		n := min(chunk, len(rest))
		inChunks += rest[:n]
		if rest = rest[n:]; rest != "" {
			inChunks += "\x1b\\\x1bP"
		}
	}
	plain, tmux := "\x1b]52;c;"+encoded+"\x07", "\x1bPtmux;\x1b\x1b]52;c;"+encoded+"\x07\x1b\\"
	for _, tt := range []struct {
		vars       []string
		text, want string
	}{
		{nil, text, plain},
		{[]string{"TERM", "xterm-256color"}, text, plain},
		{[]string{"TMUX", "/tmp/tmux-0/default,1,0", "TERM", "screen"}, text, tmux},
		{[]string{"TERM", "tmux-256color"}, text, tmux},
		{[]string{"STY", "1.pts-0"}, long, "\x1bP\x1b]52;c;" + inChunks + "\x07\x1b\\"},
		{[]string{"TERM", "screen.xterm"}, text, "\x1bP\x1b]52;c;" + encoded + "\x07\x1b\\"},
	} {
		term, s, tty := newTerminal(t, Options{Getenv: env(tt.vars...), NoInput: true})
		before := state(t, tty)
		if err := term.CheckOSC52(); err != nil {
			t.Errorf("%q: CheckOSC52 = %v", tt.vars, err)
		}
		if _, err := tty.WriteString("here:"); err != nil {
			t.Fatal(err)
		}
		if err := term.CopyOSC52(credential.NewSecret(tt.text)); err != nil {
			t.Errorf("%q: CopyOSC52 = %v", tt.vars, err)
		}
		if _, err := tty.WriteString("done"); err != nil {
			t.Fatal(err)
		}
		s.waitFor("done")
		if got, want := s.text(), "here:"+tt.want+"done"; got != want {
			t.Errorf("%q: the terminal was sent %q, want %q", tt.vars, got, want)
		}
		if state(t, tty) != before {
			t.Errorf("%q: the terminal was not left as it was", tt.vars)
		}
	}
}

// The sequence reaches the terminal that controls the process also when every stream leads elsewhere.
func TestOSC52GoesToTheTerminalItself(t *testing.T) {
	c := exec.Command(os.Args[0], "osc52")
	c.Env = []string{childMode + "=clipboard", "TERM=xterm"}
	c.Stdin = strings.NewReader("secret")
	master, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	c.ExtraFiles = []*os.File{tty}
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 3}
	s := newScreen(t, master)
	out, err := c.Output()
	tty.Close()
	if err != nil || string(out) != "ok " {
		t.Fatalf("CopyOSC52 = %q, %v, want ok and nothing more on standard output", out, err)
	}
	s.waitFor("\x1b]52;c;" + base64.StdEncoding.EncodeToString([]byte("secret")) + "\x07")
}

func TestOSC52Errors(t *testing.T) {
	closed := func() (TTY, error) { return TTY{}, errors.New("no such device") }
	for _, tt := range []struct {
		name string
		opts Options
		text string
		code fault.Code
		want string
	}{
		{"no terminal", Options{OpenTTY: closed}, "x", fault.Unavailable, "there is no terminal whose clipboard could be used"},
		{"dumb terminal", Options{Getenv: env("TERM", "dumb")}, "x", fault.Unavailable, `the terminal has no clipboard (TERM is "dumb")`},
		{"console", Options{Getenv: env("TERM", "linux")}, "x", fault.Unavailable, `the terminal has no clipboard (TERM is "linux")`},
		{"too long", Options{}, strings.Repeat("x", 74995), fault.Invalid, "a terminal's clipboard takes no more than 74994 bytes"},
	} {
		term, s, _ := newTerminal(t, tt.opts)
		err := term.CopyOSC52(credential.NewSecret(tt.text))
		if !fault.Is(err, tt.code) || err.Error() != tt.want {
			t.Errorf("%s: CopyOSC52 = %v, want %s (code %s)", tt.name, err, tt.want, tt.code)
		}
		if checked := term.CheckOSC52(); tt.name != "too long" && (checked == nil || checked.Error() != tt.want) {
			t.Errorf("%s: CheckOSC52 = %v, want %s", tt.name, checked, tt.want)
		}
		if got := s.text(); got != "" {
			t.Errorf("%s: the terminal was sent %q, want nothing", tt.name, got)
		}
	}
}
