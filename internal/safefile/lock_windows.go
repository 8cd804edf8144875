package safefile

import (
	"errors"
	"path/filepath"

	"golang.org/x/sys/windows"
)

// tryLockDir holds a hidden file that nobody else can open meanwhile, and that the system removes when it is closed, also
// by the end of the process: a directory cannot be locked here.
func tryLockDir(dir string) (unlock func(), err error) {
	name, err := windows.UTF16PtrFromString(filepath.Join(dir, ".keyctl-lock"))
	if err != nil {
		return nil, err
	}
	const alone = 0 // no sharing
	handle, err := windows.CreateFile(name, windows.GENERIC_WRITE, alone, nil, windows.OPEN_ALWAYS,
		windows.FILE_ATTRIBUTE_HIDDEN|windows.FILE_FLAG_DELETE_ON_CLOSE, 0)
	switch {
	case errors.Is(err, windows.ERROR_SHARING_VIOLATION), errors.Is(err, windows.ERROR_DELETE_PENDING):
		return nil, errLocked
	case errors.Is(err, windows.ERROR_ACCESS_DENIED):
		return func() {}, nil
	case err != nil:
		return nil, err
	}
	return func() { _ = windows.CloseHandle(handle) }, nil
}
