package store

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"keyctl/internal/fault"
	"keyctl/internal/keys"
)

func TestOpenRefuses(t *testing.T) {
	foreign := filepath.Join(t.TempDir(), "foreign.db")
	engine, err := sql.Open("sqlite", foreign)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := engine.ExecContext(t.Context(), "CREATE TABLE other (x)"); err != nil {
		t.Fatal(err)
	}
	if err := engine.Close(); err != nil {
		t.Fatal(err)
	}
	write := func(content string) string {
		path := filepath.Join(t.TempDir(), "store.db")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	whole, err := os.ReadFile(newStore(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(foreign, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		what, path string
		want       fault.Code
	}{
		{"a missing file", filepath.Join(t.TempDir(), "nope.db"), fault.NoStore},
		{"a missing folder", filepath.Join(t.TempDir(), "nope", "nope.db"), fault.NoStore},
		{"a folder", t.TempDir(), fault.Invalid},
		{"no name", "", fault.Invalid},
		{"an empty file", write(""), fault.StoreDamaged},
		{"a text", write(strings.Repeat("not a database\n", 100)), fault.StoreDamaged},
		{"half a header", write(string(whole[:50])), fault.StoreDamaged},
		{"a header alone", write(string(whole[:100])), fault.StoreDamaged},
		{"the first page alone", write(string(whole[:4096])), fault.StoreDamaged},
		{"another program's database", foreign, fault.Invalid},
	} {
		db, err := Open(t.Context(), tt.path, Options{})
		if fault.CodeOf(err) != tt.want {
			t.Errorf("Open of %s = %v (%s), want code %s", tt.what, err, fault.CodeOf(err), tt.want)
		}
		if db != nil {
			t.Errorf("Open of %s returned a DB besides its error", tt.what)
		}
		if _, err := os.Stat(tt.path + logSuffix); err == nil && tt.want == fault.Invalid {
			t.Errorf("Open of %s wrote beside it", tt.what)
		}
	}
}

func TestFilesArePrivate(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("modes do not tell on Windows")
	}
	folder := filepath.Join(t.TempDir(), "a", "b")
	path := filepath.Join(folder, "keyctl.db")
	if err := Create(t.Context(), path, Options{}, putTestMeta); err != nil {
		t.Fatal(err)
	}
	db := openStore(t, path)
	putKeys(t, db, testKey(1))
	for _, tt := range []struct {
		path string
		want fs.FileMode
	}{{folder, 0o700}, {filepath.Dir(folder), 0o700}, {path, 0o600}, {path + logSuffix, 0o600}, {path + indexSuffix, 0o600}} {
		info, err := os.Stat(tt.path)
		if err != nil || info.Mode().Perm() != tt.want {
			t.Errorf("mode of %q = %v (%v), want %v", tt.path, info.Mode(), err, tt.want)
		}
	}
	shared := newStore(t)
	if err := os.Chmod(shared, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), shared, Options{}); fault.CodeOf(err) != fault.Forbidden {
		t.Errorf("Open of a store that everybody can read = %v, want code forbidden", err)
	}
	if err := os.Chmod(shared, 0o640); err != nil {
		t.Fatal(err)
	}
	var warned string
	grouped, err := Open(t.Context(), shared, Options{Warn: func(m string) { warned = m }})
	if err != nil || warned == "" {
		t.Fatalf("Open of a store that its group can read = %v with warning %q, want a warning alone", err, warned)
	}
	if err := grouped.Close(); err != nil {
		t.Error(err)
	}
}

func TestOpenThroughALink(t *testing.T) {
	path := newStore(t)
	link := filepath.Join(t.TempDir(), "link.db")
	if err := os.Symlink(path, link); err != nil {
		t.Skip(err)
	}
	putKeys(t, openStore(t, link), testKey(1))
	if got := view(t, openStore(t, path), allKeys); len(got) != 1 {
		t.Errorf("%d keys behind the link, want 1", len(got))
	}
}

func TestCloseLeavesOneFile(t *testing.T) {
	path := newStore(t)
	db, err := Open(t.Context(), path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	putKeys(t, db, testKey(1))
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	wantFiles(t, filepath.Dir(path), "keyctl.db")
	if err := db.Close(); err != nil {
		t.Errorf("a second Close() = %v", err)
	}
	if err := db.View(t.Context(), func(keys.Tx) error { return nil }); fault.CodeOf(err) != fault.Internal {
		t.Errorf("View after Close = %v, want code internal", err)
	}
	if got := view(t, openStore(t, path), allKeys); len(got) != 1 {
		t.Errorf("%d keys after closing, want 1", len(got))
	}
}

func wantFiles(t *testing.T, folder string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	diff(t, "files in the folder", got, want)
}

func TestCreateIsAllOrNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keyctl.db")
	boom := errors.New("boom")
	fails := func(ctx context.Context, db *DB) error {
		putKeys(t, db, testKey(1))
		return boom
	}
	if err := Create(t.Context(), path, Options{}, fails); err != boom {
		t.Errorf("Create with a failing init = %v, want its own error", err)
	}
	wantFiles(t, filepath.Dir(path))
	if err := Create(t.Context(), path, Options{}, putTestMeta); err != nil {
		t.Fatal(err)
	}
	wantFiles(t, filepath.Dir(path), "keyctl.db")
	called := false
	err := Create(t.Context(), path, Options{}, func(context.Context, *DB) error { called = true; return nil })
	if fault.CodeOf(err) != fault.Exists || called {
		t.Errorf("Create over a store = %v, init called: %v; want code exists, not called", err, called)
	}
}

func TestOfTwoCreatesOneWins(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keyctl.db")
	inside, results := make(chan struct{}, 2), make(chan error, 2)
	both := make(chan struct{})
	for i := range 2 {
		go func() {
			results <- Create(t.Context(), path, Options{}, func(ctx context.Context, db *DB) error {
				inside <- struct{}{}
				<-both
				return db.Update(ctx, func(tx keys.Tx) error { return tx.PutKey(testKey(i)) })
			})
		}()
	}
	<-inside
	<-inside
	close(both)
	codes := map[fault.Code]int{}
	for range 2 {
		codes[fault.CodeOf(<-results)]++
	}
	diff(t, "results", codes, map[fault.Code]int{"": 1, fault.Exists: 1})
	wantFiles(t, filepath.Dir(path), "keyctl.db")
	if got := view(t, openStore(t, path), allKeys); len(got) != 1 {
		t.Errorf("%d keys, want the winner's one", len(got))
	}
}

func TestCreateRefusesAForeignLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keyctl.db")
	if err := os.WriteFile(path+logSuffix, []byte("changes of a lost store"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Create(t.Context(), path, Options{}, putTestMeta); fault.CodeOf(err) != fault.Exists {
		t.Errorf("Create beside the log of a lost store = %v, want code exists", err)
	}
	wantFiles(t, filepath.Dir(path), "keyctl.db"+logSuffix)
}
