package credential

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"log/slog"
)

// redacted stands wherever a Secret would have been printed, logged or encoded.
const redacted = "[redacted]"

// Secret holds text that must not appear in a log, an error, a list or an encoding by accident: every formatting and
// marshalling method yields "[redacted]". The only way to the text is Reveal, so that each place that lets a secret out
// can be found by that name. The zero value holds no secret.
//
// The text stands behind a pointer because package fmt calls no method on an unexported field: it prints what it finds
// there by reflection, and here it finds an address. The first field takes == away, which would compare addresses
// instead of texts; Equal is the only comparison.
type Secret struct {
	_    [0]func()
	text *string
}

// NewSecret wraps text. It does not check it; see DecodeToken for that.
func NewSecret(text string) Secret {
	if text == "" {
		return Secret{}
	}
	return Secret{text: &text}
}

// Reveal returns the text itself. Call it only where the secret is handed to its owner or to a cryptographic function.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// IsZero reports whether there is no secret.
func (s Secret) IsZero() bool { return s.text == nil }

// Equal reports whether both hold the same text. The time it takes depends on neither content nor the position of a
// difference: two MACs of equal length are compared, not the texts.
func (s Secret) Equal(other Secret) bool {
	return hmac.Equal(comparisonMAC(s), comparisonMAC(other))
}

func comparisonMAC(s Secret) []byte {
	mac := hmac.New(sha256.New, []byte("keyctl-compare-v1"))
	mac.Write([]byte(s.Reveal()))
	return mac.Sum(nil)
}

// String masks the secret.
func (s Secret) String() string { return redacted }

// GoString masks the secret under %#v.
func (s Secret) GoString() string { return redacted }

// Format masks the secret under every verb and flag.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// MarshalJSON masks the secret.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// MarshalText masks the secret for every encoder that asks for text (YAML, CSV, XML).
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue masks the secret in structured logs.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }
