// Package ciphertext is what the client libraries make of data that they encrypt as a whole: a header with the encrypted
// data key, and AES-GCM behind it. It seals and opens in one shot, so that nothing comes out before all of it was
// authenticated. It is pure: the data key, and who may have it, are the business of its callers, and so is wiping the key.
package ciphertext

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"

	"keyctl/internal/fault"
)

// MaxPlain is how much is sealed and opened. One shot needs all of it in memory.
const MaxPlain = 256 << 20

// MaxSize is the size of the longest ciphertext: nobody has to read more of a file to see that it is too long.
const MaxSize = fixedSize + ivSize + maxEncryptedDataKey + MaxPlain + tagSize

// The header: version (1) ‖ flags (1) ‖ algorithm (1) ‖ length of the IV (1) ‖ length of the encrypted data key (2,
// big-endian) ‖ IV ‖ encrypted data key.
const (
	version             = 0
	flagAuthenticated   = 1 // the header is additional data; the only flag, and all libraries set it
	fixedSize           = 6
	ivSize              = 12
	tagSize             = 16
	maxEncryptedDataKey = 1<<15 - 1 // one library reads the length as a signed number
)

// Ciphertext is the content of a file that a client library encrypted, as yet unauthenticated.
type Ciphertext struct {
	Algorithm        Algorithm
	EncryptedDataKey []byte // from which the server gets the data key

	iv         [ivSize]byte
	additional []byte // the header, or nothing
	sealed     []byte // with the tag at its end
}

// Parse takes data apart; what it returns shares the bytes. It is fault.Invalid if the data is not of this format, is cut
// before its end or is longer than a ciphertext of MaxPlain bytes.
func Parse(data []byte) (Ciphertext, error) {
	if err := checkFixed(data); err != nil {
		return Ciphertext{}, err
	}
	keySize := int(binary.BigEndian.Uint16(data[4:]))
	switch header := fixedSize + ivSize + keySize; {
	case keySize == 0 || keySize > maxEncryptedDataKey:
		return Ciphertext{}, foreign("its encrypted data key would have %d bytes", keySize)
	case len(data) < header+tagSize:
		return Ciphertext{}, errCut()
	case len(data) > header+MaxPlain+tagSize:
		return Ciphertext{}, TooLong()
	default:
		c := Ciphertext{
			Algorithm:        Algorithm(data[2]),
			EncryptedDataKey: data[fixedSize+ivSize : header : header],
			iv:               [ivSize]byte(data[fixedSize:]),
			sealed:           data[header:],
		}
		if data[1]&flagAuthenticated != 0 {
			c.additional = data[:header]
		}
		return c, nil
	}
}

// checkFixed checks the part of the header that is always of the same length, byte by byte, so that a file of another kind
// is called that, however short it is.
func checkFixed(data []byte) error {
	switch {
	case len(data) > 0 && data[0] != version:
		return foreign("it begins with version %d", data[0])
	case len(data) > 1 && data[1]&^flagAuthenticated != 0:
		return foreign("its header has unknown flags")
	case len(data) > 2 && Algorithm(data[2]).KeySize() == 0:
		return foreign("its algorithm %d is unknown", data[2])
	case len(data) > 3 && data[3] != ivSize:
		return foreign("its initialization vector would have %d bytes", data[3])
	case len(data) < fixedSize:
		return errCut()
	}
	return nil
}

// Open authenticates the whole and returns what was sealed, in the place of the ciphertext, which is gone afterwards whether
// it opened or not. The error is fault.Invalid if anything in it was changed or it was sealed with another data key.
func (c Ciphertext) Open(dataKey []byte) ([]byte, error) {
	gcm, err := c.Algorithm.aead(dataKey)
	if err != nil {
		return nil, err
	}
	plain, err := gcm.Open(c.sealed[:0], c.iv[:], c.sealed, c.additional)
	if err != nil {
		return nil, fault.New(fault.Invalid, "the ciphertext does not open").
			WithHint("it was changed or cut, or encrypted with another data key")
	}
	return plain, nil
}

// Seal encrypts plain as the libraries do, and returns the whole ciphertext. The encrypted data key is what the server gave
// together with dataKey. More than MaxPlain bytes, and keys of other lengths than they can have, are fault.Invalid.
func Seal(algorithm Algorithm, dataKey, encryptedDataKey, plain []byte) ([]byte, error) {
	iv := make([]byte, ivSize)
	_, _ = rand.Read(iv) // it ends the program rather than fail
	return seal(algorithm, dataKey, encryptedDataKey, iv, plain)
}

func seal(algorithm Algorithm, dataKey, encryptedDataKey, iv, plain []byte) ([]byte, error) {
	gcm, err := algorithm.aead(dataKey)
	if err != nil {
		return nil, err
	}
	if n := len(encryptedDataKey); n == 0 || n > maxEncryptedDataKey {
		return nil, fault.New(fault.Invalid, "an encrypted data key cannot have %d bytes", n)
	}
	if len(plain) > MaxPlain {
		return nil, TooLong()
	}
	header := fixedSize + len(iv) + len(encryptedDataKey)
	b := make([]byte, 0, header+len(plain)+tagSize)
	b = append(b, version, flagAuthenticated, byte(algorithm), byte(len(iv)))
	b = binary.BigEndian.AppendUint16(b, uint16(len(encryptedDataKey)))
	b = append(append(b, iv...), encryptedDataKey...)
	return gcm.Seal(b, iv, plain, b), nil
}

// TooLong is the error for data that is longer than can be sealed and opened in one shot.
func TooLong() error {
	return fault.New(fault.Invalid, "the data is longer than %d MiB", MaxPlain>>20).
		WithHint("a client library encrypts and decrypts data of any length, piece by piece")
}

func errCut() error {
	return fault.New(fault.Invalid, "the ciphertext is cut").WithHint("it ends before it is complete; fetch it again")
}

func foreign(format string, args ...any) error {
	return fault.New(fault.Invalid, "this is no ciphertext of a client library: "+format, args...)
}

// aead returns the algorithm with a data key, which must be as long as the algorithm has it.
func (a Algorithm) aead(dataKey []byte) (cipher.AEAD, error) {
	if size := a.KeySize(); size == 0 || len(dataKey) != size {
		return nil, fault.New(fault.Invalid, "a data key of %d bytes is none for %s", len(dataKey), a)
	}
	block, err := aes.NewCipher(dataKey)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}
