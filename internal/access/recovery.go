package access

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"keyctl/internal/credential"
	"keyctl/internal/fault"
)

const (
	recoveryCodes      = 8  // drawn at a time
	recoveryCodeBytes  = 15 // 120 bits: far too many to guess, and no remainder in base 32
	recoveryCodeDigits = recoveryCodeBytes * 8 / 5
	recoveryGroup      = 4

	base32Digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
)

// DrawRecoveryCodes draws the eight codes that an operator gets once, at enrolment, each good for one reset of the second
// factor. A code is 24 characters of the base 32 alphabet, in canonical form, the one to store a MAC of;
// GroupRecoveryCode makes it readable. It fails when random does.
func DrawRecoveryCodes(random io.Reader) ([]credential.Secret, error) {
	var raw [recoveryCodes * recoveryCodeBytes]byte
	if _, err := io.ReadFull(random, raw[:]); err != nil {
		return nil, fmt.Errorf("drawing recovery codes: %w", err)
	}
	codes := make([]credential.Secret, 0, recoveryCodes)
	for chunk := range slices.Chunk(raw[:], recoveryCodeBytes) {
		codes = append(codes, credential.NewSecret(base32Text.EncodeToString(chunk)))
	}
	return codes, nil
}

// GroupRecoveryCode returns the code for reading and writing down: ABCD-EFGH-..., six groups of four.
func GroupRecoveryCode(code credential.Secret) credential.Secret {
	var groups []string
	for group := range slices.Chunk([]byte(code.Reveal()), recoveryGroup) {
		groups = append(groups, string(group))
	}
	return credential.NewSecret(strings.Join(groups, "-"))
}

// ParseRecoveryCode reads a code as a person types it, in either case, with or without dashes, spaces and tabs, and returns
// the canonical form. Only ASCII counts. An empty text is fault.OTPRequired, any other malformed one fault.OTPWrong; the
// text is never repeated.
func ParseRecoveryCode(text string) (credential.Secret, error) {
	code := strings.ReplaceAll(withoutBlanks(text), "-", "")
	if code == "" {
		return credential.Secret{}, fault.New(fault.OTPRequired, "a recovery code is needed").
			WithHint("take one of the codes that were shown when the second factor was enrolled")
	}
	code = upperASCII(code)
	if len(code) != recoveryCodeDigits || strings.Trim(code, base32Digits) != "" {
		return credential.Secret{}, fault.New(fault.OTPWrong, "malformed recovery code").
			WithHint("a recovery code is %d letters A to Z and digits 2 to 7 (no 0, 1, 8 or 9), dashes aside", recoveryCodeDigits)
	}
	return credential.NewSecret(code), nil
}

// upperASCII differs from strings.ToUpper in letters beyond ASCII, some of which (ı, ſ) that function maps into it.
func upperASCII(text string) string {
	return strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' {
			return r - 'a' + 'A'
		}
		return r
	}, text)
}
