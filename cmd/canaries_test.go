//go:build unix

package cmd

import (
	"encoding/base32"
	"strconv"
	"strings"
	"testing"

	"keyctl/internal/credential"
	"keyctl/internal/envelope"
	"keyctl/internal/keys/keystest"
)

// canaries are secrets of commands whose bytes must not turn up where they do not belong.
type canaries struct {
	*keystest.Canaries
	t testing.TB
}

func newCanaries(t testing.TB) *canaries { return &canaries{keystest.NewCanaries(t), t} }

// addCredential adds the secrets of a credential that was handed out.
func (c *canaries) addCredential(text string) {
	c.t.Helper()
	cred := parseCredential(c.t, text, "")
	for kind, secret := range map[credential.Kind]credential.Secret{credential.SigningKey: cred.SigningKey, credential.CryptoAccessKey: cred.CryptoAccessKey} {
		raw, err := credential.DecodeToken(kind, secret)
		if err != nil {
			c.t.Error(err)
		}
		c.Add(string(kind)+" of "+cred.AccessKeyID, secret.Reveal(), raw[:])
	}
}

// addAuthenticator adds a seed and its recovery codes, as they are shown and as they are typed.
func (c *canaries) addAuthenticator(p *authenticator) {
	c.t.Helper()
	c.Add("seed", p.seed.Base32().Reveal(), []byte(p.seed.Reveal()))
	for i, code := range p.recovery {
		plain := strings.ReplaceAll(code, "-", "")
		raw, err := base32.StdEncoding.DecodeString(plain)
		if err != nil {
			c.t.Error(err)
		}
		c.Add("recovery code "+strconv.Itoa(i), plain, raw)
		c.Add("recovery code "+strconv.Itoa(i)+" as shown", code, nil)
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
	c.Add("master key", text, raw[:])
}
