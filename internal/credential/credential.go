// Package credential is an API key's credential as text: drawing it, checking it, proving possession of it, its RSA key
// pair, and the formats in which it leaves keyctl and comes back.
//
// Everything here is pure. The package opens no file, reads no environment and asks for neither the time nor who may do
// what; where a credential is delivered and when it becomes valid are decided by its callers. Randomness is an
// argument, but for RSA keys, which the standard library draws from the system alone.
package credential

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"io"
	"net/url"
	"strings"

	"keyctl/internal/fault"
)

// Credential is what leaves keyctl once: the three values an application needs, and beside them what it is good for.
// Name is the API key's name, Server the address client libraries are to use and Datasets what the key may reach; each
// may be empty when it is not known.
type Credential struct {
	Name            string
	AccessKeyID     string
	SigningKey      Secret
	CryptoAccessKey Secret
	Server          string
	Datasets        []string
}

// Draw makes a credential with a new access key id and new secrets; the other fields are left to the caller. It fails
// when random does.
func Draw(random io.Reader) (Credential, error) {
	id, err := DrawAccessKeyID(random)
	if err != nil {
		return Credential{}, err
	}
	signing, err := DrawToken(random, SigningKey)
	if err != nil {
		return Credential{}, err
	}
	crypto, err := DrawToken(random, CryptoAccessKey)
	if err != nil {
		return Credential{}, err
	}
	return Credential{AccessKeyID: id, SigningKey: signing, CryptoAccessKey: crypto}, nil
}

// Validate returns fault.Invalid unless the id and both secrets are well formed and what else there is can be written
// in every format without quoting. The error repeats no value.
func (c Credential) Validate() error {
	if _, err := ParseAccessKeyID(c.AccessKeyID); err != nil {
		return err
	}
	if err := ValidToken(SigningKey, c.SigningKey); err != nil {
		return err
	}
	if err := ValidToken(CryptoAccessKey, c.CryptoAccessKey); err != nil {
		return err
	}
	if c.Name != "" && !IsName(c.Name) {
		return malformedName("key name")
	}
	for _, dataset := range c.Datasets {
		if !IsName(dataset) {
			return malformedName("dataset name")
		}
	}
	if c.Server != "" && !isServer(c.Server) {
		return fault.New(fault.Invalid, "malformed server").
			WithHint("a server is a host with or without a port, after http://, https:// or nothing, and without a path")
	}
	return nil
}

// IsName reports whether text has the form of a key's or dataset's name, and not that of one of keyctl's own values: a
// secret pasted where a name belongs must not be repeated by a message that takes it for one.
func IsName(text string) bool {
	if text == "" || len(text) > 64 || !isDigit(text[0]) {
		return false
	}
	for i := range len(text) {
		if !isDigit(text[i]) && strings.IndexByte("._-", text[i]) < 0 {
			return false
		}
	}
	return !IsAccessKeyID(text) && !hasTokenShape(text)
}

// hasTokenShape reports whether text is as long as a token and begins like one of any kind.
func hasTokenShape(text string) bool {
	return len(text) == 4+bodyDigits+checkDigits && strings.HasPrefix(text, "kc") && text[3] == '_'
}

func malformedName(what string) error {
	return fault.New(fault.Invalid, "malformed %s", what).
		WithHint("a name is at most 64 letters, digits, dots, underscores and hyphens, and begins with a letter or digit")
}

// isServer reports whether client libraries take text for a server: a host, perhaps with a port, after an optional
// http:// or https://, with neither a path nor a final slash.
func isServer(text string) bool {
	host, plain := strings.CutPrefix(text, "http://")
	if !plain {
		host = strings.TrimPrefix(text, "https://")
	}
	for i := range len(host) {
		if !isDigit(host[i]) && strings.IndexByte(".-_:[]", host[i]) < 0 {
			return false
		}
	}
	u, err := url.Parse("https://" + host)
	return err == nil && u.Hostname() != "" && len(host) <= 261 && !strings.HasSuffix(host, ":")
}

// Proof shows possession of a signing key: HMAC-SHA-256, keyed with the signing key's text as it stands, over
// "keyctl-proof-v1", the key id, the access key id and the challenge. Key ids have one fixed width and so have access
// key ids, so the parts need no separators to be told from each other.
func Proof(signing Secret, keyID, accessKeyID string, challenge []byte) []byte {
	mac := hmac.New(sha256.New, []byte(signing.Reveal()))
	fmt.Fprintf(mac, "keyctl-proof-v1%s%s", keyID, accessKeyID)
	mac.Write(challenge)
	return mac.Sum(nil)
}

// CheckProof reports whether proof is the one that Proof makes. It takes the same time for every wrong proof of the
// right length.
func CheckProof(signing Secret, keyID, accessKeyID string, challenge, proof []byte) bool {
	return hmac.Equal(Proof(signing, keyID, accessKeyID, challenge), proof)
}
