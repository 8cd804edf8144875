package credential

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"

	"github.com/youmark/pkcs8"

	"keyctl/internal/fault"
)

const (
	rsaBits         = 2048 // one client library decrypts in script: 4096 bits would cost it several times the 40 ms
	maxRSABits      = 4096
	publicExponent  = 65537
	maxPublicKey    = 2 << 10                 // bytes of DER; 4096 bits take 550
	maxPrivateKey   = 8 << 10                 // bytes of PEM; 4096 bits take 3.4 KiB
	privateKeyBlock = "ENCRYPTED PRIVATE KEY" // RFC 7468 section 11
)

// KeyPair is an API key's RSA key pair as the store keeps it. PublicKey is a PKIX SubjectPublicKeyInfo in DER.
// PrivateKeyPEM is an encrypted PKCS#8 key (RFC 5958 section 3) in PEM, under the secret crypto access key, which the
// store never sees.
type KeyPair struct {
	PublicKey     []byte
	PrivateKeyPEM []byte
}

// GenerateKeyPair makes an RSA key of 2048 bits and encrypts its private half under crypto, a secret crypto access key.
// It takes about 60 ms, and sometimes six times that. Its randomness is the system's: crypto/rsa takes no other. The
// error is fault.Invalid when crypto is no such key.
func GenerateKeyPair(crypto Secret) (KeyPair, error) {
	// An empty passphrase would make the PKCS#8 library write the private key in the clear.
	if err := ValidToken(CryptoAccessKey, crypto); err != nil {
		return KeyPair{}, err
	}
	key, err := rsa.GenerateKey(rand.Reader, rsaBits)
	if err != nil {
		return KeyPair{}, fmt.Errorf("generating an RSA key: %w", err)
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return KeyPair{}, fmt.Errorf("encoding a public key: %w", err)
	}
	private, err := encryptPrivateKey(key, crypto)
	if err != nil {
		return KeyPair{}, err
	}
	return KeyPair{PublicKey: public, PrivateKeyPEM: private}, nil
}

// encryptPrivateKey writes key as PEM that every client library opens. The text ends with the newline of its END line
// and nothing after: that newline is part of the line (RFC 7468 section 3) and what openssl writes, while one blank
// line more makes the Go library refuse the whole.
func encryptPrivateKey(key *rsa.PrivateKey, passphrase Secret) ([]byte, error) {
	der, err := pkcs8.MarshalPrivateKey(key, []byte(passphrase.Reveal()), &pkcs8.Opts{
		Cipher: pkcs8.AES256CBC,
		KDFOpts: pkcs8.PBKDF2Opts{
			SaltSize:       saltSize,
			IterationCount: iterations,
			HMACHash:       crypto.SHA256,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("encrypting a private key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: privateKeyBlock, Bytes: der}), nil
}

// OpenPrivateKey decrypts the PEM of a KeyPair with its secret crypto access key. The error is fault.Invalid when the
// PEM is not of the form that Validate asks for, and when it does not open, without saying how far it got.
func OpenPrivateKey(text []byte, crypto Secret) (*rsa.PrivateKey, error) {
	if err := ValidToken(CryptoAccessKey, crypto); err != nil {
		return nil, err
	}
	// The checks come first because the library panics when the IV or the ciphertext has an odd length.
	der, err := decodePrivateKeyPEM(text)
	if err != nil {
		return nil, err
	}
	if err := checkEncryption(der); err != nil {
		return nil, err
	}
	key, err := pkcs8.ParsePKCS8PrivateKeyRSA(der, []byte(crypto.Reveal()))
	if err != nil {
		return nil, fault.New(fault.Invalid, "the private key does not open with this secret crypto access key")
	}
	return key, nil
}

// Validate returns fault.Invalid unless client libraries can use the pair: an RSA public key of 2048 to 4096 bits with
// exponent 65537, and a private key encrypted as encryptPrivateKey does it. Whether the halves belong together shows
// only to the holder of the passphrase.
func (p KeyPair) Validate() error {
	if err := checkPublicKey(p.PublicKey); err != nil {
		return err
	}
	der, err := decodePrivateKeyPEM(p.PrivateKeyPEM)
	if err != nil {
		return err
	}
	return checkEncryption(der)
}

func checkPublicKey(der []byte) error {
	if len(der) > maxPublicKey {
		return invalidPublicKey("it is longer than %d bytes", maxPublicKey)
	}
	parsed, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return invalidPublicKey("it is not PKIX DER")
	}
	key, ok := parsed.(*rsa.PublicKey)
	if !ok {
		return invalidPublicKey("it is not an RSA key")
	}
	size := key.N.BitLen()
	if size < rsaBits || size > maxRSABits || key.N.Bit(0) == 0 {
		return invalidPublicKey("its modulus is not an odd number of %d to %d bits", rsaBits, maxRSABits)
	}
	if key.E != publicExponent {
		return invalidPublicKey("its exponent is not %d", publicExponent)
	}
	if canonical, err := x509.MarshalPKIXPublicKey(key); err != nil || !bytes.Equal(canonical, der) {
		return invalidPublicKey("it is not in its one DER form")
	}
	return nil
}

// decodePrivateKeyPEM returns the DER inside text, which must be one ENCRYPTED PRIVATE KEY block and nothing else, in
// lines of 64 characters that end with LF. Only the very last LF may be missing, as it is from a shell's $(…).
func decodePrivateKeyPEM(text []byte) ([]byte, error) {
	if len(text) > maxPrivateKey {
		return nil, invalidPrivateKey("it is longer than %d bytes", maxPrivateKey)
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != privateKeyBlock {
		return nil, invalidPrivateKey("it is not a PEM block of type %q", privateKeyBlock)
	}
	canonical := pem.EncodeToMemory(&pem.Block{Type: privateKeyBlock, Bytes: block.Bytes})
	if !bytes.Equal(text, canonical) && !bytes.Equal(text, bytes.TrimSuffix(canonical, []byte("\n"))) {
		return nil, invalidPrivateKey("there is something beside the one PEM block, or its lines are not as RFC 7468 has them")
	}
	return block.Bytes, nil
}

func invalidPublicKey(format string, args ...any) error {
	return fault.New(fault.Invalid, "unusable public key: %s", fmt.Sprintf(format, args...))
}

func invalidPrivateKey(format string, args ...any) error {
	return fault.New(fault.Invalid, "unusable private key: %s", fmt.Sprintf(format, args...)).
		WithHint("encrypt it as PKCS#8 with PBES2: PBKDF2 with HMAC-SHA-256, %d iterations and a %d-byte salt, AES-256-CBC",
			iterations, saltSize)
}
