//go:build unix

package cmd

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"keyctl/internal/credential"
)

// nothingHappened checks that a failed hand-over left neither a key nor a file behind, and told the key's id unless it
// failed before there was one.
func (w *world) nothingHappened(r result, key, dir string, committed bool) {
	w.t.Helper()
	r.wants(w.t, exitUndelivered, "keys create", key)
	if k, ok := w.keys()[key]; ok {
		w.t.Errorf("the key is %s, want it withdrawn", k.State)
	}
	if committed != strings.Contains(r.err, "the credential KC") {
		w.t.Errorf("stderr = %q, want it to name the access key id: %v", r.err, committed)
	}
	if files := w.files(dir); len(files) > 0 {
		w.t.Errorf("files left behind: %q", files)
	}
	if strings.Contains(r.err, string(credential.SigningKey)) || strings.Contains(r.err, string(credential.CryptoAccessKey)) {
		w.t.Error("standard error holds a secret")
	}
}

// files lists a folder, hidden files included.
func (w *world) files(dir string) []string {
	w.t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		w.t.Error(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// Standard output that takes nothing: the failure is seen, the credential withdrawn.
func TestR28_StandardOutputFails(t *testing.T) {
	w := newWorld(t)
	w.ok("init")
	for i, tt := range []struct {
		name, script string
		committed    bool
	}{
		{"reader gone", `{ sleep 0.2; "$KEYCTL" keys create $NAME; echo $? >&3; } | true`, true},
		{"device full", `"$KEYCTL" keys create $NAME >/dev/full; echo $? >&3`, true},
		{"closed", `"$KEYCTL" keys create $NAME >&-; echo $? >&3`, false},
		{"null device", `"$KEYCTL" keys create $NAME >/dev/null; echo $? >&3`, false},
		{"closed, dataset", `"$KEYCTL" datasets create $NAME >&-; echo $? >&3`, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.name == "device full" {
				needDevice(t, "/dev/full")
			}
			w := *w
			w.t = t
			before, key := w.head(), fmt.Sprintf("key-%d", i)
			c := w.shell(strings.ReplaceAll(tt.script, "$NAME", key) + "\n")
			status, statusWriter, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			c.ExtraFiles = []*os.File{statusWriter}
			r := w.finish(c)
			statusWriter.Close()
			text, err := io.ReadAll(status)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := fmt.Sscan(string(text), &r.status); err != nil {
				t.Fatalf("no exit status in %q", text)
			}
			w.nothingHappened(r, key, w.path("tmp"), tt.committed)
			if unchanged := w.head() == before; unchanged == tt.committed {
				t.Errorf("the audit log is unchanged: %v, want %v", unchanged, !tt.committed)
			}
		})
	}
}

func needDevice(t *testing.T, path string) {
	t.Helper()
	if _, err := os.Stat(path); err != nil {
		skip(t, err.Error())
	}
}

// clogged is a pipe with so much in it that a credential does not fit any more.
func clogged(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	if err := w.SetWriteDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := w.Write(make([]byte, 4096)); err != nil {
			return r, w
		}
	}
}

// stopAtOutput starts keyctl with a standard output that blocks, and returns once it has committed the credential and is
// about to write it.
func (w *world) stopAtOutput(args ...string) (c *exec.Cmd, reader *os.File, words *watcher) {
	w.t.Helper()
	t, ok := w.t.(*testing.T)
	if !ok {
		w.t.Fatal("only for tests")
	}
	reader, writer := clogged(t)
	c = w.command(append(args, "-v")...)
	words = newWatcher("as pending")
	c.Stdout, c.Stderr = writer, words
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	writer.Close()
	select {
	case <-words.seen:
	case <-time.After(hang):
		_ = c.Process.Kill()
		t.Fatalf("nothing was committed; stderr:\n%s", words)
	}
	return c, reader, words
}

// The reader goes away while the credential is being written.
func TestR28_ReaderGoesAwayMeanwhile(t *testing.T) {
	w := newWorld(t)
	w.ok("init")
	c, reader, words := w.stopAtOutput("keys", "create", "web-01")
	time.Sleep(20 * time.Millisecond) // let it come to the write; the outcome is the same if it does not
	reader.Close()
	w.wait(c)
	w.nothingHappened(result{err: words.String(), status: c.ProcessState.ExitCode()}, "web-01", w.path("tmp"), true)
}

// A full disk under --out: nothing half-written, nothing active.
func TestR28_OutFileOnFullDisk(t *testing.T) {
	w := newWorld(t)
	w.ok("init")
	disk := mountTmpfs(t, "64k")
	ballast := filepath.Join(disk, "ballast")
	fillFile(t, ballast)
	r := w.run("keys", "create", "web-01", "--out", filepath.Join(disk, "web-01.env"))
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	w.nothingHappened(r, "web-01", disk, true)
	if !strings.Contains(r.err, "no space left") {
		t.Errorf("stderr = %q, want it to tell that the disk is full", r.err)
	}
}

// A file that would grow beyond what the system allows is like a full disk, and needs no rights to try.
func TestR28_OutFileBeyondTheSizeLimit(t *testing.T) {
	w := newWorld(t)
	w.ok("init")
	if err := os.Mkdir(w.path("out"), 0o700); err != nil {
		t.Fatal(err)
	}
	credentials := filepath.Join("out", "credentials")
	before := strings.Repeat("# a long comment in a credentials file\n", 23000)
	w.write(credentials, before)
	r := w.finish(w.shell(`ulimit -f 1000; exec "$KEYCTL" keys create web-01 --format ini --out out/credentials`))
	if w.read(w.path(credentials)) != before {
		t.Error("the credentials file changed")
	}
	if err := os.Remove(w.path(credentials)); err != nil {
		t.Fatal(err)
	}
	w.nothingHappened(r, "web-01", w.path("out"), true)
}

// nobody runs a command as a user without rights when the test runs as root, who has all of them.
func (w *world) nobody(c *exec.Cmd) *exec.Cmd {
	w.t.Helper()
	if os.Geteuid() != 0 {
		return c
	}
	const id = 65534
	if err := os.Chmod(filepath.Dir(w.dir), 0o711); err != nil {
		w.t.Fatal(err)
	}
	err := filepath.WalkDir(w.dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, id, id)
	})
	if err != nil {
		w.t.Fatal(err)
	}
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: id, Gid: id}}
	return c
}

// Where --out cannot be written, that is found out before anything is committed.
func TestR28_OutFolderWithoutRights(t *testing.T) {
	w := newWorld(t)
	w.finish(w.nobody(w.command("init"))).wants(t, exitOK, "init")
	if err := os.Mkdir(w.path("locked"), 0o500); err != nil {
		t.Fatal(err)
	}
	before := w.finish(w.nobody(w.command("audit", "head"))).out
	for path, status := range map[string]int{"locked/web-01.env": exitForbidden, "missing/web-01.env": exitNotFound} {
		w.finish(w.nobody(w.command("keys", "create", "web-01", "--out", path))).wants(t, status, "keys create --out", path)
	}
	if after := w.finish(w.nobody(w.command("audit", "head"))).out; after != before || before == "" {
		t.Errorf("the audit log grew from %q to %q", before, after)
	}
}
