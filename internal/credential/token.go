package credential

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/bits"
	"regexp"
	"strings"
	"sync"

	"keyctl/internal/fault"
)

// digits is the base62 alphabet in the order of its values, which is ASCII order too.
const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

const (
	accessKeyIDPrefix = "KC"
	idDigits          = 22 // 131 bits; after "KC" this makes 24 letters and digits, the shape client libraries expect

	bodyDigits  = 43 // 62^42 < 2^256 < 62^43
	checkDigits = 6  // 62^5 < 2^32 < 62^6
)

// Kind is the prefix that tells what a token is for. It stands in the clear, so that a person sees which of two secrets
// he holds and a scanner finds one that was published by mistake.
type Kind string

// The kinds of token.
const (
	SigningKey      Kind = "kcs_" // signs an application's requests; the store keeps it, sealed
	CryptoAccessKey Kind = "kcx_" // passphrase of the API key's RSA private key; never leaves the machine that drew it
	MasterKey       Kind = "kcm_" // opens a store
)

// noun is what messages call a token of this kind.
func (k Kind) noun() string {
	switch k {
	case SigningKey:
		return "secret signing key"
	case CryptoAccessKey:
		return "secret crypto access key"
	case MasterKey:
		return "master key"
	}
	return "token"
}

// malformed makes the error for a text that is no token of this kind. The right form is said, the text is not.
func (k Kind) malformed(why string) error {
	return fault.New(fault.Invalid, "malformed %s: %s", k.noun(), why).
		WithHint("a %s is %q followed by %d letters and digits", k.noun(), string(k), bodyDigits+checkDigits)
}

// DrawAccessKeyID draws a new access key id: "KC" and 22 base62 digits, each of the 62^22 equally likely. It fails when
// random does.
func DrawAccessKeyID(random io.Reader) (string, error) { return DrawID(random, accessKeyIDPrefix) }

// DrawID draws an identifier in the manner of access key ids: a prefix that tells what it names, and 22 base62 digits.
// It fails when random does.
func DrawID(random io.Reader, prefix string) (string, error) {
	text, err := drawDigits(random, idDigits)
	if err != nil {
		return "", fmt.Errorf("drawing an id: %w", err)
	}
	return prefix + text, nil
}

// drawDigits draws n base62 digits without bias: of the 256 values of a byte it takes the first 248, four for each
// digit, and passes over the other eight.
func drawDigits(random io.Reader, n int) (string, error) {
	const usable = 256 - 256%len(digits)
	text := make([]byte, 0, n)
	block := make([]byte, n)
	// One byte in 32 is passed over, so a second block nearly always suffices. A source that needs twenty is not
	// random, and must not keep the program here for ever.
	for range 20 {
		if _, err := io.ReadFull(random, block); err != nil {
			return "", err
		}
		for _, b := range block {
			if int(b) < usable && len(text) < n {
				text = append(text, digits[int(b)%len(digits)])
			}
		}
		if len(text) == n {
			return string(text), nil
		}
	}
	return "", errors.New("the source of randomness is not random")
}

// IsAccessKeyID reports whether text has the shape of an access key id: 24 characters, "KC" and base62 digits.
func IsAccessKeyID(text string) bool {
	rest, ok := strings.CutPrefix(text, accessKeyIDPrefix)
	return ok && len(rest) == idDigits && allDigits(rest)
}

// ParseAccessKeyID returns text when it is an access key id and fault.Invalid when it is not. Nothing is trimmed and no
// letter changes its case. The error does not repeat the text: it may be a secret in the wrong place.
func ParseAccessKeyID(text string) (string, error) {
	if !IsAccessKeyID(text) {
		return "", fault.New(fault.Invalid, "malformed access key id").
			WithHint("an access key id is %q followed by %d letters and digits", accessKeyIDPrefix, idDigits)
	}
	return text, nil
}

// DrawToken draws a new token of 256 random bits. It fails when random does.
func DrawToken(random io.Reader, kind Kind) (Secret, error) {
	var raw [32]byte
	if _, err := io.ReadFull(random, raw[:]); err != nil {
		return Secret{}, fmt.Errorf("drawing a %s: %w", kind.noun(), err)
	}
	return EncodeToken(kind, raw), nil
}

// EncodeToken writes raw as a token: the kind, raw as a big-endian number of 43 base62 digits with leading zeros, and
// the CRC-32 (IEEE) of all that as 6 more. The check digits are there for typing errors and for scanners; whoever makes
// up a token makes up fitting ones as well.
func EncodeToken(kind Kind, raw [32]byte) Secret {
	var n [4]uint64
	for i := range n {
		n[i] = binary.BigEndian.Uint64(raw[8*i:])
	}
	text := string(kind) + encodeBase62(n, bodyDigits)
	return NewSecret(text + checksum(text))
}

// DecodeToken returns the 32 bytes of a token of the kind. Length, prefix, alphabet, range and check digits must all be
// right, and every token has exactly one spelling; otherwise the error is fault.Invalid, which tells the right form and
// never repeats the text.
func DecodeToken(kind Kind, s Secret) ([32]byte, error) {
	text, ok := strings.CutPrefix(s.Reveal(), string(kind))
	if !ok {
		return [32]byte{}, kind.malformed(fmt.Sprintf("it does not begin with %q", string(kind)))
	}
	if len(text) != bodyDigits+checkDigits {
		return [32]byte{}, kind.malformed("it is cut short or too long")
	}
	if !allDigits(text) {
		return [32]byte{}, kind.malformed("it has a character that is neither letter nor digit")
	}
	body, check := text[:bodyDigits], text[bodyDigits:]
	if checksum(string(kind)+body) != check {
		return [32]byte{}, kind.malformed("its check digits do not fit, so it was mistyped")
	}
	raw, ok := decodeBase62(body)
	if !ok {
		return [32]byte{}, kind.malformed("its value is out of range")
	}
	return raw, nil
}

// ValidToken is DecodeToken for callers that need the answer only.
func ValidToken(kind Kind, s Secret) error {
	_, err := DecodeToken(kind, s)
	return err
}

// tokenInText finds what looks like a token of any kind in a text, also one that was cut short or mistyped.
var tokenInText = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`kc[a-z]_[0-9A-Za-z]{16,}`) })

// MaskTokens returns text with every token in it masked but for its kind. It is for messages that repeat what somebody
// typed: a secret gets pasted in the wrong place sooner or later.
func MaskTokens(text string) string {
	if !strings.Contains(text, "kc") {
		return text
	}
	return tokenInText().ReplaceAllStringFunc(text, func(token string) string { return token[:4] + redacted })
}

// checksum returns the check digits of the text before them.
func checksum(text string) string {
	return encodeBase62([4]uint64{3: uint64(crc32.ChecksumIEEE([]byte(text)))}, checkDigits)
}

// encodeBase62 writes n, most significant word first, in exactly width digits. The callers' widths hold every value.
func encodeBase62(n [4]uint64, width int) string {
	text := make([]byte, width)
	for i := width - 1; i >= 0; i-- {
		var remainder uint64
		for j := range n {
			n[j], remainder = bits.Div64(remainder, n[j], uint64(len(digits)))
		}
		text[i] = digits[remainder]
	}
	return string(text)
}

// decodeBase62 reads base62 digits as a big-endian number; ok is false when it does not fit in 32 bytes.
func decodeBase62(text string) (raw [32]byte, ok bool) {
	var n [4]uint64
	for i := range len(text) {
		carry := uint64(strings.IndexByte(digits, text[i]))
		for j := len(n) - 1; j >= 0; j-- {
			high, low := bits.Mul64(n[j], uint64(len(digits)))
			sum, overflow := bits.Add64(low, carry, 0)
			n[j], carry = sum, high+overflow
		}
		if carry != 0 {
			return raw, false
		}
	}
	for i := range n {
		binary.BigEndian.PutUint64(raw[8*i:], n[i])
	}
	return raw, true
}

func allDigits(text string) bool {
	for i := range len(text) {
		if !isDigit(text[i]) {
			return false
		}
	}
	return true
}

// isDigit reports whether c is a base62 digit: an ASCII letter or digit.
func isDigit(c byte) bool {
	return '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z'
}
