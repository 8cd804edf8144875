package credential

import (
	"crypto/rand"
	"strings"
	"testing"

	"keyctl/internal/fault"
)

func TestOperatorToken(t *testing.T) {
	drawn, err := DrawOperatorToken(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	text := drawn.Reveal()
	id, err := OperatorTokenID(drawn)
	if err != nil || len(id) != 12 || !allDigits(id) || !strings.HasPrefix(text, "kct_"+id) || len(text) != 4+12+43+6 {
		t.Fatalf("OperatorTokenID of a fresh token = %q, %v", id, err)
	}
	if masked := MaskTokens("got " + text); strings.Contains(masked, text[16:30]) {
		t.Errorf("MaskTokens leaves a token readable")
	}
}

// One wrong character anywhere is noticed, and the error says nothing of the text.
func TestOperatorTokenMistyped(t *testing.T) {
	drawn, err := DrawOperatorToken(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	text := drawn.Reveal()
	wrong := []string{"", "kct_", text + "0", text[:len(text)-1], "kcs_" + text[4:], text[:20] + "-" + text[21:]}
	for i := 4; i < len(text); i++ {
		other := byte('0')
		if text[i] == other {
			other = '1'
		}
		wrong = append(wrong, text[:i]+string(other)+text[i+1:])
	}
	for _, w := range wrong {
		_, err := OperatorTokenID(NewSecret(w))
		if !fault.Is(err, fault.Invalid) {
			t.Fatalf("OperatorTokenID of a token changed in %d bytes = %v, want invalid", len(w), err)
		}
		if w != "" && strings.Contains(err.Error()+fault.From(err).Hint, w) && len(w) > 4 {
			t.Errorf("the error repeats the text")
		}
	}
}
