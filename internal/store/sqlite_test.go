package store

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"keyctl/internal/fault"
	"keyctl/internal/keys"
)

// children are the tasks this binary performs as another process. Their arguments come after "--".
var children = map[string]func(){"edits": childEdits, "fill": childFill, "grow": childGrow, "hold": childHold}

// child starts this binary for a task.
func child(t *testing.T, task string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Env = append(os.Environ(), childTask+"="+task)
	cmd.Stderr = os.Stderr
	return cmd
}

func TestR41_DurabilitySettings(t *testing.T) {
	db := openStore(t, newStore(t))
	want := map[string]string{
		"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "trusted_schema": "0", "cell_size_check": "1",
		"mmap_size": "0", "secure_delete": "1",
	}
	check := func(name string, c *connection, readOnly string) {
		want["query_only"] = readOnly
		for pragma, value := range want {
			var got string
			if err := c.raw.QueryRowContext(t.Context(), "PRAGMA "+pragma).Scan(&got); err != nil || got != value {
				t.Errorf("%s: %s = %q (%v), want %q", name, pragma, got, err, value)
			}
		}
	}
	for _, p := range []struct {
		name     string
		pool     *pool
		size     int
		readOnly string
	}{{"reader", db.readers, readers(), "1"}, {"writer", db.writer, 1, "0"}} {
		var taken []*connection
		for range p.size {
			c, err := p.pool.take(t.Context(), within(time.Second))
			if err != nil {
				t.Fatal(err)
			}
			check(p.name, c, p.readOnly)
			taken = append(taken, c)
		}
		if _, err := p.pool.take(t.Context(), within(time.Millisecond)); fault.CodeOf(err) != fault.StoreBusy {
			t.Errorf("one %s more = %v, want code store_busy", p.name, err)
		}
		for _, c := range taken {
			p.pool.put(c)
		}
	}
}

func TestR42_SQLiteVersion(t *testing.T) {
	db := openStore(t, newStore(t))
	var version string
	err := db.view(t.Context(), func(tx *tx) error {
		v, _, err := first(tx, func(row scan) (v string, err error) { err = row(&v); return v, err }, "SELECT sqlite_version()")
		version = v
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var got []int
	for _, part := range strings.Split(version, ".") {
		n, err := strconv.Atoi(part)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, n)
	}
	if slices.Compare(got, []int{3, 51, 3}) < 0 {
		t.Errorf("SQLite is %s, want 3.51.3 or newer: older ones can corrupt a store when the log is reset", version)
	}
}

func TestViewCostsOneConnection(t *testing.T) {
	db := openStore(t, newStore(t))
	view(t, db, keys.Tx.Meta)
	if db.writer.engine != nil || len(db.readers.idle) != 1 {
		t.Errorf("a view left %d readers and writer %v, want one reader alone", len(db.readers.idle), db.writer.engine)
	}
}

func TestPathsWithStrangeCharacters(t *testing.T) {
	for _, name := range []string{"with space", "what?", "#1", "100%", "%20", "ünï", "a&b=c;d", "quote'd", "file:x", "a+b"} {
		path := filepath.Join(t.TempDir(), name, name+".db")
		if err := Create(t.Context(), path, Options{}, putTestMeta); err != nil {
			t.Errorf("Create(%q) = %v", path, err)
			continue
		}
		diff(t, path, view(t, openStore(t, path), keys.Tx.Meta), testMeta)
		if err := openStore(t, path).Snapshot(t.Context(), path+".copy"); err != nil {
			t.Errorf("Snapshot beside %q = %v", path, err)
		}
	}
}

func TestR43_WaitIsBounded(t *testing.T) {
	path := newStore(t)
	holder := openStore(t, path)
	waiter, err := Open(t.Context(), path, Options{Wait: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer waiter.Close()
	update(t, holder, func(keys.Tx) error {
		for _, s := range []*DB{waiter, waiter} {
			start := time.Now()
			wantCode(t, s, "Update while another process writes", fault.StoreBusy, func(keys.Tx) error { return nil })
			if waited := time.Since(start); waited < 250*time.Millisecond || waited > 3*time.Second {
				t.Errorf("it waited %v, want about 300ms", waited)
			}
		}
		start := time.Now()
		view(t, waiter, keys.Tx.Meta)
		if waited := time.Since(start); waited > 200*time.Millisecond {
			t.Errorf("a view waited %v for a writer", waited)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if err := waiter.Update(ctx, func(keys.Tx) error { return nil }); fault.CodeOf(err) != fault.Unavailable {
			t.Errorf("Update with a deadline = %v, want code unavailable", err)
		}
		return nil
	})
	wantCode(t, waiter, "Update afterwards", "", func(keys.Tx) error { return nil })
}

func TestR43_SixteenProcesses(t *testing.T) {
	const processes = 16
	edits := 200
	if testing.Short() {
		edits = 50
	}
	path := newStore(t)
	var all []*exec.Cmd
	var outputs [processes]bytes.Buffer
	for i := range processes {
		cmd := child(t, "edits", path, strconv.Itoa(i), strconv.Itoa(edits))
		cmd.Stdout = &outputs[i]
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		all = append(all, cmd)
	}
	acknowledged, busy := 0, 0
	for i, cmd := range all {
		if err := cmd.Wait(); err != nil {
			t.Errorf("process %d: %v", i, err)
		}
		var ok, no int
		if _, err := fmt.Sscan(outputs[i].String(), &ok, &no); err != nil {
			t.Fatal(err)
		}
		acknowledged, busy = acknowledged+ok, busy+no
	}
	db := openStore(t, path)
	if rows := len(view(t, db, allKeys)); rows != acknowledged || acknowledged+busy != processes*edits {
		t.Errorf("%d rows, %d acknowledged, %d store_busy; want rows = acknowledged, and %d in all", rows, acknowledged, busy, processes*edits)
	}
	if err := db.QuickCheck(t.Context()); err != nil {
		t.Error(err)
	}
	t.Logf("%d acknowledged, %d store_busy", acknowledged, busy)
}

// childEdits makes edits one process each and reports how many were acknowledged and how many met a busy store.
func childEdits() {
	process, _ := strconv.Atoi(os.Args[2])
	edits, _ := strconv.Atoi(os.Args[3])
	ctx := context.Background()
	db, err := Open(ctx, os.Args[1], Options{})
	if err != nil {
		childFails(err)
	}
	acknowledged, busy := 0, 0
	for i := range edits {
		err := db.Update(ctx, func(tx keys.Tx) error { return tx.PutKey(testKey(process*1000 + i)) })
		switch fault.CodeOf(err) {
		case "":
			acknowledged++
		case fault.StoreBusy:
			busy++
		default:
			childFails(err)
		}
	}
	if err := db.Close(); err != nil {
		childFails(err)
	}
	fmt.Println(acknowledged, busy)
}

func childFails(err error) {
	fmt.Fprintln(os.Stderr, "child:", err)
	for e := fault.From(err); e != nil && e.Cause != nil; e = nil {
		fmt.Fprintln(os.Stderr, "cause:", e.Cause)
	}
	os.Exit(1)
}

func TestR49_WipedSecretsAreGone(t *testing.T) {
	path := newStore(t)
	db := openStore(t, path)
	const n = 120
	secret := func(kind string, i int) []byte {
		return fmt.Appendf(nil, "%s-canary-%04d-%s", kind, i, strings.Repeat("x", 60))
	}
	// One by one and out of order, so that pages split and rows move.
	for i := range n {
		i = i * 37 % n
		update(t, db, func(tx keys.Tx) error {
			c := testCredential(testKey(i).ID, 1)
			c.SigningKey, c.Challenge = secret("signing", i), secret("challenge", i)
			return firstError([]error{tx.PutKey(testKey(i)), tx.PutCredential(c), tx.PutMaterial(c.AccessKeyID,
				keys.Material{PublicKey: secret("public", i), PrivateKeyPEM: bytes.Repeat(secret("pem", i), 20)})})
		})
	}
	update(t, db, func(tx keys.Tx) error {
		primary := testPrimaryKey(1)
		primary.Versions[0].Sealed = secret("primary", 0)
		return firstError([]error{tx.PutOperator(testOperator), tx.PutPrimaryKey(primary),
			tx.PutSecondFactor(keys.SecondFactor{OperatorID: testOperator.ID, Seed: secret("seed", 0), CreatedAt: morning})})
	})
	if !bytes.Contains(storeBytes(t, path), []byte("-canary-")) {
		t.Fatal("the search finds nothing before the wipe either")
	}
	for i := range n {
		update(t, db, func(tx keys.Tx) error { return tx.WipeCredential(testCredential(testKey(i).ID, 1).AccessKeyID) })
	}
	update(t, db, func(tx keys.Tx) error {
		return firstError([]error{tx.DeleteSecondFactor(testOperator.ID), tx.RemovePrimaryKey("pk_1")})
	})
	rest := storeBytes(t, path)
	for _, kind := range []string{"signing", "challenge", "public", "pem", "primary", "seed"} {
		if at := bytes.Index(rest, []byte(kind+"-canary-")); at >= 0 {
			t.Errorf("%d wiped values of kind %q are still in the files, the first at byte %d",
				bytes.Count(rest, []byte(kind+"-canary-")), kind, at)
		}
	}
}

func TestR49_PutWithoutSigningKeyWipes(t *testing.T) {
	path := newStore(t)
	db := openStore(t, path)
	c := testCredential(testKey(1).ID, 1)
	c.SigningKey = []byte("signing-canary")
	update(t, db, func(tx keys.Tx) error { return firstError([]error{tx.PutKey(testKey(1)), tx.PutCredential(c)}) })
	c.SigningKey = nil
	update(t, db, func(tx keys.Tx) error { return tx.PutCredential(c) })
	if bytes.Contains(storeBytes(t, path), []byte("signing-canary")) {
		t.Error("the signing key is still in the files")
	}
}

// storeBytes is everything on disk: the file and its log.
func storeBytes(t *testing.T, path string) []byte {
	t.Helper()
	var all []byte
	for _, suffix := range []string{"", logSuffix} {
		data, err := os.ReadFile(path + suffix) // no other process relies on the locks that this drops
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, data...)
	}
	return all
}

func TestReplacedFileIsNoticed(t *testing.T) {
	path := newStore(t)
	db := openStore(t, path)
	update(t, db, func(tx keys.Tx) error { return tx.PutKey(testKey(1)) })
	other := newStore(t)
	for _, suffix := range []string{logSuffix, indexSuffix} { // otherwise the log of the old store would be played into the new one
		if err := os.Remove(path + suffix); err != nil {
			t.Skipf("an open file cannot be removed here: %v", err)
		}
	}
	if err := os.Rename(other, path); err != nil {
		t.Fatal(err)
	}
	wantCode(t, db, "Update of a replaced store", fault.Unavailable, func(tx keys.Tx) error { return tx.PutKey(testKey(2)) })
	if got := view(t, openStore(t, path), allKeys); len(got) != 0 {
		t.Errorf("the new store has %d keys of the old one", len(got))
	}
}

func TestBrokenDiskStopsWrites(t *testing.T) {
	db := openStore(t, newStore(t))
	db.failed.Store(fault.New(fault.Unavailable, "the disk failed"))
	wantCode(t, db, "Update after a failed fsync", fault.Unavailable, func(keys.Tx) error { return nil })
	view(t, db, keys.Tx.Meta)
}

// childFill writes until the store refuses, makes sure that nothing was half done and that reading goes on, and prints
// how the refusal was called. The second argument limits the size of files in bytes, 0 does not.
func childFill() {
	limit, _ := strconv.ParseInt(os.Args[2], 10, 64)
	ctx := context.Background()
	db, err := Open(ctx, os.Args[1], Options{})
	if err != nil {
		childFails(err)
	}
	if err := limitFileSize(limit); err != nil {
		childFails(err)
	}
	written := 0
	for ; err == nil; written++ {
		k := testKey(written)
		k.Description = strings.Repeat("d", 4000)
		err = db.Update(ctx, func(tx keys.Tx) error { return tx.PutKey(k) })
	}
	code := fault.CodeOf(err)
	rows := 0
	if err := db.View(ctx, func(tx keys.Tx) error {
		all, err := allKeys(tx)
		rows = len(all)
		return err
	}); err != nil {
		childFails(fmt.Errorf("reading on a full disk: %w", err))
	}
	if rows != written-1 {
		childFails(fmt.Errorf("%d rows, %d acknowledged", rows, written-1))
	}
	fmt.Println(code, rows)
	_, _ = io.Copy(io.Discard, os.Stdin) // the parent makes room
	if err := limitFileSize(1 << 40); limit > 0 && err != nil {
		childFails(err)
	}
	if err := db.Update(ctx, func(tx keys.Tx) error { return tx.PutKey(testKey(1 << 20)) }); err != nil {
		childFails(fmt.Errorf("writing after there was room again: %w", err))
	}
	if err := db.QuickCheck(ctx); err != nil {
		childFails(err)
	}
}
