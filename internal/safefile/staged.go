package safefile

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"keyctl/internal/fault"
)

// TemporaryPrefix begins the names of all files that exist for a moment, so that those which a kill or a power loss left
// behind can be found: see Leftovers.
const TemporaryPrefix = ".keyctl-"

// Staged is a file in the making. It is written under a temporary name beside its destination and appears there whole,
// with CommitNew or CommitReplace, or not at all. Use it as
//
//	s, err := safefile.Stage(path)
//	if err != nil { … }
//	defer s.Discard()
//
// A Staged is for one goroutine. It holds on to the directory itself, so a directory renamed or replaced in the meantime
// does not lead it astray.
type Staged struct {
	path string // the destination as the caller named it, for messages
	base string // the destination within dir
	temp string // the temporary name within dir
	dir  *os.Root
	file *os.File
	done bool
}

// Stage makes an empty file of mode 0600, whatever the umask, in the directory of path. Its name cannot be guessed.
// A missing directory is fault.NotFound, one that may not be written to is fault.Forbidden.
func Stage(path string) (*Staged, error) {
	base := filepath.Base(path)
	if path == "" || base == "." || base == ".." || base == string(filepath.Separator) {
		return nil, fault.New(fault.Invalid, "%q does not name a file", path)
	}
	parent := filepath.Dir(path)
	dir, err := os.OpenRoot(parent)
	if err != nil {
		return nil, explainDirectory(parent, err)
	}
	// The name decides nothing but where the bytes wait, so it does not come from the caller's source of randomness.
	s := &Staged{path: path, base: base, temp: TemporaryPrefix + rand.Text() + ".tmp", dir: dir}
	s.file, err = dir.OpenFile(s.temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL|openNoFollow, 0o600)
	if err != nil {
		_ = dir.Close()
		return nil, Explain(path, err)
	}
	if err := makePrivate(s.file, path); err != nil {
		_ = s.Discard()
		return nil, err
	}
	return s, nil
}

// Write appends to the temporary file. A full disk, a used-up quota and a failing device are fault.Unavailable.
func (s *Staged) Write(p []byte) (int, error) {
	n, err := s.file.Write(p)
	if err != nil {
		return n, Explain(s.path, err)
	}
	return n, nil
}

// Sync makes what was written durable under the temporary name, for content that must not be lost before its place is
// decided.
func (s *Staged) Sync() error { return Explain(s.path, s.file.Sync()) }

// Temporary is the path under which the content waits.
func (s *Staged) Temporary() string { return filepath.Join(filepath.Dir(s.path), s.temp) }

// CommitNew makes the file durable and gives it its name, unless something of that name exists: fault.Exists. After any
// error there is no new file.
func (s *Staged) CommitNew() error {
	defer s.Discard()
	if err := s.flush(); err != nil {
		return err
	}
	if err := s.claim(); err != nil {
		return Explain(s.path, err)
	}
	if err := s.syncDir(); err != nil {
		_ = s.dir.Remove(s.base)
		return Explain(s.path, err)
	}
	return nil
}

// CheckReplace tells early what CommitReplace would refuse: a link, or anything else that is no regular file, in the
// place of the destination is fault.Forbidden.
func (s *Staged) CheckReplace() error {
	info, err := s.dir.Lstat(s.base)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return Explain(s.path, err)
	case !info.Mode().IsRegular():
		return fault.New(fault.Forbidden, "%q is a link or no regular file, and is not replaced", s.path).
			WithHint("name the file itself")
	}
	return nil
}

// CommitReplace makes the file durable and puts it in the place of path, which need not exist. A link or anything else
// that is no regular file is not replaced: fault.Forbidden. After an error the old file is untouched, but for
// fault.OutcomeUnknown: the new one is in place, and a power loss may still bring back the old one. After any other error
// the new content waits at Temporary until Discard: it may be the only copy of something.
func (s *Staged) CommitReplace() error {
	// A link planted after this look is replaced, not followed: rename acts on the name itself.
	if err := s.CheckReplace(); err != nil {
		return err
	}
	if err := s.flush(); err != nil {
		return err
	}
	if err := s.dir.Rename(s.temp, s.base); err != nil {
		return Explain(s.path, err)
	}
	defer s.Discard()
	if err := s.syncDir(); err != nil {
		return fault.New(fault.OutcomeUnknown, "%q was replaced, but the change may not survive a power loss", s.path).
			WithCause(err)
	}
	return nil
}

// Discard removes the temporary file. After a commit, or a first Discard, it does nothing.
func (s *Staged) Discard() error {
	if s.done {
		return nil
	}
	s.done = true
	_ = s.file.Close() // the second time after a commit; the content is not wanted in either case
	err := s.dir.Remove(s.temp)
	_ = s.dir.Close()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Explain(s.path, err)
	}
	return nil
}

// flush brings the content to the device. A failed fsync is not repeated: the system may have dropped the pages that it
// could not write, and a second call would then succeed without them.
func (s *Staged) flush() error {
	if err := s.file.Sync(); err != nil {
		return Explain(s.path, err)
	}
	if err := s.file.Close(); err != nil {
		return Explain(s.path, err)
	}
	return nil
}

// claim gives the temporary file its final name if that is free. A second link does so in one step; not every file
// system has them.
func (s *Staged) claim() error {
	err := s.dir.Link(s.temp, s.base)
	if errors.Is(err, fs.ErrExist) {
		return err
	}
	if err != nil {
		return s.claimWithoutLinks()
	}
	if err := s.dir.Remove(s.temp); err != nil {
		_ = s.dir.Remove(s.base)
		return err
	}
	return nil
}

// claimWithoutLinks is claim by way of an empty file, made exclusively and then replaced. A crash in between leaves that.
func (s *Staged) claimWithoutLinks() error {
	placeholder, err := s.dir.OpenFile(s.base, os.O_WRONLY|os.O_CREATE|os.O_EXCL|openNoFollow, 0o600)
	if err != nil {
		return err
	}
	_ = placeholder.Close()
	if err := s.dir.Rename(s.temp, s.base); err != nil {
		_ = s.dir.Remove(s.base)
		return err
	}
	return nil
}

func (s *Staged) syncDir() error {
	d, err := s.dir.Open(".")
	if errors.Is(err, fs.ErrPermission) {
		return nil // see syncNewEntry
	}
	if err != nil {
		return err
	}
	defer d.Close()
	return syncDirectory(d)
}
