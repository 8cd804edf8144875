package access

import (
	"crypto/subtle"
	"encoding/base32"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"

	"keyctl/internal/credential"
	"keyctl/internal/fault"
)

// The parameters of RFC 6238 that every authenticator app supports; T0 is 0 and the hash is SHA-1.
const (
	Digits   = 6
	Step     = 30 * time.Second
	SeedSize = 20 // bytes, the length RFC 4226 section 4 recommends
)

const stepSeconds = int64(Step / time.Second)

// base32Text is the form in which people, authenticator apps and recovery codes see bytes (RFC 4648 section 6).
var base32Text = base32.StdEncoding.WithPadding(base32.NoPadding)

// Seed is the shared secret behind an operator's codes. It masks itself as credential.Secret does; Reveal returns its
// SeedSize raw bytes, for sealing. The zero value is no seed and matches no code.
type Seed struct{ credential.Secret }

// DrawSeed draws a new seed. It fails when random does.
func DrawSeed(random io.Reader) (Seed, error) {
	var raw [SeedSize]byte
	if _, err := io.ReadFull(random, raw[:]); err != nil {
		return Seed{}, fmt.Errorf("drawing a second factor's seed: %w", err)
	}
	return SeedFromBytes(raw[:])
}

// SeedFromBytes takes a seed out of the store, after it was opened there. Another length than SeedSize is
// fault.StoreDamaged. The bytes are copied.
func SeedFromBytes(raw []byte) (Seed, error) {
	if len(raw) != SeedSize {
		return Seed{}, fault.New(fault.StoreDamaged, "a second factor's seed has %d bytes, not %d", len(raw), SeedSize)
	}
	return Seed{credential.NewSecret(string(raw))}, nil
}

// Base32 returns the seed as people type it into an authenticator app: 32 letters and digits, no padding.
func (s Seed) Base32() credential.Secret {
	return credential.NewSecret(base32Text.EncodeToString([]byte(s.Reveal())))
}

// URI returns what the QR code of an enrolment holds, in the Key URI Format of Google Authenticator:
// otpauth://totp/ISSUER:ACCOUNT?secret=...&issuer=ISSUER&algorithm=SHA1&digits=6&period=30. Everything but unreserved
// characters (RFC 3986 section 2.3) is percent-encoded in both names, blanks too: apps show a plus sign as it is. That
// format has no way to carry a colon inside a name; some apps cut there.
func (s Seed) URI(issuer, account string) credential.Secret {
	return credential.NewSecret(fmt.Sprintf("otpauth://totp/%s:%s?secret=%s&issuer=%s&algorithm=SHA1&digits=%d&period=%d",
		percentEncode(issuer), percentEncode(account), s.Base32().Reveal(), percentEncode(issuer), Digits, stepSeconds))
}

// percentEncode differs from url.QueryEscape in blanks only.
func percentEncode(text string) string { return strings.ReplaceAll(url.QueryEscape(text), "+", "%20") }

// Code is an authenticator code as typed: six ASCII digits. For a minute and a half it is a secret, so it masks itself as
// credential.Secret does. The zero value matches nothing.
type Code struct{ credential.Secret }

// ParseCode reads a code, leaving out the spaces and tabs with which apps group it. Nothing else is forgiven: digits of
// other scripts, signs and line ends are not part of a code, and what is no code is not counted as a wrong one. An empty
// text is fault.OTPRequired, any other malformed one fault.OTPWrong; the text is never repeated.
func ParseCode(text string) (Code, error) {
	digits := withoutBlanks(text)
	if digits == "" {
		return Code{}, fault.New(fault.OTPRequired, "an authenticator code is needed").
			WithHint("take the %d digits that your authenticator app shows now", Digits)
	}
	if len(digits) != Digits || strings.Trim(digits, "0123456789") != "" {
		return Code{}, fault.New(fault.OTPWrong, "malformed code: a code is six digits").
			WithHint("take the %d digits that your authenticator app shows now; this one was not counted as wrong", Digits)
	}
	return Code{credential.NewSecret(digits)}, nil
}

// withoutBlanks drops every ASCII space and tab.
func withoutBlanks(text string) string {
	return strings.NewReplacer(" ", "", "\t", "").Replace(text)
}

// StepAt returns the number of the time step that t lies in: whole periods of 30 s since 1970 (RFC 6238 section 4.2). A
// step includes its first instant and not its last. Times before 1970 have negative steps.
func StepAt(t time.Time) int64 {
	seconds := t.Unix()
	step := seconds / stepSeconds
	if seconds%stepSeconds < 0 {
		step-- // Go divides towards zero
	}
	return step
}

// SecondsLeft returns for how many seconds, rounded up, an app goes on showing the code of now: 30 down to 1.
func SecondsLeft(now time.Time) int {
	return int((StepAt(now)+1)*stepSeconds - now.Unix())
}

// CodeAt returns the code of a time step, as an authenticator app would show it.
func CodeAt(seed Seed, step int64) Code {
	return Code{credential.NewSecret(generate(seed.Base32(), step, Digits))}
}

// Match looks for the time step whose code was given: the one of now, the one before, for a slow hand or clock, and the
// one after, for a fast clock (RFC 6238 section 5.2). It returns the newest that fits. A step is a proof once: the caller
// must accept it only if it is greater than the last one it accepted, in the transaction of the change that it allows.
//
// All three steps are always computed and compared in constant time, so the duration tells neither whether a code was
// near nor which step it belongs to.
func Match(seed Seed, code Code, now time.Time) (step int64, ok bool) {
	if len(seed.Reveal()) != SeedSize {
		return 0, false // anybody can compute the codes of the empty seed
	}
	secret, given := seed.Base32(), []byte(code.Reveal())
	oldest := StepAt(now) - 1
	matched, found := 0, 0
	for i := range 3 {
		expected := []byte(generate(secret, oldest+int64(i), Digits))
		equal := subtle.ConstantTimeCompare(expected, given)
		matched |= equal
		found = subtle.ConstantTimeSelect(equal, i, found)
	}
	if matched == 0 {
		return 0, false
	}
	return oldest + int64(found), true
}

// generate computes one code (RFC 4226 section 5.3) of a seed in base 32. The library's own validation is not used: it
// trims what was typed and hides which step matched.
func generate(secret credential.Secret, counter int64, digits otp.Digits) string {
	code, err := hotp.GenerateCodeCustom(secret.Reveal(), uint64(counter), hotp.ValidateOpts{
		Digits:    digits,
		Algorithm: otp.AlgorithmSHA1,
	})
	if err != nil {
		panic("access: a seed in base 32 was refused as such: " + err.Error())
	}
	return code
}
