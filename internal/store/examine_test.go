package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"keyctl/internal/fault"
	"keyctl/internal/keys"
	"keyctl/internal/safefile"
)

// filesIn describes every file of a folder: name, mode, time of the last write and content.
func filesIn(t testing.TB, folder string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(filepath.Join(folder, entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[entry.Name()] = fmt.Sprintf("%v %v %x", info.Mode(), info.ModTime().UnixNano(), content)
	}
	return files
}

// killedStore is a store as kill -9 leaves it: changes are in its write-ahead log and not in its file.
func killedStore(t *testing.T) string {
	t.Helper()
	live := newStore(t)
	db := openStore(t, live)
	update(t, db, func(tx keys.Tx) error { return tx.PutKey(testKey(7)) })
	path := filepath.Join(t.TempDir(), "keyctl.db")
	for _, suffix := range []string{"", logSuffix, indexSuffix} {
		content, err := os.ReadFile(live + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path+suffix, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// unloggedStore is a store without a write-ahead log, as a restore that was killed leaves it.
func unloggedStore(t *testing.T) string {
	t.Helper()
	path := newStore(t)
	engine, err := openEngine(path, forRepair, lockWait)
	if err != nil {
		t.Fatal(err)
	}
	_, err = engine.ExecContext(t.Context(), "PRAGMA journal_mode = DELETE")
	if err := errors.Join(err, engine.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

// look reads a store in every way that an examination does.
func look(t *testing.T, path string, opts Options) {
	t.Helper()
	db, err := Open(t.Context(), path, opts)
	if err != nil {
		t.Fatal(err)
	}
	diff(t, "Meta()", view(t, db, keys.Tx.Meta), testMeta)
	view(t, db, allKeys)
	if err := db.QuickCheck(t.Context()); err != nil {
		t.Error(err)
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}

// An examination leaves the store's files as they are, in every state they may be in. So that the test can fail, reading in
// the usual way does change some of them.
func TestExamineChangesNothing(t *testing.T) {
	for _, tt := range []struct {
		name    string
		path    string
		changes bool // when it is read in the usual way
	}{
		{"closed", newStore(t), false},
		{"killed", killedStore(t), true},
		{"unlogged", unloggedStore(t), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			folder := filepath.Dir(tt.path)
			before := filesIn(t, folder)
			delete(before, "keyctl.db"+indexSuffix) // it holds nothing but what SQLite finds in the log
			for range 2 {
				look(t, tt.path, Options{Examine: true})
				after := filesIn(t, folder)
				delete(after, "keyctl.db"+indexSuffix)
				diff(t, "files", after, before)
			}
			look(t, tt.path, Options{})
			after := filesIn(t, folder)
			if changed := after["keyctl.db"] != before["keyctl.db"]; changed != tt.changes {
				t.Errorf("reading in the usual way changed the file: %v, want %v", changed, tt.changes)
			}
		})
	}
}

// What a killed writer left in the log counts.
func TestExamineSeesTheLog(t *testing.T) {
	db, err := Open(t.Context(), killedStore(t), Options{Examine: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if all := view(t, db, allKeys); len(all) != 1 || all[0].ID != testKey(7).ID {
		t.Errorf("keys = %v, want the one in the log", all)
	}
	wantCode(t, db, "a change", fault.Unavailable, func(tx keys.Tx) error { return tx.PutKey(testKey(8)) })
}

func TestExamineRefusesToWrite(t *testing.T) {
	db, err := Open(t.Context(), newStore(t), Options{Examine: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	wantCode(t, db, "a change", fault.Unavailable, func(tx keys.Tx) error { return tx.PutKey(testKey(8)) })
}

// A query over the whole store ends with its context, and the store can be used after it.
func TestLongQueryIsStopped(t *testing.T) {
	db := openStore(t, newStore(t))
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	err := db.view(ctx, func(tx *tx) error {
		tx.stoppable = true
		_, _, err := first(tx, integer, `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n`)
		return err
	})
	if fault.CodeOf(err) != fault.Unavailable || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a query without an end = %v, want unavailable by the deadline", err)
	}
	if err := db.QuickCheck(t.Context()); err != nil {
		t.Error(err)
	}
	if err := db.QuickCheck(ctx); fault.CodeOf(err) != fault.Unavailable {
		t.Errorf("QuickCheck after the deadline = %v, want unavailable", err)
	}
}

func TestKeptCopies(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "keyctl.db")
	if got, err := KeptCopies(filepath.Join(folder, "no", "keyctl.db")); err != nil || got != nil {
		t.Errorf("KeptCopies beside nothing = %v, %v", got, err)
	}
	upgraded := time.Date(2026, 2, 1, 10, 0, 0, 0, time.UTC)
	for name, kept := range map[string]bool{
		"keyctl.db": false, "keyctl.db.replaced-20260301T080000Z": true, "keyctl.db.moved-20260301T080000Z": true,
		"keyctl.db.replaced-20260301T080000Z-wal": false,
		"keyctl.db.before-v2":                     true, "keyctl.db.before-v2-wal": false, "keyctl.db.replaced-monday": false, "keyctl.db.before-": false,
		"other.db.replaced-20260301T080000Z": false, "keyctl.db-wal": false,
	} {
		file := filepath.Join(folder, name)
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if kept {
			if err := os.Chtimes(file, upgraded, upgraded); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.Mkdir(path+".before-v3", 0o700); err != nil {
		t.Fatal(err)
	}
	got, err := KeptCopies(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range got {
		got[i].At = got[i].At.UTC()
	}
	diff(t, "KeptCopies", got, []Kept{
		{path + ".before-v2", upgraded, false}, {path + ".moved-20260301T080000Z", morning.Truncate(time.Second), true},
		{path + ".replaced-20260301T080000Z", morning.Truncate(time.Second), false},
	})
}

func TestSize(t *testing.T) {
	if got := Size(filepath.Join(t.TempDir(), "keyctl.db")); got != 0 {
		t.Errorf("Size of nothing = %d", got)
	}
	path := killedStore(t)
	var want int64
	for _, suffix := range []string{"", logSuffix} {
		info, err := os.Stat(path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		want += info.Size()
	}
	if got := Size(path); got != want {
		t.Errorf("Size = %d, want %d, the log included", got, want)
	}
}

// What a killed Create leaves is known as such.
func TestStagedNamesAreTemporary(t *testing.T) {
	path, err := stage(t.TempDir(), "keyctl.db", "new")
	if err != nil {
		t.Fatal(err)
	}
	left, err := safefile.Leftovers(filepath.Dir(path), time.Now().Add(time.Hour))
	if err != nil || len(left) != 1 || left[0] != path {
		t.Errorf("Leftovers = %q, %v, want %q", left, err, path)
	}
}
