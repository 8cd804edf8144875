//go:build unix

package cmd_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/rogpeppe/go-internal/testscript"

	"keyctl/cmd"
	"keyctl/internal/access"
	"keyctl/internal/keyringtest"
)

func init() {
	scriptCommands["dialogue"] = dialogue
	scriptCommands["keyring"] = keyring
	tidy = func(m *testing.M) testscript.TestingM { return cmd.CleaningM{M: m} }
}

// patience is how long a dialogue waits for what it expects to see, on a loaded machine; nothing takes nearly as long.
const patience = 20 * time.Second

var seedOnScreen = regexp.MustCompile(`\b[A-Z2-7]{32}\b`)

// dialogue runs a program whose every stream is a terminal of its own. The lines of FILE are "? TEXT", to wait until the
// screen shows it below what was waited for before, and "> TEXT", to type a line; there $CODE is the code of the seed on
// the screen now, and $NEXT the one of the step after. What ttyin cannot do is answer to something that was shown. The
// whole screen is left in the file screen.
func dialogue(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) > 2, "dialogue N FILE program args…")
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	program := exec.Command(args[2], args[3:]...)
	program.Dir = ts.MkAbs(".")
	for _, name := range []string{"PATH", "HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "LANG", clockVar, sessionVar} {
		program.Env = append(program.Env, name+"="+ts.Getenv(name))
	}
	c, err := converse(program, 160)
	ts.Check(err)
	defer c.terminal.Close()
	for line := range strings.Lines(ts.ReadFile(args[1])) {
		verb, text, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if verb == ">" {
			ts.Check(c.say(withCodes(ts, text, c.screen)))
			continue
		}
		ts.Check(c.await(regexp.MustCompile(regexp.QuoteMeta(text))))
	}
	got, err := c.end()
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs("screen"), []byte(c.screen), 0o600))
	if got != want {
		ts.Fatalf("exit status %d, want %d; the screen shows:\n%s", got, want, c.screen)
	}
}

// conversation is a program on a terminal of its own, and somebody who reads there and answers.
type conversation struct {
	program  *exec.Cmd
	terminal *os.File
	chunks   chan string
	screen   string // all that was shown; \r\n is \n once the conversation has ended
	seen     int    // how much of it was waited for
}

// converse starts a program on a terminal of so many columns.
func converse(program *exec.Cmd, columns uint16) (*conversation, error) {
	terminal, err := pty.StartWithSize(program, &pty.Winsize{Rows: 24, Cols: columns})
	if err != nil {
		return nil, err
	}
	c := &conversation{program: program, terminal: terminal, chunks: make(chan string)}
	go func() {
		defer close(c.chunks)
		for {
			buffer := make([]byte, 4096)
			n, err := terminal.Read(buffer)
			c.chunks <- string(buffer[:n])
			if err != nil {
				return // EIO, once the program has closed its end
			}
		}
	}()
	return c, nil
}

// await waits until the screen shows something below what was waited for before.
func (c *conversation) await(text *regexp.Regexp) error {
	for timeout := time.After(patience); ; {
		if at := text.FindStringIndex(c.screen[c.seen:]); at != nil {
			c.seen += at[1]
			return nil
		}
		select {
		case chunk, more := <-c.chunks:
			if c.screen += chunk; !more {
				return fmt.Errorf("%s ended before it said %q; the screen shows:\n%s", c.program, text, c.screen)
			}
		case <-timeout:
			_ = c.program.Process.Kill()
			return fmt.Errorf("the screen does not show %q but:\n%s", text, c.screen)
		}
	}
}

// say types a line.
func (c *conversation) say(line string) error {
	_, err := io.WriteString(c.terminal, line+"\n")
	return err
}

// end reads the rest and returns the program's exit status.
func (c *conversation) end() (status int, err error) {
	for chunk := range c.chunks {
		c.screen += chunk
	}
	c.screen = strings.ReplaceAll(c.screen, "\r\n", "\n")
	var failed *exec.ExitError
	if err := c.program.Wait(); err != nil && !errors.As(err, &failed) {
		return 0, err
	}
	return c.program.ProcessState.ExitCode(), nil
}

// sessionVar tells programs where the D-Bus session is.
const sessionVar = "DBUS_SESSION_BUS_ADDRESS"

// sessions are those that scripts have started, by their address.
var sessions sync.Map

func keyring(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 0 || len(args) == 1 && (args[0] == "locked" || args[0] == "none"), "keyring [locked | none]")
	if len(args) == 1 && args[0] == "locked" {
		session, ok := sessions.Load(ts.Getenv(sessionVar))
		if !ok {
			ts.Fatalf("there is no keyring to lock")
		}
		ts.Check(session.(*keyringtest.Session).Lock())
		return
	}
	session, err := keyringtest.Start(len(args) == 0)
	ts.Check(err)
	ts.Defer(session.Stop)
	sessions.Store(session.Address(), session)
	ts.Setenv(sessionVar, session.Address())
}

// withCodes fills in the codes that an authenticator would show after it was given the seed on the screen.
func withCodes(ts *testscript.TestScript, text, screen string) string {
	if !strings.Contains(text, "$") {
		return text
	}
	seed, step := readSeed(ts, seedOnScreen.FindString(screen)), access.StepAt(now(ts))
	return strings.NewReplacer(
		"$CODE", access.CodeAt(seed, step).Reveal(), "$NEXT", access.CodeAt(seed, step+1).Reveal(),
	).Replace(text)
}
