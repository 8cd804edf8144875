package store

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"keyctl/internal/safefile"
)

// QuickCheck reads the whole store and looks for contradictions: store_damaged. With 100,000 keys it takes about a second.
// The end of ctx stops it at once.
func (db *DB) QuickCheck(ctx context.Context) error {
	return db.view(ctx, func(t *tx) error {
		t.stoppable = true
		finding, _, err := first(t, func(row scan) (text string, err error) {
			err = row(&text)
			return text, err
		}, `PRAGMA quick_check(1)`)
		if err != nil {
			return err
		}
		if finding != "ok" {
			return storeDamaged(db.path).WithCause(errors.New(finding))
		}
		_, dangling, err := first(t, func(scan) (struct{}, error) { return struct{}{}, nil }, `PRAGMA foreign_key_check`)
		if err == nil && dangling {
			err = storeDamaged(db.path).WithCause(errDangling)
		}
		return err
	})
}

// NewestVersion is the version of a schema that Migrate upgrades to.
func (db *DB) NewestVersion() int64 { return db.newest }

// Size returns how many bytes a store takes, with the changes that wait beside it: 0 where there is none.
func Size(path string) int64 {
	path = resolved(path)
	var bytes int64
	for _, suffix := range []string{"", logSuffix, journalSuffix} {
		if info, err := os.Stat(path + suffix); err == nil {
			bytes += info.Size()
		}
	}
	return bytes
}

// Kept is a copy of a store that an upgrade, a restore or a move left beside it.
type Kept struct {
	Path  string
	At    time.Time // when it was put aside
	Moved bool      // it was moved to another place, and is none of the store that is here, if there is one
}

// The endings of the names of copies.
const (
	replacedInfix = ".replaced-" // and the time, as in replacedTime
	movedInfix    = ".moved-"    // and the time
	beforeInfix   = ".before-v"  // and the version of the upgrade
	replacedTime  = "20060102T150405Z"
)

// KeptCopies finds the copies that Migrate, Replace and PutAside left beside a store, ordered by name. A folder that is not there
// holds none.
func KeptCopies(path string) ([]Kept, error) {
	path = resolved(path)
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, safefile.Explain(filepath.Dir(path), err)
	}
	var copies []Kept
	for _, entry := range entries {
		ending, beside := strings.CutPrefix(entry.Name(), filepath.Base(path))
		if !beside || !entry.Type().IsRegular() {
			continue
		}
		if at := keptAt(entry, ending); !at.IsZero() {
			copies = append(copies, Kept{filepath.Join(filepath.Dir(path), entry.Name()), at, strings.HasPrefix(ending, movedInfix)})
		}
	}
	return copies, nil
}

// keptAt is when a copy was put aside, by the ending of its name: the zero time for a file that is no such copy.
func keptAt(entry fs.DirEntry, ending string) time.Time {
	for _, infix := range []string{replacedInfix, movedInfix} {
		if when, ok := strings.CutPrefix(ending, infix); ok {
			at, _ := time.Parse(replacedTime, when)
			return at
		}
	}
	version, ok := strings.CutPrefix(ending, beforeInfix)
	if _, err := strconv.Atoi(version); !ok || err != nil {
		return time.Time{}
	}
	info, err := entry.Info()
	if err != nil {
		return time.Time{} // it was removed meanwhile
	}
	return info.ModTime()
}
