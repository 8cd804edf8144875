//go:build unix

package cmd

import (
	"bytes"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"keyctl/internal/credential"
	"keyctl/internal/envelope"
)

// canaries are secrets whose bytes must not turn up where they do not belong.
type canaries struct {
	t       testing.TB
	needles map[string][]byte // what it is → bytes to look for
}

func newCanaries(t testing.TB) *canaries { return &canaries{t, map[string][]byte{}} }

// add adds a secret: as text and, if it encodes something, what it encodes.
func (c *canaries) add(name, text string, raw []byte) {
	c.encodings(name, []byte(text))
	c.encodings(name+", half 1", []byte(text[:len(text)/2]))
	c.encodings(name+", half 2", []byte(text[len(text)/2:]))
	if raw != nil {
		c.encodings(name+", decoded", raw)
		c.encodings(name+", decoded, half 1", raw[:len(raw)/2])
		c.encodings(name+", decoded, half 2", raw[len(raw)/2:])
	}
}

// encodings adds a value in the forms that programs bring bytes into. In base64 a value looks different at each of three
// offsets, and shares its outer digits with its neighbours.
func (c *canaries) encodings(name string, value []byte) {
	c.needles[name] = value
	c.needles[name+", hex"] = []byte(hex.EncodeToString(value))
	c.needles[name+", HEX"] = []byte(strings.ToUpper(hex.EncodeToString(value)))
	c.needles[name+", URL"] = []byte(url.QueryEscape(string(value)))
	for offset := range 3 {
		shifted := append(make([]byte, offset), value...)
		for form, encoding := range map[string]*base64.Encoding{"base64": base64.RawStdEncoding, "base64url": base64.RawURLEncoding} {
			text := encoding.EncodeToString(shifted)
			first, last := (offset*8+5)/6, len(shifted)*8/6
			c.needles[fmt.Sprintf("%s, %s at %d", name, form, offset)] = []byte(text[first:last])
		}
	}
}

// addCredential adds the secrets of a credential that was handed out.
func (c *canaries) addCredential(text string) {
	c.t.Helper()
	cred := parseCredential(c.t, text, "")
	for kind, secret := range map[credential.Kind]credential.Secret{credential.SigningKey: cred.SigningKey, credential.CryptoAccessKey: cred.CryptoAccessKey} {
		raw, err := credential.DecodeToken(kind, secret)
		if err != nil {
			c.t.Error(err)
		}
		c.add(string(kind)+" of "+cred.AccessKeyID, secret.Reveal(), raw[:])
	}
}

// addAuthenticator adds a seed and its recovery codes, as they are shown and as they are typed.
func (c *canaries) addAuthenticator(p *authenticator) {
	c.t.Helper()
	c.add("seed", p.seed.Base32().Reveal(), []byte(p.seed.Reveal()))
	for i, code := range p.recovery {
		plain := strings.ReplaceAll(code, "-", "")
		raw, err := base32.StdEncoding.DecodeString(plain)
		if err != nil {
			c.t.Error(err)
		}
		c.add("recovery code "+strconv.Itoa(i), plain, raw)
		c.add("recovery code "+strconv.Itoa(i)+" as shown", code, nil)
	}
}

func (c *canaries) addMasterKey(text string) {
	c.t.Helper()
	text = strings.TrimSpace(text)
	if _, err := envelope.ParseMasterKey(credential.NewSecret(text)); err != nil {
		c.t.Error(err)
	}
	raw, err := credential.DecodeToken(credential.MasterKey, credential.NewSecret(text))
	if err != nil {
		c.t.Error(err)
	}
	c.add("master key", text, raw[:])
}

// absent looks for every canary in some content.
func (c *canaries) absent(where string, content []byte) {
	c.t.Helper()
	for name, needle := range c.needles {
		if bytes.Contains(content, needle) {
			c.t.Errorf("%s holds the %s", where, name)
			return // which of its many forms does not matter
		}
	}
}

// The search finds what it is to find: a canary in each of its forms, in the middle of something.
func TestCanariesAreFound(t *testing.T) {
	secret := "kcs_" + strings.Repeat("Zb9", 16) + "Q"
	c := newCanaries(t)
	c.add("canary", secret, []byte("0123456789\xff\xfe\xfd\xfc"))
	for _, text := range []string{
		secret, secret[:len(secret)/2], secret[len(secret)/2:], hex.EncodeToString([]byte(secret)),
		base64.StdEncoding.EncodeToString([]byte("{" + secret + "}")), base64.URLEncoding.EncodeToString([]byte("{{" + secret)),
		base64.StdEncoding.EncodeToString([]byte("{{{x789\xff\xfe\xfd\xfc!")), "0123456",
	} {
		if !slices.ContainsFunc(slices.Collect(mapValues(c.needles)), func(needle []byte) bool { return strings.Contains(text, string(needle)) }) {
			t.Errorf("no canary was found in %q", text)
		}
	}
}

func mapValues(m map[string][]byte) func(yield func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for _, v := range m {
			if !yield(v) {
				return
			}
		}
	}
}
