//go:build unix

package safefile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"keyctl/internal/fault"
)

const (
	openNoFollow = syscall.O_NOFOLLOW
	openNoWait   = syscall.O_NONBLOCK
)

var failures = []failure{
	{syscall.ENOSPC, fault.Unavailable, "no space left on the device that holds %q"},
	{syscall.EDQUOT, fault.Unavailable, "the disk quota is used up on the device that holds %q"},
	{syscall.EFBIG, fault.Unavailable, "%q would exceed the limit on the size of files"},
	{syscall.EROFS, fault.Unavailable, "%q is on a read-only file system"},
	{syscall.EIO, fault.Unavailable, "the device that holds %q reports an input/output error"},
	{syscall.EMFILE, fault.Unavailable, "too many files are open to open %q"},
	{syscall.ENFILE, fault.Unavailable, "too many files are open to open %q"},
	{syscall.ENOTDIR, fault.NotFound, "%q lies below something that is not a directory"},
	{syscall.ELOOP, fault.Invalid, "%q is a link that must not or cannot be followed"},
	{syscall.ENAMETOOLONG, fault.Invalid, "the name %q is too long for a file"},
	{syscall.EISDIR, fault.Invalid, "%q is a directory"},
}

// checkPrivate decides whether a file may be taken for a secret that nobody else knows; see OpenPrivate.
func checkPrivate(f *os.File, info fs.FileInfo, path string, warn func(string)) error {
	if err := checkTrusted(info, path); err != nil {
		return err
	}
	mode := info.Mode().Perm()
	if mode&0o044 == 0 || onReadOnlyMount(f) {
		return nil
	}
	if mode&0o004 != 0 {
		return fault.New(fault.Forbidden, "%q can be read by everybody on this machine (mode %04o)", path, mode).
			WithHint("run chmod 600 %s, and replace the secret if others may have read it", shellQuote(path))
	}
	if warn != nil {
		warn(fmt.Sprintf("%q can be read by its group (mode %04o); chmod 600 %s closes it", path, mode, shellQuote(path)))
	}
	return nil
}

// checkTrusted decides whether somebody else may have written the file.
func checkTrusted(info fs.FileInfo, path string) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("file %q: the system does not tell its owner", path)
	}
	if !ownerTrusted(stat.Uid, os.Geteuid()) {
		return fault.New(fault.Forbidden, "%q belongs to another user (uid %d)", path, stat.Uid).
			WithHint("run keyctl as that user, or take the file over with chown %d %s", os.Geteuid(), shellQuote(path))
	}
	mode := info.Mode().Perm()
	if mode&0o022 != 0 {
		return fault.New(fault.Forbidden, "%q can be written by other users (mode %04o)", path, mode).
			WithHint("look whether somebody changed it, then run chmod 600 %s", shellQuote(path))
	}
	return nil
}

// checkFolder decides whether somebody else may have put files into a folder; see CheckFolder.
func checkFolder(info fs.FileInfo, dir string) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("folder %q: the system does not tell its owner", dir)
	}
	mode := info.Mode()
	switch {
	case !ownerTrusted(stat.Uid, os.Geteuid()):
		return fault.New(fault.Forbidden, "the folder %q belongs to another user (uid %d), who can exchange the files in it", dir, stat.Uid).
			WithHint("take it over with chown %d %s, or use another folder", os.Geteuid(), shellQuote(dir))
	case mode.Perm()&0o022 != 0 && mode&fs.ModeSticky == 0:
		return fault.New(fault.Forbidden, "other users can exchange the files in the folder %q (mode %04o)", dir, mode.Perm()).
			WithHint("run chmod 700 %s", shellQuote(dir))
	}
	if err := unix.Faccessat(unix.AT_FDCWD, dir, unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
		return fault.New(fault.Forbidden, "you cannot make files in the folder %q (mode %04o)", dir, mode.Perm()).
			WithHint("the store keeps files beside it while it is used: run chmod u+wx %s as its owner", shellQuote(dir)).WithCause(err)
	}
	return nil
}

// ownerTrusted: a file of the caller, or of root, who could read everything anyway.
func ownerTrusted(owner uint32, caller int) bool {
	return owner == 0 || int64(owner) == int64(caller)
}

// makePrivate sets mode 0600, which the umask may have narrowed and an access control list on the directory may have
// widened, and makes sure of it: some file systems (FAT, many network shares) show one mode for every file.
func makePrivate(f *os.File, path string) error {
	chmodErr := f.Chmod(0o600)
	info, err := f.Stat()
	if err != nil {
		return Explain(path, err)
	}
	if info.Mode().Perm() != 0o600 {
		return fault.New(fault.Forbidden, "the file system that holds %q cannot keep a file private", path).
			WithHint("choose a folder on a file system with Unix permissions").WithCause(chmodErr)
	}
	return nil
}

// syncDirectory makes renames and new entries in a directory durable. File systems that cannot do it say EINVAL or
// ENOTSUP; there is nothing more to do on them.
func syncDirectory(d *os.File) error {
	err := d.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) {
		return nil
	}
	return err
}
