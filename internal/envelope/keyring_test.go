package envelope

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"testing"

	"keyctl/internal/fault"
)

func drawRing(t testing.TB) Keyring {
	t.Helper()
	r, err := DrawKeyring(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func mustWrap(t testing.TB, r Keyring, m MasterKey) []byte {
	t.Helper()
	blob, err := r.Wrap(m, testStore)
	if err != nil {
		t.Fatal(err)
	}
	return blob
}

func TestDrawnKeysDiffer(t *testing.T) {
	seen := make(map[[keySize]byte]bool)
	for range 10 {
		for _, k := range drawRing(t).keys {
			seen[[keySize]byte(k.bytes())] = true
		}
	}
	if want := 10 * len(purposes); len(seen) != want {
		t.Errorf("10 rings have %d different keys, want %d", len(seen), want)
	}
}

func TestWrappedRingUnwraps(t *testing.T) {
	m, r := drawMaster(t), drawRing(t)
	r.keys[keyID{sealing, 2}] = newKey(bytes.Repeat([]byte{2}, keySize))
	r.keys[keyID{auditing, 300}] = newKey(bytes.Repeat([]byte{3}, keySize))
	first, second := mustWrap(t, r, m), mustWrap(t, r, m)
	if bytes.Equal(first, second) {
		t.Error("wrapping twice gave the same blob")
	}
	for _, blob := range [][]byte{first, second} {
		got, err := Unwrap(m, testStore, blob)
		if err != nil {
			t.Fatalf("Unwrap = %v", err)
		}
		if !bytes.Equal(got.encode(), r.encode()) {
			t.Errorf("Unwrap = %d keys that are not the %d wrapped ones", len(got.keys), len(r.keys))
		}
	}
}

func TestWrapRefusesNothing(t *testing.T) {
	if blob, err := drawRing(t).Wrap(drawMaster(t), ""); !fault.Is(err, fault.Internal) || blob != nil {
		t.Errorf("Wrap for no store = %x, %v, want %s", blob, err, fault.Internal)
	}
	if blob, err := (Keyring{}).Wrap(drawMaster(t), testStore); !fault.Is(err, fault.Internal) || blob != nil {
		t.Errorf("Wrap of no keys = %x, %v, want %s", blob, err, fault.Internal)
	}
}

// eachDamage calls f with every truncation of blob and with every bit of it flipped.
func eachDamage(blob []byte, f func(doing string, damaged []byte)) {
	for i := range blob {
		f(fmt.Sprintf("cut to %d bytes", i), blob[:i])
		for bit := range 8 {
			flipped := bytes.Clone(blob)
			flipped[i] ^= 1 << bit
			f(fmt.Sprintf("bit %d of byte %d flipped", bit, i), flipped)
		}
	}
	f("a byte added", append(bytes.Clone(blob), 0))
}

func TestR7_DamagedKeyring(t *testing.T) {
	m := drawMaster(t)
	eachDamage(mustWrap(t, drawRing(t), m), func(doing string, damaged []byte) {
		if r, err := Unwrap(m, testStore, damaged); !fault.Is(err, fault.StoreDamaged) || r.keys != nil {
			t.Errorf("%s: Unwrap = %d keys, %v, want %s", doing, len(r.keys), err, fault.StoreDamaged)
		}
	})
}

// New values are made under the newest version, and values of the others still count.
func TestNewestVersionIsUsed(t *testing.T) {
	r := drawRing(t)
	old := r.MAC("test")
	sealed, err := r.Seal(testSlot, []byte("text"))
	if err != nil {
		t.Fatal(err)
	}
	audit := r.AuditKey()
	for _, p := range purposes {
		r.keys[keyID{p, 2}] = newKey(bytes.Repeat([]byte{byte(p)}, keySize))
	}
	resealed, err := r.Seal(testSlot, []byte("text"))
	if err != nil {
		t.Fatal(err)
	}
	for _, blob := range [][]byte{r.MAC("test"), resealed} {
		if version, _, err := parseHeader(blob, blob[0]); version != 2 || err != nil {
			t.Errorf("made under version %d, %v, want 2", version, err)
		}
	}
	if !r.CheckMAC(old, "test") {
		t.Error("CheckMAC refused a MAC of version 1")
	}
	if got, err := r.Open(testSlot, sealed); string(got) != "text" || err != nil {
		t.Errorf("Open of version 1 = %q, %v", got, err)
	}
	if want := bytes.Repeat([]byte{byte(auditing)}, keySize); !bytes.Equal(r.AuditKey(), want) || bytes.Equal(audit, want) {
		t.Errorf("AuditKey = %x, want %x", r.AuditKey(), want)
	}
}

func TestMACSeparatesItsInputs(t *testing.T) {
	r := drawRing(t)
	parts := func(texts ...string) [][]byte {
		var p [][]byte
		for _, text := range texts {
			p = append(p, []byte(text))
		}
		return p
	}
	inputs := []struct {
		label string
		parts [][]byte
	}{
		{"a", nil},
		{"a", parts("")},
		{"a", parts("", "")},
		{"a", parts("bc")},
		{"a", parts("b", "c")},
		{"a", parts("", "bc")},
		{"a", parts("bc", "")},
		{"ab", parts("c")},
		{"", parts("a", "bc")},
		{"a", parts("\x00\x00\x00\x01b")},
	}
	for i, a := range inputs {
		mac := r.MAC(a.label, a.parts...)
		for j, b := range inputs {
			if got := r.CheckMAC(mac, b.label, b.parts...); got != (i == j) {
				t.Errorf("CheckMAC(MAC(%q, %q), %q, %q) = %t", a.label, a.parts, b.label, b.parts, got)
			}
		}
		if drawRing(t).CheckMAC(mac, a.label, a.parts...) {
			t.Errorf("another ring accepts MAC(%q, %q)", a.label, a.parts)
		}
	}
}

func TestR7_DamagedMAC(t *testing.T) {
	r := drawRing(t)
	eachDamage(r.MAC("test", []byte("part")), func(doing string, damaged []byte) {
		if r.CheckMAC(damaged, "test", []byte("part")) {
			t.Errorf("%s: CheckMAC accepts it", doing)
		}
	})
}

// The zero ring opens nothing and, above all, makes nothing under a key of zeros.
func TestZeroKeyringIsNoKeyring(t *testing.T) {
	var zero Keyring
	if _, err := zero.Open(testSlot, []byte{formatSealed, 0, 0, 0, 0}); !fault.Is(err, fault.StoreDamaged) {
		t.Errorf("Open = %v, want %s", err, fault.StoreDamaged)
	}
	if zero.CheckMAC([]byte{formatMAC, 0, 0, 0, 0}, "test") {
		t.Error("CheckMAC accepts a MAC")
	}
	for name, use := range map[string]func(){
		"MAC":                  func() { zero.MAC("test") },
		"AuditKey":             func() { zero.AuditKey() },
		"Seal":                 func() { _, _ = zero.Seal(testSlot, nil) },
		"MasterKey.CheckValue": func() { MasterKey{}.CheckValue(testStore) },
		"MasterKey.Text":       func() { MasterKey{}.Text() },
		"PrimaryKey.Seal":      func() { _, _ = PrimaryKey{}.Seal(1, nil, nil) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s without a key did not panic", name)
				}
			}()
			use()
		}()
	}
}

// Nothing opens but what was wrapped, and a ring that decodes has one encoding only.
func FuzzUnwrap(f *testing.F) {
	cases := readVectors[keyringCase](f, "keyring")
	m, storeID := MasterKey{newKey(cases[0].Master)}, cases[0].StoreID
	genuine := make(map[string]bool)
	for _, c := range cases {
		f.Add([]byte(c.Blob))
		genuine[string(c.Blob)] = !c.Fails
	}
	f.Add(drawRing(f).encode())
	f.Fuzz(func(t *testing.T, blob []byte) {
		_, err := Unwrap(m, storeID, blob)
		if genuine[string(blob)] != (err == nil) || err != nil && !fault.Is(err, fault.StoreDamaged) {
			t.Errorf("Unwrap(%x) = %v", blob, err)
		}
		if r, err := decodeKeyring(blob); err == nil && !bytes.Equal(r.encode(), blob) {
			t.Errorf("decodeKeyring(%x) encodes as %x", blob, r.encode())
		}
	})
}
