package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"keyctl/internal/fault"
	"keyctl/internal/safefile"
)

// Open opens the store at path and writes nothing; the caller checks the master key against Meta before it writes, and
// calls Migrate if the store is Outdated. The caller closes the DB.
//
// no_store: nothing is there. forbidden: its files are open to others, or another user's. invalid: it is another program's
// database. store_damaged: it is no database, or not whole. schema_newer: a newer keyctl wrote it.
func Open(ctx context.Context, path string, opts Options) (*DB, error) {
	db, err := newDB(path, opts)
	if err != nil {
		return nil, err
	}
	db.file, err = hold(db.path, opts.Warn)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, noStore(db.path).WithCause(err)
	}
	if err != nil {
		return nil, err
	}
	if err := db.readVersion(ctx); err != nil {
		_ = db.Close()
		return nil, err
	}
	return db, nil
}

func newDB(path string, opts Options) (*DB, error) {
	absolute, err := filepath.Abs(path)
	if err != nil || path == "" {
		return nil, fault.New(fault.Invalid, "%q does not name a store", path).WithCause(err)
	}
	db := &DB{path: absolute, queue: newQueue(), wait: opts.wait(), glance: opts.Glance, migrations: opts.migrations}
	if db.migrations == nil {
		db.migrations = embedded()
	}
	if db.newest, err = newestVersion(db.migrations); err != nil {
		return nil, err
	}
	reading, writing := forReading, forWriting
	switch {
	case opts.Glance:
		reading = forGlance
	case opts.Examine:
		reading, writing = forExamining, forExamining
	}
	db.readers = newPool(db.path, reading, readers())
	db.writer = newPool(db.path, writing, 1)
	return db, nil
}

// Create makes a new store: init fills it, and only when init succeeded does the store appear at path, whole. Missing
// folders are made with mode 0700. exists: something is at path already, also when another process was faster. A process
// killed in the middle leaves at most a hidden file behind.
func Create(ctx context.Context, path string, opts Options, init func(context.Context, *DB) error) error {
	db, err := newDB(path, opts)
	if err != nil {
		return err
	}
	folder, name := filepath.Split(db.path)
	if err := safefile.MkdirPrivate(folder); err != nil {
		return err
	}
	if _, err := os.Lstat(db.path); err == nil {
		return fault.New(fault.Exists, "there is a store at %q already", db.path)
	}
	temporary, err := stage(folder, name, "new")
	if err != nil {
		return err
	}
	defer removeDatabase(temporary)
	if err := build(ctx, temporary, opts, init); err != nil {
		return err
	}
	err = place(temporary, db.path)
	if errors.Is(err, fs.ErrExist) {
		return fault.New(fault.Exists, "there is a store at %q already", db.path).WithCause(err)
	}
	return err
}

// stage makes an empty hidden file of mode 0600 in a folder.
func stage(folder, name, purpose string) (string, error) {
	f, err := os.CreateTemp(folder, safefile.TemporaryPrefix+name+"-"+purpose+"-*")
	if err != nil {
		return "", safefile.Explain(folder, err)
	}
	return f.Name(), safefile.Explain(f.Name(), f.Close())
}

// build makes a store in an empty file and closes it, so that the file alone is the store.
func build(ctx context.Context, path string, opts Options, init func(context.Context, *DB) error) error {
	engine, err := openEngine(path, forWriting, patientWait)
	if err != nil {
		return err
	}
	_, err = engine.ExecContext(ctx, fmt.Sprintf("PRAGMA application_id = %d", applicationID))
	if closeErr := engine.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return explain(path, err)
	}
	db, err := newDB(path, opts)
	if err != nil {
		return err
	}
	if db.file, err = hold(path, opts.Warn); err != nil {
		return err
	}
	if err = db.upgrade(ctx); err == nil {
		err = init(ctx, db)
	}
	if closeErr := db.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	if info, statErr := os.Lstat(path + logSuffix); statErr == nil && info.Size() > 0 {
		return fault.New(fault.Unavailable, "the new store %q could not be closed cleanly", path)
	}
	return nil
}

// readVersion learns the version of the file's schema and refuses a newer one.
func (db *DB) readVersion(ctx context.Context) error {
	return db.view(ctx, func(t *tx) error {
		version, err := t.schemaVersion()
		if err != nil {
			return err
		}
		db.version.Store(version)
		return db.checkNotNewer(version)
	})
}

const selectVersion = `SELECT max(version_id) FROM goose_db_version`

// schemaVersion reads the number of the newest migration that was applied. A store has one: store_damaged.
func (t *tx) schemaVersion() (int64, error) {
	version, _, err := first(t, func(row scan) (int64, error) {
		var v sql.Null[int64]
		err := row(&v)
		if err == nil && v.V < 1 {
			err = errors.New("no migration was ever applied")
		}
		return v.V, err
	}, selectVersion)
	return version, err
}

func (db *DB) checkNotNewer(version int64) error {
	if version <= db.newest {
		return nil
	}
	return schemaNewer(fmt.Sprintf("the store %q", db.path), version, db.newest)
}

func schemaNewer(what string, version, newest int64) *fault.Error {
	return fault.New(fault.SchemaNewer, "%s was written by a newer keyctl: format %d, this one knows %d", what, version, newest).
		WithHint("install a newer keyctl")
}
