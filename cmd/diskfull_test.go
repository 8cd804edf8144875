//go:build unix

package cmd

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// mountTmpfs mounts a small file system, which only root can.
func mountTmpfs(t *testing.T, size string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		skip(t, "needs root to mount a file system")
	}
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "mode=700,size="+size, "tmpfs", dir).CombinedOutput(); err != nil {
		skip(t, fmt.Sprintf("mount: %v: %s", err, out))
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	return dir
}

// fillFile writes a file until the disk is full.
func fillFile(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for {
		if _, err := f.Write(make([]byte, 512)); err != nil {
			return
		}
	}
}

// worldOn is a world whose store lies on a disk of its own.
func worldOn(t *testing.T, disk string) *world {
	t.Helper()
	w := newWorld(t)
	w.env = append(w.env, "KEYCTL_STORE=sqlite:"+filepath.Join(disk, "keyctl.db"))
	w.ok("init")
	w.ok("keys", "create", "before", "--out", "before.env")
	return w
}

// A full disk under the store: changes fail whole, reading goes on, and with room again everything is well.
func TestR45_DiskFull(t *testing.T) {
	disk := mountTmpfs(t, "4m")
	w := worldOn(t, disk)
	ballast := filepath.Join(disk, "ballast")
	done, failed := map[string]bool{"before": true}, 0
	for i := 0; failed < 3; i++ {
		if i == 2 {
			fillFile(t, ballast)
		}
		if i > 50 {
			t.Fatal("the disk never got full")
		}
		name := fmt.Sprintf("key-%02d", i)
		args := []string{"keys", "create", name, "--out", name + ".env", "--timeout", "1s"}
		r := w.run(args...)
		if done[name] = r.status == exitOK; !done[name] {
			failed++
			r.wants(t, exitUnavailable, args...)
			if !strings.Contains(r.err, "no space left") && !strings.Contains(r.err, "is not known") {
				t.Errorf("stderr = %q, want it to tell that the disk is full", r.err)
			}
		}
	}
	w.ok("verify", "--from", "before.env")
	w.ok("audit", "verify")
	for name, k := range w.keys() {
		if (k.State == "active") != done[name] {
			t.Errorf("the key %s is %s, its create succeeded: %v", name, k.State, done[name])
		}
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	for name := range done {
		w.ok("keys", "create", name, "--if-not-exists", "--out", name+".env")
		w.ok("verify", "--from", name+".env")
	}
	w.ok("audit", "verify")
	w.ok("backup", "backup")
}

// On a file system that has become read-only changes fail whole, and when it can be written again everything is well.
func TestR45_ReadOnlyFileSystem(t *testing.T) {
	disk := mountTmpfs(t, "4m")
	w := worldOn(t, disk)
	head := w.head()
	remount := func(mode string) {
		t.Helper()
		if out, err := exec.Command("mount", "-o", "remount,"+mode, disk).CombinedOutput(); err != nil {
			t.Fatalf("remount: %v: %s", err, out)
		}
	}
	remount("ro")
	t.Cleanup(func() { _ = exec.Command("mount", "-o", "remount,rw", disk).Run() })
	args := []string{"keys", "create", "after", "--out", "after.env"}
	w.run(args...).wants(t, exitUnavailable, args...)
	if _, err := os.Stat(w.path("after.env")); err == nil {
		t.Error("a failed create left its file")
	}
	w.run("keys", "disable", "before", "--yes").wants(t, exitUnavailable, "keys disable")
	remount("rw")
	if w.head() != head {
		t.Error("a read-only store was changed")
	}
	w.ok("keys", "create", "after", "--out", "after.env")
	w.ok("audit", "verify")
}
