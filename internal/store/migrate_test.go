package store

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"keyctl/internal/fault"
	"keyctl/internal/keys"
)

// laterMigrations are the embedded migrations and more of them, each a list of statements.
func laterMigrations(t testing.TB, more ...[]string) fs.FS {
	t.Helper()
	return laterThan(t, embedded(), more...)
}

// laterThan is laterMigrations for given ones.
func laterThan(t testing.TB, earlier fs.FS, more ...[]string) fs.FS {
	t.Helper()
	all := fstest.MapFS{}
	names, err := fs.Glob(earlier, "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		content, err := fs.ReadFile(earlier, name)
		if err != nil {
			t.Fatal(err)
		}
		all[name] = &fstest.MapFile{Data: content}
	}
	for i, statements := range more {
		text := "-- +goose Up\n" + strings.Join(statements, ";\n") + ";\n"
		all[fmt.Sprintf("%05d_later.sql", len(names)+1+i)] = &fstest.MapFile{Data: []byte(text)}
	}
	return all
}

// released is the version of the embedded migrations, which a new store has.
func released(t testing.TB) int64 {
	t.Helper()
	version, err := newestVersion(embedded())
	if err != nil {
		t.Fatal(err)
	}
	return version
}

// copyBefore is where an upgrade by so many more migrations leaves its copy.
func copyBefore(t testing.TB, path string, more int64) string {
	t.Helper()
	return fmt.Sprintf("%s.before-v%d", path, released(t)+more)
}

var upgradeSteps = []string{
	`CREATE TABLE later (x INTEGER NOT NULL)`,
	`INSERT INTO later (x) SELECT count(*) FROM keys`,
	`UPDATE keys SET description = description || '+'`,
}

func TestNewestVersion(t *testing.T) {
	want := released(t) + 2
	if got, err := newestVersion(laterMigrations(t, upgradeSteps, upgradeSteps)); err != nil || got != want {
		t.Errorf("newestVersion() = %d, %v, want %d", got, err, want)
	}
}

func TestR47_NewerSchema(t *testing.T) {
	path := newStore(t)
	execRaw(t, path, `INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, 1)`)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), path, Options{}); fault.CodeOf(err) != fault.SchemaNewer {
		t.Errorf("Open of a newer store = %v, want code schema_newer", err)
	}
	if after, err := os.ReadFile(path); err != nil || !slices.Equal(before, after) {
		t.Errorf("Open changed the newer store (%v)", err)
	}
	wantFiles(t, filepath.Dir(path), "keyctl.db")
}

func TestR47_UpgradedWhileOpen(t *testing.T) {
	path := newStore(t)
	old := openStore(t, path)
	newer, err := Open(t.Context(), path, Options{migrations: laterMigrations(t, upgradeSteps)})
	if err != nil {
		t.Fatal(err)
	}
	defer newer.Close()
	if err := newer.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantCode(t, old, "Update by an older keyctl", fault.SchemaNewer, func(tx keys.Tx) error { return tx.PutKey(testKey(1)) })
	putKeys(t, newer, testKey(2))
}

func TestR47_Upgrade(t *testing.T) {
	path := newStore(t)
	putKeysOnce(t, path, testKey(1))
	later := Options{migrations: laterMigrations(t, upgradeSteps, []string{`DELETE FROM later`})}
	db, err := Open(t.Context(), path, later)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if !db.Outdated() || db.SchemaVersion() != released(t) {
		t.Errorf("Outdated() = %v at version %d, want true at %d", db.Outdated(), db.SchemaVersion(), released(t))
	}
	diff(t, "Meta() before the upgrade", view(t, db, keys.Tx.Meta), testMeta)
	wantCode(t, db, "Update before the upgrade", fault.Internal, func(keys.Tx) error { return nil })
	for range 2 {
		if err := db.Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
		if db.Outdated() || db.SchemaVersion() != released(t)+2 {
			t.Errorf("Outdated() = %v at version %d after Migrate, want false at %d", db.Outdated(), db.SchemaVersion(), released(t)+2)
		}
	}
	if got := view(t, db, allKeys); len(got) != 1 || got[0].Description != "+" {
		t.Errorf("after the upgrade there is %v", got)
	}
	putKeys(t, db, testKey(2))

	kept := copyBefore(t, path, 2)
	if info, err := os.Stat(kept); err != nil || info.Mode().Perm()&0o077 != 0 {
		t.Errorf("the copy from before: %v, %v, want a private file", info, err)
	}
	before := openStore(t, kept)
	if got := view(t, before, allKeys); len(got) != 1 || got[0].Description != "" {
		t.Errorf("the copy from before holds %v", got)
	}
	if before.Outdated() {
		t.Error("the copy from before was upgraded, too")
	}
}

func putKeysOnce(t *testing.T, path string, some ...keys.Key) {
	t.Helper()
	db, err := Open(t.Context(), path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	putKeys(t, db, some...)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestR47_UpgradeStoppedAtEachStatement lets an upgrade fail after each of its statements: nothing of that step is left,
// the steps before it are, and the same upgrade succeeds the next time.
func TestR47_UpgradeStoppedAtEachStatement(t *testing.T) {
	for stop := range len(upgradeSteps) + 1 {
		path := newStore(t)
		putKeysOnce(t, path, testKey(1))
		first := []string{`CREATE TABLE first_step (x INTEGER)`}
		broken := slices.Insert(slices.Clone(upgradeSteps), stop, `INSERT INTO nowhere VALUES (1)`)
		db, err := Open(t.Context(), path, Options{migrations: laterMigrations(t, first, broken)})
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Migrate(t.Context()); err == nil {
			t.Fatalf("an upgrade stopped at statement %d succeeded", stop)
		}
		if !db.Outdated() || db.SchemaVersion() != released(t)+1 {
			t.Errorf("stopped at %d: version %d, outdated %v, want %d, true", stop, db.SchemaVersion(), db.Outdated(), released(t)+1)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
		db, err = Open(t.Context(), path, Options{migrations: laterMigrations(t, first, upgradeSteps)})
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Migrate(t.Context()); err != nil {
			t.Errorf("stopped at %d: the next upgrade = %v", stop, err)
		}
		if got := view(t, db, allKeys); len(got) != 1 || got[0].Description != "+" {
			t.Errorf("stopped at %d: the upgrade was not made exactly once: %v", stop, got)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestR47_TwoUpgradesAtOnce(t *testing.T) {
	for range 5 {
		path := newStore(t)
		putKeysOnce(t, path, testKey(1))
		later := Options{migrations: laterMigrations(t, upgradeSteps, []string{`UPDATE keys SET description = description || '-'`})}
		upgradesOnce(t, func() (*DB, error) { return Open(t.Context(), path, later) })
		before := openStore(t, copyBefore(t, path, 2))
		if before.SchemaVersion() != released(t) {
			t.Errorf("the copy from before has version %d, want %d", before.SchemaVersion(), released(t))
		}
	}
}

// upgradesOnce upgrades a store with one key, by steps that make its description "+-", through several handles at once.
func upgradesOnce(t *testing.T, open func() (*DB, error)) {
	t.Helper()
	var all []*DB
	for range 3 {
		db, err := open()
		if err != nil {
			t.Fatal(err)
		}
		closeAtEnd(t, db)
		if !db.Outdated() {
			t.Fatal("the store is not outdated")
		}
		all = append(all, db)
	}
	results := make(chan error, len(all))
	for _, db := range all {
		go func() { results <- db.Migrate(t.Context()) }()
	}
	for range all {
		if err := <-results; err != nil {
			t.Errorf("Migrate() of several at once = %v", err)
		}
	}
	if got := view(t, all[0], allKeys); len(got) != 1 || got[0].Description != "+-" {
		t.Errorf("the upgrade was not made exactly once: %v", got)
	}
}

func TestMigrationsAreNumberedWithoutGaps(t *testing.T) {
	names, err := fs.Glob(embedded(), "*.sql")
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	for i, name := range slices.Sorted(slices.Values(names)) {
		if want := fmt.Sprintf("%05d_", i+1); !strings.HasPrefix(name, want) {
			t.Errorf("migration %q, want it to begin with %s", name, want)
		}
	}
}

// TestR47_UpgradeFromEachVersion brings a store of every earlier version to the newest one, with what it holds.
func TestR47_UpgradeFromEachVersion(t *testing.T) {
	names, err := fs.Glob(embedded(), "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	for version := 1; version < len(names); version++ {
		earlier := fstest.MapFS{}
		for _, name := range names[:version] {
			content, err := fs.ReadFile(embedded(), name)
			if err != nil {
				t.Fatal(err)
			}
			earlier[name] = &fstest.MapFile{Data: content}
		}
		path := filepath.Join(t.TempDir(), "keyctl.db")
		err := Create(t.Context(), path, Options{migrations: earlier}, putTestMeta)
		if err != nil {
			t.Fatal(err)
		}
		execRaw(t, path, `INSERT INTO operators (id, name, role, created_at) VALUES ('op_1', 'alex', 'owner', 1000000)`)
		db := openStore(t, path)
		if !db.Outdated() {
			t.Fatalf("a store of version %d is not outdated", version)
		}
		want := []keys.Operator{{ID: "op_1", Name: "alex", Role: "owner", CreatedAt: time.Unix(1, 0).UTC()}}
		diff(t, fmt.Sprintf("Operators() of a store of version %d", version), view(t, db, keys.Tx.Operators), want)
		if err := db.Migrate(t.Context()); err != nil {
			t.Fatalf("upgrading from version %d: %v", version, err)
		}
		diff(t, fmt.Sprintf("Operators() after the upgrade from version %d", version), view(t, db, keys.Tx.Operators), want)
	}
}
