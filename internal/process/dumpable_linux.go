package process

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// forbidDumps clears the process's dumpable flag (prctl(2), PR_SET_DUMPABLE). Unlike RLIMIT_CORE it also stops cores
// that are piped to a collector, and ptrace and /proc/PID/mem by processes of the same user.
func forbidDumps() (restore func(), err error) {
	former, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if err != nil {
		return nil, fmt.Errorf("reading the dumpable flag: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("clearing the dumpable flag: %w", err)
	}
	return func() {
		// The kernel alone may set 2, so only 1 can be put back.
		if former == 1 {
			_ = unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0)
		}
	}, nil
}
