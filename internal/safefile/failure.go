package safefile

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"keyctl/internal/fault"
)

// failure is what one error number of the operating system means to a user. The message contains one %q for the path.
type failure struct {
	errno   syscall.Errno
	code    fault.Code
	message string
}

// Explain turns an error of an operation on path into a fault that says what is wrong in plain words: fault.NotFound,
// fault.Exists, fault.Forbidden for a denied permission, fault.Invalid for a name that cannot be a file's, and
// fault.Unavailable when the device is full, over quota, read-only or failing. The cause is kept, so errors.Is still
// finds fs.ErrNotExist and the others. An error that is a fault already, and nil, are returned as they are; anything
// else is wrapped without a code.
func Explain(path string, err error) error {
	if err == nil || fault.From(err) != nil {
		return err
	}
	for _, f := range failures {
		if errors.Is(err, f.errno) {
			return fault.New(f.code, f.message, path).WithCause(err)
		}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fault.New(fault.NotFound, "no file %q", path).WithCause(err)
	case errors.Is(err, fs.ErrExist):
		return fault.New(fault.Exists, "%q exists already", path).
			WithHint("choose another name, or move the file out of the way").WithCause(err)
	case errors.Is(err, fs.ErrPermission):
		return fault.New(fault.Forbidden, "permission denied for %q", path).WithCause(err)
	}
	return fmt.Errorf("file %q: %w", path, err)
}

// explainDirectory is Explain for a directory that has to be there.
func explainDirectory(path string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fault.New(fault.NotFound, "no directory %q", path).
			WithHint("make it with mkdir -m 700 %s", shellQuote(path)).WithCause(err)
	}
	return Explain(path, err)
}

// shellQuote returns path as one word of a POSIX shell, for commands in hints.
func shellQuote(path string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+@%:,", r)
	}
	if path != "" && strings.IndexFunc(path, func(r rune) bool { return !plain(r) }) < 0 {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}
