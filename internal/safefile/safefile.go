// Package safefile opens, creates and replaces the files that keyctl trusts or fills with secrets: the master key, the
// store, the configuration, credentials written with --out.
//
// It refuses files that somebody else could have written or could read, never writes a secret through a link, and never
// leaves half of a file under the final name. It does not know what the files contain, and on Windows does not inspect
// access control lists: there a file is as private as the folder it lies in.
package safefile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"keyctl/internal/fault"
)

// OpenPrivate opens a file that holds a secret for reading, following links, and checks what it opened rather than what
// the path names, so that nothing can be swapped in between.
//
// The file must belong to the caller or to root and must be closed to everybody else: fault.Forbidden with the command
// that mends it. A file that its group may read is accepted and reported to warn, which may be nil. On a read-only mount
// (Kubernetes and Docker secrets are mode 0444 there) reading is open to all. A missing file is fault.NotFound that
// satisfies errors.Is(err, fs.ErrNotExist), so that callers can choose a code of their own. A named pipe is as good as
// a file, because a shell's <(command) is one.
func OpenPrivate(path string, warn func(message string)) (*os.File, error) {
	f, info, err := open(path)
	if err != nil {
		return nil, err
	}
	if err := checkPrivate(f, info, path, warn); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// CheckPrivate applies the rules of OpenPrivate to a file that a library is going to open by itself, such as a database,
// which has to be a regular file. Call it before the library opens the file: when a process closes any descriptor of a
// file, POSIX drops every lock that the process holds on it.
func CheckPrivate(path string, warn func(message string)) error {
	f, err := OpenPrivate(path, warn)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return Explain(path, err)
	}
	if !info.Mode().IsRegular() {
		return fault.New(fault.Invalid, "%q is not a regular file", path)
	}
	return nil
}

// OpenConfig opens a file that holds no secret but steers keyctl, such as its configuration: everybody may read it, only
// the caller or root may own it or write to it. The errors are those of OpenPrivate.
func OpenConfig(path string) (*os.File, error) {
	f, info, err := open(path)
	if err != nil {
		return nil, err
	}
	if err := checkTrusted(info, path); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// ReadPrivate returns the content of a file that OpenPrivate accepts. More than limit bytes are fault.Invalid.
func ReadPrivate(path string, limit int64, warn func(message string)) ([]byte, error) {
	f, err := OpenPrivate(path, warn)
	if err != nil {
		return nil, err
	}
	return readAndClose(f, path, limit)
}

// ReadConfig returns the content of a file that OpenConfig accepts. More than limit bytes are fault.Invalid.
func ReadConfig(path string, limit int64) ([]byte, error) {
	f, err := OpenConfig(path)
	if err != nil {
		return nil, err
	}
	return readAndClose(f, path, limit)
}

// open opens a regular file or a pipe for reading. It does not wait for the other end of a pipe: a planted one would
// otherwise stop keyctl before anybody looks at its owner.
func open(path string) (*os.File, fs.FileInfo, error) {
	if path == "" {
		return nil, nil, fault.New(fault.Invalid, "a file name is empty")
	}
	f, err := os.OpenFile(path, os.O_RDONLY|openNoWait, 0)
	if err != nil {
		return nil, nil, Explain(path, err)
	}
	info, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return nil, nil, Explain(path, err)
	}
	if kind := info.Mode().Type(); kind != 0 && kind != fs.ModeNamedPipe {
		_ = f.Close()
		return nil, nil, fault.New(fault.Invalid, "%q is not a regular file", path)
	}
	return f, info, nil
}

func readAndClose(f *os.File, path string, limit int64) ([]byte, error) {
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, Explain(path, err)
	}
	if int64(len(data)) > limit {
		return nil, fault.New(fault.Invalid, "%q is larger than the %d bytes that make sense for it", path, limit)
	}
	return data, nil
}

// Create makes a new file of mode 0600, whatever the umask, and opens it for writing. It follows no link. When something
// of that name is there already, even a dangling link, it is fault.Exists. The caller writes, calls Sync and Close, and
// passes errors of these through Explain.
func Create(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|openNoFollow, 0o600)
	if err != nil {
		return nil, Explain(path, err)
	}
	if err := makePrivate(f, path); err != nil {
		_ = f.Close()
		_ = os.Remove(path)
		return nil, err
	}
	return f, nil
}

// OpenAppend opens a file that somebody else provides for adding lines to, such as one a CI runner collects variables in:
// every write goes to its end. It follows no link and makes no file; whose it is and who may read it is the provider's
// matter. A missing file is fault.NotFound, and anything but a regular file fault.Invalid.
func OpenAppend(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|openNoFollow|openNoWait, 0)
	if err != nil {
		return nil, Explain(path, err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fault.New(fault.Invalid, "%q is not a regular file", path)
	}
	if err != nil {
		_ = f.Close()
		return nil, Explain(path, err)
	}
	return f, nil
}

// MkdirPrivate makes the directory path and those above it that are missing, each with mode 0700, and makes them last:
// a store that survives power loss needs the folder it is in. Directories that exist are left as they are.
func MkdirPrivate(path string) error {
	info, err := os.Stat(path)
	if err == nil && !info.IsDir() {
		return notADirectory(path)
	}
	if err == nil {
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return Explain(path, err)
	}
	parent := filepath.Dir(path)
	if parent != path {
		if err := MkdirPrivate(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(path, 0o700); errors.Is(err, fs.ErrExist) {
		// Somebody was faster, or it is a link that leads nowhere.
		if info, err := os.Stat(path); err != nil || !info.IsDir() {
			return notADirectory(path)
		}
		return nil
	} else if err != nil {
		return Explain(path, err)
	}
	return syncNewEntry(parent)
}

func notADirectory(path string) error {
	return fault.New(fault.Invalid, "%q is not a directory", path)
}

// syncNewEntry makes a new entry of the directory dir last. A directory that may be written but not read cannot be
// opened for that; such an entry is as durable as the system makes it.
func syncNewEntry(dir string) error {
	d, err := os.Open(dir)
	if errors.Is(err, fs.ErrPermission) {
		return nil
	}
	if err != nil {
		return Explain(dir, err)
	}
	defer d.Close()
	if err := syncDirectory(d); err != nil {
		return Explain(dir, fmt.Errorf("making a new entry durable: %w", err))
	}
	return nil
}
