package store

import (
	"slices"
	"testing"
	"time"

	"keyctl/internal/audit"
	"keyctl/internal/credential"
	"keyctl/internal/fault"
	"keyctl/internal/keys"
)

func TestCredentialRoundTrip(t *testing.T) {
	onEach(t, func(t *testing.T, open func(testing.TB) keys.Store) {
		s := open(t)
		putKeys(t, s, testKey(1))
		c := testCredential(testKey(1).ID, 1)
		update(t, s, func(tx keys.Tx) error { return tx.PutCredential(c) })
		diff(t, "Credential()", view(t, s, credentialByID(c.AccessKeyID)), c)

		c.Generation, c.ProvenAt, c.GraceUntil = 7, morning, morning.Add(time.Hour)
		c.EndedAt, c.EndedAs = morning.Add(time.Hour), keys.EndRetired
		c.Terms = &keys.RollTerms{Grace: keys.Grace{For: time.Hour, At: morning}, FinishPrevious: true}
		c.Previous = &credential.Previous{AccessKeyID: "old", Until: morning, Clamped: true}
		c.LastUsedAt, c.LastUsedFrom = morning, "192.0.2.1"
		update(t, s, func(tx keys.Tx) error { return tx.PutCredential(c) })
		diff(t, "Credential() replaced", view(t, s, credentialByID(c.AccessKeyID)), c)
		wantCode(t, s, "Credential of an unknown id", fault.NotFound, func(tx keys.Tx) error { _, err := tx.Credential("nope"); return err })
	})
}

func credentialByID(id string) func(keys.Tx) (keys.Credential, error) {
	return func(tx keys.Tx) (keys.Credential, error) { return tx.Credential(id) }
}

func TestCredentialRules(t *testing.T) {
	proven := func(c keys.Credential) keys.Credential { c.ProvenAt = morning; return c }
	rolled := func(c keys.Credential) keys.Credential {
		c = proven(c)
		c.GraceUntil = morning.Add(time.Hour)
		return c
	}
	ended := func(c keys.Credential) keys.Credential { c.EndedAt, c.EndedAs = morning, keys.EndPurged; return c }
	onEach(t, func(t *testing.T, open func(testing.TB) keys.Store) {
		s := open(t)
		putKeys(t, s, testKey(1), testKey(2))
		put := func(c keys.Credential) func(keys.Tx) error {
			return func(tx keys.Tx) error { return tx.PutCredential(c) }
		}
		for i, as := range []func(keys.Credential) keys.Credential{
			func(c keys.Credential) keys.Credential { return c }, proven, rolled,
		} {
			one, two := as(testCredential(testKey(1).ID, 10*i)), as(testCredential(testKey(1).ID, 10*i+1))
			update(t, s, put(one))
			wantCode(t, s, "a second credential in the same state", fault.Exists, put(two))
			update(t, s, put(as(testCredential(testKey(2).ID, 10*i))))
			update(t, s, put(ended(one)))
			update(t, s, put(two))
			wantCode(t, s, "an ended credential brought back beside another", fault.Exists, put(one))
		}
		moved := testCredential(testKey(1).ID, 0)
		moved.KeyID = testKey(2).ID
		wantCode(t, s, "an access key id under another key", fault.IDConflict, put(moved))
		wantCode(t, s, "the same among other writes", fault.IDConflict, func(tx keys.Tx) error {
			return firstError([]error{tx.PutKey(testKey(3)), tx.PutCredential(moved), tx.AppendAudit(audit.Head{Seq: 1}, audit.Record{Seq: 1})})
		})
		wantCode(t, s, "a key beside which something else was refused", fault.NotFound, func(tx keys.Tx) error { _, err := tx.Key(testKey(3).ID); return err })
		wantCode(t, s, "a credential of an unknown key", fault.NotFound, put(testCredential("key_nope", 1)))

		var made []string
		for _, c := range view(t, s, func(tx keys.Tx) ([]keys.Credential, error) { return tx.Credentials(testKey(1).ID) }) {
			made = append(made, c.AccessKeyID)
		}
		var want []string
		for _, n := range []int{0, 1, 10, 11, 20, 21} {
			want = append(want, testCredential(testKey(1).ID, n).AccessKeyID)
		}
		if !slices.Equal(made, want) {
			t.Errorf("Credentials() = %v, want the order they were made in, %v", made, want)
		}
	})
}

func TestMaterialAndWipe(t *testing.T) {
	onEach(t, func(t *testing.T, open func(testing.TB) keys.Store) {
		s := open(t)
		putKeys(t, s, testKey(1))
		c := testCredential(testKey(1).ID, 1)
		m := keys.Material{PublicKey: []byte{0, 1, 2}, PrivateKeyPEM: []byte("test PEM")}
		update(t, s, func(tx keys.Tx) error {
			return firstError([]error{tx.PutCredential(c), tx.PutMaterial(c.AccessKeyID, m)})
		})
		material := func(tx keys.Tx) (keys.Material, error) { return tx.Material(c.AccessKeyID) }
		diff(t, "Material()", view(t, s, material), m)
		m.PublicKey = []byte{9}
		update(t, s, func(tx keys.Tx) error { return tx.PutMaterial(c.AccessKeyID, m) })
		diff(t, "Material() replaced", view(t, s, material), m)
		for range 2 {
			update(t, s, func(tx keys.Tx) error { return tx.WipeCredential(c.AccessKeyID) })
			c.SigningKey, c.Challenge = nil, nil
			diff(t, "Credential() wiped", view(t, s, credentialByID(c.AccessKeyID)), c)
			wantCode(t, s, "Material() wiped", fault.NotFound, func(tx keys.Tx) error { _, err := material(tx); return err })
		}
		wantCode(t, s, "PutMaterial of an unknown credential", fault.NotFound, func(tx keys.Tx) error { return tx.PutMaterial("nope", m) })
		wantCode(t, s, "WipeCredential of an unknown credential", fault.NotFound, func(tx keys.Tx) error { return tx.WipeCredential("nope") })
	})
}

func TestStale(t *testing.T) {
	wipeBefore := morning.Add(-keys.RetiredFor)
	with := func(n int, change func(*keys.Credential)) keys.Credential {
		c := testCredential(testKey(n).ID, 1)
		c.PendingUntil = morning.Add(time.Hour)
		change(&c)
		return c
	}
	at := func(d time.Duration) time.Time { return morning.Add(d) }
	table := []struct {
		c     keys.Credential
		stale bool
	}{
		{with(0, func(c *keys.Credential) { c.PendingUntil = at(0) }), true},
		{with(1, func(c *keys.Credential) { c.PendingUntil = at(time.Microsecond) }), false},
		{with(2, func(c *keys.Credential) { c.PendingUntil = at(0); c.EndedAt, c.EndedAs = at(0), keys.EndPurged }), false},
		{with(3, func(c *keys.Credential) { c.PendingUntil, c.ProvenAt = at(0), at(0) }), false},
		{with(4, func(c *keys.Credential) { c.ProvenAt, c.GraceUntil = at(-1), at(0) }), true},
		{with(5, func(c *keys.Credential) { c.ProvenAt, c.GraceUntil = at(-1), at(time.Microsecond) }), false},
		{with(6, func(c *keys.Credential) { c.ProvenAt, c.EndedAt, c.EndedAs = at(-1), wipeBefore, keys.EndRetired }), true},
		{with(7, func(c *keys.Credential) { c.ProvenAt, c.EndedAt, c.EndedAs = at(-1), wipeBefore, keys.EndCancelled }), true},
		{with(8, func(c *keys.Credential) {
			c.ProvenAt, c.EndedAt, c.EndedAs = at(-1), wipeBefore.Add(time.Microsecond), keys.EndRetired
		}), false},
		{with(9, func(c *keys.Credential) {
			c.ProvenAt, c.EndedAt, c.EndedAs, c.SigningKey = at(-1), wipeBefore, keys.EndRetired, nil
		}), false},
	}
	onEach(t, func(t *testing.T, open func(testing.TB) keys.Store) {
		s := open(t)
		var want []string
		update(t, s, func(tx keys.Tx) error {
			var steps []error
			for i, row := range table {
				steps = append(steps, tx.PutKey(testKey(i)), tx.PutCredential(row.c))
				if row.stale {
					want = append(want, row.c.AccessKeyID)
				}
			}
			return firstError(steps)
		})
		for _, limit := range []int{100, 2} {
			var got []string
			for _, c := range view(t, s, func(tx keys.Tx) ([]keys.Credential, error) { return tx.Stale(morning, wipeBefore, limit) }) {
				got = append(got, c.AccessKeyID)
			}
			slices.Sort(got)
			if limit == 2 && len(got) == 2 && slices.Contains(want, got[0]) && slices.Contains(want, got[1]) {
				continue
			}
			if limit == 2 || !slices.Equal(got, want) {
				t.Errorf("Stale with limit %d = %v, want %v", limit, got, want)
			}
		}
	})
}
