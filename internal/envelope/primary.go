package envelope

import (
	"bytes"
	"crypto/cipher"
	"crypto/rand"
	"io"

	"keyctl/internal/fault"
)

const (
	saltSize = 24
	headSize = headerSize + saltSize // what precedes the nonce in a blob under a Primary Key
)

// PrimaryKey is one version of a Primary Key: 32 random bytes under which any number of data keys is sealed. It is
// stored as a column that Keyring.Seal made of its Bytes.
type PrimaryKey struct{ key }

// DrawPrimaryKey makes a new version of a Primary Key from 32 bytes of rand.
func DrawPrimaryKey(rand io.Reader) (PrimaryKey, error) {
	k, err := drawKey(rand)
	return PrimaryKey{k}, err
}

// PrimaryKeyFromBytes takes the 32 bytes that Keyring.Open gave back. Another length is store_damaged.
func PrimaryKeyFromBytes(b []byte) (PrimaryKey, error) {
	if len(b) != keySize {
		return PrimaryKey{}, fault.New(fault.StoreDamaged, "a Primary Key has the wrong length").WithHint(hintRestore)
	}
	return PrimaryKey{newKey(bytes.Clone(b))}, nil
}

// Bytes returns a copy of the key, for Keyring.Seal and nothing else.
func (p PrimaryKey) Bytes() []byte { return bytes.Clone(p.bytes()) }

// Seal encrypts plain under this version of a Primary Key:
//
//	format version 2 ‖ Primary Key version (4) ‖ salt (24) ‖ nonce (12) ‖ ciphertext ‖ tag (16)
//
// It adds 57 bytes. A Primary Key seals far more often than the 2^32 times one AES-GCM key with random nonces may, so
// every blob has a subkey of its own: HKDF-SHA-256(key, salt, "keyctl-primary-key" ‖ format version ‖ key version).
// The additional data is everything before the nonce, then aad; the caller frames what he puts there. Salt and nonce
// both come from crypto/rand, which ends the program if it fails: a salt from elsewhere could repeat where the nonce
// does not, for no gain. Versions count from 1; version 0 is internal.
func (p PrimaryKey) Seal(version uint32, aad, plain []byte) ([]byte, error) {
	if version == 0 {
		return nil, fault.New(fault.Internal, "a data key was about to be sealed under version 0 of a Primary Key")
	}
	salt := make([]byte, saltSize)
	_, _ = rand.Read(salt) // documented never to return an error
	head := append(appendHeader(nil, formatPrimary, version), salt...)
	gcm := p.subkey(head)
	blob := make([]byte, 0, len(head)+len(plain)+gcm.Overhead())
	return gcm.Seal(append(blob, head...), nil, plain, append(head, aad...)), nil
}

// Open decrypts what Seal made with the same version and aad. Blobs come back from client machines, so every failure
// is invalid with one and the same text, which tells a prober nothing; which check failed is in the cause. For a blob
// that came from the store itself the caller reports store_damaged.
func (p PrimaryKey) Open(version uint32, aad, blob []byte) ([]byte, error) {
	plain, err := p.open(version, aad, blob)
	if err != nil {
		return nil, errNotOurs(err)
	}
	return plain, nil
}

func (p PrimaryKey) open(version uint32, aad, blob []byte) ([]byte, error) {
	got, rest, err := parseHeader(blob, formatPrimary)
	switch {
	case err != nil:
		return nil, err
	case got != version || version == 0:
		return nil, errKeyVersion
	case len(rest) < saltSize:
		return nil, errShort
	}
	head := bytes.Clone(blob[:headSize])
	return p.subkey(head).Open(nil, nil, blob[headSize:], append(head, aad...))
}

// PrimaryKeyVersion returns the version that a blob names, 1 or more, so that the caller can load that version before
// he opens it. Nothing is authenticated yet. Bytes that are no such blob are invalid, as from Open.
func PrimaryKeyVersion(blob []byte) (uint32, error) {
	version, _, err := parseHeader(blob, formatPrimary)
	if err == nil && version == 0 {
		err = errKeyVersion
	}
	if err != nil {
		return 0, errNotOurs(err)
	}
	return version, nil
}

func errNotOurs(cause error) error {
	return fault.New(fault.Invalid, "the encrypted data key cannot be opened").
		WithHint("send it back exactly as it was handed out").WithCause(cause)
}

// subkey returns the cipher for the one blob that begins with head: header ‖ salt.
func (p PrimaryKey) subkey(head []byte) cipher.AEAD {
	info := append([]byte("keyctl-primary-key"), head[:headerSize]...)
	return p.derive(head[headerSize:], string(info)).aead()
}
