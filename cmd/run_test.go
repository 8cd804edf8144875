//go:build unix

package cmd

import (
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// runner is a world with a credential in web-01.env.
func runner(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.ok("keys", "create", "web-01", "--out", "web-01.env")
	return w
}

// The command has the limits, the umask and the signals that it would have without keyctl.
func TestRunIsTransparent(t *testing.T) {
	runner(t).seesTheSame("--from web-01.env")
}

// Nothing of the connection to the keyring is left in it either.
func TestRunFromKeyringIsTransparent(t *testing.T) {
	w := runner(t)
	w.keyring()
	w.remember("web-01", "web-01.env")
	w.seesTheSame("--key web-01")
}

// seesTheSame compares what a command sees with and without keyctl run.
func (w *world) seesTheSame(flags string) {
	w.t.Helper()
	state := `umask; ulimit -S -c; ulimit -H -c; ulimit -S -n; ulimit -H -n; `
	if _, err := os.Stat("/proc/self/status"); err == nil {
		state += `grep -E '^(Sig|Shd|NoNewPrivs|Seccomp)' /proc/self/status | grep -v SigQ; ls /proc/$$/fd; cat /proc/$$/oom_score_adj`
	}
	w.write("state", state)
	// Limits that differ from what keyctl sets itself, as far as they may be set here, and signals that nohup and & ignore.
	const limits = `trap "" HUP INT; umask 0027; ulimit -H -c 8192 2>/dev/null; ulimit -S -c 4096 2>/dev/null; ulimit -S -n 256; `
	direct := w.finish(w.shell(limits + `exec sh state`))
	through := w.finish(w.shell(limits + `exec "$KEYCTL" run ` + flags + ` -- sh state`))
	if direct.status != exitOK || direct.out != through.out || through.err != "" {
		w.t.Errorf("under keyctl the command sees\n%s%s, without it\n%s", through.out, through.err, direct.out)
	}
	if !strings.HasPrefix(direct.out, "0027\n") || !strings.Contains(direct.out, "\n256\n") {
		w.t.Errorf("the command sees\n%s: the test proves nothing", direct.out)
	}
}

// A signal that ends the command is what the shell sees, and keyctl is out of the way: one process, not two.
func TestRunDiesOfSignals(t *testing.T) {
	w := runner(t)
	for signal, status := range map[string]string{"INT": "130", "TERM": "143", "PIPE": "141", "HUP": "129", "KILL": "137"} {
		r := w.finish(w.shell(`"$KEYCTL" run --from web-01.env -- sh -c 'kill -` + signal + ` $$'; echo $?`))
		if strings.TrimSpace(r.out) != status {
			t.Errorf("after SIG%s the shell sees %q, want %s", signal, r.out, status)
		}
	}
	r := w.finish(w.shell(`{ "$KEYCTL" run --from web-01.env -- yes; echo $? >status; } | head -n 1`))
	if status := strings.TrimSpace(w.read(w.path("status"))); status != "141" || r.out != "y\n" {
		t.Errorf("with a reader that went the shell sees %s, want 141", status)
	}
	r = w.finish(w.shell(`"$KEYCTL" run --from web-01.env -- sh -c 'echo $$' & child=$!; wait; echo $child`))
	if pids := strings.Fields(r.out); len(pids) != 2 || pids[0] != pids[1] {
		t.Errorf("the command is another process than keyctl was: %q", pids)
	}
}

// R2: the secrets are in the environment of the command, where they belong, and in no command line; keyctl's own are not
// passed on.
func TestR2_RunPassesOnWhatItShould(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc")
	}
	w := runner(t)
	c := newCanaries(t)
	c.addCredential(w.read(w.path("web-01.env")))
	const own = "weakest-place-of-all"
	for _, name := range []string{"KEYCTL_MASTER_KEY", "KEYCTL_TOKEN", "KEYCTL_OTP", "MINE"} {
		w.env = append(w.env, name+"="+own)
	}
	r := w.run("run", "--from", "web-01.env", "--master-key", "env:MINE", "--",
		"sh", "-c", "cat /proc/$$/cmdline /proc/$$/comm; cat /proc/$$/environ >environ")
	r.wants(t, exitOK, "run")
	c.Absent("the command line", []byte(r.out))
	c.Absent("standard error", []byte(r.err))
	environ := strings.Split(w.read(w.path("environ")), "\x00")
	cred := parseCredential(t, w.read(w.path("web-01.env")), "")
	for _, want := range cred.Environ() {
		if !slices.Contains(environ, want) {
			name, _, _ := strings.Cut(want, "=")
			t.Errorf("the command's environment lacks %s", name)
		}
	}
	if text := strings.Join(environ, "\n"); strings.Contains(text, own) {
		t.Errorf("the command's environment has a secret of keyctl's:\n%s", text)
	}
}

// A program in the current folder is run when it is named with its folder only.
func TestRunDoesNotSearchTheCurrentFolder(t *testing.T) {
	w := runner(t)
	if err := os.WriteFile(w.path("planted"), []byte("#!/bin/sh\necho planted\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	w.env = append(w.env, "PATH=.:"+os.Getenv("PATH"))
	w.run("run", "--from", "web-01.env", "--", "planted").wants(t, exitNotFound, "run -- planted")
	if out := w.ok("run", "--from", "web-01.env", "--", "./planted"); out != "planted\n" {
		t.Errorf("run -- ./planted printed %q", out)
	}
}

// run opens no store, and with --from not the keyring either: neither has to be there.
func TestRunOpensLittle(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		skip(t, err.Error())
	}
	w := runner(t)
	c := w.command("run", "--from", "web-01.env", "--", "true")
	c.Args = append([]string{strace, "-f", "-qq", "-e", "trace=file,connect,execve", "-o", w.path("trace"), c.Path}, c.Args[1:]...)
	c.Path = strace
	w.finish(c).wants(t, exitOK, "run")
	trace := w.read(w.path("trace"))
	for _, path := range []string{w.store(), w.masterKey(), "/nonexistent/bus"} {
		if strings.Contains(trace, path) {
			t.Errorf("run looked at %s", path)
		}
	}
	if !strings.Contains(trace, "web-01.env") {
		t.Error("the trace does not show the file of --from: the test proves nothing")
	}
}
