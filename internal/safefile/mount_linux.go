package safefile

import (
	"os"

	"golang.org/x/sys/unix"
)

// onReadOnlyMount reports whether the mount through which f was opened is read-only, as those are with which container
// runtimes hand over secrets. It looks at the mount, not at the device below: a read-only bind mount counts.
func onReadOnlyMount(f *os.File) bool {
	conn, err := f.SyscallConn()
	if err != nil {
		return false
	}
	var stat unix.Statfs_t
	var statErr error
	if err := conn.Control(func(fd uintptr) { statErr = unix.Fstatfs(int(fd), &stat) }); err != nil || statErr != nil {
		return false
	}
	return stat.Flags&unix.ST_RDONLY != 0
}
