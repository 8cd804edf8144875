package ciphertext

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"keyctl/internal/fault"
)

var (
	testKey          = bytes.Repeat([]byte("k"), 32)
	testEncryptedKey = bytes.Repeat([]byte("e"), 40)
)

func mustSeal(tb testing.TB, a Algorithm, plain []byte) []byte {
	tb.Helper()
	data, err := Seal(a, testKey[:a.KeySize()], testEncryptedKey, plain)
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

// open is what a client does with a file; data stays as it is.
func open(data, dataKey []byte) ([]byte, error) {
	c, err := Parse(bytes.Clone(data))
	if err != nil {
		return nil, err
	}
	return c.Open(dataKey)
}

type vector struct {
	Comment, Algorithm  string
	HeaderAuthenticated bool  `json:"header_authenticated"`
	DataKey             unhex `json:"data_key"`
	EncryptedDataKey    unhex `json:"encrypted_data_key"`
	IV                  unhex
	Plain               unhex
	Ciphertext          unhex
}

type unhex []byte

func (u *unhex) UnmarshalText(text []byte) (err error) {
	*u, err = hex.DecodeString(string(text))
	return err
}

func readVectors(tb testing.TB) []vector {
	tb.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "vectors", "ciphertext.json"))
	if err != nil {
		tb.Fatal(err)
	}
	var vectors struct {
		Source string
		Good   []vector
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&vectors); err != nil {
		tb.Fatal(err)
	}
	if len(vectors.Good) == 0 {
		tb.Fatal("there are no vectors")
	}
	return vectors.Good
}

func TestR6_CiphertextVectors(t *testing.T) {
	for _, v := range readVectors(t) {
		c, err := Parse(bytes.Clone(v.Ciphertext))
		if err != nil {
			t.Errorf("%s: Parse = %v", v.Comment, err)
			continue
		}
		a, err := ParseAlgorithm(v.Algorithm)
		if err != nil || c.Algorithm != a || !bytes.Equal(c.EncryptedDataKey, v.EncryptedDataKey) {
			t.Errorf("%s: Parse = %v, %x, want %s, %x", v.Comment, c.Algorithm, c.EncryptedDataKey, v.Algorithm, v.EncryptedDataKey)
		}
		if plain, err := c.Open(v.DataKey); err != nil || !bytes.Equal(plain, v.Plain) {
			t.Errorf("%s: Open = %x, %v, want %x", v.Comment, plain, err, v.Plain)
		}
		if !v.HeaderAuthenticated {
			continue // opened, but never written
		}
		if got, err := seal(a, v.DataKey, v.EncryptedDataKey, v.IV, v.Plain); err != nil || !bytes.Equal(got, v.Ciphertext) {
			t.Errorf("%s: seal = %x, %v, want %x", v.Comment, got, err, v.Ciphertext)
		}
	}
}

func TestSealAndOpen(t *testing.T) {
	for _, a := range []Algorithm{AES256GCM, AES128GCM} {
		for _, size := range []int{0, 1, 15, 16, 17, 4096, 1 << 20} {
			plain := make([]byte, size)
			_, _ = rand.Read(plain)
			data := mustSeal(t, a, plain)
			if want := 6 + 12 + len(testEncryptedKey) + size + 16; len(data) != want || cap(data) != want {
				t.Errorf("%s, %d bytes: Seal made %d of %d, want %d", a, size, len(data), cap(data), want)
			}
			if again := mustSeal(t, a, plain); bytes.Equal(again[6:18], data[6:18]) || bytes.Equal(again[len(again)-16:], data[len(data)-16:]) {
				t.Errorf("%s, %d bytes: two ciphertexts have an initialization vector or a tag in common", a, size)
			}
			c, err := Parse(data)
			if err != nil {
				t.Fatal(err)
			}
			got, err := c.Open(testKey[:a.KeySize()])
			if err != nil || !bytes.Equal(got, plain) {
				t.Errorf("%s, %d bytes: Open = %d bytes, %v", a, size, len(got), err)
			}
			if size > 0 && &got[0] != &data[6+12+len(testEncryptedKey)] {
				t.Errorf("%s, %d bytes: Open takes new memory", a, size)
			}
			_ = append(c.EncryptedDataKey, "more"...)
			if !bytes.Equal(got, plain) {
				t.Errorf("%s, %d bytes: what is appended to the encrypted data key overwrites the rest", a, size)
			}
		}
	}
}

// Nothing is returned of what was changed in any bit, cut anywhere, or made longer.
func TestDamageDoesNotOpen(t *testing.T) {
	for _, a := range []Algorithm{AES256GCM, AES128GCM} {
		key := testKey[:a.KeySize()]
		data := mustSeal(t, a, []byte("the quick brown fox"))
		refused := func(what string, data []byte) {
			t.Helper()
			if plain, err := open(data, key); plain != nil || !fault.Is(err, fault.Invalid) {
				t.Errorf("%s, %s: %q, %v, want invalid", a, what, plain, err)
			}
		}
		for i := range 8 * len(data) {
			flipped := bytes.Clone(data)
			flipped[i/8] ^= 1 << (i % 8)
			refused(fmt.Sprintf("bit %d of byte %d flipped", i%8, i/8), flipped)
		}
		for n := range data {
			refused(fmt.Sprintf("cut after %d bytes", n), data[:n])
			// Up to an empty ciphertext's length that shows before anybody asks a server for the data key.
			if _, err := Parse(data[:n]); n < 6+12+len(testEncryptedKey)+16 && (err == nil || err.Error() != "the ciphertext is cut") {
				t.Errorf("%s: Parse of %d bytes = %v", a, n, err)
			}
			refused(fmt.Sprintf("without byte %d", n), slices.Delete(bytes.Clone(data), n, n+1))
		}
		refused("a byte longer", append(bytes.Clone(data), 0))
		refused("twice", append(bytes.Clone(data), data...))
		for _, wrong := range [][]byte{nil, {}, bytes.Repeat([]byte("w"), a.KeySize()), testKey[:24], append(bytes.Clone(key), 0)} {
			if plain, err := open(data, wrong); plain != nil || !fault.Is(err, fault.Invalid) {
				t.Errorf("%s with key %q: %q, %v, want invalid", a, wrong, plain, err)
			}
		}
	}
}

// Where the header is not authenticated, its encrypted data key is the server's to judge; all else is judged here.
func TestDamageDoesNotOpenWithoutTheHeader(t *testing.T) {
	var v vector
	for _, v = range readVectors(t) {
		if !v.HeaderAuthenticated && len(v.Plain) > 0 {
			break
		}
	}
	if v.HeaderAuthenticated {
		t.Fatal("there is no vector without an authenticated header")
	}
	for i := range 8 * len(v.Ciphertext) {
		flipped := bytes.Clone(v.Ciphertext)
		flipped[i/8] ^= 1 << (i % 8)
		c, err := Parse(bytes.Clone(flipped))
		if err == nil && !bytes.Equal(c.EncryptedDataKey, v.EncryptedDataKey) {
			continue
		}
		if plain, err := open(flipped, v.DataKey); plain != nil || !fault.Is(err, fault.Invalid) {
			t.Errorf("bit %d of byte %d flipped: %q, %v, want invalid", i%8, i/8, plain, err)
		}
	}
}

// A failed Open leaves nothing of the plain text behind in the caller's memory.
func TestAFailedOpenLeavesNothing(t *testing.T) {
	plain := bytes.Repeat([]byte("the quick brown fox "), 1000)
	data := mustSeal(t, AES256GCM, plain)
	data[len(data)-1] ^= 1
	c, err := Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.Open(testKey); got != nil || err == nil {
		t.Fatalf("Open = %d bytes, %v", len(got), err)
	}
	if bytes.Contains(data, []byte("quick")) {
		t.Error("plain text stands where the ciphertext was")
	}
}

func TestWhatIsNoCiphertext(t *testing.T) {
	good := mustSeal(t, AES256GCM, nil)
	change := func(at int, to ...byte) []byte {
		data := bytes.Clone(good)
		copy(data[at:], to)
		return data
	}
	tests := []struct {
		name string
		data []byte
		want string
	}{
		{"nothing", nil, "is cut"},
		{"one zero", []byte{0}, "is cut"},
		{"a text", []byte("-----BEGIN AGE ENCRYPTED FILE-----"), "begins with version 45"},
		{"one letter", []byte("x"), "begins with version 120"},
		{"version 1", change(0, 1), "begins with version 1"},
		{"a flag more", change(1, 3), "unknown flags"},
		{"algorithm 2", change(2, 2), "algorithm 2 is unknown"},
		{"algorithm 255", change(2, 255), "algorithm 255 is unknown"},
		{"no initialization vector", change(3, 0), "would have 0 bytes"},
		{"an initialization vector of 16 bytes", change(3, 16), "would have 16 bytes"},
		{"no data key", change(4, 0, 0), "would have 0 bytes"},
		{"a data key too long", append(change(4, 0x80, 0), make([]byte, 1<<16)...), "would have 32768 bytes"},
		{"a data key that is longer than all", change(4, 0x7f, 0xff), "is cut"},
	}
	for _, test := range tests {
		c, err := Parse(test.data)
		if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: Parse = %v, want invalid, %q", test.name, err, test.want)
		}
		if plain, err := c.Open(testKey); plain != nil || err == nil {
			t.Errorf("%s: Open of what did not parse = %q, %v", test.name, plain, err)
		}
	}
}

func TestLimits(t *testing.T) {
	longest := bytes.Repeat([]byte("e"), maxEncryptedDataKey)
	data, err := Seal(AES128GCM, testKey[:16], longest, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	if c, err := Parse(data); err != nil || !bytes.Equal(c.EncryptedDataKey, longest) {
		t.Errorf("Parse = %v with the longest data key", err)
	}
	// The memory below is never written to, so that it costs no more than an address.
	long := make([]byte, MaxSize+1)
	header := mustSeal(t, AES256GCM, nil)[:6+12+len(testEncryptedKey)]
	copy(long, header)
	if _, err := Parse(long[:len(header)+MaxPlain+16]); err != nil {
		t.Errorf("Parse = %v with as much as there may be", err)
	}
	for _, n := range []int{len(header) + MaxPlain + 16 + 1, MaxSize, MaxSize + 1} {
		if _, err := Parse(long[:n]); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "longer than 256 MiB") {
			t.Errorf("Parse of %d bytes = %v, want invalid", n, err)
		}
	}
	if _, err := Seal(AES256GCM, testKey, testEncryptedKey, long[:MaxPlain+1]); !fault.Is(err, fault.Invalid) ||
		fault.From(err).Hint == "" {
		t.Errorf("Seal of a byte too much = %v, want invalid with a hint", err)
	}
	for _, n := range []int{0, maxEncryptedDataKey + 1} {
		if _, err := Seal(AES256GCM, testKey, make([]byte, n), nil); !fault.Is(err, fault.Invalid) {
			t.Errorf("Seal with an encrypted data key of %d bytes = %v, want invalid", n, err)
		}
	}
	for _, n := range []int{0, 16, 24, 31, 33} {
		if _, err := Seal(AES256GCM, make([]byte, n), testEncryptedKey, nil); !fault.Is(err, fault.Invalid) {
			t.Errorf("Seal with a data key of %d bytes = %v, want invalid", n, err)
		}
	}
	if _, err := Seal(2, testKey, testEncryptedKey, nil); !fault.Is(err, fault.Invalid) {
		t.Errorf("Seal with an unknown algorithm = %v, want invalid", err)
	}
}

func TestParseAlgorithm(t *testing.T) {
	for name, want := range map[string]Algorithm{"AES-256-GCM": AES256GCM, "AES-128-GCM": AES128GCM} {
		if got, err := ParseAlgorithm(name); got != want || err != nil {
			t.Errorf("ParseAlgorithm(%q) = %v, %v", name, got, err)
		}
	}
	for _, name := range []string{"", "aes-256-gcm", "AES-192-GCM", "AES-256-GCM ", "algorithm 2", "0"} {
		if _, err := ParseAlgorithm(name); !fault.Is(err, fault.Invalid) {
			t.Errorf("ParseAlgorithm(%q) = %v, want invalid", name, err)
		}
	}
}

// FuzzParse must not panic, and opens nothing but what was sealed.
func FuzzParse(f *testing.F) {
	// Each of the processes that fuzz makes the same one.
	sealed, err := seal(AES256GCM, testKey, testEncryptedKey, make([]byte, ivSize), []byte("the quick brown fox"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed)
	f.Add(sealed[:20])
	for _, v := range readVectors(f) {
		f.Add([]byte(v.Ciphertext))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := open(data, testKey)
		if err != nil && (got != nil || !fault.Is(err, fault.Invalid)) {
			t.Errorf("open = %q, %v, want invalid", got, err)
		}
		if err == nil && !bytes.Equal(data, sealed) {
			t.Errorf("open = %q of what nobody sealed", got)
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	plain := make([]byte, 1<<20)
	b.SetBytes(int64(len(plain)))
	for b.Loop() {
		mustSeal(b, AES256GCM, plain)
	}
}

func BenchmarkOpen(b *testing.B) {
	data := mustSeal(b, AES256GCM, make([]byte, 1<<20))
	b.SetBytes(1 << 20)
	for b.Loop() {
		if _, err := open(data, testKey); err != nil { // with the copy that it needs because Open leaves none
			b.Fatal(err)
		}
	}
}
