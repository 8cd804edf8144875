package credential

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"keyctl/internal/fault"
)

// seeded is a source of bytes that are the same in every run.
func seeded(seed byte) io.Reader { return rand.NewChaCha8([32]byte{seed}) }

// repeated yields the bytes of its text over and over.
type repeated struct {
	text string
	at   int
}

func (r *repeated) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = r.text[r.at%len(r.text)]
		r.at++
	}
	return len(p), nil
}

// readVectors fills v from a file of known answers.
func readVectors(tb testing.TB, name string, v any) {
	tb.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "vectors", name))
	if err != nil {
		tb.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		tb.Fatalf("%s: %v", name, err)
	}
}

func unhex(tb testing.TB, text string) []byte {
	tb.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

type tokenVectors struct {
	Source string
	Good   []struct{ Comment, Kind, Bytes, Token string }
	Bad    []struct{ Comment, Kind, Token, Error string }
}

func TestR6_TokenVectors(t *testing.T) {
	var vectors tokenVectors
	readVectors(t, "token.json", &vectors)
	for _, v := range vectors.Good {
		want := [32]byte(unhex(t, v.Bytes))
		if got := EncodeToken(Kind(v.Kind), want).Reveal(); got != v.Token {
			t.Errorf("%s: EncodeToken(%q, %x) = %q, want %q", v.Comment, v.Kind, want, got, v.Token)
		}
		if got, err := DecodeToken(Kind(v.Kind), NewSecret(v.Token)); err != nil || got != want {
			t.Errorf("%s: DecodeToken(%q, %q) = %x, %v, want %x", v.Comment, v.Kind, v.Token, got, err, want)
		}
	}
	for _, v := range vectors.Bad {
		got, err := DecodeToken(Kind(v.Kind), NewSecret(v.Token))
		if got != ([32]byte{}) || !fault.Is(err, fault.Invalid) || !strings.HasSuffix(err.Error(), v.Error) {
			t.Errorf("%s: DecodeToken(%q, %q) = %x, %v, want invalid: %s", v.Comment, v.Kind, v.Token, got, err, v.Error)
			continue
		}
		if f := fault.From(err); len(v.Token) > len(v.Kind) && strings.Contains(f.Message+f.Hint, v.Token) {
			t.Errorf("%s: the error repeats the token: %s", v.Comment, f.Message)
		}
		if err := ValidToken(Kind(v.Kind), NewSecret(v.Token)); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: ValidToken(%q, %q) = %v, want invalid", v.Comment, v.Kind, v.Token, err)
		}
	}
}

func TestDrawToken(t *testing.T) {
	for _, kind := range []Kind{SigningKey, CryptoAccessKey, MasterKey} {
		raw := strings.Repeat("test", 8)
		s, err := DrawToken(strings.NewReader(raw), kind)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := DecodeToken(kind, s); err != nil || string(got[:]) != raw {
			t.Errorf("DrawToken(%q) holds %q, %v, want the 32 bytes drawn", kind, got, err)
		}
		if len(s.Reveal()) != 53 {
			t.Errorf("DrawToken(%q) is %d characters long, want 53", kind, len(s.Reveal()))
		}
	}
}

// No draw makes do with less than it asked for: a short read and a failure both end it.
func TestDrawsFailWithTheirSource(t *testing.T) {
	broken := errors.New("no entropy")
	draws := map[string]struct {
		takes int
		draw  func(io.Reader) error
	}{
		"DrawAccessKeyID": {22, func(r io.Reader) error { _, err := DrawAccessKeyID(r); return err }},
		"DrawID":          {22, func(r io.Reader) error { _, err := DrawID(r, "test_"); return err }},
		"DrawToken":       {32, func(r io.Reader) error { _, err := DrawToken(r, SigningKey); return err }},
		"Draw":            {22 + 32 + 32, func(r io.Reader) error { _, err := Draw(r); return err }},
	}
	for name, d := range draws {
		for n := range d.takes {
			zeros := strings.Repeat("\x00", n)
			if err := d.draw(strings.NewReader(zeros)); err == nil {
				t.Errorf("%s from %d bytes succeeded", name, n)
			}
			if err := d.draw(io.MultiReader(strings.NewReader(zeros), iotest.ErrReader(broken))); !errors.Is(err, broken) {
				t.Errorf("%s from %d bytes and a failure = %v, want %v", name, n, err, broken)
			}
		}
		if err := d.draw(strings.NewReader(strings.Repeat("\x00", d.takes))); err != nil {
			t.Errorf("%s from %d bytes = %v", name, d.takes, err)
		}
		if err := d.draw(iotest.OneByteReader(seeded(1))); err != nil {
			t.Errorf("%s from a reader that yields single bytes = %v", name, err)
		}
	}
}

func TestDrawAccessKeyID(t *testing.T) {
	got, err := DrawAccessKeyID(&repeated{text: "\x00\x01\x09\x0a\x23\x24\x3d\x3e\xf7\xf8\xff"})
	if want := "KC019AZaz0z019AZaz0z019A"; err != nil || got != want {
		t.Errorf("DrawAccessKeyID = %q, %v, want %q", got, err, want)
	}
	if got, err := DrawID(strings.NewReader(strings.Repeat("\x0a", 22)), "test_"); err != nil || got != "test_"+strings.Repeat("A", 22) {
		t.Errorf("DrawID = %q, %v, want the prefix and 22 times A", got, err)
	}
	if got, err := DrawAccessKeyID(&repeated{text: "\xff"}); err == nil {
		t.Errorf("DrawAccessKeyID from 0xff alone = %q, want an error", got)
	}
}

// Each value of a byte once: the 248 that count make each digit exactly four times.
func TestDrawDigitsIsUnbiased(t *testing.T) {
	var all [256]byte
	for i := range all {
		all[i] = byte(i)
	}
	text, err := drawDigits(&repeated{text: string(all[:])}, 248)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range digits {
		if n := strings.Count(text, string(d)); n != 4 {
			t.Errorf("digit %q was drawn %d times, want 4", d, n)
		}
	}
}

func TestR16_ParseAccessKeyIDIsExact(t *testing.T) {
	const id = "KC0123456789ABCDEFGHIJab"
	tests := []struct {
		text string
		ok   bool
	}{
		{id, true},
		{"KC" + strings.Repeat("z", 22), true},
		{"", false},
		{"KC", false},
		{id[:23], false},
		{id + "0", false},
		{id + "\n", false},
		{" " + id[:23], false},
		{"kc" + id[2:], false},
		{"Kc" + id[2:], false},
		{"XX" + id[2:], false},
		{id[:23] + "-", false},
		{id[:23] + "_", false},
		{id[:23] + "/", false},
		{id[:23] + ":", false},
		{id[:23] + "@", false},
		{id[:23] + "[", false},
		{id[:23] + "`", false},
		{id[:23] + "{", false},
		{id[:22] + "\u00e9", false},
		{"\uff2b" + id[3:], false},
		{"kcs_" + strings.Repeat("0", 49), false},
	}
	for _, test := range tests {
		got, err := ParseAccessKeyID(test.text)
		if test.ok && (err != nil || got != test.text) {
			t.Errorf("ParseAccessKeyID(%q) = %q, %v, want it as it is", test.text, got, err)
		}
		if !test.ok && (got != "" || !fault.Is(err, fault.Invalid)) {
			t.Errorf("ParseAccessKeyID(%q) = %q, %v, want invalid", test.text, got, err)
		}
		if got := IsAccessKeyID(test.text); got != test.ok {
			t.Errorf("IsAccessKeyID(%q) = %v, want %v", test.text, got, test.ok)
		}
	}
}

func FuzzDecodeToken(f *testing.F) {
	var vectors tokenVectors
	readVectors(f, "token.json", &vectors)
	for _, v := range vectors.Good {
		f.Add(v.Token)
	}
	for _, v := range vectors.Bad {
		f.Add(v.Token)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, kind := range []Kind{SigningKey, CryptoAccessKey, MasterKey} {
			raw, err := DecodeToken(kind, NewSecret(text))
			if err != nil {
				if !fault.Is(err, fault.Invalid) {
					t.Errorf("DecodeToken(%q, %q) = %v, want invalid", kind, text, err)
				}
				continue
			}
			if got := EncodeToken(kind, raw).Reveal(); got != text {
				t.Errorf("EncodeToken(DecodeToken(%q)) = %q: two spellings of one token", text, got)
			}
		}
	})
}

func BenchmarkEncodeToken(b *testing.B) {
	for b.Loop() {
		EncodeToken(SigningKey, [32]byte{1, 2, 3})
	}
}

func BenchmarkDecodeToken(b *testing.B) {
	s := EncodeToken(SigningKey, [32]byte{1, 2, 3})
	for b.Loop() {
		if _, err := DecodeToken(SigningKey, s); err != nil {
			b.Fatal(err)
		}
	}
}

// MaskTokens leaves nothing of a token but its kind, whatever stands around it, and leaves ordinary words alone.
func TestR2_MaskTokens(t *testing.T) {
	token := string(CryptoAccessKey) + strings.Repeat("aZ09", 12) + "x"
	for text, want := range map[string]string{
		token: "kcx_[redacted]",
		`no key "` + token + `", and none "` + token[:30] + `"`: `no key "kcx_[redacted]", and none "kcx_[redacted]"`,
		"--" + token + "=" + token:                              "--kcx_[redacted]=kcx_[redacted]",
		"no key \"web-01\"":                                     "no key \"web-01\"",
		"KCjl7G42bwGpyjKJyBsYiDf6 works, kc_files and kcs_ too": "KCjl7G42bwGpyjKJyBsYiDf6 works, kc_files and kcs_ too",
		"": "",
	} {
		if got := MaskTokens(text); got != want {
			t.Errorf("MaskTokens(%q) = %q, want %q", text, got, want)
		}
	}
}
