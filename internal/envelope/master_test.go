package envelope

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"keyctl/internal/credential"
	"keyctl/internal/fault"
)

const testStore = "test-store"

func drawMaster(t testing.TB) MasterKey {
	t.Helper()
	m, err := DrawMasterKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestMasterKeyReadsBackAsWritten(t *testing.T) {
	m := drawMaster(t)
	for _, end := range []string{"", "\n", "\r\n"} {
		got, err := ParseMasterKey(credential.NewSecret(m.Text().Reveal() + end))
		if err != nil || !bytes.Equal(got.bytes(), m.bytes()) {
			t.Errorf("ParseMasterKey(text + %q) = %v, want the key that was written", end, err)
		}
	}
}

// wantMasterKeyWrong fails unless err has the code and neither it nor anything it carries repeats the text.
func wantMasterKeyWrong(t *testing.T, doing, text string, err error) {
	t.Helper()
	if !fault.Is(err, fault.MasterKeyWrong) {
		t.Errorf("%s: err = %v, want %s", doing, err, fault.MasterKeyWrong)
		return
	}
	said := fmt.Sprintf("%v %+v %v", err, *fault.From(err), errors.Unwrap(err))
	if len(text) > 8 && strings.Contains(said, text[4:]) {
		t.Errorf("%s: the error repeats the text", doing)
	}
}

// Whatever happens to one byte of a master key file, the damage is seen and nothing is opened with the result.
func TestR8_DamagedMasterKeyText(t *testing.T) {
	text := drawMaster(t).Text().Reveal()
	parse := func(doing, damaged string) {
		t.Helper()
		_, err := ParseMasterKey(credential.NewSecret(damaged))
		wantMasterKeyWrong(t, doing, damaged, err)
	}
	for i := range text {
		for b := range 256 {
			if byte(b) == text[i] || i == len(text)-1 && b == '\n' {
				continue // a cut end has its own case below
			}
			parse(fmt.Sprintf("byte %d set to %#x", i, b), text[:i]+string([]byte{byte(b)})+text[i+1:])
		}
		parse(fmt.Sprintf("truncated to %d bytes", i), text[:i])
		parse(fmt.Sprintf("truncated to %d bytes and a line end", i), text[:i]+"\n")
		parse(fmt.Sprintf("byte %d deleted", i), text[:i]+text[i+1:])
		if i > 0 && text[i] != text[i-1] {
			parse(fmt.Sprintf("bytes %d and %d swapped", i-1, i), text[:i-1]+text[i:i+1]+text[i-1:i]+text[i+1:])
		}
	}
	for _, damaged := range []string{
		text + "\n\n", text + "\r", text + "\n\r\n", " " + text, text + " ", "\ufeff" + text, text + "0", text + "\x00",
		text + "\n" + text, strings.ToUpper(text), "kcs_" + text[4:], text[4:], strings.Repeat("k", 1<<20),
	} {
		parse(fmt.Sprintf("%d bytes for %d", len(damaged), len(text)), damaged)
	}
}

// Another store's master key, and the right key for another store, are wrong and not damage.
func TestR8_CheckValue(t *testing.T) {
	m := drawMaster(t)
	value := m.CheckValue(testStore)
	if len(value) != 16 {
		t.Errorf("CheckValue has %d bytes, want 16", len(value))
	}
	if err := m.Check(testStore, value); err != nil {
		t.Errorf("Check of the store's own key = %v", err)
	}
	wantMasterKeyWrong(t, "another master key", "", drawMaster(t).Check(testStore, value))
	wantMasterKeyWrong(t, "another store", "", m.Check("other-store", value))
	for i := range value {
		flipped := bytes.Clone(value)
		flipped[i] ^= 1
		wantMasterKeyWrong(t, fmt.Sprintf("byte %d flipped", i), "", m.Check(testStore, flipped))
		if err := m.Check(testStore, value[:i]); !fault.Is(err, fault.StoreDamaged) {
			t.Errorf("Check of %d bytes = %v, want %s", i, err, fault.StoreDamaged)
		}
	}
}

// A random source that ends or fails gives no key rather than a short one.
func TestDrawRefusesShortRandomness(t *testing.T) {
	for n := range keySize {
		short := func() io.Reader { return bytes.NewReader(make([]byte, n)) }
		if _, err := DrawMasterKey(short()); err == nil {
			t.Errorf("DrawMasterKey from %d bytes succeeded", n)
		}
		if _, err := DrawPrimaryKey(short()); err == nil {
			t.Errorf("DrawPrimaryKey from %d bytes succeeded", n)
		}
	}
	if _, err := DrawKeyring(bytes.NewReader(make([]byte, len(purposes)*keySize-1))); err == nil {
		t.Error("DrawKeyring from one byte too few succeeded")
	}
}
