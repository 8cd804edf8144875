package credential

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // what every client library unwraps with; OAEP does not rest on its collision resistance
	"crypto/x509"
	"fmt"

	"keyctl/internal/fault"
)

// Wrap encrypts data keys, each by itself, for the holder of a key pair: RSAES-OAEP with SHA-1, MGF1 with SHA-1 and no label (RFC
// 8017 section 7.1), as all client libraries have it. public is PKIX DER, and store_damaged otherwise.
func Wrap(public []byte, dataKeys ...[]byte) ([][]byte, error) {
	parsed, err := x509.ParsePKIXPublicKey(public)
	key, ok := parsed.(*rsa.PublicKey)
	if err != nil || !ok {
		return nil, fault.New(fault.StoreDamaged, "a stored public key cannot be read").WithCause(err)
	}
	wrapped := make([][]byte, len(dataKeys))
	for i, dataKey := range dataKeys {
		if wrapped[i], err = rsa.EncryptOAEP(sha1.New(), rand.Reader, key, dataKey, nil); err != nil { //nolint:gosec // see above
			return nil, fmt.Errorf("wrapping a data key: %w", err)
		}
	}
	return wrapped, nil
}

// Unwrap is what the holder of the key pair does with it. The error does not say how far it got.
func Unwrap(key *rsa.PrivateKey, wrapped []byte) ([]byte, error) {
	dataKey, err := rsa.DecryptOAEP(sha1.New(), nil, key, wrapped, nil) //nolint:gosec // see above
	if err != nil {
		return nil, fault.New(fault.Invalid, "the data key does not open with this credential")
	}
	return dataKey, nil
}
