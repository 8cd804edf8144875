package envelope

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"keyctl/internal/fault"
)

var testSlot = Slot{Table: "credentials", Row: "KCtest", Column: "signing_key"}

func mustSeal(t testing.TB, r Keyring, slot Slot, plain string) []byte {
	t.Helper()
	blob, err := r.Seal(slot, []byte(plain))
	if err != nil {
		t.Fatalf("Seal(%+v) = %v", slot, err)
	}
	return blob
}

func TestSealedTextOpens(t *testing.T) {
	r := drawRing(t)
	for _, plain := range []string{"", "x", "a test's text", strings.Repeat("long", 1<<16)} {
		first, second := mustSeal(t, r, testSlot, plain), mustSeal(t, r, testSlot, plain)
		if bytes.Equal(first, second) {
			t.Errorf("sealing %d bytes twice gave the same blob", len(plain))
		}
		if want := len(plain) + 33; len(first) != want {
			t.Errorf("Seal made %d bytes of %d, want %d", len(first), len(plain), want)
		}
		if got, err := r.Open(testSlot, first); string(got) != plain || err != nil {
			t.Errorf("Open = %d bytes, %v, want the %d sealed ones", len(got), err, len(plain))
		}
	}
}

func TestSealRefusesIncompleteSlots(t *testing.T) {
	r := drawRing(t)
	for _, slot := range []Slot{{}, {"t", "r", ""}, {"t", "", "c"}, {"", "r", "c"}} {
		if blob, err := r.Seal(slot, []byte("text")); !fault.Is(err, fault.Internal) || blob != nil {
			t.Errorf("Seal(%+v) = %x, %v, want %s", slot, blob, err, fault.Internal)
		}
	}
}

// Every ciphertext opens in its own slot and in no other: another table, row or column, names with the boundary moved,
// a tombstone's row, another version of the key and another store's ring.
func TestR4_Swaps(t *testing.T) {
	r := drawRing(t)
	r.keys[keyID{sealing, 2}] = drawMaster(t).key
	slots := []Slot{
		testSlot,
		{"credentials", "KCtest", "private_key"},
		{"credentials", "KCother", "signing_key"},
		{"operators", "KCtest", "signing_key"},
		{"credential", "sKCtest", "signing_key"},
		{"credentials", "KCtestsigning", "_key"},
		{"credentials", "kctest", "signing_key"},
		{"credentials", "KCtest\x00", "signing_key"},
		{"KCtest", "credentials", "signing_key"},
	}
	for i, from := range slots {
		blob := mustSeal(t, r, from, "text")
		for j, to := range slots {
			got, err := r.Open(to, blob)
			if i == j {
				if string(got) != "text" || err != nil {
					t.Errorf("Open(%+v) in its own slot = %q, %v", to, got, err)
				}
				continue
			}
			wantDamaged(t, fmt.Sprintf("%+v moved to %+v", from, to), to, got, err)
		}
		relabelled := bytes.Clone(blob)
		relabelled[4] = 1
		got, err := r.Open(from, relabelled)
		wantDamaged(t, "relabelled as version 1", from, got, err)
		got, err = drawRing(t).Open(from, blob)
		wantDamaged(t, "in another store", from, got, err)
	}
}

// wantDamaged fails unless err is store_damaged and names the slot.
func wantDamaged(t *testing.T, doing string, slot Slot, got []byte, err error) {
	t.Helper()
	if !fault.Is(err, fault.StoreDamaged) || got != nil {
		t.Errorf("%s: Open = %q, %v, want %s", doing, got, err, fault.StoreDamaged)
		return
	}
	for _, name := range []string{slot.Table, slot.Row, slot.Column} {
		if !strings.Contains(err.Error(), fmt.Sprintf("%q", name)) {
			t.Errorf("%s: %q does not name %q", doing, err, name)
		}
	}
}

func TestR7_DamagedColumn(t *testing.T) {
	r := drawRing(t)
	r.keys[keyID{sealing, 3}] = drawMaster(t).key // the newest, and one bit away from version 1, which exists too
	blob := mustSeal(t, r, testSlot, "text")
	eachDamage(blob, func(doing string, damaged []byte) {
		got, err := r.Open(testSlot, damaged)
		wantDamaged(t, doing, testSlot, got, err)
	})
}

// Nothing opens but what was sealed for the slot.
func FuzzOpen(f *testing.F) {
	cases := readVectors[sealCase](f, "seal")
	genuine := make(map[string]bool)
	slot := Slot{cases[0].Table, cases[0].Row, cases[0].Column}
	r := ringOf(sealing, cases[0].KEKs)
	for _, c := range cases {
		f.Add([]byte(c.Blob))
		genuine[string(c.Blob)] = !c.Fails && slot == Slot{c.Table, c.Row, c.Column}
	}
	f.Fuzz(func(t *testing.T, blob []byte) {
		_, err := r.Open(slot, blob)
		if genuine[string(blob)] != (err == nil) || err != nil && !fault.Is(err, fault.StoreDamaged) {
			t.Errorf("Open(%x) = %v", blob, err)
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	r, plain := drawRing(b), make([]byte, 64)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Seal(testSlot, plain); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	r := drawRing(b)
	blob := mustSeal(b, r, testSlot, strings.Repeat("x", 64))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Open(testSlot, blob); err != nil {
			b.Fatal(err)
		}
	}
}
