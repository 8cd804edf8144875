//go:build linux || darwin

package store

import (
	"bufio"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"keyctl/internal/fault"
)

// limitFileSize lets this process write no file beyond so many bytes; 0 changes nothing. Without the signal ignored, the
// first such write would end the process instead of failing.
func limitFileSize(bytes int64) error {
	if bytes == 0 {
		return nil
	}
	signal.Ignore(syscall.SIGXFSZ)
	var now syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &now); err != nil {
		return err
	}
	now.Cur = min(uint64(bytes), now.Max)
	return syscall.Setrlimit(syscall.RLIMIT_FSIZE, &now)
}

func TestR45_DiskFull(t *testing.T) {
	t.Run("file size limit", func(t *testing.T) {
		fill(t, newStore(t), 600<<10, func() {})
	})
	t.Run("tmpfs", func(t *testing.T) {
		folder := tinyDisk(t)
		path := filepath.Join(folder, "keyctl.db")
		if err := Create(t.Context(), path, Options{}, putTestMeta); err != nil {
			t.Fatal(err)
		}
		ballast := filepath.Join(folder, "ballast")
		if err := os.WriteFile(ballast, make([]byte, 512<<10), 0o600); err != nil {
			t.Fatal(err)
		}
		fill(t, path, 0, func() {
			if err := os.Remove(ballast); err != nil {
				t.Fatal(err)
			}
		})
	})
}

// tinyDisk mounts a file system of 2 MiB.
func tinyDisk(t *testing.T) string {
	t.Helper()
	if runtime.GOOS != "linux" || os.Geteuid() != 0 {
		t.Skip("needs root on Linux to mount a file system")
	}
	folder := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "mount", "-t", "tmpfs", "-o", "size=2m,mode=700", "tmpfs", folder).CombinedOutput(); err != nil {
		t.Skipf("mount: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", folder).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	return folder
}

// fill has another process fill the disk and then makes room for it.
func fill(t *testing.T, path string, limit int64, makeRoom func()) {
	t.Helper()
	cmd := child(t, "fill", path, strconv.FormatInt(limit, 10))
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Error(err)
	}
	if code, rows, _ := strings.Cut(strings.TrimSpace(line), " "); code != string(fault.Unavailable) || rows == "0" {
		t.Errorf("a full disk = %q after %s rows, want unavailable after some", code, rows)
	}
	makeRoom()
	if err := stdin.Close(); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

func TestReadOnlyFile(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may write to read-only files")
	}
	path := newStore(t)
	folder := filepath.Dir(path)
	for _, mode := range []struct {
		path string
		mode os.FileMode
	}{{path, 0o400}, {folder, 0o500}} {
		if err := os.Chmod(mode.path, mode.mode); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = os.Chmod(folder, 0o700) })
	if _, err := Open(t.Context(), path, Options{}); fault.CodeOf(err) != fault.Unavailable {
		t.Errorf("Open in a read-only folder = %v, want code unavailable", err)
	}
}
