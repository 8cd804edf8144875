//go:build unix

package term

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/term"

	"keyctl/internal/credential"
	"keyctl/internal/fault"
)

// childMode names what the test binary does when it is started as a child with a terminal of its own.
const childMode = "TERM_TEST_CHILD"

func TestMain(m *testing.M) {
	switch mode := os.Getenv(childMode); mode {
	case "":
		os.Exit(m.Run())
	case "clipboard":
		clipboardChild(os.Args[1], os.Args[2:])
	default:
		child(mode)
	}
}

const patience = 10 * time.Second // for a loaded machine; nothing here takes long

// screen is the outer end of a pseudo-terminal: it types, and remembers everything that was shown.
type screen struct {
	t    *testing.T
	out  *os.File
	mu   sync.Mutex
	seen bytes.Buffer
}

func newScreen(t *testing.T, master *os.File) *screen {
	s := &screen{t: t, out: master}
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			s.mu.Lock()
			s.seen.Write(buf[:n])
			s.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return s
}

func (s *screen) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen.String()
}

func (s *screen) waitFor(text string) {
	s.t.Helper()
	for deadline := time.Now().Add(patience); !strings.Contains(s.text(), text); {
		if time.Now().After(deadline) {
			s.t.Fatalf("the screen shows %q, want %q on it", s.text(), text)
		}
		time.Sleep(time.Millisecond)
	}
}

func (s *screen) send(text string) {
	s.t.Helper()
	if _, err := s.out.WriteString(text); err != nil {
		s.t.Fatal(err)
	}
}

// newTerminal returns a Terminal whose every stream is one pseudo-terminal, and that one's two ends.
func newTerminal(t *testing.T, opts Options) (*Terminal, *screen, *os.File) {
	t.Helper()
	master, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tty.Close(); master.Close() })
	if opts.OpenTTY == nil {
		opts.OpenTTY = func() (TTY, error) {
			f, err := os.OpenFile(tty.Name(), os.O_RDWR, 0)
			return TTY{In: f, Out: f}, err
		}
	}
	return New(tty, tty, tty, opts), newScreen(t, master), tty
}

// answer is what a prompt returned.
type answer struct {
	text string
	err  error
}

// start runs a prompt beside the test.
func start(prompt func() (string, error)) <-chan answer {
	done := make(chan answer, 1)
	go func() {
		text, err := prompt()
		done <- answer{text, err}
	}()
	return done
}

func wait(t *testing.T, done <-chan answer) answer {
	t.Helper()
	select {
	case a := <-done:
		return a
	case <-time.After(patience):
		t.Fatal("the prompt did not return")
		return answer{}
	}
}

func TestOnTerminal(t *testing.T) {
	for _, tt := range []struct {
		opts             Options
		canPrompt, color bool
	}{
		{Options{}, true, true}, // and no locale: no Unicode
		{Options{NoInput: true}, false, true},
		{Options{Getenv: env("NO_COLOR", "1")}, true, false},
	} {
		term, s, _ := newTerminal(t, tt.opts)
		if err := pty.Setsize(s.out, &pty.Winsize{Rows: 24, Cols: 91}); err != nil {
			t.Fatal(err)
		}
		want := Surface{Width: 91, Color: tt.color}
		if term.CanPrompt() != tt.canPrompt || !term.StdoutIsTerminal() || term.Stdout() != want || term.Stderr() != want {
			t.Errorf("New(%+v): CanPrompt %v, StdoutIsTerminal %v, Stdout %+v, Stderr %+v, want %v, true, %+v twice", tt.opts,
				term.CanPrompt(), term.StdoutIsTerminal(), term.Stdout(), term.Stderr(), tt.canPrompt, want)
		}
	}
}

func TestAsk(t *testing.T) {
	term, s, _ := newTerminal(t, Options{})
	done := start(func() (string, error) { return term.Ask(t.Context(), "When?\n1) now\x1b[2J or a date") })
	s.waitFor("When?\r\n1) now\\x1b[2J or a date: ")
	s.send("2h\x7fm\n") // the terminal itself edits the line
	if a := wait(t, done); a.text != "2m" || a.err != nil {
		t.Errorf("Ask = %q, %v, want 2m", a.text, a.err)
	}
}

func TestConfirm(t *testing.T) {
	for in, want := range map[string]bool{"y": true, "Y": true, "yes": true, " YES ": true, "": false, "n": false, "yep": false, "j": false} {
		term, s, _ := newTerminal(t, Options{})
		done := start(func() (string, error) {
			ok, err := term.Confirm(t.Context(), "Disable web-01?")
			return fmt.Sprint(ok), err
		})
		s.waitFor("Disable web-01? [y/N]: ")
		s.send(in + "\n")
		if a := wait(t, done); a.text != fmt.Sprint(want) || a.err != nil {
			t.Errorf("Confirm answered %q = %v, %v, want %v", in, a.text, a.err, want)
		}
	}
}

func TestConfirmName(t *testing.T) {
	for in, want := range map[string]fault.Code{"web-01": "", "web-02": fault.Invalid, "WEB-01": fault.Invalid, "": fault.Invalid, "y": fault.Invalid} {
		term, s, _ := newTerminal(t, Options{})
		done := start(func() (string, error) { return "", term.ConfirmName(t.Context(), "This deletes the key.", "web-01") })
		s.waitFor("This deletes the key.\r\nType web-01 to confirm: ")
		s.send(in + "\n")
		a := wait(t, done)
		if fault.CodeOf(a.err) != want {
			t.Errorf("ConfirmName answered %q = %v, want code %q", in, a.err, want)
		}
		if want != "" && !strings.Contains(a.err.Error(), "nothing was changed") {
			t.Errorf("ConfirmName answered %q says %q, want it to say that nothing was changed", in, a.err)
		}
	}
}

// state is the mode of a terminal: echo, line editing, signals.
func state(t *testing.T, tty *os.File) term.State {
	t.Helper()
	s, err := term.GetState(int(tty.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	return *s
}

// However a secret's prompt ends, nothing of the secret was shown and the terminal is as it was: it echoes again.
func TestAskSecret(t *testing.T) {
	const secret = "test-Xq7-secret"
	for _, tt := range []struct {
		name, types string
		cancel      bool
		want        string
		err         error
	}{
		{"enter", secret + "\r", false, secret, nil},
		{"edited", "wrong\x15" + secret + "y\x7f\r", false, secret, nil},
		{"Ctrl-C", secret + "\x03", false, "", context.Canceled},
		{"Ctrl-D", "\x04", false, "", ErrAborted},
		{"cancelled", secret, true, "", context.Canceled},
	} {
		t.Run(tt.name, func(t *testing.T) {
			term, s, tty := newTerminal(t, Options{})
			before := state(t, tty)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			done := start(func() (string, error) {
				got, err := term.AskSecret(ctx, "Master key")
				return got.Reveal(), err
			})
			s.waitFor("Master key: ")
			if state(t, tty) == before {
				t.Error("the terminal echoes during the prompt")
			}
			s.send(tt.types)
			if tt.cancel {
				time.Sleep(100 * time.Millisecond) // let the prompt take it
				cancel()
			}
			if a := wait(t, done); a.text != tt.want || !errors.Is(a.err, tt.err) {
				t.Errorf("AskSecret = %q, %v, want %q, %v", a.text, a.err, tt.want, tt.err)
			}
			s.waitFor("Master key: \r\n")
			if got, want := s.text(), "Master key: \r\n"; got != want {
				t.Errorf("the screen shows %q, want only %q", got, want)
			}
			if state(t, tty) != before {
				t.Error("the terminal was not restored")
			}
			s.send("visible\n")
			s.waitFor("visible")
		})
	}
}

// A prompt nobody answers ends with its context, at once.
func TestCancelWhileBlocked(t *testing.T) {
	term, s, _ := newTerminal(t, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	done := start(func() (string, error) { return term.Ask(ctx, "Name") })
	s.waitFor("Name: ")
	began := time.Now()
	cancel()
	if a := wait(t, done); !errors.Is(a.err, context.Canceled) {
		t.Errorf("Ask = %q, %v, want context.Canceled", a.text, a.err)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("cancelling took %v", took)
	}
	if _, err := term.Ask(ctx, "Again"); !errors.Is(err, context.Canceled) || strings.Contains(s.text(), "Again") {
		t.Errorf("Ask with a cancelled context = %v and shows %q, want context.Canceled and no prompt", err, s.text())
	}
}

func TestCtrlD(t *testing.T) {
	term, s, _ := newTerminal(t, Options{})
	done := start(func() (string, error) { return term.Ask(t.Context(), "Name") })
	s.waitFor("Name: ")
	s.send("\x04")
	if a := wait(t, done); !errors.Is(a.err, ErrAborted) {
		t.Errorf("Ask left with Ctrl-D = %q, %v, want ErrAborted", a.text, a.err)
	}
}

// child runs in a session whose controlling terminal is the pseudo-terminal, as keyctl does under a shell.
func child(mode string) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	t := New(os.Stdin, os.Stdout, os.Stderr, Options{Getenv: os.Getenv})
	if mode == "everything" {
		_, _ = t.Ask(ctx, "first")
		_, _ = t.AskSecret(ctx, "second")
		_ = keysTable().Render(os.Stdout, t.Stdout().Width, t.Stdout().Color)
	}
	text, err := t.Ask(ctx, "last")
	fmt.Printf("got %q, %v\n", text, err)
}

// clipboardChild is a process that uses the clipboard: its tool is chosen when a process starts. It prints "ok" and
// what came of it, or the error's code and message.
func clipboardChild(verb string, args []string) {
	t := New(os.Stdin, os.Stdout, os.Stderr, Options{Getenv: os.Getenv})
	input, err := io.ReadAll(os.Stdin)
	secret := credential.NewSecret(string(input))
	result := ""
	switch ctx := context.Background(); {
	case err != nil:
	case verb == "check":
		err = CheckClipboard(os.Getenv)
	case verb == "copy":
		var mark ClipMark
		if mark, err = NewClipMark(rand.Reader, secret); err == nil {
			result, err = mark.String(), CopyToClipboard(ctx, secret)
		}
	case verb == "copy and interrupt":
		ctx, cancel := context.WithCancel(ctx)
		time.AfterFunc(100*time.Millisecond, cancel)
		err = CopyToClipboard(ctx, secret)
		result = fmt.Sprint("interrupted: ", errors.Is(err, context.Canceled))
		err = nil
	case verb == "clear":
		var mark ClipMark
		if mark, err = ParseClipMark(args[0]); err == nil {
			err = ClearClipboard(ctx, mark)
		}
	case verb == "osc52":
		if err = t.CheckOSC52(); err == nil {
			err = t.CopyOSC52(secret)
		}
	}
	if err != nil {
		fmt.Printf("%s: %v", fault.CodeOf(err), err)
		return
	}
	fmt.Print("ok ", result)
}

// startChild starts the test binary on a new pseudo-terminal.
func startChild(t *testing.T, mode string) (*screen, *exec.Cmd) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childMode+"="+mode, "TERM=xterm-256color", "NO_COLOR=", "CLICOLOR_FORCE=")
	master, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 24, Cols: 80})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	return newScreen(t, master), cmd
}

// The kernel turns Ctrl-C into a signal while a visible prompt waits; main turns that into the end of the context.
func TestCtrlCIsASignal(t *testing.T) {
	s, cmd := startChild(t, "ask")
	s.waitFor("last: ")
	s.send("\x03")
	s.waitFor("got \"\", context canceled")
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// Nothing that keyctl shows or links asks the terminal anything: a terminal that does not answer, as this one, would
// stall it. Colours are the only sequences there are.
func TestTerminalIsNeverQueried(t *testing.T) {
	s, cmd := startChild(t, "everything")
	s.waitFor("first: ")
	s.send("a\n")
	s.waitFor("second: ")
	s.send("b\r")
	s.waitFor("last: ")
	s.send("c\n")
	s.waitFor("got \"c\", <nil>")
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if !colorSequence.MatchString(s.text()) {
		t.Errorf("the screen shows %q, want colours: the test proves nothing", s.text())
	}
	if rest := colorSequence.ReplaceAllString(s.text(), ""); strings.Contains(rest, "\x1b") {
		t.Errorf("the terminal was sent %q, want no sequences but colours", rest)
	}
}

// A progress bar is drawn where standard error is a terminal that goes back in a line, and takes no sequence for it.
func TestProgressOnTerminal(t *testing.T) {
	dumb, _, _ := newTerminal(t, Options{Getenv: env("TERM", "dumb")})
	if dumb.NewProgress(10, "keys") != nil {
		t.Error("there is a progress bar on a dumb terminal")
	}
	term, s, _ := newTerminal(t, Options{})
	if err := pty.Setsize(s.out, &pty.Winsize{Rows: 24, Cols: 60}); err != nil {
		t.Fatal(err)
	}
	p := term.NewProgress(10, "keys")
	p.Add(5)
	for deadline := time.Now().Add(patience); !strings.Contains(s.text(), "keys  5 of 10  50 %  ["); p.Add(0) {
		if time.Now().After(deadline) {
			t.Fatalf("the screen shows %q, want a progress bar", s.text())
		}
		time.Sleep(time.Millisecond)
	}
	p.Done()
	fmt.Fprintln(term.stderr.w, "after")
	s.waitFor("after\r\n")
	if above, line := shows(strings.ReplaceAll(s.text(), "\r\n", "\n")); len(above) != 1 || above[0] != "after" || line != "" || strings.Contains(s.text(), "\x1b") {
		t.Errorf("the screen shows %q, want the bar gone from before the last word, and no sequences", s.text())
	}
}
