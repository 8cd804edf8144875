package credential

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"testing"

	"keyctl/internal/fault"
)

// A data key comes from the server to the client: wrapped for the public key of a credential, opened with its secret crypto
// access key.
func TestUnwrap(t *testing.T) {
	pair := keyPair(t)
	dataKey, other := bytes.Repeat([]byte("k"), 32), bytes.Repeat([]byte("o"), 16)
	both, err := Wrap(pair.PublicKey, dataKey, other)
	if err != nil || len(both) != 2 {
		t.Fatalf("Wrap of two data keys = %d, %v", len(both), err)
	}
	wrapped := both[0]
	private, err := OpenPrivateKey(pair.PrivateKeyPEM, passphrase())
	if err != nil {
		t.Fatal(err)
	}
	labelled, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, &private.PublicKey, dataKey, []byte("label"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Unwrap(private, wrapped); err != nil || !bytes.Equal(got, dataKey) {
		t.Errorf("Unwrap = %x, %v, want %x", got, err, dataKey)
	}
	if got, err := Unwrap(private, both[1]); err != nil || !bytes.Equal(got, other) {
		t.Errorf("Unwrap of the second = %x, %v, want %x", got, err, other)
	}
	flipped := bytes.Clone(wrapped)
	flipped[100] ^= 1
	for what, wrapped := range map[string][]byte{
		"nothing": nil, "a flipped bit": flipped, "a byte less": wrapped[1:], "a byte more": append(bytes.Clone(wrapped), 0),
		"the key itself": dataKey, "a label": labelled,
	} {
		if got, err := Unwrap(private, wrapped); got != nil || !fault.Is(err, fault.Invalid) {
			t.Errorf("Unwrap of %s = %x, %v, want invalid", what, got, err)
		}
	}
	if _, err := Wrap([]byte("no key"), dataKey); !fault.Is(err, fault.StoreDamaged) {
		t.Errorf("Wrap for no key = %v, want store_damaged", err)
	}
}
