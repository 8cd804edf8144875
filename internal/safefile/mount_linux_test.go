package safefile

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"keyctl/internal/fault"
)

// mountTmpfs mounts a small file system for the test.
func mountTmpfs(t *testing.T, options string) string {
	t.Helper()
	needRoot(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("mounting a tmpfs: %v", err)
		}
		t.Skipf("mounting a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmounting: %v", err)
		}
	})
	return dir
}

func TestR45_FullDisk(t *testing.T) {
	dir := mountTmpfs(t, "size=64k")
	path := filepath.Join(dir, "file")
	if err := stageAndCommit(path, 4096); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}

	s, err := Stage(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Write(make([]byte, 256<<10))
	if want := "no space left on the device that holds \"" + path + "\""; fault.CodeOf(err) != fault.Unavailable || err.Error() != want {
		t.Errorf("Write on a full disk = %v, want %s", err, want)
	}
	if err := s.Discard(); err != nil {
		t.Errorf("Discard on a full disk = %v", err)
	}
	wantContent(t, path, string(before))
	wantOnly(t, dir, "file")
}

// Kubernetes and Docker hand over secrets as files of mode 0444 on a read-only mount.
func TestReadOnlyMount(t *testing.T) {
	dir := mountTmpfs(t, "size=64k")
	open, writable := filepath.Join(dir, "open"), filepath.Join(dir, "writable")
	for path, mode := range map[string]os.FileMode{open: 0o444, writable: 0o666} {
		if err := os.WriteFile(path, []byte(testContent), 0o600); err != nil {
			t.Fatal(err)
		}
		chmod(t, path, mode)
	}
	if err := CheckPrivate(open, nil); fault.CodeOf(err) != fault.Forbidden {
		t.Errorf("on a writable mount, CheckPrivate of mode 0444 = %v, want code forbidden", err)
	}
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if err := CheckPrivate(open, func(m string) { t.Errorf("warned: %s", m) }); err != nil {
		t.Errorf("on a read-only mount, CheckPrivate of mode 0444 = %v, want nil", err)
	}
	if err := CheckPrivate(writable, nil); fault.CodeOf(err) != fault.Forbidden {
		t.Errorf("on a read-only mount, CheckPrivate of mode 0666 = %v, want code forbidden", err)
	}
	if _, err := Stage(filepath.Join(dir, "new")); fault.CodeOf(err) != fault.Unavailable {
		t.Errorf("Stage on a read-only mount = %v, want code unavailable", err)
	}
}
