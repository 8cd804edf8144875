package keystest

import (
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"
)

// The search finds what it is to find: a canary in each of its forms, in the middle of something.
func TestCanariesAreFound(t *testing.T) {
	secret := "kcs_" + strings.Repeat("Zb9", 16) + "Q"
	c := NewCanaries(t)
	c.Add("canary", secret, []byte("0123456789\xff\xfe\xfd\xfc"))
	for _, text := range []string{
		secret, secret[:len(secret)/2], secret[len(secret)/2:], hex.EncodeToString([]byte(secret)),
		base64.StdEncoding.EncodeToString([]byte("{" + secret + "}")), base64.URLEncoding.EncodeToString([]byte("{{" + secret)),
		base64.StdEncoding.EncodeToString([]byte("{{{x789\xff\xfe\xfd\xfc!")), "0123456",
	} {
		if c.Found([]byte(text)) == "" {
			t.Errorf("no canary was found in %q", text)
		}
	}
	if found := c.Found([]byte("kcs_[redacted] 012345")); found != "" {
		t.Errorf("the %s was found where there is none", found)
	}
}
