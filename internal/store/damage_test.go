package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"keyctl/internal/audit"
	"keyctl/internal/fault"
	"keyctl/internal/keys"
)

// TestR46_DamagedStore flips bits and cuts the end off a store. Whatever is done to it, opening, reading and writing either
// work or end in a clean error; a panic or a fault of memory would end the test binary.
func TestR46_DamagedStore(t *testing.T) {
	rounds := 1000
	if os.Getenv("KEYCTL_TORTURE") != "" {
		rounds = 10_000
	}
	whole := fullStore(t)
	path := filepath.Join(t.TempDir(), "keyctl.db")
	codes := map[fault.Code]int{}
	for round := range rounds {
		random := rand.New(rand.NewPCG(46, uint64(round)))
		damaged := damage(random, whole)
		removeDatabase(path)
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, err := range useAll(t.Context(), path) {
			code := fault.CodeOf(err)
			codes[code]++
			switch code {
			case "", fault.StoreDamaged, fault.SchemaNewer, fault.NotFound, fault.NoStore, fault.Unavailable, fault.Exists:
			case fault.Invalid: // the application id was hit
			default:
				t.Errorf("round %d: %v (%s, cause %v)", round, err, code, errors.Unwrap(err))
			}
		}
	}
	t.Logf("%d rounds ended in %v", rounds, codes)
	if codes[""] == 0 || codes[fault.StoreDamaged] == 0 {
		t.Errorf("%v: the damage was always or never noticed; the test tests nothing", codes)
	}
}

func damage(random *rand.Rand, whole []byte) []byte {
	damaged := bytes.Clone(whole)
	switch random.IntN(8) {
	case 0:
		return damaged[:random.IntN(len(damaged))]
	case 1: // the header of a page
		at := random.IntN(len(damaged)/4096) * 4096
		for range 1 + random.IntN(4) {
			damaged[at+random.IntN(100)] ^= byte(1 << random.IntN(8))
		}
	case 2: // a page in the place of another one
		copy(damaged[random.IntN(len(damaged)/4096)*4096:], damaged[random.IntN(len(damaged)/4096)*4096:][:4096])
	case 3:
		clear(damaged[random.IntN(len(damaged)):])
	default:
		for range 1 + random.IntN(8) {
			damaged[random.IntN(len(damaged))] ^= byte(1 << random.IntN(8))
		}
	}
	return damaged
}

// fullStore returns the file of a store with something in each table.
func fullStore(t *testing.T) []byte {
	t.Helper()
	path := newStore(t)
	db, err := Open(t.Context(), path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	update(t, db, func(tx keys.Tx) error {
		steps := []error{
			tx.PutPrimaryKey(testPrimaryKey(1)), tx.PutDataset(testDataset(1)), tx.PutOperator(testOperator),
			tx.PutSecondFactor(keys.SecondFactor{OperatorID: testOperator.ID, Seed: []byte("sealed"), CreatedAt: morning}),
			tx.PutRecoveryCodes(testOperator.ID, [][]byte{{1}, {2}}),
		}
		for i := range 50 {
			k, c := testKey(i), testCredential(testKey(i).ID, 1)
			k.Labels, k.Description = map[string]string{"env": "test"}, strings.Repeat("d", i*4)
			r := audit.Record{Seq: int64(i + 1), Body: bytes.Repeat([]byte("b"), 300), MAC: []byte("mac")}
			steps = append(steps, tx.PutKey(k), tx.PutCredential(c),
				tx.PutMaterial(c.AccessKeyID, keys.Material{PublicKey: bytes.Repeat([]byte("k"), 294), PrivateKeyPEM: bytes.Repeat([]byte("p"), 2000)}),
				tx.AppendAudit(audit.Head{Seq: r.Seq, Hash: r.Hash(), MAC: []byte("mac")}, r))
			_, err := tx.Attach(testDataset(1).ID, k.ID, keys.FullGrant, morning)
			steps = append(steps, err)
		}
		return firstError(steps)
	})
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return whole
}

// useAll opens a store, reads every table and writes to some, and returns every error.
func useAll(ctx context.Context, path string) (all []error) {
	db, err := Open(ctx, path, Options{})
	if err != nil {
		return []error{err}
	}
	defer db.Close()
	// Each read is a view of its own: one that fails ends its transaction.
	for _, read := range []func(keys.Tx) error{
		func(tx keys.Tx) error { _, err := tx.Meta(); return err },
		func(tx keys.Tx) error { _, err := allKeys(tx); return err },
		func(tx keys.Tx) error {
			_, err := tx.Keys(keys.KeyPage{Order: keys.OrderExpires, Descending: true, Deleted: true, Limit: 20})
			return err
		},
		func(tx keys.Tx) error { _, err := tx.Credentials(testKey(7).ID); return err },
		func(tx keys.Tx) error {
			_, err := tx.Material(testCredential(testKey(30).ID, 1).AccessKeyID)
			return err
		},
		func(tx keys.Tx) error { _, err := tx.Datasets("", 10); return err },
		func(tx keys.Tx) error { _, err := tx.PrimaryKeys("", 10); return err },
		func(tx keys.Tx) error { _, err := tx.Operators(); return err },
		func(tx keys.Tx) error { _, err := tx.SecondFactor(testOperator.ID); return err },
		func(tx keys.Tx) error { _, err := tx.RecoveryCodesLeft(testOperator.ID); return err },
		func(tx keys.Tx) error { _, err := tx.AuditHead(); return err },
		func(tx keys.Tx) error { _, err := tx.AuditRecords(0, 1000); return err },
	} {
		all = append(all, db.View(ctx, read))
	}
	for _, write := range []func(keys.Tx) error{
		func(tx keys.Tx) error { return tx.PutKey(testKey(1000)) },
		func(tx keys.Tx) error { return tx.WipeCredential(testCredential(testKey(3).ID, 1).AccessKeyID) },
		func(tx keys.Tx) error { _, err := tx.AdvanceOTP(testOperator.ID, 99); return err },
	} {
		all = append(all, db.Update(ctx, write))
	}
	return append(all, db.QuickCheck(ctx))
}

func TestUnreadableContentIsDamage(t *testing.T) {
	for _, tt := range []struct {
		statement string
		read      func(keys.Tx) error
	}{
		{`UPDATE keys SET labels = '[1]'`, func(tx keys.Tx) error { _, err := allKeys(tx); return err }},
		{`UPDATE keys SET ip_ranges = '10.0.0.1/8'`, func(tx keys.Tx) error { _, err := allKeys(tx); return err }},
		{`UPDATE keys SET created_at = 9223372036854775807`, func(tx keys.Tx) error { _, err := allKeys(tx); return err }},
		{`UPDATE credentials SET terms = '{'`, func(tx keys.Tx) error { _, err := allKeys(tx); return err }},
		{`DROP TABLE recovery_codes`, func(tx keys.Tx) error { _, err := tx.RecoveryCodesLeft("op_1"); return err }},
		{`UPDATE goose_db_version SET version_id = -version_id WHERE version_id > 0`, nil},
		{`DROP TABLE goose_db_version`, nil},
	} {
		path := newStore(t)
		db, err := Open(t.Context(), path, Options{})
		if err != nil {
			t.Fatal(err)
		}
		update(t, db, func(tx keys.Tx) error {
			return firstError([]error{tx.PutKey(testKey(1)), tx.PutCredential(testCredential(testKey(1).ID, 1))})
		})
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		execRaw(t, path, tt.statement)
		db, err = Open(t.Context(), path, Options{})
		if tt.read == nil {
			if fault.CodeOf(err) != fault.StoreDamaged {
				t.Errorf("Open after %q = %v, want code store_damaged", tt.statement, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		err = db.View(t.Context(), tt.read)
		if fault.CodeOf(err) != fault.StoreDamaged || fault.From(err).Hint == "" {
			t.Errorf("reading after %q = %v, want code store_damaged with a hint", tt.statement, err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
}

// execRaw changes a store behind keyctl's back.
func execRaw(t testing.TB, path, statement string) {
	t.Helper()
	engine, err := openEngine(path, forWriting, patientWait)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := engine.ExecContext(t.Context(), statement); err != nil {
		t.Fatal(fmt.Errorf("%s: %w", statement, err))
	}
	if err := engine.Close(); err != nil {
		t.Fatal(err)
	}
}
