package store

import (
	"fmt"
	"testing"
	"time"

	"keyctl/internal/keys"
)

// manyKeys makes a store of n keys, each with a current credential.
func manyKeys(b *testing.B, n int) string {
	path := newStore(b)
	db := openStore(b, path)
	for from := 0; from < n; from += 10_000 {
		update(b, db, func(tx keys.Tx) error {
			for i := from; i < min(n, from+10_000); i++ {
				k, c := testKey(i), testCredential(testKey(i).ID, 1)
				k.ActivatedAt, c.ProvenAt = morning, morning
				k.LastUsedAt = morning.Add(time.Duration(i*7919%n) * time.Second)
				if err := firstError([]error{tx.PutKey(k), tx.PutCredential(c)}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return path
}

func BenchmarkKeysPage(b *testing.B) {
	for _, n := range []int{100, 100_000} {
		db := openStore(b, manyKeys(b, n))
		for _, order := range []keys.KeyOrder{keys.OrderName, keys.OrderExpires, keys.OrderLastUsed} {
			b.Run(fmt.Sprintf("100 of %d by %s", n, order), func(b *testing.B) {
				for b.Loop() {
					page := keys.KeyPage{Order: order, Limit: 100}
					if n > 100 {
						page.After = &keys.KeyPosition{Name: testKey(n / 2).Name, Time: time.Time{}, ID: testKey(n / 2).ID}
						if order == keys.OrderLastUsed {
							page.After.Time = morning.Add(time.Duration(n/2) * time.Second)
						}
					}
					got := view(b, db, func(tx keys.Tx) ([]keys.KeyRecord, error) { return tx.Keys(page) })
					if len(got) != 100 {
						b.Fatalf("%d keys, want 100", len(got))
					}
				}
			})
		}
	}
}

func BenchmarkUpdate(b *testing.B) {
	db := openStore(b, newStore(b))
	n := 0
	for b.Loop() {
		update(b, db, func(tx keys.Tx) error { return tx.PutKey(testKey(n)) })
		n++
	}
}

func BenchmarkOpen(b *testing.B) {
	path := manyKeys(b, 1000)
	for b.Loop() {
		db, err := Open(b.Context(), path, Options{})
		if err != nil {
			b.Fatal(err)
		}
		view(b, db, keys.Tx.Meta)
		view(b, db, func(tx keys.Tx) ([]keys.KeyRecord, error) {
			return tx.Keys(keys.KeyPage{Order: keys.OrderName, Limit: 50})
		})
		if err := db.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkKeyByName(b *testing.B) {
	db := openStore(b, manyKeys(b, 1000))
	update(b, db, func(tx keys.Tx) error {
		if err := firstError([]error{tx.PutPrimaryKey(testPrimaryKey(1)), tx.PutDataset(testDataset(1))}); err != nil {
			return err
		}
		_, err := tx.Attach(testDataset(1).ID, testKey(7).ID, keys.FullGrant, morning)
		return err
	})
	for b.Loop() {
		view(b, db, func(tx keys.Tx) (keys.KeyRecord, error) { return tx.KeyByName(testKey(7).Name) })
	}
}

func BenchmarkCredential(b *testing.B) {
	db := openStore(b, manyKeys(b, 1000))
	for b.Loop() {
		view(b, db, credentialByID(testCredential(testKey(7).ID, 1).AccessKeyID))
	}
}
