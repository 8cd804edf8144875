package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"keyctl/internal/access"
	"keyctl/internal/fault"
	"keyctl/internal/iprange"
	"keyctl/internal/keys"
	"keyctl/internal/postgrestest"
)

// childTask names what this binary does when a test starts it again as another process.
const childTask = "KEYCTL_STORE_TEST_TASK"

func TestMain(m *testing.M) {
	if task := children[os.Getenv(childTask)]; task != nil {
		task()
		return
	}
	os.Exit(m.Run())
}

// engine makes an empty, migrated store and returns a function that opens it once more.
type engine struct {
	name string
	make func(t testing.TB) (open func(testing.TB) keys.Store)
}

func engines() []engine {
	return []engine{
		{"sqlite", func(t testing.TB) func(testing.TB) keys.Store {
			path := newStore(t)
			return func(t testing.TB) keys.Store { return openStore(t, path) }
		}},
		{"postgres", func(t testing.TB) func(testing.TB) keys.Store {
			url := newPostgresStore(t)
			return func(t testing.TB) keys.Store { return openPostgresStore(t, url) }
		}},
	}
}

// newPostgresStore creates a store that holds only its Meta in a database of its own.
func newPostgresStore(t testing.TB) string {
	t.Helper()
	url := postgrestest.Database(t)
	if err := CreatePostgres(t.Context(), url, Options{}, putTestMeta); err != nil {
		t.Fatal(err)
	}
	return url
}

func openPostgresStore(t testing.TB, url string) *DB {
	t.Helper()
	db, err := OpenPostgres(t.Context(), url, Options{})
	if err != nil {
		t.Fatal(err)
	}
	closeAtEnd(t, db)
	return db
}

func closeAtEnd(t testing.TB, db *DB) {
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("Close() = %v", err)
		}
	})
}

// onEach runs a test against each engine.
func onEach(t *testing.T, test func(t *testing.T, open func(testing.TB) keys.Store)) {
	for _, e := range engines() {
		t.Run(e.name, func(t *testing.T) { test(t, e.make(t)) })
	}
}

// newStore creates a store that holds only its Meta.
func newStore(t testing.TB) string {
	t.Helper()
	return newStoreIn(t, t.TempDir())
}

func newStoreIn(t testing.TB, folder string) string {
	t.Helper()
	path := filepath.Join(folder, "keyctl.db")
	if err := Create(t.Context(), path, Options{}, putTestMeta); err != nil {
		t.Fatal(err)
	}
	return path
}

func putTestMeta(ctx context.Context, db *DB) error {
	return db.Update(ctx, func(tx keys.Tx) error { return tx.PutMeta(testMeta) })
}

func openStore(t testing.TB, path string) *DB {
	t.Helper()
	db, err := Open(t.Context(), path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	closeAtEnd(t, db)
	return db
}

func update(t testing.TB, s keys.Store, fn func(keys.Tx) error) {
	t.Helper()
	if err := s.Update(t.Context(), fn); err != nil {
		t.Fatalf("Update() = %v", err)
	}
}

// view reads one value.
func view[T any](t testing.TB, s keys.Store, read func(keys.Tx) (T, error)) T {
	t.Helper()
	var v T
	err := s.View(t.Context(), func(tx keys.Tx) (err error) {
		v, err = read(tx)
		return err
	})
	if err != nil {
		t.Fatalf("View() = %v", err)
	}
	return v
}

// wantCode runs one change and checks how it fails.
func wantCode(t testing.TB, s keys.Store, what string, want fault.Code, fn func(keys.Tx) error) {
	t.Helper()
	if err := s.Update(t.Context(), fn); fault.CodeOf(err) != want {
		t.Errorf("%s = %v (%s), want %s", what, err, fault.CodeOf(err), want)
	}
}

func diff(t testing.TB, what string, got, want any) {
	t.Helper()
	lists := cmp.Comparer(func(a, b iprange.List) bool { return a.Equal(b) })
	if d := cmp.Diff(want, got, cmpopts.EquateEmpty(), lists); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

// morning is when everything in these tests happens.
var morning = time.Date(2026, 3, 1, 8, 0, 0, 123456000, time.UTC)

var testMeta = keys.Meta{StoreID: "st_test", CreatedAt: morning, CheckValue: []byte{1, 2}, Keyring: []byte{3, 4}}

func testKey(n int) keys.Key {
	return keys.Key{ID: fmt.Sprintf("key_%06d", n), Name: fmt.Sprintf("web-%06d", n), CreatedAt: morning, CreatedBy: "test"}
}

func testCredential(keyID string, n int) keys.Credential {
	return keys.Credential{
		AccessKeyID: fmt.Sprintf("%s-credential-%d", keyID, n), KeyID: keyID, Generation: 1,
		CreatedAt: morning, PendingUntil: morning.Add(keys.PendingFor),
		SigningKey: []byte("sealed in a test"), Challenge: []byte("challenge"), Fingerprint: []byte("fingerprint"),
	}
}

func testPrimaryKey(n int) keys.PrimaryKey {
	return keys.PrimaryKey{
		ID: fmt.Sprintf("pk_%d", n), Name: fmt.Sprintf("primary-%d", n), CreatedAt: morning, CreatedBy: "test",
		Versions: []keys.PrimaryKeyVersion{{Version: 1, CreatedAt: morning, Sealed: []byte("sealed in a test")}},
	}
}

func testDataset(n int) keys.Dataset {
	return keys.Dataset{
		ID: fmt.Sprintf("ds_%d", n), Name: fmt.Sprintf("files-%d", n), Type: keys.Unstructured, Algorithm: keys.AES256GCM,
		PrimaryKeyID: "pk_1", CreatedAt: morning, CreatedBy: "test",
	}
}

func putKeys(t testing.TB, s keys.Store, some ...keys.Key) {
	t.Helper()
	update(t, s, func(tx keys.Tx) error {
		for _, k := range some {
			if err := tx.PutKey(k); err != nil {
				return err
			}
		}
		return nil
	})
}

func TestMeta(t *testing.T) {
	onEach(t, func(t *testing.T, open func(testing.TB) keys.Store) {
		s := open(t)
		diff(t, "Meta()", view(t, s, keys.Tx.Meta), testMeta)
		other := keys.Meta{StoreID: "st_other", CreatedAt: morning.Add(1), CheckValue: []byte{9}, Keyring: []byte{8}}
		update(t, s, func(tx keys.Tx) error { return tx.PutMeta(other) })
		other.CreatedAt = keys.Instant(other.CreatedAt)
		diff(t, "Meta() replaced", view(t, s, keys.Tx.Meta), other)
	})
}

func TestMetaOfAnUninitialisedStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keyctl.db")
	if err := Create(t.Context(), path, Options{}, func(context.Context, *DB) error { return nil }); err != nil {
		t.Fatal(err)
	}
	err := openStore(t, path).View(t.Context(), func(tx keys.Tx) error { _, err := tx.Meta(); return err })
	if fault.CodeOf(err) != fault.NoStore {
		t.Errorf("Meta() = %v, want code no_store", err)
	}
}

func TestUpdateIsAllOrNothing(t *testing.T) {
	onEach(t, func(t *testing.T, open func(testing.TB) keys.Store) {
		s := open(t)
		boom := errors.New("boom")
		err := s.Update(t.Context(), func(tx keys.Tx) error {
			if err := tx.PutKey(testKey(1)); err != nil {
				return err
			}
			return boom
		})
		if err != boom {
			t.Errorf("Update() = %v, want the function's own error", err)
		}
		if err := s.View(t.Context(), func(keys.Tx) error { return boom }); err != boom {
			t.Errorf("View() = %v, want the function's own error", err)
		}
		func() {
			defer func() {
				if recover() != boom {
					t.Error("a panic did not come through Update")
				}
			}()
			_ = s.Update(t.Context(), func(tx keys.Tx) error {
				if err := tx.PutKey(testKey(2)); err != nil {
					return err
				}
				panic(boom)
			})
		}()
		if got := view(t, s, allKeys); len(got) != 0 {
			t.Errorf("%d keys after an error and a panic, want 0", len(got))
		}
		putKeys(t, s, testKey(3)) // the writer is free again
	})
}

func allKeys(tx keys.Tx) ([]keys.KeyRecord, error) {
	return tx.Keys(keys.KeyPage{Order: keys.OrderName, Limit: 1 << 20})
}

func TestViewDoesNotWrite(t *testing.T) {
	onEach(t, func(t *testing.T, open func(testing.TB) keys.Store) {
		s := open(t)
		err := s.View(t.Context(), func(tx keys.Tx) error { return tx.PutKey(testKey(1)) })
		if fault.CodeOf(err) != fault.Internal {
			t.Errorf("PutKey in a View = %v, want code internal", err)
		}
	})
}

func TestTxEndsWithItsFunction(t *testing.T) {
	onEach(t, func(t *testing.T, open func(testing.TB) keys.Store) {
		s := open(t)
		var kept keys.Tx
		update(t, s, func(tx keys.Tx) error { kept = tx; return nil })
		if err := kept.PutKey(testKey(1)); fault.CodeOf(err) != fault.Internal {
			t.Errorf("PutKey after the end = %v, want code internal", err)
		}
	})
}

func TestViewSeesOneState(t *testing.T) {
	onEach(t, func(t *testing.T, open func(testing.TB) keys.Store) {
		s, other := open(t), open(t)
		putKeys(t, s, testKey(1))
		err := s.View(t.Context(), func(tx keys.Tx) error {
			if _, err := tx.Meta(); err != nil {
				return err
			}
			putKeys(t, other, testKey(2))
			if found, err := allKeys(tx); err != nil || len(found) != 1 {
				t.Errorf("a view saw %d keys (%v) while another one was written, want 1", len(found), err)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := view(t, s, allKeys); len(got) != 2 {
			t.Errorf("%d keys afterwards, want 2", len(got))
		}
	})
}

// A View that begins with the reading of one key does without a transaction, until it wants to know more.
func TestViewOfOneKeySeesOneState(t *testing.T) {
	onEach(t, func(t *testing.T, open func(testing.TB) keys.Store) {
		s, other := open(t), open(t)
		putKeys(t, s, testKey(1))
		runs := 0
		err := s.View(t.Context(), func(tx keys.Tx) error {
			runs++
			before, err := tx.Key(testKey(1).ID)
			if err != nil {
				return err
			}
			k := testKey(1)
			k.Description = fmt.Sprintf("written during run %d", runs)
			putKeys(t, other, k)
			after, err := tx.Key(testKey(1).ID)
			if err == nil && after.Description != before.Description {
				t.Errorf("a view saw the description %q, and then %q", before.Description, after.Description)
			}
			return err
		})
		if err != nil || runs != 2 {
			t.Errorf("View = %v after %d runs, want success after 2", err, runs)
		}
		runs = 0
		err = s.View(t.Context(), func(tx keys.Tx) error {
			runs++
			_, err := tx.Key(testKey(1).ID)
			return err
		})
		if err != nil || runs != 1 {
			t.Errorf("View of one key = %v after %d runs, want success after 1", err, runs)
		}
	})
}

// TestKeyRecord reads a key with all that can hang on one: by name and by id it is what a list has.
func TestKeyRecord(t *testing.T) {
	onEach(t, func(t *testing.T, open func(testing.TB) keys.Store) {
		s := open(t)
		k := testKey(1)
		current, rolled, pending := testCredential(k.ID, 2), testCredential(k.ID, 1), testCredential(k.ID, 3)
		current.ProvenAt, rolled.ProvenAt, rolled.GraceUntil = morning, morning, morning.Add(time.Hour)
		ended := testCredential(k.ID, 0)
		ended.ProvenAt, ended.EndedAt, ended.EndedAs = morning, morning, keys.EndRetired
		structured := testDataset(2)
		structured.Type, structured.Algorithm = keys.Structured, "FF1"
		update(t, s, func(tx keys.Tx) error {
			err := firstError([]error{
				tx.PutKey(k), tx.PutKey(testKey(2)), tx.PutCredential(ended), tx.PutCredential(rolled), tx.PutCredential(current),
				tx.PutCredential(pending), tx.PutPrimaryKey(testPrimaryKey(1)), tx.PutDataset(structured), tx.PutDataset(testDataset(1)),
			})
			for _, id := range []string{structured.ID, testDataset(1).ID} {
				if err == nil {
					_, err = tx.Attach(id, k.ID, keys.FullGrant, morning)
				}
			}
			return err
		})
		listed := view(t, s, allKeys)
		for i, n := range []int{1, 2} {
			byName := view(t, s, func(tx keys.Tx) (keys.KeyRecord, error) { return tx.KeyByName(testKey(n).Name) })
			byID := view(t, s, func(tx keys.Tx) (keys.KeyRecord, error) { return tx.Key(testKey(n).ID) })
			diff(t, "a key by its name", byName, listed[i])
			diff(t, "a key by its id", byID, listed[i])
		}
		for _, c := range []keys.Credential{current, rolled, pending, ended} {
			diff(t, "the key of a credential", view(t, s, func(tx keys.Tx) (keys.KeyRecord, error) { return tx.KeyOf(c.AccessKeyID) }), listed[0])
		}
		wantCode(t, s, "KeyOf a credential that is not there", fault.NotFound, func(tx keys.Tx) error { _, err := tx.KeyOf("KC"); return err })
		r := listed[0]
		if r.Current == nil || r.Grace == nil || r.Pending == nil || len(r.Datasets) != 2 || listed[1].Current != nil || listed[1].Datasets != nil {
			t.Errorf("the keys are %+v", listed)
		}
	})
}

func TestContext(t *testing.T) {
	onEach(t, func(t *testing.T, open func(testing.TB) keys.Store) {
		s := open(t)
		cancelled, cancel := context.WithCancel(t.Context())
		err := s.Update(cancelled, func(tx keys.Tx) error {
			if err := tx.PutKey(testKey(1)); err != nil {
				return err
			}
			cancel()
			return nil
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Update with a context cancelled before the commit = %v, want context.Canceled", err)
		}
		late, stop := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
		defer stop()
		if err := s.View(late, func(keys.Tx) error { return nil }); fault.CodeOf(err) != fault.Unavailable {
			t.Errorf("View past its deadline = %v, want code unavailable", err)
		}
		if got := view(t, s, allKeys); len(got) != 0 {
			t.Errorf("%d keys after a cancelled update, want 0", len(got))
		}
	})
}

func TestR31_CheckAndChangeIsOneTransaction(t *testing.T) {
	onEach(t, func(t *testing.T, open func(testing.TB) keys.Store) {
		first := open(t)
		update(t, first, func(tx keys.Tx) error {
			if err := tx.PutOperator(testOperator); err != nil {
				return err
			}
			return tx.PutSecondFactor(keys.SecondFactor{OperatorID: testOperator.ID, Seed: []byte("sealed"), CreatedAt: morning})
		})
		const workers, rounds = 8, 25
		failed := make(chan error, workers)
		for range workers {
			s := open(t)
			go func() {
				for range rounds {
					// Read, decide, write: a lost update would lose a failure.
					err := s.Update(context.Background(), func(tx keys.Tx) error {
						f, err := tx.SecondFactor(testOperator.ID)
						if err != nil {
							return err
						}
						f.Throttle.Failures++
						return tx.PutSecondFactor(f)
					})
					if err != nil {
						failed <- err
						return
					}
				}
				failed <- nil
			}()
		}
		for range workers {
			if err := <-failed; err != nil {
				t.Error(err)
			}
		}
		f := view(t, first, func(tx keys.Tx) (keys.SecondFactor, error) { return tx.SecondFactor(testOperator.ID) })
		if f.Throttle.Failures != workers*rounds {
			t.Errorf("%d failures were counted, want %d", f.Throttle.Failures, workers*rounds)
		}
	})
}

var testOperator = keys.Operator{ID: "op_1", Name: "alice", Role: access.Owner, CreatedAt: morning}
