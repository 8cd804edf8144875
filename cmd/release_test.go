//go:build unix

package cmd

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	_ "modernc.org/sqlite" // to look into stores behind keyctl's back

	"keyctl/internal/credential"
	"keyctl/internal/keyringtest"
)

// hang bounds how long a test waits for a process. Nothing takes nearly as long; the bound tells a hang from a failure.
const hang = 60 * time.Second

// release builds the program as it is released, once for all tests: what a kill, a full disk or a closed pipe does to a
// process can only be seen from outside of it.
var release = sync.OnceValues(func() (string, error) {
	var err error
	if releaseDir, err = os.MkdirTemp("", "keyctl-release-"); err != nil {
		return "", err
	}
	// Some tests run the program as another user.
	if err := os.Chmod(releaseDir, 0o755); err != nil {
		return "", err
	}
	path := filepath.Join(releaseDir, "keyctl")
	build := exec.Command("go", "build", "-o", path, "keyctl")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, os.Chmod(path, 0o755)
})

// world is a user's machine: a home, a folder for temporary files, an environment with nothing else in it.
type world struct {
	t   testing.TB
	dir string
	env []string
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir()}
	for _, dir := range []string{w.path("home"), w.path("tmp")} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	w.env = []string{"HOME=" + w.path("home"), "TMPDIR=" + w.path("tmp"), "PATH=" + os.Getenv("PATH"), keyringtest.Nowhere}
	return w
}

// keyring starts a keyring that everything in the world finds.
func (w *world) keyring() {
	w.t.Helper()
	w.env = append(slices.Clone(w.env), keyringtest.New(w.t).Env())
}

// remember puts the credential in a file into the keyring.
func (w *world) remember(profile, file string) {
	w.t.Helper()
	c := exec.Command("remember", profile, file)
	c.Env, c.Dir = append(slices.Clone(w.env), "XDG_DATA_HOME="+w.path("home", ".local", "share")), w.dir
	w.finish(c).wants(w.t, exitOK, "remember", profile)
}

func (w *world) path(elements ...string) string {
	return filepath.Join(append([]string{w.dir}, elements...)...)
}

func (w *world) store() string { return w.path("home", ".local", "share", "keyctl", "keyctl.db") }

func (w *world) masterKey() string { return w.path("home", ".config", "keyctl", "master.key") }

// command prepares keyctl with arguments.
func (w *world) command(args ...string) *exec.Cmd {
	w.t.Helper()
	path, err := release()
	if err != nil {
		w.t.Fatal(err)
	}
	c := exec.Command(path, args...)
	c.Env, c.Dir = w.env, w.dir
	return c
}

// shell prepares a shell command, in which $KEYCTL is the program.
func (w *world) shell(script string) *exec.Cmd {
	w.t.Helper()
	program := w.command().Path
	c := exec.Command("sh", "-c", script)
	c.Env, c.Dir = append(w.env, "KEYCTL="+program), w.dir
	return c
}

// result is how a process ended.
type result struct {
	out, err string
	status   int // -1 when a signal ended it
}

// run runs keyctl without a terminal and without input.
func (w *world) run(args ...string) result {
	w.t.Helper()
	return w.finish(w.command(args...))
}

// finish runs a prepared command to its end. Streams that it has already stay as they are.
func (w *world) finish(c *exec.Cmd) result {
	w.t.Helper()
	var out, err bytes.Buffer
	if c.Stdout == nil {
		c.Stdout = &out
	}
	if c.Stderr == nil {
		c.Stderr = &err
	}
	if startErr := c.Start(); startErr != nil {
		w.t.Error(startErr)
		return result{status: -1}
	}
	w.wait(c)
	return result{out.String(), err.String(), c.ProcessState.ExitCode()}
}

// wait waits for a started command.
func (w *world) wait(c *exec.Cmd) {
	w.t.Helper()
	timer := time.AfterFunc(hang, func() { _ = c.Process.Kill() })
	err := c.Wait()
	if !timer.Stop() {
		w.t.Errorf("%s did not end within %v", strings.Join(c.Args, " "), hang)
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		w.t.Errorf("%s: %v", strings.Join(c.Args, " "), err)
	}
}

// ok runs keyctl, which has to succeed, and returns its standard output.
func (w *world) ok(args ...string) string {
	w.t.Helper()
	r := w.run(args...)
	r.wants(w.t, exitOK, args...)
	return r.out
}

// wants compares the exit status.
func (r result) wants(t testing.TB, status int, args ...string) {
	t.Helper()
	if r.status != status {
		t.Errorf("keyctl %s = exit %d, want %d; stderr:\n%s", strings.Join(args, " "), r.status, status, r.err)
	}
}

// head is the end of the audit log: it is the same before and after exactly when nothing was changed.
func (w *world) head() string {
	w.t.Helper()
	return w.ok("audit", "head")
}

// listedKey is what keys list tells about a key.
type listedKey struct {
	Name        string            `json:"name"`
	State       string            `json:"state"`
	AccessKeyID string            `json:"access_key_id"`
	Generation  int               `json:"generation"`
	Labels      map[string]string `json:"labels"`
}

// keys lists all keys by name.
func (w *world) keys(flags ...string) map[string]listedKey {
	w.t.Helper()
	var list struct {
		Items []listedKey `json:"items"`
	}
	out := w.ok(append([]string{"keys", "list", "-o", "json"}, flags...)...)
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		w.t.Errorf("keys list -o json: %v in %q", err, out)
	}
	byName := map[string]listedKey{}
	for _, k := range list.Items {
		byName[k.Name] = k
	}
	return byName
}

// write makes a private file in the world.
func (w *world) write(name, content string) string {
	w.t.Helper()
	path := w.path(name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		w.t.Fatal(err)
	}
	return path
}

func (w *world) read(path string) string {
	w.t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		w.t.Error(err)
	}
	return string(content)
}

// parseCredential reads a credential back from the form in which it was handed out.
func parseCredential(t testing.TB, text, profile string) credential.Credential {
	t.Helper()
	cred, err := credential.Parse(strings.NewReader(text), profile)
	if err != nil {
		t.Errorf("what was handed out cannot be read back: %v", err)
	}
	return cred
}

// skip skips a test whose part of the machine is missing; in continuous integration nothing may be missing.
func skip(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// watcher keeps what a process writes, and tells when a sign appears in it.
type watcher struct {
	mu   sync.Mutex
	text bytes.Buffer
	sign string
	seen chan struct{} // closed when the sign appeared
}

func newWatcher(sign string) *watcher { return &watcher{sign: sign, seen: make(chan struct{})} }

func (w *watcher) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	before := strings.Contains(w.text.String(), w.sign)
	w.text.Write(p)
	if !before && strings.Contains(w.text.String(), w.sign) {
		close(w.seen)
	}
	return len(p), nil
}

func (w *watcher) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

// openSQL opens a store behind keyctl's back.
func openSQL(t testing.TB, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}
