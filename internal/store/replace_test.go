package store

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"keyctl/internal/fault"
)

// twoStores makes a store with key 1 at path and one with key 2 beside it.
func twoStores(t *testing.T) (path, newPath string) {
	t.Helper()
	path = newStore(t)
	newPath = filepath.Join(filepath.Dir(path), "restored.db")
	if err := Create(t.Context(), newPath, Options{}, putTestMeta); err != nil {
		t.Fatal(err)
	}
	putKeysOnce(t, path, testKey(1))
	putKeysOnce(t, newPath, testKey(2))
	return path, newPath
}

// keysOf returns the names of a store's keys.
func keysOf(t *testing.T, path string) (names []string) {
	t.Helper()
	db, err := Open(t.Context(), path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range view(t, db, allKeys) {
		names = append(names, r.Name)
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
	return names
}

func TestR48_ReplaceKeepsTheOldStore(t *testing.T) {
	path, newPath := twoStores(t)
	aside, err := Replace(t.Context(), newPath, path, morning, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if want := path + ".replaced-20260301T080000Z"; aside != want {
		t.Errorf("aside = %q, want %q", aside, want)
	}
	wantFiles(t, filepath.Dir(path), "keyctl.db", filepath.Base(aside))
	diff(t, "keys of the new store", keysOf(t, path), []string{testKey(2).Name})
	diff(t, "keys of the old store", keysOf(t, aside), []string{testKey(1).Name})
}

func TestR48_ReplaceWhereNothingIs(t *testing.T) {
	_, newPath := twoStores(t)
	path := filepath.Join(filepath.Dir(newPath), "fresh.db")
	aside, err := Replace(t.Context(), newPath, path, morning, Options{})
	if err != nil || aside != "" {
		t.Fatalf("Replace() = %q, %v, want nothing kept", aside, err)
	}
	diff(t, "keys of the new store", keysOf(t, path), []string{testKey(2).Name})
	if _, err := os.Stat(newPath); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the temporary name is still there (%v)", err)
	}
}

func TestR48_ReplaceTakesInTheOldLog(t *testing.T) {
	path, newPath := twoStores(t)
	// A killed process leaves its last changes in the log: copy the files while one is at work.
	db := openStore(t, path)
	putKeys(t, db, testKey(3))
	killed := filepath.Join(t.TempDir(), "keyctl.db")
	for _, suffix := range []string{"", logSuffix} {
		data, err := os.ReadFile(path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(killed+suffix, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	moved := filepath.Join(filepath.Dir(killed), "restored.db")
	if err := os.Rename(newPath, moved); err != nil {
		t.Fatal(err)
	}
	aside, err := Replace(t.Context(), moved, killed, morning, Options{})
	if err != nil {
		t.Fatal(err)
	}
	diff(t, "keys of the old store", keysOf(t, aside), []string{testKey(1).Name, testKey(3).Name})
	diff(t, "keys of the new store", keysOf(t, killed), []string{testKey(2).Name})
}

func TestR48_ReplaceWaitsForTheOldStore(t *testing.T) {
	path, newPath := twoStores(t)
	// Another process has it open; within this one Replace would refuse at once.
	letGo, ended := holdElsewhere(t, path)
	_, err := Replace(t.Context(), newPath, path, morning, Options{Wait: 300 * time.Millisecond})
	if fault.CodeOf(err) != fault.StoreBusy {
		t.Errorf("Replace of a store in use = %v, want code store_busy", err)
	}
	time.AfterFunc(300*time.Millisecond, letGo)
	if _, err := Replace(t.Context(), newPath, path, morning, Options{}); err != nil {
		t.Errorf("Replace once the other process ended = %v", err)
	}
	ended()
	diff(t, "keys of the new store", keysOf(t, path), []string{testKey(2).Name})
}

// holdElsewhere has another process open the store, until it is told to let go of it. ended waits for that.
func holdElsewhere(t *testing.T, path string) (letGo, ended func()) {
	t.Helper()
	cmd := child(t, "hold", path)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := stdout.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	letGo = func() { _ = stdin.Close() }
	ended = func() {
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
	return letGo, ended
}

func TestReplaceRefusesAnOpenStore(t *testing.T) {
	path, newPath := twoStores(t)
	db := openStore(t, path)
	if _, err := Replace(t.Context(), newPath, path, morning, Options{}); fault.CodeOf(err) != fault.Internal {
		t.Errorf("Replace of a store this process has open = %v, want code internal", err)
	}
	putKeys(t, db, testKey(4))
}

func TestR48_ReplaceOfADamagedStore(t *testing.T) {
	for _, content := range []string{"", strings.Repeat("not a database\n", 1000)} {
		path, newPath := twoStores(t)
		for _, suffix := range []string{"", logSuffix} {
			if err := os.WriteFile(path+suffix, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		aside, err := Replace(t.Context(), newPath, path, morning, Options{})
		if err != nil {
			t.Fatal(err)
		}
		wantFiles(t, filepath.Dir(path), "keyctl.db", filepath.Base(aside), filepath.Base(aside)+logSuffix)
		diff(t, "keys of the new store", keysOf(t, path), []string{testKey(2).Name})
	}
}

func TestReplaceRefusesOtherFiles(t *testing.T) {
	path, newPath := twoStores(t)
	text := filepath.Join(filepath.Dir(path), "text")
	if err := os.WriteFile(text, []byte("no store"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Replace(t.Context(), text, path, morning, Options{}); fault.CodeOf(err) != fault.StoreDamaged {
		t.Errorf("Replace by a text = %v, want code store_damaged", err)
	}
	execRaw(t, path, "PRAGMA application_id = 1")
	if _, err := Replace(t.Context(), newPath, path, morning, Options{}); fault.CodeOf(err) != fault.Invalid {
		t.Errorf("Replace of another program's database = %v, want code invalid", err)
	}
	wantFiles(t, filepath.Dir(path), "keyctl.db", "restored.db", "text")
}

// TestReplaceStoppedHalfWay makes the last step impossible: the old store is still whole under its name.
func TestReplaceStoppedHalfWay(t *testing.T) {
	path, newPath := twoStores(t)
	aside := path + ".replaced-20260301T080000Z"
	if err := keepAside(path, aside); err != nil {
		t.Fatal(err)
	}
	diff(t, "keys of the old store", keysOf(t, path), []string{testKey(1).Name})
	if _, err := Replace(t.Context(), newPath, path, morning, Options{}); fault.CodeOf(err) != fault.Exists {
		t.Errorf("Replace with the name for the old store taken = %v, want code exists", err)
	}
	diff(t, "keys of the old store", keysOf(t, path), []string{testKey(1).Name})
	if _, err := Replace(t.Context(), newPath, path, morning.Add(time.Second), Options{}); err != nil {
		t.Errorf("Replace a second later = %v", err)
	}
	diff(t, "keys of the new store", keysOf(t, path), []string{testKey(2).Name})
}

// childHold keeps a store open until its standard input ends.
func childHold() {
	db, err := Open(context.Background(), os.Args[1], Options{})
	if err != nil {
		childFails(err)
	}
	_, _ = os.Stdout.WriteString("open")
	for one := make([]byte, 1); ; {
		if _, err := os.Stdin.Read(one); err != nil {
			break
		}
	}
	if err := db.Close(); err != nil {
		childFails(err)
	}
}
