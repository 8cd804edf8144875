package term

import (
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"testing/iotest"

	"keyctl/internal/credential"
	"keyctl/internal/fault"
)

func newMark(t *testing.T, text string) ClipMark {
	t.Helper()
	m, err := NewClipMark(rand.Reader, credential.NewSecret(text))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// A mark knows its text again, also after it was written down, and after a clipboard has changed the ends of lines.
func TestClipMark(t *testing.T) {
	const text = "export A='1'\nexport B='2'\n"
	m, err := ParseClipMark(newMark(t, text).String())
	if err != nil {
		t.Fatal(err)
	}
	for other, want := range map[string]bool{
		text: true, strings.TrimSpace(text): true, strings.ReplaceAll(text, "\n", "\r\n"): true, text + "\n": true,
		"": false, text + "x": false, " " + text: false, strings.ToUpper(text): false, strings.ReplaceAll(text, "\n", " "): false,
		text[:len(text)-2]: false,
	} {
		if m.matches(other) != want {
			t.Errorf("the mark of %q matches %q: %v, want %v", text, other, !want, want)
		}
	}
	if (ClipMark{}).matches("") || (ClipMark{}).matches(text) {
		t.Error("the zero mark matches a text")
	}
}

// Two marks of one text have nothing in common: nobody sees that the same was copied twice, or has a table of hashes.
func TestClipMarkIsSalted(t *testing.T) {
	one, other := newMark(t, "text").String(), newMark(t, "text").String()
	for i := range 4 {
		if part := one[i*16 : i*16+16]; strings.Contains(other, part) {
			t.Errorf("the marks %s and %s of one text share %s", one, other, part)
		}
	}
	failure := errors.New("no randomness")
	if _, err := NewClipMark(iotest.ErrReader(failure), credential.NewSecret("text")); !errors.Is(err, failure) {
		t.Errorf("NewClipMark without randomness = %v, want %v", err, failure)
	}
}

func TestParseClipMarkErrors(t *testing.T) {
	mark := newMark(t, "text").String()
	for _, text := range []string{"", mark[1:], mark + "AAAA", mark + "=", "!" + mark[1:], strings.Repeat("A", 66)} {
		if m, err := ParseClipMark(text); !fault.Is(err, fault.Invalid) || m != (ClipMark{}) {
			t.Errorf("ParseClipMark(%q) = %v, %v, want code invalid", text, m, err)
		}
	}
}
