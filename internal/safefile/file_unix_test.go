//go:build unix

package safefile

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"keyctl/internal/fault"
)

// childLimit names the file that the test binary, started as a child, stages under a file size limit.
const childLimit = "SAFEFILE_TEST_STAGE_UNDER_LIMIT"

func TestMain(m *testing.M) {
	if path := os.Getenv(childLimit); path != "" {
		stageUnderLimit(path)
		return
	}
	os.Exit(m.Run())
}

// needRoot skips a test that only root can run, but not where it is expected to run: in continuous integration on Linux.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") == "true" && runtime.GOOS == "linux" {
		t.Fatal("this test needs root; run this package's tests with sudo as well")
	}
	t.Skip("needs root")
}

func chmod(t *testing.T, path string, mode fs.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func TestModes(t *testing.T) {
	path := write(t, testContent)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		mode            fs.FileMode
		private, config bool
		warns           bool
	}{
		{0o600, true, true, false},
		{0o400, true, true, false},
		{0o700, true, true, false},
		{0o640, true, true, true},
		{0o440, true, true, true},
		{0o644, false, true, false},
		{0o444, false, true, false},
		{0o604, false, true, false},
		{0o660, false, false, false},
		{0o620, false, false, false},
		{0o602, false, false, false},
		{0o666, false, false, false},
	} {
		chmod(t, path, tt.mode)
		for _, name := range []string{path, link} {
			var warnings []string
			err := CheckPrivate(name, func(m string) { warnings = append(warnings, m) })
			checkMode(t, "CheckPrivate", name, tt.mode, err, tt.private)
			if warned := len(warnings) > 0; warned != tt.warns {
				t.Errorf("CheckPrivate of mode %04o warned %q, want a warning: %v", tt.mode, warnings, tt.warns)
			}
			f, err := OpenConfig(name)
			checkMode(t, "OpenConfig", name, tt.mode, err, tt.config)
			if err == nil {
				f.Close()
			}
		}
	}
}

func checkMode(t *testing.T, function, path string, mode fs.FileMode, err error, want bool) {
	t.Helper()
	switch {
	case want && err != nil:
		t.Errorf("%s of mode %04o = %v, want nil", function, mode, err)
	case !want && fault.CodeOf(err) != fault.Forbidden:
		t.Errorf("%s of mode %04o = %v, want code forbidden", function, mode, err)
	case !want && (!strings.Contains(err.Error(), path) || !strings.Contains(fault.From(err).Hint, "chmod 600 "+path)):
		t.Errorf("%s of mode %04o: %q with hint %q, want the path and the fix", function, mode, err, fault.From(err).Hint)
	}
}

func TestOwnerTrusted(t *testing.T) {
	for _, tt := range []struct {
		owner  uint32
		caller int
		want   bool
	}{
		{1000, 1000, true},
		{0, 1000, true},
		{0, 0, true},
		{1001, 1000, false},
		{1000, 0, false},
		{65534, 1000, false},
		{^uint32(0), -1, false},
	} {
		if got := ownerTrusted(tt.owner, tt.caller); got != tt.want {
			t.Errorf("ownerTrusted(%d, %d) = %v, want %v", tt.owner, tt.caller, got, tt.want)
		}
	}
}

func TestForeignOwner(t *testing.T) {
	needRoot(t)
	path := write(t, testContent)
	if err := os.Chown(path, 12345, -1); err != nil {
		t.Fatal(err)
	}
	_, privateErr := OpenPrivate(path, nil)
	_, configErr := OpenConfig(path)
	for _, err := range []error{privateErr, configErr} {
		if fault.CodeOf(err) != fault.Forbidden || !strings.Contains(err.Error(), "12345") {
			t.Errorf("opening a file of another user = %v, want code forbidden and the owner", err)
		}
	}
}

func TestUmaskDoesNotMatter(t *testing.T) {
	for _, mask := range []int{0, 0o022, 0o277} {
		dir := t.TempDir()
		former := unix.Umask(mask)
		created, createErr := Create(filepath.Join(dir, "created"))
		staged, stageErr := Stage(filepath.Join(dir, "staged"))
		unix.Umask(former)
		if createErr != nil || stageErr != nil {
			t.Fatalf("under umask %04o: Create: %v, Stage: %v", mask, createErr, stageErr)
		}
		created.Close()
		if err := staged.CommitNew(); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"created", "staged"} {
			info, err := os.Stat(filepath.Join(dir, name))
			if err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("under umask %04o the %s file has mode %v, %v, want 0600", mask, name, info.Mode(), err)
			}
		}
	}
}

func TestNewDirectoriesArePrivate(t *testing.T) {
	root := t.TempDir()
	former := unix.Umask(0)
	err := MkdirPrivate(filepath.Join(root, "a", "b"))
	unix.Umask(former)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "a/b"} {
		if info, err := os.Stat(filepath.Join(root, name)); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s has mode %v, %v, want 0700", name, info.Mode(), err)
		}
	}
	if err := os.Symlink(filepath.Join(root, "nowhere"), filepath.Join(root, "dangling")); err != nil {
		t.Fatal(err)
	}
	if err := MkdirPrivate(filepath.Join(root, "dangling")); fault.CodeOf(err) != fault.Invalid {
		t.Errorf("MkdirPrivate over a dangling link = %v, want code invalid", err)
	}
}

// Secrets are never written through a link, neither to where it points nor over what it points to.
func TestLinksAreNotFollowed(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(dir, "target")
	if err := os.WriteFile(target, []byte("untouched"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"link": target, "dangling": filepath.Join(dir, "nowhere")} {
		link := filepath.Join(dir, name)
		if err := os.Symlink(to, link); err != nil {
			t.Fatal(err)
		}
		if _, err := Create(link); fault.CodeOf(err) != fault.Exists {
			t.Errorf("Create over a %s = %v, want code exists", name, err)
		}
		if err := stage(t, link, "content").CommitNew(); fault.CodeOf(err) != fault.Exists {
			t.Errorf("CommitNew over a %s = %v, want code exists", name, err)
		}
		staged := stage(t, link, "content")
		if err := staged.CommitReplace(); fault.CodeOf(err) != fault.Forbidden {
			t.Errorf("CommitReplace over a %s = %v, want code forbidden", name, err)
		}
		if err := staged.Discard(); err != nil {
			t.Error(err)
		}
	}
	wantContent(t, target, "untouched")
	wantOnly(t, dir, "dangling", "link", "target")
}

func TestNamedPipeIsReadAndDoesNotBlock(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := w.WriteString(testContent); err != nil {
		t.Fatal(err)
	}
	w.Close()
	path := fmt.Sprintf("/dev/fd/%d", r.Fd())
	if got, err := ReadPrivate(path, 1024, nil); err != nil || string(got) != testContent {
		t.Errorf("ReadPrivate of a shell's <(command) = %q, %v, want %q", got, err, testContent)
	}

	lonely := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(lonely, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadPrivate(lonely, 1024, nil); err != nil || len(got) != 0 {
		t.Errorf("ReadPrivate of a pipe without a writer = %q, %v, want nothing", got, err)
	}
	if err := CheckPrivate(lonely, nil); fault.CodeOf(err) != fault.Invalid {
		t.Errorf("CheckPrivate of a pipe = %v, want code invalid", err)
	}
}

func TestExplain(t *testing.T) {
	for _, tt := range []struct {
		errno syscall.Errno
		want  fault.Code
		says  string
	}{
		{syscall.ENOSPC, fault.Unavailable, `no space left on the device that holds "/dir/file"`},
		{syscall.EDQUOT, fault.Unavailable, `the disk quota is used up on the device that holds "/dir/file"`},
		{syscall.EROFS, fault.Unavailable, `"/dir/file" is on a read-only file system`},
		{syscall.EIO, fault.Unavailable, `the device that holds "/dir/file" reports an input/output error`},
		{syscall.EACCES, fault.Forbidden, `permission denied for "/dir/file"`},
		{syscall.EPERM, fault.Forbidden, `permission denied for "/dir/file"`},
		{syscall.ENOENT, fault.NotFound, `no file "/dir/file"`},
		{syscall.EEXIST, fault.Exists, `"/dir/file" exists already`},
		{syscall.ENAMETOOLONG, fault.Invalid, `the name "/dir/file" is too long for a file`},
	} {
		cause := &fs.PathError{Op: "write", Path: "/dir/file", Err: tt.errno}
		err := Explain("/dir/file", cause)
		if fault.CodeOf(err) != tt.want || err.Error() != tt.says {
			t.Errorf("Explain(%v) = %q (code %s), want %q (code %s)", tt.errno, err, fault.CodeOf(err), tt.says, tt.want)
		}
	}
}

// R45: a full disk fails the write whole, says so, and leaves neither the file nor the temporary one.
func TestR45_FileSizeLimit(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childLimit+"="+path)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("child: %v: %s", err, out)
	}
	want := fmt.Sprintf("unavailable: %q would exceed the limit on the size of files", path)
	if string(out) != want {
		t.Errorf("under RLIMIT_FSIZE: %s, want %s", out, want)
	}
	wantOnly(t, dir)
}

func stageUnderLimit(path string) {
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 4096, Max: 4096}); err != nil {
		fmt.Print(err)
		return
	}
	err := stageAndCommit(path, 64<<10)
	fmt.Printf("%s: %v", fault.CodeOf(err), err)
}

// stageAndCommit does what every caller does.
func stageAndCommit(path string, size int) error {
	s, err := Stage(path)
	if err != nil {
		return err
	}
	defer s.Discard()
	if _, err := s.Write(bytes.Repeat([]byte("x"), size)); err != nil {
		return err
	}
	return s.CommitNew()
}
