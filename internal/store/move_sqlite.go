package store

import (
	"context"
	"database/sql"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"keyctl/internal/fault"
	"keyctl/internal/safefile"
)

// freezeFile shuts everybody else out of a store's file. A server that has it open keeps answering from it, so there must be
// none: what it lets in, the store's new place may have shut out.
func (f *Frozen) freezeFile(ctx context.Context, path string, opts Options) error {
	db, err := newDB(path, opts)
	if err != nil {
		return err
	}
	if path = resolved(db.path); isHeld(path) {
		return fault.New(fault.Internal, "a store that is open cannot be moved")
	}
	lock, err := seize(ctx, path, opts)
	switch {
	case fault.Is(err, fault.StoreBusy):
		return fault.From(err).WithHint("stop `keyctl serve` and every other program that uses it, then run the command again")
	case err != nil:
		return err
	case lock.conn == nil:
		return storeDamaged(path)
	}
	c := &connection{raw: lock.conn, statements: map[string]*sql.Stmt{}}
	f.t = &tx{ctx: ctx, db: db, conn: c, open: true, begun: true}
	f.unfreeze = func() {
		c.forget()
		lock.release()
	}
	f.setAside = func(now time.Time) (string, error) {
		aside := path + movedInfix + now.UTC().Format(replacedTime)
		if _, err := os.Lstat(aside); err == nil {
			return "", fault.New(fault.Exists, "%q is there already", aside).WithHint("run the command again in a moment")
		}
		if runtime.GOOS == "windows" {
			f.Release() // an open file cannot be renamed there
		}
		// It has no side files: seize left none. So the store has one name at each instant, also for who is killed.
		if err := os.Rename(path, aside); err != nil {
			return "", safefile.Explain(aside, err)
		}
		return aside, syncDirectory(filepath.Dir(path))
	}
	return nil
}

// WasMoved returns where the newest store is kept that was moved away from a path; empty: none was.
func WasMoved(path string) string {
	copies, err := KeptCopies(path)
	if err != nil {
		return ""
	}
	newest := ""
	for _, kept := range copies {
		if kept.Moved {
			newest = kept.Path // names end in the time
		}
	}
	return newest
}

// noStore is the answer where no file is.
func noStore(path string) *fault.Error {
	e := fault.New(fault.NoStore, "no store at %q", path)
	if kept := WasMoved(path); kept != "" {
		return e.WithHint("it was moved to another place (keyctl migrate): name that with --store or KEYCTL_STORE; what was moved is kept as %s", kept)
	}
	return e.WithHint("run `keyctl init`")
}
