package access

import (
	"errors"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"

	"keyctl/internal/credential"
	"keyctl/internal/fault"
)

// testRecoveryCode is the base 32 form of 15 bytes of text that says what it is.
const testRecoveryCode = "ORSXG5BNOJSWG33WMVZHS4ZB" // "test-recoverys!"

func TestDrawRecoveryCodes(t *testing.T) {
	codes, err := DrawRecoveryCodes(rand.NewChaCha8([32]byte{2}))
	if err != nil {
		t.Fatal(err)
	}
	canonical := regexp.MustCompile(`^[A-Z2-7]{24}$`)
	grouped := regexp.MustCompile(`^[A-Z2-7]{4}(-[A-Z2-7]{4}){5}$`)
	seen := map[string]bool{}
	for _, code := range codes {
		text := code.Reveal()
		if !canonical.MatchString(text) || seen[text] {
			t.Errorf("code %q is not canonical, or drawn twice", text)
		}
		seen[text] = true
		forReading := GroupRecoveryCode(code).Reveal()
		if !grouped.MatchString(forReading) {
			t.Errorf("GroupRecoveryCode(%q) = %q", text, forReading)
		}
		if got, err := ParseRecoveryCode(forReading); err != nil || got.Reveal() != text {
			t.Errorf("ParseRecoveryCode(%q) = %q, %v, want %q", forReading, got.Reveal(), err, text)
		}
	}
	if len(codes) != 8 {
		t.Errorf("%d codes, want 8", len(codes))
	}
}

func TestDrawRecoveryCodesUsesEveryByte(t *testing.T) {
	codes, err := DrawRecoveryCodes(strings.NewReader(strings.Repeat("test-recoverys!", 8)))
	if err != nil {
		t.Fatal(err)
	}
	for i, code := range codes {
		if code.Reveal() != testRecoveryCode {
			t.Errorf("code %d = %q, want %q", i, code.Reveal(), testRecoveryCode)
		}
	}
	if _, err := DrawRecoveryCodes(strings.NewReader(strings.Repeat("x", 8*15-1))); err == nil {
		t.Error("DrawRecoveryCodes from 119 bytes succeeded, want an error")
	}
	broken := errors.New("no entropy")
	if _, err := DrawRecoveryCodes(iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("DrawRecoveryCodes from a broken source = %v, want its error", err)
	}
}

func TestParseRecoveryCode(t *testing.T) {
	const canonical = testRecoveryCode
	tests := []struct {
		text, want string
		code       fault.Code
	}{
		{canonical, canonical, ""},
		{strings.ToLower(canonical), canonical, ""},
		{"orsx-g5bn-OJSW-G33W-MVZH-S4ZB", canonical, ""},
		{" ORSX G5BN\tOJSW G33W MVZH S4ZB ", canonical, ""},
		{"--" + canonical + "--", canonical, ""},
		{"", "", fault.OTPRequired},
		{" - -\t", "", fault.OTPRequired},
		{"287082", "", fault.OTPWrong},
		{canonical[1:], "", fault.OTPWrong},
		{canonical + "A", "", fault.OTPWrong},
		{canonical + "\n", "", fault.OTPWrong},
		{"0" + canonical[1:], "", fault.OTPWrong},
		{"1" + canonical[1:], "", fault.OTPWrong},
		{"8" + canonical[1:], "", fault.OTPWrong},
		{"=" + canonical[1:], "", fault.OTPWrong},
		{"ſ" + canonical[1:], "", fault.OTPWrong}, // strings.ToUpper makes it S
		{"ı" + canonical[1:], "", fault.OTPWrong}, // and this I
		{"ſ" + canonical[2:], "", fault.OTPWrong}, // 24 bytes
		{"Ｏ" + canonical[1:], "", fault.OTPWrong},
		{strings.ReplaceAll(GroupRecoveryCode(credential.NewSecret(canonical)).Reveal(), "-", "–"), "", fault.OTPWrong},
	}
	for _, test := range tests {
		got, err := ParseRecoveryCode(test.text)
		if got.Reveal() != test.want || fault.CodeOf(err) != test.code {
			t.Errorf("ParseRecoveryCode(%q) = %q, %v, want %q, code %q", test.text, got.Reveal(), err, test.want, test.code)
		}
	}
}

func FuzzParseRecoveryCode(f *testing.F) {
	for _, text := range []string{
		"", testRecoveryCode, "orsx-g5bn-ojsw-g33w-mvzh-s4zb", " ORSX G5BN OJSW G33W MVZH S4ZB", "ſRSXG5BNOJSWG33WMVZHS4ZB", "-",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		code, err := ParseRecoveryCode(text)
		if err != nil {
			if !code.IsZero() || !fault.Is(err, fault.OTPWrong) && !fault.Is(err, fault.OTPRequired) {
				t.Fatalf("ParseRecoveryCode(%q) = %q, %v", text, code.Reveal(), err)
			}
			return
		}
		if raw, err := base32Text.DecodeString(code.Reveal()); err != nil || len(raw) != recoveryCodeBytes {
			t.Fatalf("ParseRecoveryCode(%q) = %q, which holds %d bytes, %v", text, code.Reveal(), len(raw), err)
		}
		for _, form := range []string{code.Reveal(), strings.ToLower(code.Reveal()), GroupRecoveryCode(code).Reveal()} {
			if again, err := ParseRecoveryCode(form); err != nil || !again.Equal(code) {
				t.Fatalf("ParseRecoveryCode(%q) = %q, but of %q = %q, %v", text, code.Reveal(), form, again.Reveal(), err)
			}
		}
	})
}
