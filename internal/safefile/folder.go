package safefile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// CheckFolder tells whether the folder dir protects the files in it: fault.Forbidden, with the command that mends it, when
// it belongs to somebody else or others may write to it, for they could put other files in the place of those. In a folder
// like /tmp, where everybody may remove only what is theirs, they cannot. The caller has to be able to make files there
// too. A missing folder is fault.NotFound.
func CheckFolder(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return Explain(dir, err)
	}
	if !info.IsDir() {
		return notADirectory(dir)
	}
	return checkFolder(info, dir)
}

// Leftovers returns the paths of the files in dir that a command meant for a moment and that were last written to before
// an instant: a kill or a power loss ended the command. A folder that is not there has none.
func Leftovers(dir string, before time.Time) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, Explain(dir, err)
	}
	var left []string
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), TemporaryPrefix) || !entry.Type().IsRegular() {
			continue
		}
		if info, err := entry.Info(); err == nil && info.ModTime().Before(before) {
			left = append(left, filepath.Join(dir, entry.Name()))
		}
	}
	return left, nil
}

// FreeBytes returns how much the caller may still write to the file system that holds dir. Where the system does not tell,
// the error is errors.ErrUnsupported.
func FreeBytes(dir string) (uint64, error) {
	free, err := freeBytes(dir)
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		err = Explain(dir, err)
	}
	return free, err
}
