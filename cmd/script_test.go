package cmd_test

import (
	"context"
	"crypto/rand"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"keyctl/cmd"
	"keyctl/internal/config"
	"keyctl/internal/credential"
	"keyctl/internal/keyringtest"
	"keyctl/internal/login"
	"keyctl/internal/process"
)

// clockVar holds the instant at which a script's commands run. Only keyctlMain below reads it: keyctl itself has no way to
// be told the time.
const clockVar = "KEYCTL_TEST_NOW"

// clockFileVar names the file in which a process that goes on finds the time, which goes on while it runs.
const clockFileVar = "KEYCTL_TEST_CLOCK"

// scriptStart is the clock of a script until it says otherwise: the middle of a step of authenticator codes.
var scriptStart = time.Date(2026, 3, 1, 12, 0, 10, 0, time.UTC)

var updateScripts = flag.Bool("update-scripts", false, "rewrite the golden output in testdata/script")

// TestMain makes the test binary answer to the name keyctl as well. It is first in PATH for every test of this package.
func TestMain(m *testing.M) { testscript.Main(tidy(m), programs) }

// programs are what the test binary is under other names. Other files add to them.
var programs = map[string]func(){"keyctl": keyctlMain, "remember": remember}

// tidy adds to a run of the tests what other files want done after it.
var tidy = func(m *testing.M) testscript.TestingM { return m }

// keyctlMain is main.go with a clock that stands still where a script has set one. All else is real.
func keyctlMain() {
	now := time.Now
	if text := os.Getenv(clockVar); text != "" {
		at := mustReadClock(text)
		now = func() time.Time { return at }
	}
	if file := os.Getenv(clockFileVar); file != "" {
		now = func() time.Time {
			text, err := os.ReadFile(file)
			if err != nil {
				return time.Time{} // the script has ended
			}
			return mustReadClock(string(text))
		}
	}
	os.Exit(cmd.Main(&cmd.System{
		Args: os.Args[1:], Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Getenv: process.HideEnv(config.SecretVariables()...), Now: now, Rand: rand.Reader,
	}))
}

// mustReadClock ends a process whose clock shows nothing.
func mustReadClock(text string) time.Time {
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", clockVar, err)
		os.Exit(125)
	}
	return at
}

// remember PROFILE FILE puts the credential in a file into the keyring, as a delivery does.
func remember() {
	at, err := time.Parse(time.RFC3339Nano, os.Getenv(clockVar))
	if err != nil {
		at = time.Now()
	}
	file, err := os.Open(os.Args[2])
	if err == nil {
		var cred credential.Credential
		if cred, err = credential.Parse(file, ""); err == nil {
			err = login.Profiles{
				Ring: login.Open(true), IndexPath: filepath.Join(os.Getenv("XDG_DATA_HOME"), "keyctl", "credentials.json"),
				Wait: time.Minute, Now: func() time.Time { return at }, Warn: func(message string) { fmt.Fprintln(os.Stderr, message) },
			}.Put(context.Background(), os.Args[1], cred)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// TestScript runs every script in testdata/script: one behaviour each, seen as a user sees it. Scripts get an environment
// of their own with nothing of the caller's in it but PATH, and an empty home. script_commands_test.go has the commands
// that scripts know besides those of testscript.
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"), Setup: setUpScript, Cmds: scriptCommands, Condition: without,
		RequireUniqueNames: true, UpdateScripts: *updateScripts,
	})
}

func setUpScript(e *testscript.Env) error {
	for name, dir := range map[string]string{"HOME": "home", "XDG_CONFIG_HOME": "config", "XDG_DATA_HOME": "data"} {
		path := filepath.Join(e.WorkDir, dir)
		if err := os.MkdirAll(path, 0o700); err != nil {
			return err
		}
		e.Setenv(name, path)
	}
	// Files in the archive come with the modes that everybody's editor gives; what keyctl reads has to be private.
	config := filepath.Join(e.WorkDir, "config", "keyctl", "config.yaml")
	if err := os.Chmod(config, 0o600); err != nil && !os.IsNotExist(err) {
		return err
	}
	e.Values[lockKey{}], e.Values[serverKey{}] = &held{}, &servers{}
	e.Vars = append(e.Vars, keyringtest.Nowhere)
	if e.Getenv("GORACE") == "" {
		// Under the race detector every process would rest for a second before it ends, and scripts run hundreds.
		e.Setenv("GORACE", "atexit_sleep_ms=0")
	}
	e.Setenv("STORE", filepath.Join(e.WorkDir, "data", "keyctl", "keyctl.db"))
	e.Setenv("MASTER", filepath.Join(e.WorkDir, "config", "keyctl", "master.key"))
	e.Setenv(clockVar, scriptStart.Format(time.RFC3339Nano))
	return nil
}
