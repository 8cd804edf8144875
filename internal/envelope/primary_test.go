package envelope

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"strings"
	"testing"

	"keyctl/internal/fault"
)

var testAAD = []byte("pk_test")

func drawPrimary(t testing.TB) PrimaryKey {
	t.Helper()
	p, err := DrawPrimaryKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func mustSealPrimary(t testing.TB, p PrimaryKey, version uint32, plain []byte) []byte {
	t.Helper()
	blob, err := p.Seal(version, testAAD, plain)
	if err != nil {
		t.Fatal(err)
	}
	return blob
}

func TestPrimaryKeySurvivesItsColumn(t *testing.T) {
	r, p := drawRing(t), drawPrimary(t)
	column, err := r.Seal(testSlot, p.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	b, err := r.Open(testSlot, column)
	if err != nil {
		t.Fatal(err)
	}
	again, err := PrimaryKeyFromBytes(b)
	if err != nil {
		t.Fatal(err)
	}
	clear(b) // the key does not hang on the caller's slice
	blob := mustSealPrimary(t, p, 3, []byte("data key"))
	if got, err := again.Open(3, testAAD, blob); string(got) != "data key" || err != nil {
		t.Errorf("Open after the column = %q, %v", got, err)
	}
	for n := range 2 * keySize {
		want := fault.StoreDamaged
		if n == keySize {
			want = ""
		}
		if _, err := PrimaryKeyFromBytes(make([]byte, n)); fault.CodeOf(err) != want {
			t.Errorf("PrimaryKeyFromBytes(%d bytes) = %v, want %q", n, err, want)
		}
	}
}

// Equal data keys give blobs that have neither salt nor nonce in common.
func TestPrimarySealIsRandomised(t *testing.T) {
	p, plain := drawPrimary(t), make([]byte, 32)
	seen := make(map[string]bool)
	for range 100 {
		blob := mustSealPrimary(t, p, 1, plain)
		if want := len(plain) + 57; len(blob) != want {
			t.Fatalf("Seal made %d bytes of %d, want %d", len(blob), len(plain), want)
		}
		for _, part := range [][]byte{blob[headerSize:headSize], blob[headSize : headSize+12], blob[headSize+12:]} {
			if seen[string(part)] {
				t.Fatalf("%x came twice", part)
			}
			seen[string(part)] = true
		}
	}
}

func TestPrimarySealRefusesVersion0(t *testing.T) {
	if blob, err := drawPrimary(t).Seal(0, testAAD, []byte("x")); !fault.Is(err, fault.Internal) || blob != nil {
		t.Errorf("Seal = %x, %v, want %s", blob, err, fault.Internal)
	}
}

// A data key opens under its own Primary Key, version and additional data only.
func TestR4_PrimarySwaps(t *testing.T) {
	p := drawPrimary(t)
	blob := mustSealPrimary(t, p, 2, []byte("data key"))
	relabelled := bytes.Clone(blob)
	relabelled[4] = 3
	for _, tt := range []struct {
		name    string
		key     PrimaryKey
		version uint32
		aad     string
		blob    []byte
		opens   bool
	}{
		{"in place", p, 2, "pk_test", blob, true},
		{"another key", drawPrimary(t), 2, "pk_test", blob, false},
		{"another version", p, 3, "pk_test", blob, false},
		{"version 0", p, 0, "pk_test", blob, false},
		{"relabelled", p, 3, "pk_test", relabelled, false},
		{"other additional data", p, 2, "pk_other", blob, false},
		{"no additional data", p, 2, "", blob, false},
		{"longer additional data", p, 2, "pk_test\x00", blob, false},
	} {
		got, err := tt.key.Open(tt.version, []byte(tt.aad), tt.blob)
		if tt.opens && (string(got) != "data key" || err != nil) {
			t.Errorf("%s: Open = %q, %v", tt.name, got, err)
		}
		if !tt.opens && (!fault.Is(err, fault.Invalid) || got != nil) {
			t.Errorf("%s: Open = %q, %v, want %s", tt.name, got, err, fault.Invalid)
		}
	}
}

// All damage gives one answer, so that a prober learns nothing about where a forgery failed.
func TestR7_DamagedDataKey(t *testing.T) {
	p := drawPrimary(t)
	said := make(map[string]bool)
	eachDamage(mustSealPrimary(t, p, 1, []byte("data key")), func(doing string, damaged []byte) {
		got, err := p.Open(1, testAAD, damaged)
		if !fault.Is(err, fault.Invalid) || got != nil {
			t.Fatalf("%s: Open = %q, %v, want %s", doing, got, err, fault.Invalid)
		}
		said[fmt.Sprint(err, fault.From(err).Hint)] = true
	})
	if len(said) != 1 {
		t.Errorf("damage gives %d different answers, want 1: %v", len(said), said)
	}
}

func TestPrimaryKeyVersion(t *testing.T) {
	rest := strings.Repeat("\x00", 60)
	for _, tt := range []struct {
		blob string
		want uint32
	}{
		{"\x02\x00\x00\x00\x01" + rest, 1},
		{"\x02\xff\xff\xff\xff", 0xffff_ffff},
		{"\x02\x00\x00\x00\x00" + rest, 0},
		{"\x01\x00\x00\x00\x01" + rest, 0},
		{"\x03\x00\x00\x00\x01" + rest, 0},
		{"\x02\x00\x00\x01", 0},
		{"", 0},
	} {
		got, err := PrimaryKeyVersion([]byte(tt.blob))
		if got != tt.want || (err == nil) != (tt.want > 0) || err != nil && !fault.Is(err, fault.Invalid) {
			t.Errorf("PrimaryKeyVersion(%x) = %d, %v, want %d", tt.blob, got, err, tt.want)
		}
	}
}

// Nothing opens but what was sealed with this version and additional data, and its version can be read beforehand.
func FuzzPrimaryOpen(f *testing.F) {
	cases := readVectors[primaryCase](f, "primary")
	p, version, aad := PrimaryKey{newKey(cases[0].Key)}, cases[0].Version, []byte(cases[0].AAD)
	genuine := make(map[string]bool)
	for _, c := range cases {
		f.Add([]byte(c.Blob))
		genuine[string(c.Blob)] = !c.Fails && c.Version == version && bytes.Equal(c.AAD, aad)
	}
	f.Fuzz(func(t *testing.T, blob []byte) {
		_, err := p.Open(version, aad, blob)
		if genuine[string(blob)] != (err == nil) || err != nil && !fault.Is(err, fault.Invalid) {
			t.Errorf("Open(%x) = %v", blob, err)
		}
		if got, versionErr := PrimaryKeyVersion(blob); err == nil && (versionErr != nil || got != version) {
			t.Errorf("PrimaryKeyVersion(%x) = %d, %v, want %d", blob, got, versionErr, version)
		}
	})
}

func BenchmarkPrimarySeal(b *testing.B) {
	p, plain := drawPrimary(b), make([]byte, 64)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Seal(1, testAAD, plain); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPrimaryOpen(b *testing.B) {
	p := drawPrimary(b)
	blob := mustSealPrimary(b, p, 1, make([]byte, 64))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Open(1, testAAD, blob); err != nil {
			b.Fatal(err)
		}
	}
}
