//go:build unix

package cmd

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
)

// openingNothing are the commands that answer from the program alone.
var openingNothing = []string{
	"--help", "help", "help keys create", "roll --help", "version", "version -o json", "completion bash", "completion zsh",
	"completion fish", "completion powershell", "help exit-codes", "help environment", "help formatting", "help secrets",
	"__complete k", "__complete keys li", "__complete keys list --sta", "__complete keys list --state a", "__complete help keys s",
}

// Whatever is wrong with configuration, master key and store, help can be had. So that the test can fail, other commands
// do stumble over it.
func TestHelpNeedsNoFiles(t *testing.T) {
	w := newWorld(t)
	for _, path := range []string{w.store(), w.masterKey(), w.path("home", ".config", "keyctl", "config.yaml")} {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("{ not: what [ belongs here"), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	w.env = append(w.env, "KEYCTL_STORE=nonsense:", "KEYCTL_TIMEOUT=never")
	for _, line := range openingNothing {
		if r := w.run(strings.Fields(line)...); r.status != exitOK || r.err != "" || r.out == "" {
			t.Errorf("keyctl %s = exit %d, %d bytes on standard output and %q on standard error", line, r.status, len(r.out), r.err)
		}
	}
	if r := w.run("keys", "list"); r.status == exitOK {
		t.Error("keys list does not mind the configuration: the test proves nothing")
	}
}

// A home that cannot even be entered is no obstacle either.
func TestHelpNeedsNoHome(t *testing.T) {
	w := newWorld(t)
	w.finish(w.nobody(w.command("version"))).wants(t, exitOK, "version")
	if err := os.Chmod(w.path("home"), 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(w.path("home"), 0o700) })
	for _, line := range openingNothing {
		w.finish(w.nobody(w.command(strings.Fields(line)...))).wants(t, exitOK, line)
	}
}

var openedPath = regexp.MustCompile(`(?:open|openat|openat2|creat|stat|lstat|statx|newfstatat|access|faccessat2?|readlink(?:at)?)\([^"]*"([^"]*)"`)

// TestStartupOpensNothing watches the system calls.
func TestStartupOpensNothing(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs strace, which is Linux's")
	}
	strace, err := exec.LookPath("strace")
	if err != nil {
		skip(t, err.Error())
	}
	w := newWorld(t)
	w.ok("init") // there is something to open
	traced := func(line string) (opened []string) {
		t.Helper()
		program := w.command(strings.Fields(line)...)
		program.Args = append([]string{strace, "-f", "-qq", "-e", "trace=file", "-o", w.path("trace"), program.Path}, program.Args[1:]...)
		program.Path = strace
		w.finish(program).wants(t, exitOK, line)
		for _, match := range openedPath.FindAllStringSubmatch(w.read(w.path("trace")), -1) {
			path := match[1]
			if strings.HasPrefix(path, w.path("home")) || strings.Contains(filepath.Base(path), "keyctl") || strings.HasSuffix(path, ".yaml") {
				opened = append(opened, path)
			}
		}
		return opened
	}
	for _, line := range openingNothing {
		if opened := traced(line); len(opened) > 0 {
			t.Errorf("keyctl %s looks at %q", line, opened)
		}
	}
	if opened := traced("keys list"); len(opened) == 0 {
		t.Error("keys list opens nothing: the test proves nothing")
	}
}
