package store

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"keyctl/internal/fault"
	"keyctl/internal/keys"
)

// TestGlance looks at a store in every condition that it can be found in, sees what was committed, and leaves each file
// in its folder as it was.
func TestGlance(t *testing.T) {
	for _, tt := range []struct {
		name string
		// leave brings the store into the condition and returns how many keys are in it.
		leave func(t *testing.T, path string) int
		want  fault.Code
	}{
		{name: "closed", leave: func(*testing.T, string) int { return 1 }},
		{name: "written to by another process", leave: func(t *testing.T, path string) int { startGrowing(t, path, 2); return 3 }},
		{name: "left by a killed process", leave: func(t *testing.T, path string) int {
			startGrowing(t, path, 2)()
			return 3
		}},
		{name: "left without the index of its log", want: fault.Unavailable, leave: func(t *testing.T, path string) int {
			startGrowing(t, path, 2)()
			if err := os.Remove(path + indexSuffix); err != nil {
				t.Fatal(err)
			}
			return 0
		}},
		{name: "in a folder that cannot be written to", leave: func(t *testing.T, path string) int {
			if err := os.Chmod(filepath.Dir(path), 0o500); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.Chmod(filepath.Dir(path), 0o700) })
			return 1
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := newStoreIn(t, filepath.Join(t.TempDir(), "store"))
			db, err := Open(t.Context(), path, Options{})
			if err != nil {
				t.Fatal(err)
			}
			putKeys(t, db, testKey(1<<20))
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			want := tt.leave(t, path)
			before := filesIn(t, filepath.Dir(path))
			time.Sleep(20 * time.Millisecond) // a write from here on has another time, also where clocks are coarse
			got, err := glance(t, path)
			if fault.CodeOf(err) != tt.want || got != want {
				t.Errorf("a glance sees %d keys (%v), want %d (%q)", got, err, want, tt.want)
			}
			diff(t, "the folder after a glance", filesIn(t, filepath.Dir(path)), before)
		})
	}
}

// glance counts the keys of a store.
func glance(t *testing.T, path string) (int, error) {
	t.Helper()
	db, err := Open(t.Context(), path, Options{Glance: true, Wait: 300 * time.Millisecond})
	if err != nil {
		return 0, err
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Errorf("Close() = %v", err)
		}
	}()
	count := 0
	err = db.View(t.Context(), func(tx keys.Tx) error {
		all, err := allKeys(tx)
		count = len(all)
		return err
	})
	return count, err
}

// startGrowing has another process add keys to a store and hold it open, until the test ends or kill is called.
func startGrowing(t *testing.T, path string, n int) (kill func()) {
	t.Helper()
	c := child(t, "grow", path, fmt.Sprint(n))
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	kill = func() {
		_ = c.Process.Kill()
		_ = c.Wait()
		_ = in.Close()
	}
	t.Cleanup(kill)
	said := make([]byte, len("grown"))
	if _, err := io.ReadFull(out, said); err != nil || string(said) != "grown" {
		t.Fatalf("the other process said %q (%v)", said, err)
	}
	return kill
}

// childGrow adds keys to a store and holds it open until its standard input ends.
func childGrow() {
	n, _ := strconv.Atoi(os.Args[2])
	db, err := Open(context.Background(), os.Args[1], Options{})
	if err != nil {
		childFails(err)
	}
	for i := range n {
		if err := db.Update(context.Background(), func(tx keys.Tx) error { return tx.PutKey(testKey(i)) }); err != nil {
			childFails(err)
		}
	}
	_, _ = os.Stdout.WriteString("grown")
	_, _ = io.Copy(io.Discard, os.Stdin)
	if err := db.Close(); err != nil {
		childFails(err)
	}
}

func TestGlanceChangesNothing(t *testing.T) {
	path := newStore(t)
	db, err := Open(t.Context(), path, Options{Glance: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	called := false
	wantCode(t, db, "Update at a glance", fault.Internal, func(keys.Tx) error { called = true; return nil })
	if err := db.Snapshot(t.Context(), path+".copy"); fault.CodeOf(err) != fault.Internal || called {
		t.Errorf("Snapshot at a glance = %v, and the update ran: %v; want code internal and false", err, called)
	}
	later, err := Open(t.Context(), path, Options{Glance: true, migrations: laterMigrations(t, upgradeSteps)})
	if err != nil {
		t.Fatal(err)
	}
	defer later.Close()
	if err := later.Migrate(t.Context()); !later.Outdated() || fault.CodeOf(err) != fault.Internal {
		t.Errorf("Migrate at a glance = %v, outdated: %v; want code internal and true", err, later.Outdated())
	}
	// SQLite itself refuses as well.
	for _, use := range []string{"closed", "open"} {
		if use == "open" {
			startGrowing(t, path, 1)
		}
		engine, err := openEngine(path, forGlance, lockWait)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := engine.ExecContext(t.Context(), "PRAGMA query_only = 0; DELETE FROM keys"); err == nil || !strings.Contains(err.Error(), "readonly") {
			t.Errorf("a write to the %s store = %v, want one that says readonly", use, err)
		}
		_ = engine.Close()
	}
	wantFiles(t, filepath.Dir(path), "keyctl.db", "keyctl.db"+indexSuffix, "keyctl.db"+logSuffix)
}
