package envelope

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"

	"keyctl/internal/fault"
)

// hexBytes is written as hex in a vector file.
type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

// The cases of testdata/vectors, which were not made by this package. Fails marks those that must not open.
type (
	gcmCase struct {
		Comment                        string
		Key, Nonce, AAD, Plain, Sealed hexBytes
		Fails                          bool
	}
	keyringCase struct {
		Comment string
		Master  hexBytes
		StoreID string `json:"store_id"`
		Check   hexBytes
		Blob    hexBytes
		Keys    []struct {
			Purpose purpose
			Version uint32
			Key     hexBytes
		}
		Fails bool
	}
	sealCase struct {
		Comment            string
		KEKs               map[uint32]hexBytes
		Table, Row, Column string
		Blob, Plain        hexBytes
		Fails              bool
	}
	macCase struct {
		Comment   string
		Verifiers map[uint32]hexBytes
		Label     string
		Parts     []hexBytes
		MAC       hexBytes
		Fails     bool
	}
	primaryCase struct {
		Comment               string
		Key, AAD, Blob, Plain hexBytes
		Version               uint32
		Fails                 bool
	}
)

// readVectors returns the cases of one file.
func readVectors[Case any](t testing.TB, name string) []Case {
	t.Helper()
	b, err := os.ReadFile("testdata/vectors/" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Cases []Case }
	if err := json.Unmarshal(b, &file); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if len(file.Cases) == 0 {
		t.Fatalf("%s has no cases", name)
	}
	return file.Cases
}

// ringOf returns a ring with the given versions of one purpose's key.
func ringOf(p purpose, versions map[uint32]hexBytes) Keyring {
	keys := make(map[keyID]key)
	for version, b := range versions {
		keys[keyID{p, version}] = newKey(b)
	}
	return Keyring{keys: keys}
}

// checkOpened compares the outcome of opening a vector with what the vector wants.
func checkOpened(t *testing.T, got []byte, err error, plain []byte, fails bool, code fault.Code) {
	t.Helper()
	switch {
	case fails && (!fault.Is(err, code) || got != nil):
		t.Errorf("opened as %x, %v, want %s", got, err, code)
	case !fails && (err != nil || !bytes.Equal(got, plain)):
		t.Errorf("opened as %x, %v, want %x", got, err, plain)
	}
}

// The cipher under every format here is the published one and checks all of its tag.
func TestR6_GCMVectors(t *testing.T) {
	for _, c := range readVectors[gcmCase](t, "gcm") {
		t.Run(c.Comment, func(t *testing.T) {
			got, err := newKey(c.Key).aead().Open(nil, nil, append(c.Nonce, c.Sealed...), c.AAD)
			if c.Fails != (err != nil) || !bytes.Equal(got, c.Plain) {
				t.Errorf("Open = %x, %v, want %x, failure %t", got, err, c.Plain, c.Fails)
			}
		})
	}
}

func TestR6_KeyringVectors(t *testing.T) {
	for _, c := range readVectors[keyringCase](t, "keyring") {
		t.Run(c.Comment, func(t *testing.T) {
			m := MasterKey{newKey(c.Master)}
			if err := m.Check(c.StoreID, c.Check); err != nil {
				t.Errorf("Check = %v", err)
			}
			ring, err := Unwrap(m, c.StoreID, c.Blob)
			if c.Fails {
				if !fault.Is(err, fault.StoreDamaged) || ring.keys != nil {
					t.Errorf("Unwrap = %d keys, %v, want %s", len(ring.keys), err, fault.StoreDamaged)
				}
				return
			}
			if err != nil || len(ring.keys) != len(c.Keys) {
				t.Fatalf("Unwrap = %d keys, %v, want %d", len(ring.keys), err, len(c.Keys))
			}
			for _, want := range c.Keys {
				if got := ring.keys[keyID{want.Purpose, want.Version}]; !bytes.Equal(got.bytes(), want.Key) {
					t.Errorf("key %d of purpose %d = %x, want %x", want.Version, want.Purpose, got.bytes(), want.Key)
				}
			}
		})
	}
}

func TestR6_SealVectors(t *testing.T) {
	for _, c := range readVectors[sealCase](t, "seal") {
		t.Run(c.Comment, func(t *testing.T) {
			got, err := ringOf(sealing, c.KEKs).Open(Slot{c.Table, c.Row, c.Column}, c.Blob)
			checkOpened(t, got, err, c.Plain, c.Fails, fault.StoreDamaged)
		})
	}
}

func TestR6_MACVectors(t *testing.T) {
	for _, c := range readVectors[macCase](t, "mac") {
		t.Run(c.Comment, func(t *testing.T) {
			var parts [][]byte
			for _, p := range c.Parts {
				parts = append(parts, p)
			}
			if got := ringOf(verifying, c.Verifiers).CheckMAC(c.MAC, c.Label, parts...); got == c.Fails {
				t.Errorf("CheckMAC(%x) = %t, want %t", c.MAC, got, !c.Fails)
			}
		})
	}
}

func TestR6_PrimaryKeyVectors(t *testing.T) {
	for _, c := range readVectors[primaryCase](t, "primary") {
		t.Run(c.Comment, func(t *testing.T) {
			p := PrimaryKey{newKey(c.Key)}
			got, err := p.Open(c.Version, c.AAD, c.Blob)
			checkOpened(t, got, err, c.Plain, c.Fails, fault.Invalid)
			if version, err := PrimaryKeyVersion(c.Blob); !c.Fails && (version != c.Version || err != nil) {
				t.Errorf("PrimaryKeyVersion = %d, %v, want %d", version, err, c.Version)
			}
		})
	}
}
