package ciphertext

import (
	"crypto/rsa"
	"crypto/sha1"

	"keyctl/internal/fault"
)

// Unwrap returns a data key that a server wrapped for a credential: RSAES-OAEP with SHA-1, with MGF1 of the same and without
// a label, because no client library can do other (RFC 8017 section 7.1; nothing known against SHA-1 weakens it there). The
// private key is what credential.OpenPrivateKey returns. Clear the data key when it has done its work.
func Unwrap(private *rsa.PrivateKey, wrapped []byte) ([]byte, error) {
	dataKey, err := rsa.DecryptOAEP(sha1.New(), nil, private, wrapped, nil)
	if err != nil {
		return nil, fault.New(fault.Invalid, "the data key does not open with this credential's private key")
	}
	return dataKey, nil
}
