package keys_test

import (
	"context"
	"crypto/rand"
	"database/sql"
	"path/filepath"
	"testing"

	_ "modernc.org/sqlite" // for tests that change the file behind the store's back

	"keyctl/internal/envelope"
	"keyctl/internal/keys"
	"keyctl/internal/keys/keystest"
	"keyctl/internal/postgrestest"
	"keyctl/internal/store"
)

// place is a store with what it takes to open it.
type place struct {
	path   string // of a file; empty for a database
	url    string // of a database
	master envelope.MasterKey
	clock  *keystest.Clock
}

// newPlace makes an initialised store with a clock of its own.
func newPlace(t testing.TB) *place {
	t.Helper()
	clock := keystest.NewClock()
	p := newPlaceIn(t, clock.Env())
	p.clock = clock
	return p
}

// newPlaceIn is newPlace in a given world.
func newPlaceIn(t testing.TB, env keys.Env) *place {
	t.Helper()
	master, err := envelope.DrawMasterKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := &place{path: filepath.Join(t.TempDir(), "keyctl.db"), master: master}
	if err := store.Create(t.Context(), p.path, store.Options{}, p.fill(env)); err != nil {
		t.Fatal(err)
	}
	return p
}

// newPostgresPlaceIn is newPlaceIn with a database for the store.
func newPostgresPlaceIn(t testing.TB, env keys.Env) *place {
	t.Helper()
	master, err := envelope.DrawMasterKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := &place{url: postgrestest.Database(t), master: master}
	if err := store.CreatePostgres(t.Context(), p.url, store.Options{}, p.fill(env)); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *place) fill(env keys.Env) func(context.Context, *store.DB) error {
	return func(ctx context.Context, db *store.DB) error { return keys.Init(ctx, db, p.master, env) }
}

// openStore opens the store for the rest of the test.
func (p *place) openStore(t testing.TB) *store.DB {
	t.Helper()
	var db *store.DB
	var err error
	if p.url != "" {
		db, err = store.OpenPostgres(t.Context(), p.url, store.Options{})
	} else {
		db, err = store.Open(t.Context(), p.path, store.Options{})
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("Close() = %v", err)
		}
	})
	return db
}

// open opens the store and a Service on it, as a new process would.
func (p *place) open(t testing.TB) *keys.Local {
	t.Helper()
	return p.on(t, p.openStore(t))
}

// on makes a Service on a store.
func (p *place) on(t testing.TB, s keys.Store) *keys.Local {
	t.Helper()
	l, err := keys.Open(t.Context(), s, p.master, p.clock.Env())
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// exec changes the file behind the store's back, and reports how many rows that touched.
func (p *place) exec(t testing.TB, statement string, args ...any) int64 {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+p.path+"?_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	result, err := db.ExecContext(t.Context(), statement, args...)
	if err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	touched, err := result.RowsAffected()
	if err != nil {
		t.Fatal(err)
	}
	return touched
}

// query reads one value from the file behind the store's back.
func query[V any](t testing.TB, p *place, statement string, args ...any) (value V) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+p.path+"?_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRowContext(t.Context(), statement, args...).Scan(&value); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	return value
}

// keyring opens the store's keyring, as only who has the master key can.
func (p *place) keyring(t testing.TB, s keys.Store) envelope.Keyring {
	t.Helper()
	var meta keys.Meta
	err := s.View(t.Context(), func(tx keys.Tx) (err error) {
		meta, err = tx.Meta()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	ring, err := envelope.Unwrap(p.master, meta.StoreID, meta.Keyring)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// newKey makes an active key.
func newKey(t testing.TB, s keys.Service, name string, datasets ...string) (keystest.Drawn, keys.Pending) {
	t.Helper()
	d := keystest.Draw(t)
	p, err := s.CreateKey(t.Context(), keys.NewKey{Name: name, Datasets: datasets, Offer: d.Offer})
	if err != nil {
		t.Fatalf("CreateKey(%q) = %v", name, err)
	}
	if _, err := s.Prove(t.Context(), d.AccessKeyID, d.Proof(p)); err != nil {
		t.Fatalf("Prove(%q) = %v", name, err)
	}
	return d, p
}

// newDataset makes a dataset without a key.
func newDataset(t testing.TB, s keys.Service, name string) {
	t.Helper()
	if _, _, err := s.CreateDataset(t.Context(), keys.NewDataset{Name: name, Type: keys.Unstructured}); err != nil {
		t.Fatalf("CreateDataset(%q) = %v", name, err)
	}
}

// roll begins a roll.
func roll(t testing.TB, s keys.Service, ref, code string, terms keys.RollTerms) (keystest.Drawn, keys.Pending, error) {
	t.Helper()
	d := keystest.Draw(t)
	p, err := s.Roll(t.Context(), keys.RollRequest{Key: ref, Terms: terms, Offer: d.Offer, Code: code})
	return d, p, err
}

// reason is why a credential is let in or not.
func reason(t testing.TB, s keys.Service, d keystest.Drawn) keys.Reason {
	t.Helper()
	v, err := s.Verify(t.Context(), d.Question())
	if err != nil {
		t.Fatalf("Verify() = %v", err)
	}
	return v.Reason
}

// engines are the two places for a store.
var engines = map[string]func(testing.TB, keys.Env) *place{"sqlite": newPlaceIn, "postgres": newPostgresPlaceIn}

func TestLocal(t *testing.T) {
	for name, newPlaceIn := range engines {
		t.Run(name, func(t *testing.T) {
			keystest.Suite(t, func(t *testing.T, env keys.Env) keys.Service { return newPlaceIn(t, env).openIn(t, env) })
		})
	}
}

// Two handles on one store are what two processes have.
func TestSeveral(t *testing.T) {
	for name, newPlaceIn := range engines {
		t.Run(name, func(t *testing.T) {
			keystest.Several(t, func(t *testing.T, env keys.Env) func(testing.TB) keys.Service {
				p := newPlaceIn(t, env)
				return func(t testing.TB) keys.Service { return p.openIn(t, env) }
			})
		})
	}
}

// openIn is open in a given world.
func (p *place) openIn(t testing.TB, env keys.Env) *keys.Local {
	t.Helper()
	l, err := keys.Open(t.Context(), p.openStore(t), p.master, env)
	if err != nil {
		t.Fatal(err)
	}
	return l
}
