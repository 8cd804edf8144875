package keys_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"testing"

	"keyctl/internal/credential"
	"keyctl/internal/envelope"
	"keyctl/internal/fault"
	"keyctl/internal/keys"
	"keyctl/internal/keys/keystest"
)

// sealedPlace is one sealed value in the store's file, and the question whose answer needs it.
type sealedPlace struct {
	name   string
	table  string
	column string
	row    string // a condition
	use    func() error
}

func (s sealedPlace) read(t testing.TB, p *place) []byte {
	t.Helper()
	return query[[]byte](t, p, fmt.Sprintf("SELECT %s FROM %s WHERE %s", s.column, s.table, s.row))
}

func (s sealedPlace) write(t testing.TB, p *place, blob []byte) {
	t.Helper()
	if n := p.exec(t, fmt.Sprintf("UPDATE %s SET %s = $1 WHERE %s", s.table, s.column, s.row), blob); n != 1 {
		t.Fatalf("%s stands in %d rows", s.name, n)
	}
}

// sealedPlaces fills a store with two of each kind of sealed value, where there can be two, and returns them all.
func sealedPlaces(t *testing.T, p *place) []sealedPlace {
	t.Helper()
	db := p.openStore(t)
	l := p.on(t, db)
	auth := keystest.Enroll(t, l, p.clock)
	ring := p.keyring(t, db)
	var places []sealedPlace
	for _, name := range []string{"web-01", "web-02"} {
		d, _ := newKey(t, l, name)
		places = append(places, sealedPlace{
			"the signing key of " + name, "credentials", "signing_key", fmt.Sprintf("access_key_id = '%s'", d.AccessKeyID),
			func() error {
				v, err := l.Verify(t.Context(), d.Question())
				if err == nil && !v.Allowed {
					err = fmt.Errorf("refused: %s", v.Reason)
				}
				return err
			},
		})
	}
	for _, name := range []string{"files", "more"} {
		newDataset(t, l, name)
		made, err := l.RotatePrimaryKey(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		for _, version := range made.Versions {
			slot := envelope.Slot{Table: "primary_key_versions", Row: fmt.Sprintf("%s/%d", made.ID, version.Version), Column: "sealed"}
			row := fmt.Sprintf("primary_key_id = '%s' AND version = %d", made.ID, version.Version)
			s := sealedPlace{name: fmt.Sprintf("version %d of %s", version.Version, name), table: slot.Table, column: slot.Column, row: row}
			s.use = func() error { _, err := ring.Open(slot, s.read(t, p)); return err }
			places = append(places, s)
		}
	}
	return append(places, sealedPlace{"the authenticator's seed", "second_factors", "seed", "1", func() error {
		_, err := l.NewRecoveryCodes(t.Context(), auth.Next())
		return err
	}})
}

func TestR4_SwappedCiphertexts(t *testing.T) {
	p := newPlace(t)
	places := sealedPlaces(t, p)
	for i, a := range places {
		for _, b := range places[:i] {
			inA, inB := a.read(t, p), b.read(t, p)
			a.write(t, p, inB)
			b.write(t, p, inA)
			for _, s := range places {
				want := fault.Code("")
				if s.name == a.name || s.name == b.name {
					want = fault.StoreDamaged
				}
				keystest.WantCode(t, fmt.Sprintf("with %s and %s swapped, using %s", a.name, b.name, s.name), s.use(), want)
			}
			a.write(t, p, inA)
			b.write(t, p, inB)
		}
	}
}

// A signing key that does not open is never replaced by anything that does: the proof and the verdict fail too.
func TestR4_DamagedCredential(t *testing.T) {
	p := newPlace(t)
	l := p.open(t)
	d := keystest.Draw(t)
	pending, err := l.CreateKey(t.Context(), keys.NewKey{Name: "web-01", Offer: d.Offer})
	if err != nil {
		t.Fatal(err)
	}
	p.exec(t, `UPDATE credentials SET signing_key = substr(signing_key, 1, 20)`)
	_, err = l.Prove(t.Context(), d.AccessKeyID, d.Proof(pending))
	keystest.WantCode(t, "Prove()", err, fault.StoreDamaged)
	_, err = l.Verify(t.Context(), d.Question())
	keystest.WantCode(t, "Verify()", err, fault.StoreDamaged)
}

// Rows that contradict each other are damage, and no reason to panic.
func TestR46_RolledKeyWithoutCurrentCredential(t *testing.T) {
	p := newPlace(t)
	l := p.open(t)
	auth := keystest.Enroll(t, l, p.clock)
	_, key := newKey(t, l, "web-01")
	d, pending, err := roll(t, l, key.KeyID, auth.Next(), keys.RollTerms{Grace: keys.Grace{For: keys.MaxGrace}})
	if err == nil {
		_, err = l.Prove(t.Context(), d.AccessKeyID, d.Proof(pending))
	}
	if err != nil {
		t.Fatal(err)
	}
	next, pending, err := roll(t, l, key.KeyID, auth.Next(), keys.RollTerms{FinishPrevious: true})
	if err != nil {
		t.Fatal(err)
	}
	p.exec(t, `UPDATE credentials SET ended_at = created_at, ended_as = 'deleted' WHERE access_key_id = $1`, d.AccessKeyID)
	for what, call := range map[string]func() error{
		"Rolls":      func() error { _, err := l.Rolls(t.Context(), "", 0); return err },
		"ExtendRoll": func() error { _, err := l.ExtendRoll(t.Context(), "web-01", keys.Grace{For: 1000}, ""); return err },
		"CancelRoll": func() error { _, err := l.CancelRoll(t.Context(), "web-01", auth.Next()); return err },
		"Prove":      func() error { _, err := l.Prove(t.Context(), next.AccessKeyID, next.Proof(pending)); return err },
	} {
		keystest.WantCode(t, what, call(), fault.StoreDamaged)
	}
	if _, err := l.Key(t.Context(), "web-01"); err != nil {
		t.Errorf("Key() = %v", err)
	}
	// The brake and the end still work.
	if _, err := l.DisableKey(t.Context(), "web-01", false); err != nil {
		t.Errorf("DisableKey() = %v", err)
	}
	if _, err := l.DeleteKey(t.Context(), "web-01"); err != nil {
		t.Errorf("DeleteKey() = %v", err)
	}
}

func TestR7_UnknownVersionsFailClosed(t *testing.T) {
	p := newPlace(t)
	for _, s := range sealedPlaces(t, p) {
		whole := s.read(t, p)
		for i := range 5 { // the format version and the four bytes of the key version
			flipped := bytes.Clone(whole)
			flipped[i] ^= 1
			s.write(t, p, flipped)
			keystest.WantCode(t, fmt.Sprintf("%s with byte %d flipped", s.name, i), s.use(), fault.StoreDamaged)
		}
		s.write(t, p, whole)
		keystest.WantCode(t, s.name+" put back", s.use(), "")
	}
	keyring := sealedPlace{name: "the keyring", table: "meta", column: "keyring", row: "1"}
	whole := keyring.read(t, p)
	for i := range whole {
		flipped := bytes.Clone(whole)
		flipped[i] ^= 1
		keyring.write(t, p, flipped)
		_, err := keys.Open(t.Context(), p.openStore(t), p.master, p.clock.Env())
		keystest.WantCode(t, fmt.Sprintf("Open() with byte %d of the keyring flipped", i), err, fault.StoreDamaged)
	}
}

func TestR8_WrongMasterKey(t *testing.T) {
	p, other := newPlace(t), newPlace(t)
	newKey(t, p.open(t), "web-01")
	db := p.openStore(t)
	before := p.dump(t)
	refused := func(what string, master envelope.MasterKey, want fault.Code) {
		t.Helper()
		l, err := keys.Open(t.Context(), db, master, p.clock.Env())
		keystest.WantCode(t, "Open() with "+what, err, want)
		if l != nil {
			t.Errorf("Open() with %s gave a Service", what)
		}
		if p.dump(t) != before {
			t.Errorf("Open() with %s wrote to the store", what)
		}
	}
	refused("another store's master key", other.master, fault.MasterKeyWrong)
	// A store that is there is never given a new master key.
	keystest.WantCode(t, "Init() again", keys.Init(t.Context(), db, other.master, p.clock.Env()), fault.Exists)
	refused("the key that Init was refused with", other.master, fault.MasterKeyWrong)
	for i := range 16 {
		p.exec(t, `UPDATE meta SET check_value = $1`, flip(query[[]byte](t, p, `SELECT check_value FROM meta`), i))
		before = p.dump(t)
		refused(fmt.Sprintf("byte %d of the check value flipped", i), p.master, fault.MasterKeyWrong)
		p.exec(t, `UPDATE meta SET check_value = $1`, flip(query[[]byte](t, p, `SELECT check_value FROM meta`), i))
	}
	p.exec(t, `UPDATE meta SET check_value = X'00'`)
	before = p.dump(t)
	refused("half a check value", p.master, fault.StoreDamaged)
	// The keyring of another store opens under that store's key only, and belongs to that store only.
	p.exec(t, `UPDATE meta SET check_value = $1, keyring = $2`, query[[]byte](t, other, `SELECT check_value FROM meta`),
		query[[]byte](t, other, `SELECT keyring FROM meta`))
	before = p.dump(t)
	refused("another store's check value and keyring", other.master, fault.MasterKeyWrong)
	refused("another store's check value and keyring", p.master, fault.MasterKeyWrong)
}

func flip(b []byte, i int) []byte {
	b = bytes.Clone(b)
	b[i] ^= 1
	return b
}

// primaryKey opens one version of a Primary Key, as the release of a data key will.
func primaryKey(t testing.TB, p *place, s keys.Store, name string, version uint32) envelope.PrimaryKey {
	t.Helper()
	var rec keys.PrimaryKeyRecord
	err := s.View(t.Context(), func(tx keys.Tx) (err error) {
		rec, err = tx.PrimaryKeyByName(name)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slot := envelope.Slot{Table: "primary_key_versions", Row: fmt.Sprintf("%s/%d", rec.ID, version), Column: "sealed"}
	raw, err := p.keyring(t, s).Open(slot, rec.Versions[version-1].Sealed)
	if err != nil {
		t.Fatal(err)
	}
	k, err := envelope.PrimaryKeyFromBytes(raw)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// release hands a sealed data key out to a credential: wrapped for its public key, as only its holder can unwrap it.
func release(t testing.TB, p *place, s keys.Store, version uint32, sealed []byte, d keystest.Drawn) []byte {
	t.Helper()
	dataKey, err := primaryKey(t, p, s, "files", version).Open(version, nil, sealed)
	if err != nil {
		t.Fatalf("the sealed data key does not open: %v", err)
	}
	var m keys.Material
	err = s.View(t.Context(), func(tx keys.Tx) (err error) {
		m, err = tx.Material(d.AccessKeyID)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.ParsePKIXPublicKey(m.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, public.(*rsa.PublicKey), dataKey, nil)
	if err != nil {
		t.Fatal(err)
	}
	private, err := credential.OpenPrivateKey(m.PrivateKeyPEM, d.CryptoAccessKey)
	if err != nil {
		t.Fatalf("the private key does not open: %v", err)
	}
	got, err := rsa.DecryptOAEP(sha256.New(), nil, private, wrapped, nil)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// Somebody loses an API key's secrets. What was encrypted with it is reached by giving another key the same dataset, or
// by rolling the one that lost them: data hangs on the Primary Key, not on a credential.
func TestR10_LostCryptoSecret(t *testing.T) {
	p := newPlace(t)
	db := p.openStore(t)
	l := p.on(t, db)
	auth := keystest.Enroll(t, l, p.clock)
	newDataset(t, l, "files")
	lost, lostKey := newKey(t, l, "lost", "files")

	dataKey := []byte("a data key of 32 bytes, no more.")
	sealed, err := primaryKey(t, p, db, "files", 1).Seal(1, nil, dataKey)
	if err != nil {
		t.Fatal(err)
	}
	if got := release(t, p, db, 1, sealed, lost); !bytes.Equal(got, dataKey) {
		t.Fatal("the first key does not reach its own data")
	}
	var m keys.Material
	if err := db.View(t.Context(), func(tx keys.Tx) (err error) { m, err = tx.Material(lost.AccessKeyID); return err }); err != nil {
		t.Fatal(err)
	}
	made, err := credential.DrawToken(rand.Reader, credential.CryptoAccessKey)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := credential.OpenPrivateKey(m.PrivateKeyPEM, made); !fault.Is(err, fault.Invalid) {
		t.Errorf("another crypto access key opens the private key: %v", err)
	}

	// Recovery one: another key, attached to the dataset.
	other, _ := newKey(t, l, "other")
	if _, err := l.AttachKeys(t.Context(), "files", []string{"other"}, keys.FullGrant); err != nil {
		t.Fatal(err)
	}
	if got := release(t, p, db, 1, sealed, other); !bytes.Equal(got, dataKey) {
		t.Error("another key of the dataset does not reach the data")
	}
	// Recovery two: a roll of the same key. It keeps the Primary Key, also after that was rotated.
	if _, err := l.RotatePrimaryKey(t.Context(), "files"); err != nil {
		t.Fatal(err)
	}
	next, pending, err := roll(t, l, lostKey.KeyID, auth.Next(), keys.RollTerms{})
	if err == nil {
		_, err = l.Prove(t.Context(), next.AccessKeyID, next.Proof(pending))
	}
	if err != nil {
		t.Fatal(err)
	}
	if got := release(t, p, db, 1, sealed, next); !bytes.Equal(got, dataKey) {
		t.Error("data encrypted before the roll does not decrypt after it")
	}
	// Only the lost credential is lost: its key pair goes with the key.
	if _, err := l.DeleteKey(t.Context(), lostKey.KeyID); err != nil {
		t.Fatal(err)
	}
	if got := release(t, p, db, 1, sealed, other); !bytes.Equal(got, dataKey) {
		t.Error("the delete of one key took the data of another")
	}
}
