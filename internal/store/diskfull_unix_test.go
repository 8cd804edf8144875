//go:build linux || darwin

package store

import (
	"bufio"
	"fmt"
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
		path := newStoreIn(t, folder)
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
		missing(t, "needs root on Linux to mount a file system")
	}
	folder := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "mount", "-t", "tmpfs", "-o", "size=2m,mode=700", "tmpfs", folder).CombinedOutput(); err != nil {
		missing(t, fmt.Sprintf("mount: %v: %s", err, out))
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

// A full disk does not keep anybody from looking what is wrong.
func TestR45_ExamineOnAFullDisk(t *testing.T) {
	folder := tinyDisk(t)
	path := newStoreIn(t, folder)
	before := filesIn(t, folder)
	ballast, err := os.Create(filepath.Join(folder, "ballast"))
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = ballast.Write(make([]byte, 4096))
	}
	if err := ballast.Close(); err != nil {
		t.Fatal(err)
	}
	look(t, path, Options{Examine: true})
	after := filesIn(t, folder)
	delete(after, "ballast")
	delete(after, "keyctl.db"+indexSuffix) // the one that found no room
	diff(t, "files", after, before)
}

// missing skips a test for want of something; a run under CI has to have it.
func missing(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" && runtime.GOOS == "linux" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// A store in a place that nobody may write to is unavailable, by modes for an ordinary user and by the mount for root.
func TestReadOnlyFile(t *testing.T) {
	var path string
	if os.Geteuid() == 0 {
		folder := tinyDisk(t)
		path = newStoreIn(t, folder)
		if out, err := exec.CommandContext(t.Context(), "mount", "-o", "remount,ro", folder).CombinedOutput(); err != nil {
			t.Fatalf("remount: %v: %s", err, out)
		}
	} else {
		path = newStore(t)
		folder := filepath.Dir(path)
		for name, mode := range map[string]os.FileMode{path: 0o400, folder: 0o500} {
			if err := os.Chmod(name, mode); err != nil {
				t.Fatal(err)
			}
		}
		t.Cleanup(func() { _ = os.Chmod(folder, 0o700) })
	}
	if _, err := Open(t.Context(), path, Options{}); fault.CodeOf(err) != fault.Unavailable {
		t.Errorf("Open of a store nobody may write to = %v, want code unavailable", err)
	}
}
