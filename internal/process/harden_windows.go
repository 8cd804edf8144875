package process

import (
	"os"
	"syscall"

	"golang.org/x/sys/windows"
)

// Harden does nothing: Windows has neither a umask nor core dumps that a process could forbid, and files take their
// access control list from the folder they are in.
func Harden() (restore func(), err error) { return func() {}, nil }

// isNullDevice: the only character devices that programs are started with are consoles and NUL.
func isNullDevice(f *os.File) bool {
	handle := windows.Handle(f.Fd())
	kind, err := windows.GetFileType(handle)
	if err != nil || kind != windows.FILE_TYPE_CHAR {
		return false
	}
	var mode uint32
	return windows.GetConsoleMode(handle, &mode) != nil
}

// detached has no console, and so neither its Ctrl-C nor its end.
func detached() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: windows.DETACHED_PROCESS | windows.CREATE_NEW_PROCESS_GROUP}
}
