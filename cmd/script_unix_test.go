//go:build unix

package cmd_test

import (
	"errors"
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
	programs["deliver"] = cmd.DeliverMain
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
	terminal, err := pty.StartWithSize(program, &pty.Winsize{Rows: 24, Cols: 160})
	ts.Check(err)
	defer terminal.Close()
	chunks := make(chan string)
	go func() {
		defer close(chunks)
		for {
			buffer := make([]byte, 4096)
			n, err := terminal.Read(buffer)
			chunks <- string(buffer[:n])
			if err != nil {
				return // EIO, once the program has closed its end
			}
		}
	}()
	screen, seen := "", 0
	for line := range strings.Lines(ts.ReadFile(args[1])) {
		verb, text, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if verb == ">" {
			_, err := io.WriteString(terminal, withCodes(ts, text, screen)+"\n")
			ts.Check(err)
			continue
		}
		for timeout := time.After(patience); !strings.Contains(screen[seen:], text); {
			select {
			case chunk, more := <-chunks:
				if screen += chunk; !more {
					ts.Fatalf("%s ended before it said %q; the screen shows:\n%s", args[2], text, screen)
				}
			case <-timeout:
				_ = program.Process.Kill()
				ts.Fatalf("the screen does not show %q but:\n%s", text, screen)
			}
		}
		seen += strings.Index(screen[seen:], text) + len(text)
	}
	for chunk := range chunks {
		screen += chunk
	}
	ts.Check(os.WriteFile(ts.MkAbs("screen"), []byte(strings.ReplaceAll(screen, "\r\n", "\n")), 0o600))
	var failed *exec.ExitError
	if err := program.Wait(); err != nil && !errors.As(err, &failed) {
		ts.Fatalf("%v", err)
	}
	if got := program.ProcessState.ExitCode(); got != want {
		ts.Fatalf("exit status %d, want %d; the screen shows:\n%s", got, want, screen)
	}
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
