//go:build unix

package safefile

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// tryLockDir locks the directory itself, which leaves no file behind. The lock belongs to the open descriptor.
func tryLockDir(dir string) (unlock func(), err error) {
	d, err := os.Open(dir)
	if errors.Is(err, fs.ErrPermission) {
		return func() {}, nil
	}
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, unix.EINTR) {
		_ = d.Close()
		return nil, errLocked
	}
	// Any other failure is a file system without locks on directories, as some network file systems are.
	return func() { _ = d.Close() }, nil
}
