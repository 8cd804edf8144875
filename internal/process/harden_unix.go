//go:build unix

package process

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Harden keeps secrets in memory from reaching the disk and other users: files are created for the owner alone (umask
// 077), the process dumps no core, and on Linux no other process of the same user can read its memory.
//
// restore puts back what Harden found, for a child program that should run as if keyctl had not been there; call it just
// before the child is started. It is never nil, not even with an error, and undoes what was done until then.
func Harden() (restore func(), err error) {
	mask := unix.Umask(0o077)
	restoreMask := func() { unix.Umask(mask) }

	var core unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &core); err != nil {
		return restoreMask, fmt.Errorf("reading the limit on core dumps: %w", err)
	}
	// The hard limit stays: an unprivileged process that lowers it cannot put it back.
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{Cur: 0, Max: core.Max}); err != nil {
		return restoreMask, fmt.Errorf("forbidding core dumps: %w", err)
	}
	restoreLimits := func() {
		restoreMask()
		_ = unix.Setrlimit(unix.RLIMIT_CORE, &core) // back below its own hard limit: always permitted
	}

	restoreDumpable, err := forbidDumps()
	if err != nil {
		return restoreLimits, err
	}
	return func() {
		restoreDumpable()
		restoreLimits()
	}, nil
}

func isNullDevice(f *os.File) bool {
	conn, err := f.SyscallConn()
	if err != nil {
		return false
	}
	var own, null unix.Stat_t
	var statErr error
	if err := conn.Control(func(fd uintptr) { statErr = unix.Fstat(int(fd), &own) }); err != nil || statErr != nil {
		return false
	}
	if err := unix.Stat(os.DevNull, &null); err != nil {
		return false
	}
	// The device number decides: a container may have a null device of its own elsewhere.
	return own.Mode&unix.S_IFMT == unix.S_IFCHR && own.Rdev == null.Rdev
}

// detached begins a session without a terminal: neither Ctrl-C nor the end of the terminal is signalled to it.
func detached() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }
