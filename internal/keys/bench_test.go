package keys_test

import (
	"fmt"
	"testing"
	"time"

	"keyctl/internal/credential"
	"keyctl/internal/keys"
)

// manyKeys fills a store with n active keys, as its rows would be after n creates.
func manyKeys(b *testing.B, s keys.Store, n int) {
	b.Helper()
	now := time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)
	err := s.Update(b.Context(), func(tx keys.Tx) error {
		for i := range n {
			k := keys.Key{
				ID: fmt.Sprintf("key_%022d", i), Name: fmt.Sprintf("web-%06d", i), CreatedAt: now, CreatedBy: "alex", ActivatedAt: now,
				LastUsedAt: now.Add(time.Duration(i*7919%n) * time.Second),
			}
			c := keys.Credential{
				AccessKeyID: fmt.Sprintf("KC%022d", i), KeyID: k.ID, Generation: 1, CreatedAt: now, PendingUntil: now.Add(keys.PendingFor),
				ProvenAt: now, SigningKey: make([]byte, 86), Challenge: make([]byte, 32), Fingerprint: make([]byte, 37),
			}
			if err := tx.PutKey(k); err != nil {
				return err
			}
			if err := tx.PutCredential(c); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	if !credential.IsAccessKeyID(fmt.Sprintf("KC%022d", 0)) {
		b.Fatal("these are no access key ids")
	}
}

func BenchmarkKeysPage(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		p := newPlace(b)
		db := p.openStore(b)
		manyKeys(b, db, n)
		l := p.on(b, db)
		for _, filter := range []struct {
			what string
			keys.KeyFilter
		}{
			{"name", keys.KeyFilter{Limit: 100}},
			{"last used", keys.KeyFilter{Limit: 100, Order: keys.OrderLastUsed, Descending: true}},
			{"active", keys.KeyFilter{Limit: 100, States: []keys.KeyState{keys.KeyActive}}},
		} {
			b.Run(fmt.Sprintf("100 of %d by %s", n, filter.what), func(b *testing.B) {
				for b.Loop() {
					page, err := l.Keys(b.Context(), filter.KeyFilter)
					if err != nil || len(page.Items) != 100 {
						b.Fatalf("%d keys, %v", len(page.Items), err)
					}
				}
			})
		}
	}
}
