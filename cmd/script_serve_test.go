package cmd_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// serverKey is the key of the server that a script runs.
type serverKey struct{}

// servers is a script's value of serverKey.
type servers struct {
	running *exec.Cmd
	ended   chan struct{}
}

// requestID is the id of a request in an error as JSON.
var requestID = regexp.MustCompile(`"req_[0-9A-Za-z]{22}"`)

// serverPatience bounds how long a server takes to begin or to end on a loaded machine.
const serverPatience = 30 * time.Second

func serve(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, true, "serve [args…]")
	writeClock(ts)
	log, err := os.Create(ts.MkAbs("serve.log"))
	ts.Check(err)
	defer log.Close()
	c := exec.Command("keyctl", append([]string{"serve", "--listen", "127.0.0.1:0"}, args...)...)
	c.Dir, c.Stderr = ts.MkAbs("."), log
	for _, name := range []string{"PATH", "HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "GORACE", "GOCOVERDIR"} {
		c.Env = append(c.Env, name+"="+ts.Getenv(name))
	}
	c.Env = append(c.Env, clockFileVar+"="+clockFile(ts))
	ts.Check(c.Start())
	ended := make(chan struct{})
	*ts.Value(serverKey{}).(*servers) = servers{c, ended}
	go func() {
		_ = c.Wait()
		close(ended)
	}()
	ts.Defer(func() {
		_ = c.Process.Kill()
		<-ended
	})
	for deadline := time.Now().Add(serverPatience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		text, err := os.ReadFile(log.Name())
		ts.Check(err)
		for line := range bytes.Lines(text) {
			var record struct{ Msg, Address string }
			if json.Unmarshal(line, &record) == nil && record.Msg == "serving" {
				ts.Setenv("URL", record.Address)
				ts.Setenv("SERVER", strconv.Itoa(c.Process.Pid))
				return
			}
		}
		select {
		case <-ended:
			ts.Fatalf("the server ended:\n%s", text)
		default:
		}
	}
	ts.Fatalf("the server does not begin")
}

func stop(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 0, "stop")
	s := ts.Value(serverKey{}).(*servers)
	ts.Check(s.running.Process.Signal(syscall.SIGTERM))
	select {
	case <-s.ended:
	case <-time.After(serverPatience):
		ts.Fatalf("the server does not stop")
	}
	if status := s.running.ProcessState.ExitCode(); status != 0 {
		ts.Fatalf("the server ended with status %d", status)
	}
}

func alike(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) > 1, "alike N args…")
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	said := func(more ...string) [2]string {
		status := 0
		if err := ts.Exec("keyctl", append(more, args[1:]...)...); err != nil {
			var failed *exec.ExitError
			if !errors.As(err, &failed) {
				ts.Fatalf("%v", err)
			}
			status = failed.ExitCode()
		}
		if status != want {
			ts.Fatalf("keyctl %s: exit status %d, want %d", strings.Join(append(more, args[1:]...), " "), status, want)
		}
		return [2]string{ts.ReadFile("stdout"), ts.ReadFile("stderr")}
	}
	local := said("--store", "sqlite:"+filepath.ToSlash(ts.Getenv("STORE")))
	remote := said()
	if remote[0] != local[0] {
		ts.Fatalf("standard output differs; the store itself says\n%s\nthe server\n%s", local[0], remote[0])
	}
	if requestID.ReplaceAllString(remote[1], "null") != local[1] { // a store has none
		ts.Fatalf("standard error differs; the store itself says\n%s\nthe server\n%s", local[1], remote[1])
	}
}
