package credential

import (
	"fmt"
	"io"
	"strings"

	"keyctl/internal/fault"
)

// OperatorToken lets an operator in over the network. Unlike the other kinds it begins with a part that is no secret, the
// id it is looked up by, and the store keeps nothing from which it could be had back.
const OperatorToken Kind = "kct_"

// tokenIDDigits is the length of an operator token's id: 71 bits.
const tokenIDDigits = 12

// DrawOperatorToken draws a new operator token: the kind, 12 base62 digits that are its id, 256 random bits as 43 more, and
// 6 check digits over all that. It fails when random does.
func DrawOperatorToken(random io.Reader) (Secret, error) {
	id, err := drawDigits(random, tokenIDDigits)
	if err != nil {
		return Secret{}, fmt.Errorf("drawing a token: %w", err)
	}
	body, err := DrawToken(random, OperatorToken)
	if err != nil {
		return Secret{}, err
	}
	secret := strings.TrimPrefix(body.Reveal(), string(OperatorToken))[:bodyDigits]
	text := string(OperatorToken) + id + secret
	return NewSecret(text + checksum(text)), nil
}

// OperatorTokenID returns the id in an operator token. A text that is none, or whose check digits do not fit, is
// fault.Invalid; the error does not repeat it.
func OperatorTokenID(s Secret) (string, error) {
	const length = tokenIDDigits + bodyDigits + checkDigits
	text, ok := strings.CutPrefix(s.Reveal(), string(OperatorToken))
	if !ok || len(text) != length || !allDigits(text) {
		return "", malformedOperatorToken("it does not have the form of one")
	}
	signed := string(OperatorToken) + text[:length-checkDigits]
	if checksum(signed) != text[length-checkDigits:] {
		return "", malformedOperatorToken("its check digits do not fit, so it was mistyped")
	}
	return text[:tokenIDDigits], nil
}

func malformedOperatorToken(why string) error {
	return fault.New(fault.Invalid, "malformed token: %s", why).
		WithHint("a token is %q followed by %d letters and digits", string(OperatorToken), tokenIDDigits+bodyDigits+checkDigits)
}
