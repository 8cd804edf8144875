package store

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/pressly/goose/v3"

	"keyctl/internal/fault"
	"keyctl/internal/safefile"
)

//go:embed migrations/sqlite/*.sql
var migrationFiles embed.FS

func embedded() fs.FS {
	files, err := fs.Sub(migrationFiles, "migrations/sqlite")
	if err != nil {
		panic(err) // the path is a constant
	}
	return files
}

// newestVersion is the number that the last migration's file name begins with. It is found without goose, which would
// open every file.
func newestVersion(migrations fs.FS) (int64, error) {
	names, err := fs.Glob(migrations, "*.sql")
	if err != nil {
		return 0, err
	}
	var newest int64
	for _, name := range names {
		version, err := goose.NumericComponent(name)
		if err != nil {
			return 0, err
		}
		newest = max(newest, version)
	}
	return newest, nil
}

// SchemaVersion returns the version of the store's schema, as it was when it was last read.
func (db *DB) SchemaVersion() int64 { return db.version.Load() }

// Outdated reports whether the store must be upgraded with Migrate before it can be written to.
func (db *DB) Outdated() bool { return db.version.Load() < db.newest }

// Migrate upgrades an outdated store, after it left a copy of it beside it, named PATH.before-vN for the new version N; of a
// PostgreSQL store copies are its administrator's.
// Each step is one transaction, so a process killed in between leaves a store that is only somewhat less outdated, and
// Migrate can be called again. Of several processes at once, one does the work. On a current store it does nothing.
func (db *DB) Migrate(ctx context.Context) error {
	if !db.Outdated() {
		return nil
	}
	if db.glance {
		return glancedAt(db.path)
	}
	if !db.postgres {
		if err := db.keepBefore(ctx); err != nil {
			return err
		}
	}
	return db.upgrade(ctx)
}

// keepBefore makes the copy. A copy from an earlier attempt is replaced, unless another process upgraded the store in the
// meantime: then that process's copy is the one to keep.
func (db *DB) keepBefore(ctx context.Context) error {
	before := db.version.Load()
	path := fmt.Sprintf("%s%s%d", db.path, beforeInfix, db.newest)
	folder, name := filepath.Split(path)
	temporary, err := stage(folder, name, "copy")
	if err != nil {
		return err
	}
	defer removeDatabase(temporary)
	if err := db.copyInto(ctx, temporary); err != nil {
		return err
	}
	version, err := versionOf(ctx, temporary, db.migrations)
	if err != nil || version != before {
		return err
	}
	if err := os.Rename(temporary, path); err != nil {
		return safefile.Explain(path, err)
	}
	return syncDirectory(folder)
}

// versionOf reads the schema version of a copy.
func versionOf(ctx context.Context, path string, migrations fs.FS) (int64, error) {
	db, err := Open(ctx, path, Options{migrations: migrations})
	if err != nil {
		return 0, err
	}
	return db.SchemaVersion(), db.Close()
}

// upgrade runs the migrations that are missing. Two processes may start the same one: only one can record it, the other
// is rolled back, sees that the version moved, and goes on from there.
func (db *DB) upgrade(ctx context.Context) error {
	if db.postgres {
		return db.upgradePostgres(ctx)
	}
	engine, err := openEngine(db.path, forWriting, patientWait)
	if err != nil {
		return err
	}
	defer engine.Close()
	engine.SetMaxOpenConns(1)
	provider, err := goose.NewProvider(goose.DialectSQLite3, engine, db.migrations, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	for {
		before := db.version.Load()
		_, upErr := provider.Up(ctx)
		if upErr != nil && before == 0 {
			return explainUpgrade(db.path, upErr) // a new store, which nobody else can be at work on
		}
		if err := db.readVersion(ctx); err != nil {
			return err
		}
		after := db.version.Load()
		switch {
		case after >= db.newest:
			return nil
		case upErr != nil && after == before:
			return explainUpgrade(db.path, upErr)
		}
	}
}

func explainUpgrade(path string, err error) error {
	explained := explain(path, err)
	if fault.From(explained) != nil || errors.Is(explained, context.Canceled) {
		return explained
	}
	return fmt.Errorf("upgrading the store: %w", explained)
}
