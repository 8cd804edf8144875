//go:build unix

package cmd

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"os"
	"strings"
	"testing"
	"time"

	"keyctl/internal/access"
	"keyctl/internal/credential"
	"keyctl/internal/envelope"
	"keyctl/internal/keys"
	"keyctl/internal/store"
)

// authenticator is an operator's phone.
type authenticator struct {
	seed     access.Seed
	uri      string
	recovery []string
	last     int64 // the step of the newest code that was given
}

// enrol makes a store, if there is none, and enrols a second factor an hour ago: since then no code was spent, so the
// ones of now are fresh.
func (w *world) enrol() *authenticator {
	w.t.Helper()
	if _, err := os.Stat(w.store()); err != nil {
		w.ok("init")
	}
	past := time.Now().Add(-time.Hour)
	local, done := w.open(past)
	defer done()
	enrolled, err := local.EnrollOTP(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	p := &authenticator{uri: enrolled.URI.Reveal(), seed: seedFromText(w.t, enrolled.Secret.Reveal())}
	codes, err := local.ConfirmOTP(context.Background(), access.CodeAt(p.seed, access.StepAt(past)).Reveal())
	if err != nil {
		w.t.Fatal(err)
	}
	for _, code := range codes {
		p.recovery = append(p.recovery, code.Reveal())
	}
	return p
}

// seedFromText reads a seed as an authenticator app does.
func seedFromText(t testing.TB, text string) access.Seed {
	t.Helper()
	raw, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	seed, err := access.SeedFromBytes(raw)
	if err != nil {
		t.Fatal(err)
	}
	return seed
}

// open opens the world's store in this process, at another time than now.
func (w *world) open(at time.Time) (local *keys.Local, done func()) { return w.openAs(at, osUser()) }

// openAs is open for another operator.
func (w *world) openAs(at time.Time, user string) (local *keys.Local, done func()) {
	w.t.Helper()
	ctx := context.Background()
	db, err := store.Open(ctx, w.store(), store.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	master, err := envelope.ParseMasterKey(credential.NewSecret(strings.TrimSpace(w.read(w.masterKey()))))
	if err != nil {
		w.t.Fatal(err)
	}
	local, err = keys.Open(ctx, db, master, keys.Env{Now: func() time.Time { return at }, Rand: rand.Reader, OSUser: user})
	if err != nil {
		w.t.Fatal(err)
	}
	return local, func() {
		if err := db.Close(); err != nil {
			w.t.Error(err)
		}
	}
}

// code returns a code that was not given before and is good for half a minute at least. Two can be had at once; for a
// third it waits.
func (p *authenticator) code() string {
	p.last = max(access.StepAt(time.Now()), p.last+1)
	for access.StepAt(time.Now())+1 < p.last {
		time.Sleep(100 * time.Millisecond)
	}
	return access.CodeAt(p.seed, p.last).Reveal()
}
