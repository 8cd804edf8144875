package credential

import (
	"bytes"
	"crypto/aes"
	"crypto/x509/pkix"
	"encoding/asn1"
)

// The parameters of PBES2 that the client libraries of all languages read. The passphrase has 256 random bits and needs
// no stretching, so the iteration count is chosen for the slowest of them, which runs PBKDF2 in script.
const (
	saltSize   = 16
	iterations = 10_000
)

// Object identifiers of RFC 8018 appendices A.2, A.4 and B.1.2, and of the NIST register for AES-256-CBC.
var (
	oidPBES2          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	oidPBKDF2         = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}
	oidHMACWithSHA256 = asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 9}
	oidAES256CBC      = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}
)

// encryptedPrivateKeyInfo is EncryptedPrivateKeyInfo of RFC 5958 section 3.
type encryptedPrivateKeyInfo struct {
	Algorithm pkix.AlgorithmIdentifier
	Data      []byte
}

// pbes2Params is PBES2-params of RFC 8018 appendix A.4.
type pbes2Params struct {
	KeyDerivation pkix.AlgorithmIdentifier
	Encryption    pkix.AlgorithmIdentifier
}

// pbkdf2Params is PBKDF2-params of RFC 8018 appendix A.2 without the optional key length, which one client library
// cannot read, and with the PRF, whose default would be HMAC-SHA-1.
type pbkdf2Params struct {
	Salt       []byte
	Iterations int
	PRF        pkix.AlgorithmIdentifier
}

// checkEncryption returns fault.Invalid unless der is an EncryptedPrivateKeyInfo with exactly the parameters that
// encryptPrivateKey uses.
func checkEncryption(der []byte) error {
	var info encryptedPrivateKeyInfo
	if !unmarshalExactly(der, &info) {
		return invalidPrivateKey("it is not an encrypted PKCS#8 key in DER")
	}
	var scheme pbes2Params
	if !info.Algorithm.Algorithm.Equal(oidPBES2) || !unmarshalExactly(info.Algorithm.Parameters.FullBytes, &scheme) {
		return invalidPrivateKey("it is not encrypted with PBES2")
	}
	if err := checkKeyDerivation(scheme.KeyDerivation); err != nil {
		return err
	}
	var iv []byte
	if !scheme.Encryption.Algorithm.Equal(oidAES256CBC) ||
		!unmarshalExactly(scheme.Encryption.Parameters.FullBytes, &iv) || len(iv) != aes.BlockSize {
		return invalidPrivateKey("its cipher is not AES-256-CBC")
	}
	if len(info.Data) == 0 || len(info.Data)%aes.BlockSize != 0 {
		return invalidPrivateKey("its ciphertext is not whole blocks")
	}
	return nil
}

func checkKeyDerivation(algorithm pkix.AlgorithmIdentifier) error {
	var params pbkdf2Params
	if !algorithm.Algorithm.Equal(oidPBKDF2) || !unmarshalExactly(algorithm.Parameters.FullBytes, &params) {
		return invalidPrivateKey("its key derivation is not PBKDF2 with salt, iterations and PRF")
	}
	if !params.PRF.Algorithm.Equal(oidHMACWithSHA256) || !bytes.Equal(params.PRF.Parameters.FullBytes, asn1.NullBytes) {
		return invalidPrivateKey("its PBKDF2 does not use HMAC-SHA-256")
	}
	if params.Iterations != iterations {
		return invalidPrivateKey("its PBKDF2 does not use %d iterations", iterations)
	}
	if len(params.Salt) != saltSize {
		return invalidPrivateKey("its salt is not %d bytes long", saltSize)
	}
	return nil
}

// unmarshalExactly decodes der into value and reports whether value is all there was. The round trip is needed because
// encoding/asn1 passes over surplus elements at the end of a sequence.
func unmarshalExactly[T any](der []byte, value *T) bool {
	if _, err := asn1.Unmarshal(der, value); err != nil {
		return false
	}
	again, err := asn1.Marshal(*value)
	return err == nil && bytes.Equal(again, der)
}
