package store

import (
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"syscall"

	"keyctl/internal/fault"
	"keyctl/internal/safefile"
)

// Side files that SQLite keeps next to a store. The first two may hold changes that are not in the store's own file yet.
const (
	logSuffix     = "-wal"
	journalSuffix = "-journal"
	indexSuffix   = "-shm"
)

// fileID is the identity of a store's file, held while this process has it open. POSIX makes it necessary: when a process
// closes any descriptor of a file, all its locks on that file are gone, SQLite's among them. So the descriptors by which
// a file's owner, mode and header are checked are opened only while no connection of this process uses the file.
type fileID struct {
	info fs.FileInfo
}

var (
	heldMu sync.Mutex
	held   []fs.FileInfo // one entry for each open DB
)

// hold checks the file at path, unless this process has it open and checked it then, and keeps its identity. A missing file
// satisfies errors.Is(err, fs.ErrNotExist).
func hold(path string, warn func(string)) (fileID, error) {
	heldMu.Lock()
	defer heldMu.Unlock()
	info, err := os.Stat(path)
	if err != nil {
		return fileID{}, safefile.Explain(path, err)
	}
	if !heldContains(info) {
		if info, err = inspect(path, warn); err != nil {
			return fileID{}, err
		}
	}
	held = append(held, info)
	return fileID{info}, nil
}

func (id fileID) release() {
	heldMu.Lock()
	defer heldMu.Unlock()
	if i := slices.IndexFunc(held, func(other fs.FileInfo) bool { return os.SameFile(id.info, other) }); i >= 0 {
		held = slices.Delete(held, i, i+1)
	}
}

// isHeld reports whether this process has the file open as a store.
func isHeld(path string) bool {
	heldMu.Lock()
	defer heldMu.Unlock()
	info, err := os.Stat(path)
	return err == nil && heldContains(info)
}

func heldContains(info fs.FileInfo) bool {
	return slices.ContainsFunc(held, func(other fs.FileInfo) bool { return os.SameFile(info, other) })
}

// inspect checks owner and mode of a store's files and that it is a keyctl store at all: forbidden, store_damaged for
// something that is no database, invalid for another program's database.
func inspect(path string, warn func(string)) (fs.FileInfo, error) {
	f, err := safefile.OpenPrivate(path, warn)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, safefile.Explain(path, err)
	}
	if !info.Mode().IsRegular() {
		return nil, fault.New(fault.Invalid, "the store %q is not a regular file", path)
	}
	for _, suffix := range []string{logSuffix, journalSuffix, indexSuffix} {
		if err := safefile.CheckPrivate(resolved(path)+suffix, warn); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return info, checkHeader(path, f)
}

// checkHeader reads the first 100 bytes (sqlite.org/fileformat2.html, section 1.3).
func checkHeader(path string, r io.Reader) error {
	var header [100]byte
	_, err := io.ReadFull(r, header[:])
	whole := !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF)
	if err != nil && whole {
		return safefile.Explain(path, err)
	}
	if !whole || string(header[:16]) != "SQLite format 3\x00" {
		return storeDamaged(path)
	}
	if binary.BigEndian.Uint32(header[68:]) != applicationID {
		return fault.New(fault.Invalid, "%q is not a keyctl store", path)
	}
	return nil
}

// resolved follows links the way SQLite does: side files lie beside the file itself.
func resolved(path string) string {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		return target
	}
	return path
}

// place gives a finished file its name, unless something of that name is there, and makes that last. Side files without
// a store are refused, because SQLite would play the changes in them into the new file.
func place(temporary, path string) error {
	for _, suffix := range []string{logSuffix, journalSuffix} {
		if _, err := os.Lstat(path + suffix); err == nil {
			return fault.New(fault.Exists, "%q is left from a store that is gone", path+suffix).
				WithHint("move it out of the way")
		}
	}
	if err := os.Remove(path + indexSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return safefile.Explain(path+indexSuffix, err)
	}
	if err := syncFile(temporary); err != nil {
		return err
	}
	if err := os.Link(temporary, path); err != nil {
		return safefile.Explain(path, err)
	}
	if err := os.Remove(temporary); err != nil {
		return safefile.Explain(temporary, err)
	}
	return syncDirectory(filepath.Dir(path))
}

// syncFile brings a file that is not open to the device.
func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return safefile.Explain(path, err)
	}
	err = f.Sync()
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return safefile.Explain(path, err)
}

// syncDirectory makes new names and renames in a directory last. Windows does so by itself, and some file systems cannot.
func syncDirectory(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if errors.Is(err, fs.ErrPermission) {
		return nil // it may be written to but not read; its entries last as well as the system makes them
	}
	if err != nil {
		return safefile.Explain(dir, err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, errors.ErrUnsupported) {
		return safefile.Explain(dir, err)
	}
	return nil
}

// removeDatabase removes an unfinished database with its side files.
func removeDatabase(path string) {
	for _, suffix := range []string{"", logSuffix, journalSuffix, indexSuffix} {
		_ = os.Remove(path + suffix)
	}
}
