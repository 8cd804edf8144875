package envelope

import (
	"crypto/hmac"
	"crypto/sha256"
	"io"
	"strings"

	"keyctl/internal/credential"
	"keyctl/internal/fault"
)

// checkValueSize is the length of a key-check value: 16 bytes of an HMAC, which say nothing about the key and let one
// wrong key in 2^128 pass.
const checkValueSize = 16

// MasterKey is the key outside the store: 32 random bytes, from which only subkeys are ever used. Who loses it loses
// every secret in the store.
type MasterKey struct{ key }

// DrawMasterKey makes a new master key from 32 bytes of rand.
func DrawMasterKey(rand io.Reader) (MasterKey, error) {
	k, err := drawKey(rand)
	return MasterKey{k}, err
}

// ParseMasterKey reads a master key as Text writes it. One line end after it is allowed, as files have one. Any other
// deviation, which the check digits tell, is master_key_wrong; the text is not repeated.
func ParseMasterKey(text credential.Secret) (MasterKey, error) {
	line, ended := strings.CutSuffix(text.Reveal(), "\n")
	if ended {
		line = strings.TrimSuffix(line, "\r")
	}
	b, err := credential.DecodeToken(credential.MasterKey, credential.NewSecret(line))
	if err != nil {
		return MasterKey{}, fault.New(fault.MasterKeyWrong, "the master key is damaged or is not a master key").
			WithHint("a master key is one line: %s and 49 letters and digits", credential.MasterKey).
			WithCause(err)
	}
	return MasterKey{newKey(b[:])}, nil
}

// Text returns the master key as it is written to its file, without a line end.
func (m MasterKey) Text() credential.Secret {
	return credential.EncodeToken(credential.MasterKey, [keySize]byte(m.bytes()))
}

// CheckValue returns 16 bytes that the store keeps to recognise its master key: HMAC-SHA-256 of the store's id under a
// subkey, cut in half. The value is not secret. It has no header: it is compared, never opened.
func (m MasterKey) CheckValue(storeID string) []byte {
	mac := hmac.New(sha256.New, m.derive(nil, "keyctl-master-check-v1").bytes())
	mac.Write([]byte(storeID))
	return mac.Sum(nil)[:checkValueSize]
}

// Check reports whether m is the key whose CheckValue the store keeps: master_key_wrong if it is not, store_damaged
// for a value that no key can have. Call it before anything else that needs the master key and before any write, so
// that a wrong key is never taken for a damaged store.
func (m MasterKey) Check(storeID string, value []byte) error {
	if len(value) != checkValueSize {
		return fault.New(fault.StoreDamaged, "the store's key-check value has the wrong length").WithHint(hintRestore)
	}
	if !hmac.Equal(m.CheckValue(storeID), value) {
		return fault.New(fault.MasterKeyWrong, "the master key is not the one this store was made with").
			WithHint("name the right one with --master-key; a new one cannot open what is stored")
	}
	return nil
}
