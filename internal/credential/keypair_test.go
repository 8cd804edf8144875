package credential

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	encodingasn1 "encoding/asn1"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/youmark/pkcs8"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"keyctl/internal/fault"
)

// passphrase is the secret crypto access key of every key pair here but where another is needed.
func passphrase() Secret { return EncodeToken(CryptoAccessKey, [32]byte{0: 1}) }

// testPair is one key pair for all tests that only read it.
var testPair = sync.OnceValues(func() (KeyPair, error) { return GenerateKeyPair(passphrase()) })

func keyPair(tb testing.TB) KeyPair {
	tb.Helper()
	p, err := testPair()
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

func rsaKey(tb testing.TB, bits int) *rsa.PrivateKey {
	tb.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

func TestGenerateKeyPair(t *testing.T) {
	p := keyPair(t)
	if err := p.Validate(); err != nil {
		t.Fatalf("Validate() = %v", err)
	}
	key, err := OpenPrivateKey(p.PrivateKeyPEM, passphrase())
	if err != nil {
		t.Fatal(err)
	}
	if key.N.BitLen() != 2048 || key.E != 65537 {
		t.Errorf("the key has %d bits and exponent %d, want 2048 and 65537", key.N.BitLen(), key.E)
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil || !bytes.Equal(public, p.PublicKey) {
		t.Errorf("the halves do not belong together (%v)", err)
	}
	if !bytes.HasSuffix(p.PrivateKeyPEM, []byte("\n-----END ENCRYPTED PRIVATE KEY-----\n")) ||
		!bytes.HasPrefix(p.PrivateKeyPEM, []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\n")) ||
		bytes.Contains(p.PrivateKeyPEM, []byte("\r")) || bytes.Contains(p.PrivateKeyPEM, []byte("\n\n")) {
		t.Errorf("the PEM is not one block in LF lines:\n%s", p.PrivateKeyPEM)
	}
}

// Without this an empty passphrase would give a private key in the clear.
func TestKeyPairNeedsASecretCryptoAccessKey(t *testing.T) {
	p := keyPair(t)
	for _, s := range []Secret{{}, NewSecret("test"), EncodeToken(SigningKey, [32]byte{0: 1})} {
		if got, err := GenerateKeyPair(s); !fault.Is(err, fault.Invalid) || got.PrivateKeyPEM != nil {
			t.Errorf("GenerateKeyPair(%q) = %s, %v, want invalid", s.Reveal(), got.PrivateKeyPEM, err)
		}
		if _, err := OpenPrivateKey(p.PrivateKeyPEM, s); !fault.Is(err, fault.Invalid) {
			t.Errorf("OpenPrivateKey(%q) = %v, want invalid", s.Reveal(), err)
		}
	}
}

func TestOpenPrivateKeyWithAnotherKey(t *testing.T) {
	_, err := OpenPrivateKey(keyPair(t).PrivateKeyPEM, EncodeToken(CryptoAccessKey, [32]byte{0: 2}))
	f := fault.From(err)
	if f == nil || f.Code != fault.Invalid || f.Cause != nil {
		t.Errorf("OpenPrivateKey with another key = %#v, want invalid without a cause", err)
	}
}

// Reads the parameters with another ASN.1 reader than the one under test, in the order of RFC 5958 section 3 and RFC
// 8018 appendix A.
func TestPrivateKeyParameters(t *testing.T) {
	block, rest := pem.Decode(keyPair(t).PrivateKeyPEM)
	if block == nil || len(rest) != 0 {
		t.Fatalf("the PEM leaves %q", rest)
	}
	der := cryptobyte.String(block.Bytes)
	var info, algorithm, params, kdf, kdfParams, salt, prf, null, cipher, iv, data cryptobyte.String
	var pbes2, pbkdf2, hmac, aes encodingasn1.ObjectIdentifier
	var count int
	ok := der.ReadASN1(&info, asn1.SEQUENCE) && der.Empty() &&
		info.ReadASN1(&algorithm, asn1.SEQUENCE) && info.ReadASN1(&data, asn1.OCTET_STRING) && info.Empty() &&
		algorithm.ReadASN1ObjectIdentifier(&pbes2) && algorithm.ReadASN1(&params, asn1.SEQUENCE) && algorithm.Empty() &&
		params.ReadASN1(&kdf, asn1.SEQUENCE) && params.ReadASN1(&cipher, asn1.SEQUENCE) && params.Empty() &&
		kdf.ReadASN1ObjectIdentifier(&pbkdf2) && kdf.ReadASN1(&kdfParams, asn1.SEQUENCE) && kdf.Empty() &&
		kdfParams.ReadASN1(&salt, asn1.OCTET_STRING) && kdfParams.ReadASN1Integer(&count) &&
		kdfParams.ReadASN1(&prf, asn1.SEQUENCE) && kdfParams.Empty() &&
		prf.ReadASN1ObjectIdentifier(&hmac) && prf.ReadASN1(&null, asn1.NULL) && prf.Empty() &&
		cipher.ReadASN1ObjectIdentifier(&aes) && cipher.ReadASN1(&iv, asn1.OCTET_STRING) && cipher.Empty()
	if !ok {
		t.Fatal("the DER is not an EncryptedPrivateKeyInfo with PBES2 and PBKDF2")
	}
	got := []string{pbes2.String(), pbkdf2.String(), hmac.String(), aes.String()}
	want := []string{"1.2.840.113549.1.5.13", "1.2.840.113549.1.5.12", "1.2.840.113549.2.9", "2.16.840.1.101.3.4.1.42"}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("object identifier %d is %s, want %s", i, got[i], want[i])
		}
	}
	if len(salt) != 16 || count != 10000 || len(iv) != 16 || len(data)%16 != 0 {
		t.Errorf("salt %d bytes, %d iterations, IV %d bytes, data %d bytes, want 16, 10000, 16, whole blocks",
			len(salt), count, len(iv), len(data))
	}
}

func TestPrivateKeyOpensWithPKCS8Library(t *testing.T) {
	block, _ := pem.Decode(keyPair(t).PrivateKeyPEM)
	if _, err := pkcs8.ParsePKCS8PrivateKeyRSA(block.Bytes, []byte(passphrase().Reveal())); err != nil {
		t.Error(err)
	}
}

func TestPrivateKeyOpensWithOpenSSL(t *testing.T) {
	path, err := exec.LookPath("openssl")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("openssl is not installed, and CI has to have it")
		}
		t.Skip("openssl is not installed")
	}
	p := keyPair(t)
	// openssl takes the first line of its input for the passphrase and the rest for the key.
	command := exec.Command(path, "pkey", "-passin", "stdin", "-pubout", "-outform", "DER")
	command.Stdin = strings.NewReader(passphrase().Reveal() + "\n" + string(p.PrivateKeyPEM))
	var stderr bytes.Buffer
	command.Stderr = &stderr
	got, err := command.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", command.Args, err, stderr.Bytes())
	}
	if !bytes.Equal(got, p.PublicKey) {
		t.Error("openssl finds another public key in the private one")
	}
}

func TestKeyPairValidatePublicKey(t *testing.T) {
	p := keyPair(t)
	parsed, err := x509.ParsePKIXPublicKey(p.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	modulus := parsed.(*rsa.PublicKey).N
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der := func(key any) []byte {
		der, err := x509.MarshalPKIXPublicKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	power := func(n uint) *big.Int { return new(big.Int).Lsh(big.NewInt(1), n) }
	odd := func(n *big.Int) *big.Int { return n.SetBit(n, 0, 1) }
	tests := []struct {
		name string
		der  []byte
		ok   bool
	}{
		{"generated", p.PublicKey, true},
		{"4096 bits", der(&rsa.PublicKey{N: odd(power(4095)), E: 65537}), true},
		{"2048 bits and no fewer", der(&rsa.PublicKey{N: odd(power(2047)), E: 65537}), true},
		{"2047 bits", der(&rsa.PublicKey{N: odd(power(2046)), E: 65537}), false},
		{"4097 bits", der(&rsa.PublicKey{N: odd(power(4096)), E: 65537}), false},
		{"even modulus", der(&rsa.PublicKey{N: power(2047), E: 65537}), false},
		{"exponent 3", der(&rsa.PublicKey{N: modulus, E: 3}), false},
		{"exponent 65539", der(&rsa.PublicKey{N: modulus, E: 65539}), false},
		{"ECDSA", der(&ec.PublicKey), false},
		{"none", nil, false},
		{"PKCS#1", x509.MarshalPKCS1PublicKey(&rsa.PublicKey{N: modulus, E: 65537}), false},
		{"a byte more", append(bytes.Clone(p.PublicKey), 0), false},
		{"cut short", p.PublicKey[:len(p.PublicKey)-1], false},
		{"PEM", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: p.PublicKey}), false},
		{"too long", der(&rsa.PublicKey{N: odd(power(20000)), E: 65537}), false},
	}
	for _, test := range tests {
		err := KeyPair{PublicKey: test.der, PrivateKeyPEM: p.PrivateKeyPEM}.Validate()
		if test.ok && err != nil || !test.ok && !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: Validate() = %v, want ok %v", test.name, err, test.ok)
		}
	}
}

// encrypted is key under passphrase with parameters of the test's choice.
func encrypted(t *testing.T, key any, cipher pkcs8.Cipher, kdf pkcs8.KDFOpts) []byte {
	t.Helper()
	der, err := pkcs8.MarshalPrivateKey(key, []byte(passphrase().Reveal()), &pkcs8.Opts{Cipher: cipher, KDFOpts: kdf})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestKeyPairValidatePrivateKeyEncryption(t *testing.T) {
	key := rsaKey(t, 2048)
	plain, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	right := pkcs8.PBKDF2Opts{SaltSize: 16, IterationCount: 10000, HMACHash: crypto.SHA256}
	whole := encrypted(t, key, pkcs8.AES256CBC, right)
	with := func(change func(*pkcs8.PBKDF2Opts)) pkcs8.PBKDF2Opts {
		opts := right
		change(&opts)
		return opts
	}
	tests := []struct {
		name string
		der  []byte
		want string
	}{
		{"right", whole, ""},
		{"not encrypted", plain, "not an encrypted PKCS#8 key"},
		{"nothing", nil, "not an encrypted PKCS#8 key"},
		{"a byte more", append(bytes.Clone(whole), 0), "not an encrypted PKCS#8 key"},
		{"AES-128-CBC", encrypted(t, key, pkcs8.AES128CBC, right), "cipher"},
		{"AES-192-CBC", encrypted(t, key, pkcs8.AES192CBC, right), "cipher"},
		{"3DES", encrypted(t, key, pkcs8.TripleDESCBC, right), "cipher"},
		{"HMAC-SHA-1", encrypted(t, key, pkcs8.AES256CBC, with(func(o *pkcs8.PBKDF2Opts) { o.HMACHash = crypto.SHA1 })), "HMAC-SHA-256"},
		{"9,999 iterations", encrypted(t, key, pkcs8.AES256CBC, with(func(o *pkcs8.PBKDF2Opts) { o.IterationCount-- })), "iterations"},
		{"600,000 iterations", encrypted(t, key, pkcs8.AES256CBC, with(func(o *pkcs8.PBKDF2Opts) { o.IterationCount = 600_000 })), "iterations"},
		{"8-byte salt", encrypted(t, key, pkcs8.AES256CBC, with(func(o *pkcs8.PBKDF2Opts) { o.SaltSize = 8 })), "salt"},
		{"scrypt", encrypted(t, key, pkcs8.AES256CBC, pkcs8.ScryptOpts{SaltSize: 16, CostParameter: 2, BlockSize: 8, ParallelizationParameter: 1}), "PBKDF2"},
		{"key length field", rebuilt(t, change{keyLength: true}), "PBKDF2"},
		{"no PRF", rebuilt(t, change{noPRF: true}), "PBKDF2"},
		{"PRF without NULL", rebuilt(t, change{noNull: true}), "HMAC-SHA-256"},
		{"short IV", rebuilt(t, change{iv: 15}), "cipher"},
		{"long IV", rebuilt(t, change{iv: 17}), "cipher"},
		{"PBES1", rebuilt(t, change{pbes1: true}), "PBES2"},
		{"surplus element", rebuilt(t, change{surplus: true}), "not an encrypted PKCS#8 key"},
		{"half a block", rebuilt(t, change{data: 1208}), "whole blocks"},
		{"no data", rebuilt(t, change{data: -1}), "whole blocks"},
		{"rebuilt without a change", rebuilt(t, change{}), ""},
	}
	for _, test := range tests {
		text := pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: test.der})
		err := KeyPair{PublicKey: keyPair(t).PublicKey, PrivateKeyPEM: text}.Validate()
		_, openErr := OpenPrivateKey(text, passphrase())
		if test.want == "" {
			if err != nil {
				t.Errorf("%s: Validate() = %v", test.name, err)
			}
			continue
		}
		if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: Validate() = %v, want invalid with %q", test.name, err, test.want)
		}
		if !fault.Is(openErr, fault.Invalid) || openErr.Error() != err.Error() {
			t.Errorf("%s: OpenPrivateKey = %v, want the same as Validate: %v", test.name, openErr, err)
		}
	}
}

// change is what rebuilt does differently; the zero value is nothing.
type change struct {
	keyLength, noPRF, noNull, pbes1, surplus bool
	iv, data                                 int
}

// rebuilt writes an EncryptedPrivateKeyInfo element by element, around data that no key can be found in.
func rebuilt(tb testing.TB, c change) []byte {
	tb.Helper()
	size := func(n, standard int) []byte {
		if n == 0 {
			n = standard
		}
		return make([]byte, max(n, 0))
	}
	pbes := encodingasn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	if c.pbes1 {
		pbes = encodingasn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 3}
	}
	var b cryptobyte.Builder
	sequence := func(b *cryptobyte.Builder, f cryptobyte.BuilderContinuation) { b.AddASN1(asn1.SEQUENCE, f) }
	sequence(&b, func(b *cryptobyte.Builder) {
		sequence(b, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(pbes)
			sequence(b, func(b *cryptobyte.Builder) {
				sequence(b, func(b *cryptobyte.Builder) {
					b.AddASN1ObjectIdentifier(encodingasn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12})
					sequence(b, func(b *cryptobyte.Builder) { addPBKDF2(b, c) })
				})
				sequence(b, func(b *cryptobyte.Builder) {
					b.AddASN1ObjectIdentifier(encodingasn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42})
					b.AddASN1OctetString(size(c.iv, 16))
				})
			})
		})
		b.AddASN1OctetString(size(c.data, 1216))
		if c.surplus {
			b.AddASN1Int64(1)
		}
	})
	der, err := b.Bytes()
	if err != nil {
		tb.Fatal(err)
	}
	return der
}

func addPBKDF2(b *cryptobyte.Builder, c change) {
	b.AddASN1OctetString(make([]byte, 16))
	b.AddASN1Int64(10000)
	if c.keyLength {
		b.AddASN1Int64(32)
	}
	if c.noPRF {
		return
	}
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(encodingasn1.ObjectIdentifier{1, 2, 840, 113549, 2, 9})
		if !c.noNull {
			b.AddASN1NULL()
		}
	})
}

func TestKeyPairValidatePEM(t *testing.T) {
	p := keyPair(t)
	text := string(p.PrivateKeyPEM)
	block, _ := pem.Decode(p.PrivateKeyPEM)
	tests := []struct {
		name, text string
		ok         bool
	}{
		{"as generated", text, true},
		{"without the last newline", strings.TrimSuffix(text, "\n"), true},
		{"blank line after", text + "\n", false},
		{"blank after", text + " ", false},
		{"blank in place of the newline", strings.TrimSuffix(text, "\n") + " ", false},
		{"text before", "key:\n" + text, false},
		{"twice", text + text, false},
		{"CRLF", strings.ReplaceAll(text, "\n", "\r\n"), false},
		{"headers", strings.Replace(text, "KEY-----\n", "KEY-----\nProc-Type: 4,ENCRYPTED\n\n", 1), false},
		{"one long line", strings.Replace(strings.ReplaceAll(text, "\n", ""), "-----M", "-----\nM", 1), false},
		{"another type", strings.ReplaceAll(text, "ENCRYPTED PRIVATE", "PRIVATE"), false},
		{"DER", string(block.Bytes), false},
		{"nothing", "", false},
		{"too long", string(pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: make([]byte, 8<<10)})), false},
	}
	for _, test := range tests {
		p.PrivateKeyPEM = []byte(test.text)
		err := p.Validate()
		if test.ok && err != nil || !test.ok && !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: Validate() = %v, want ok %v", test.name, err, test.ok)
		}
	}
}

// The largest pair that is allowed stays within the size limits.
func TestKeyPairOf4096Bits(t *testing.T) {
	key := rsaKey(t, 4096)
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	text, err := encryptPrivateKey(key, passphrase())
	if err != nil {
		t.Fatal(err)
	}
	if err := (KeyPair{public, text}).Validate(); err != nil {
		t.Error(err)
	}
}

// What passes Validate goes into the PKCS#8 library, which does not expect everything.
func FuzzKeyPairValidate(f *testing.F) {
	p := keyPair(f)
	f.Add(p.PublicKey, rebuilt(f, change{}), []byte{})
	f.Add(p.PublicKey, rebuilt(f, change{data: 16}), []byte("\n"))
	f.Add(p.PublicKey, rebuilt(f, change{iv: 15}), []byte{})
	f.Add(p.PublicKey[:40], rebuilt(f, change{keyLength: true}), []byte{})
	f.Fuzz(func(t *testing.T, public, der, after []byte) {
		text := pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: der})
		err := KeyPair{public, append(text, after...)}.Validate()
		if err != nil && !fault.Is(err, fault.Invalid) {
			t.Errorf("Validate() = %v, want invalid", err)
		}
		if err == nil && len(after) > 0 {
			t.Errorf("Validate() accepts %q after the PEM block", after)
		}
		if _, err := OpenPrivateKey(text, passphrase()); !fault.Is(err, fault.Invalid) {
			t.Errorf("OpenPrivateKey = %v, want invalid", err)
		}
	})
}

func BenchmarkGenerateKeyPair(b *testing.B) {
	for b.Loop() {
		if _, err := GenerateKeyPair(passphrase()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncryptPrivateKey(b *testing.B) {
	key := rsaKey(b, 2048)
	for b.Loop() {
		if _, err := encryptPrivateKey(key, passphrase()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkKeyPairValidate(b *testing.B) {
	p := keyPair(b)
	for b.Loop() {
		if err := p.Validate(); err != nil {
			b.Fatal(err)
		}
	}
}
