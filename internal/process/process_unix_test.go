//go:build unix

package process

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// childMode names what the test binary does when it is started as a child: everything here is state of a whole process.
const childMode = "PROCESS_TEST_CHILD"

func TestMain(m *testing.M) {
	switch os.Getenv(childMode) {
	case "":
		os.Exit(m.Run())
	case "harden":
		childHarden()
	case "pipe":
		childPipe(false)
	case "pipe-ignored":
		childPipe(true)
	case "null":
		fmt.Fprint(os.Stderr, IsNullDevice(os.Stdout))
	case "hide":
		childHide()
	case "detach":
		childDetach()
	case "detached":
		childDetached()
	}
}

func child(mode string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childMode+"="+mode)
	return cmd
}

// state is the process state that Harden changes.
func state() string {
	mask := unix.Umask(0)
	unix.Umask(mask)
	var core unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &core); err != nil {
		return err.Error()
	}
	return fmt.Sprintf("umask %04o core %d of %d dumpable %s", mask, core.Cur, core.Max, dumpable())
}

func childHarden() {
	unix.Umask(0o027)
	// Some limit above zero, where the hard limit or privilege permits one; either way restore must bring it back.
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{Cur: 4096, Max: 8192})
	fmt.Println(state())
	restore, err := Harden()
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(state())
	restore()
	fmt.Println(state())
}

func TestHarden(t *testing.T) {
	out, err := child("harden").Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) != 3 {
		t.Fatalf("child printed %q, want three states", out)
	}
	before, hardened, after := lines[0], lines[1], lines[2]
	if before != after {
		t.Errorf("restore left %q, want %q", after, before)
	}
	if !strings.HasPrefix(hardened, "umask 0077 core 0 of ") || !strings.HasSuffix(hardened, "dumpable "+hardenedDumpable) {
		t.Errorf("hardened to %q, want umask 0077, no core, dumpable %s", hardened, hardenedDumpable)
	}
	if !strings.HasPrefix(before, "umask 0027 ") {
		t.Errorf("began with %q, want umask 0027: the test proves nothing", before)
	}
}

func childPipe(ignored bool) {
	if ignored {
		IgnoreBrokenPipe()
	}
	_, err := os.Stdout.WriteString("to nobody")
	fmt.Fprint(os.Stderr, errors.Is(err, syscall.EPIPE))
}

// R28: a reader that is gone is an error to handle, not the end of the process.
func TestR28_BrokenPipe(t *testing.T) {
	for _, tt := range []struct {
		mode string
		dies bool
	}{
		{"pipe", true}, // as the Go runtime behaves by itself
		{"pipe-ignored", false},
	} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		cmd := child(tt.mode)
		var stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = w, &stderr
		err = cmd.Run()
		w.Close()
		var exit *exec.ExitError
		died := errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGPIPE
		if died != tt.dies {
			t.Errorf("%s: ended with %v, want death by SIGPIPE: %v", tt.mode, err, tt.dies)
		}
		if !tt.dies && stderr.String() != "true" {
			t.Errorf("%s: write gave EPIPE: %q, want true", tt.mode, &stderr)
		}
	}
}

func TestR28_IsNullDevice(t *testing.T) {
	dir := t.TempDir()
	for _, tt := range []struct{ redirect, want string }{
		{">&-", "true"},
		{">/dev/null", "true"},
		{">>/dev/null", "true"},
		{">/dev/zero", "false"},
		{"| cat", "false"},
		{">" + dir + "/file", "false"},
	} {
		cmd := child("null")
		cmd.Args = []string{"sh", "-c", `"$0" ` + tt.redirect, os.Args[0]}
		cmd.Path = "/bin/sh"
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		if err := cmd.Run(); err != nil {
			t.Fatal(err)
		}
		if stderr.String() != tt.want {
			t.Errorf("keyctl %s: IsNullDevice = %s, want %s", tt.redirect, &stderr, tt.want)
		}
	}
	closed, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	if IsNullDevice(closed) {
		t.Error("IsNullDevice of a closed file = true, want false")
	}
}

func childHide() {
	getenv := HideEnv("HIDDEN", "NOT_SET", "HIDDEN_EMPTY")
	os.Setenv("NOT_SET", "set later")
	fmt.Printf("%s,%s,%s\n", getenv("HIDDEN"), getenv("SHOWN"), getenv("NOT_SET"))
	env := exec.Command("env")
	env.Stdout = os.Stdout
	if err := env.Run(); err != nil {
		fmt.Println(err)
	}
}

// R30: what was hidden is found by the one who hid it, and inherited by nobody.
func TestR30_HideEnv(t *testing.T) {
	cmd := child("hide")
	cmd.Env = append(cmd.Env, "HIDDEN=canary-1", "SHOWN=shown", "HIDDEN_EMPTY=", "NOT_HIDDEN=kept")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	found, environ, _ := strings.Cut(string(out), "\n")
	if found != "canary-1,shown,set later" {
		t.Errorf("getenv finds %q, want canary-1, shown, set later", found)
	}
	if strings.Contains(environ, "canary") || strings.Contains(environ, "HIDDEN_EMPTY") || !strings.Contains(environ, "NOT_HIDDEN=kept\n") {
		t.Errorf("a child inherits %q, want nothing hidden in it, and the rest", environ)
	}
}

// childDetach starts a process, which writes into FILE once GO is there, and ends.
func childDetach() {
	environ := []string{childMode + "=detached", "FILE=" + os.Getenv("FILE"), "GO=" + os.Getenv("GO")}
	if err := Detach(environ, "a line\nand more", "argument"); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("detached")
	time.Sleep(time.Minute) // until the test ends it
}

// childDetached tells what it is like to be detached.
func childDetached() {
	if waitFor(os.Getenv("GO")) != nil {
		return
	}
	input, inputErr := io.ReadAll(os.Stdin)
	dir, dirErr := os.Getwd()
	session, sessionErr := unix.Getsid(0)
	_, ttyErr := os.Open("/dev/tty")
	text := fmt.Sprintf("%q %v, in %s %v, own session %v %v, no terminal %v, output null %v %v, arguments %q, environment %q",
		input, inputErr, dir, dirErr, session == os.Getpid(), sessionErr, ttyErr != nil,
		IsNullDevice(os.Stdout), IsNullDevice(os.Stderr), os.Args[1:], os.Environ())
	file := os.Getenv("FILE")
	if err := os.WriteFile(file+".part", []byte(text), 0o600); err == nil {
		_ = os.Rename(file+".part", file)
	}
}

// waitFor waits until a file is there.
func waitFor(path string) error {
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		_, err := os.Stat(path)
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

// A detached process outlives its parent, Ctrl-C in the terminal it was started from, and that terminal's end. It has
// nothing of theirs but what it was given.
func TestDetach(t *testing.T) {
	dir := t.TempDir()
	file, start := dir+"/written", dir+"/go"
	cmd := child("detach")
	cmd.Env = append(cmd.Env, "FILE="+file, "GO="+start)
	terminal, err := pty.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	if line, err := bufio.NewReader(terminal).ReadString('\n'); err != nil || strings.TrimSpace(line) != "detached" {
		t.Fatalf("the parent says %q, %v", line, err)
	}
	if _, err := terminal.WriteString("\x03"); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGINT {
		t.Errorf("Ctrl-C ended the parent with %v, want SIGINT: the test proves nothing", err)
	}
	terminal.Close()
	if err := os.WriteFile(start, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := waitFor(file); err != nil {
		t.Fatalf("the detached process did nothing: %v", err)
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf(`"a line\nand more" <nil>, in / <nil>, own session true <nil>, no terminal true, output null true true, `+
		`arguments ["argument"], environment [%q %q %q]`, childMode+"=detached", "FILE="+file, "GO="+start)
	if string(got) != want {
		t.Errorf("it finds\n%s, want\n%s", got, want)
	}
}

func TestDetachRefusesLongInput(t *testing.T) {
	if err := Detach(nil, strings.Repeat("x", maxDetachedInput+1)); err == nil {
		t.Error("Detach with more input than a pipe takes = nil, want an error")
	}
}
