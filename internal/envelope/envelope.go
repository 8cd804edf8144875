// Package envelope turns secrets into bytes fit for a database, and back. A master key, kept outside the store, wraps a
// keyring of random keys, kept inside it; the keyring seals single columns and makes the MACs that stand in for secrets
// which are only compared; Primary Keys, themselves sealed columns, seal data keys. It is pure: no file, no environment,
// no clock, and no notion of what a column means. Every blob and MAC it makes begins with five bytes, a format version (1)
// and the version of the key that was used (4, big-endian); one it does not know never opens.
package envelope

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// The format versions. A change to how one of them is laid out or computed takes a new number; old numbers are never
// given another meaning.
const (
	formatSealed  = 1 // a column, sealed under a key-encryption key
	formatPrimary = 2 // a data key, sealed under a Primary Key version
	formatKeyring = 3 // the keyring, wrapped by the master key
	formatMAC     = 4 // a MAC under the verifier key
)

const (
	keySize    = 32 // AES-256, HMAC-SHA-256 and HKDF-SHA-256 keys alike
	headerSize = 1 + 4
)

// The reasons why bytes do not open. They reach logs as causes; users are told only that the bytes do not open.
var (
	errShort      = errors.New("shorter than its header")
	errFormat     = errors.New("unknown format version")
	errKeyVersion = errors.New("unknown key version")
	errContent    = errors.New("authenticated content is malformed")
)

// appendHeader appends the five bytes that begin every stored value.
func appendHeader(b []byte, format byte, version uint32) []byte {
	return binary.BigEndian.AppendUint32(append(b, format), version)
}

// parseHeader returns the key version of a blob in the given format, and what follows the header.
func parseHeader(blob []byte, format byte) (version uint32, rest []byte, err error) {
	switch {
	case len(blob) < headerSize:
		return 0, nil, errShort
	case blob[0] != format:
		return 0, nil, errFormat
	}
	return binary.BigEndian.Uint32(blob[1:]), blob[headerSize:], nil
}

// appendFramed appends each part after its length, 32 bits big-endian, so that no two lists of parts give the same
// bytes.
func appendFramed[T string | []byte](b []byte, parts ...T) []byte {
	for _, p := range parts {
		b = binary.BigEndian.AppendUint32(b, uint32(len(p)))
		b = append(b, p...)
	}
	return b
}

// binding returns the additional data that ties a ciphertext to its place:
// format version ‖ framed parts ‖ key version.
func binding(format byte, version uint32, parts ...string) []byte {
	b := appendFramed([]byte{format}, parts...)
	return binary.BigEndian.AppendUint32(b, version)
}

// key is a 32-byte secret key. A function holds the bytes, because fmt calls no methods of unexported struct fields:
// whatever prints a struct with a key inside gets to see an address.
type key struct {
	masked
	reveal func() *[keySize]byte
}

// newKey takes b, which must have 32 bytes, as a key; it does not copy it.
func newKey(b []byte) key {
	k := (*[keySize]byte)(b)
	return key{reveal: func() *[keySize]byte { return k }}
}

// drawKey reads a key from rand; a short read is an error.
func drawKey(rand io.Reader) (key, error) {
	b := make([]byte, keySize)
	if _, err := io.ReadFull(rand, b); err != nil {
		return key{}, fmt.Errorf("drawing a key: %w", err)
	}
	return newKey(b), nil
}

// bytes returns the key itself, not a copy. The zero value has none, and using it must never pass for using a key.
func (k key) bytes() []byte {
	if k.reveal == nil {
		panic("envelope: a key was used before it was drawn, parsed or unwrapped")
	}
	return k.reveal()[:]
}

// derive returns HKDF-SHA-256(k, salt, info) (RFC 5869), 32 bytes.
func (k key) derive(salt []byte, info string) key {
	b, err := hkdf.Key(sha256.New, k.bytes(), salt, info, keySize)
	if err != nil {
		panic("envelope: HKDF-SHA-256 refused 32 bytes of output: " + err.Error()) // the limit is 8160, RFC 5869 2.3
	}
	return newKey(b)
}

// aead returns AES-256-GCM under k. Its Seal draws the nonce from crypto/rand and puts it before the ciphertext, its
// Open takes it from there; both want a nil nonce. One key may seal 2^32 times (NIST SP 800-38D 8.3).
func (k key) aead() cipher.AEAD {
	block, err := aes.NewCipher(k.bytes())
	if err != nil {
		panic("envelope: AES refused a 32-byte key: " + err.Error())
	}
	gcm, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic("envelope: GCM refused an AES block: " + err.Error())
	}
	return gcm
}

// redacted stands wherever key material would have been printed, logged or encoded.
const redacted = "[redacted]"

// masked, embedded in a type, gives it the methods that keep its content out of logs, errors and encodings.
type masked struct{}

// String masks the value.
func (masked) String() string { return redacted }

// GoString masks the value under %#v.
func (masked) GoString() string { return redacted }

// Format masks the value under every verb and flag.
func (masked) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalJSON masks the value.
func (masked) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// MarshalText masks the value for every encoder that asks for text.
func (masked) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue masks the value in structured logs.
func (masked) LogValue() slog.Value { return slog.StringValue(redacted) }
