package store

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"keyctl/internal/fault"
	"keyctl/internal/safefile"
)

// Replace puts a checked store file, which has no side files and lies in the same folder, in the place of path. What was
// there is kept as PATH.replaced-TIME, whose name is returned; aside is empty if nothing was there. At each instant path is
// the whole old store or the whole new one.
//
// The old store must be in nobody's use, this process's included: its log belongs to its name, and a process that still
// had it open would write it beside the new store. store_busy: it was in use for the whole wait. An old store that is
// damaged cannot be locked; it is replaced, and its log kept with it. invalid: path is no keyctl store at all.
func Replace(ctx context.Context, newPath, path string, now time.Time, opts Options) (aside string, err error) {
	newPath, path = resolved(newPath), resolved(path)
	if isHeld(newPath) || isHeld(path) {
		return "", fault.New(fault.Internal, "a store that is open cannot be replaced")
	}
	if _, err := inspect(newPath, opts.Warn); err != nil {
		return "", err
	}
	for _, suffix := range []string{logSuffix, journalSuffix} {
		if _, err := os.Lstat(newPath + suffix); err == nil {
			return "", fault.New(fault.StoreBusy, "the new store %q is in use", newPath)
		}
	}
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return "", place(newPath, path)
	}
	if err := syncFile(newPath); err != nil {
		return "", err
	}
	lock, err := seize(ctx, path, opts)
	if err != nil {
		return "", err
	}
	defer lock.release()
	aside = path + replacedInfix + now.UTC().Format(replacedTime)
	if err := keepAside(path, aside); err != nil {
		return "", err
	}
	if runtime.GOOS == "windows" {
		lock.release() // an open file cannot be replaced there; what remains of the protection is an instant
	}
	if err := os.Rename(newPath, path); err != nil {
		return "", safefile.Explain(path, err)
	}
	return aside, syncDirectory(filepath.Dir(path))
}

// keepAside gives the old store a second name, and moves what a damaged one could not take into its own file. Only then
// is the first name free of side files and ready for the new store.
func keepAside(path, aside string) error {
	if err := os.Link(path, aside); err != nil {
		return safefile.Explain(aside, err)
	}
	for _, suffix := range []string{logSuffix, journalSuffix} {
		if err := os.Rename(path+suffix, aside+suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return safefile.Explain(aside+suffix, err)
		}
	}
	if err := os.Remove(path + indexSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return safefile.Explain(path+indexSuffix, err)
	}
	return syncDirectory(filepath.Dir(path))
}

// exclusive is the sole use of a store. The zero value stands for a store too damaged to be locked.
type exclusive struct {
	engine *sql.DB
	conn   *sql.Conn
}

// seize moves a store's log into its file and locks the file against every other use. Leaving WAL mode does both: SQLite
// does it for a sole user only, and without a log the lock of a transaction shuts out readers, too.
func seize(ctx context.Context, path string, opts Options) (*exclusive, error) {
	_, err := inspect(path, opts.Warn)
	if fault.Is(err, fault.StoreDamaged) {
		return &exclusive{}, nil
	}
	if err != nil {
		return nil, err
	}
	engine, err := openEngine(path, forRepair, lockWait)
	if err != nil {
		return nil, err
	}
	e := &exclusive{engine: engine}
	err = retry(ctx, path, opts.wait(), func(*bound) (bool, error) {
		busy, err := e.attempt(ctx)
		return busy, explain(path, err)
	})
	if err == nil {
		return e, nil
	}
	e.release()
	if fault.Is(err, fault.StoreDamaged) {
		return &exclusive{}, nil
	}
	return nil, err
}

func (e *exclusive) attempt(ctx context.Context) (busy bool, err error) {
	if e.conn == nil {
		if e.conn, err = e.engine.Conn(ctx); err != nil {
			return isBusy(err), err
		}
	}
	var before, after string
	if err := e.conn.QueryRowContext(ctx, "PRAGMA journal_mode = DELETE").Scan(&before); err != nil {
		return isBusy(err), err
	}
	if _, err := e.conn.ExecContext(ctx, "BEGIN EXCLUSIVE"); err != nil {
		return isBusy(err), err
	}
	// Between the two somebody else may have returned to WAL mode.
	err = e.conn.QueryRowContext(ctx, "PRAGMA journal_mode").Scan(&after)
	if err == nil && before == "delete" && after == "delete" {
		return false, nil
	}
	_, _ = e.conn.ExecContext(context.Background(), "ROLLBACK")
	return err == nil || isBusy(err), err
}

// release ends the sole use. A second call does nothing.
func (e *exclusive) release() {
	if e.conn != nil {
		_, _ = e.conn.ExecContext(context.Background(), "ROLLBACK")
		_ = e.conn.Close()
	}
	if e.engine != nil {
		_ = e.engine.Close()
	}
	*e = exclusive{}
}
