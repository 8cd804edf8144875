package credential

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"keyctl/internal/fault"
)

func TestAppendINI(t *testing.T) {
	section := strings.Replace(goldens[INI], "[web-01]", "[prod]", 1)
	crlf := func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }
	const (
		old   = "[prod]\nACCESS_KEY_ID = KC1\n# about the key\nREGION = x\n"
		other = "; about other\n[other]\n  SERVER=a\n"
	)
	tests := []struct {
		name, existing string
		replace        bool
		want           string
	}{
		{"empty", "", false, section},
		{"empty, replacing", "", true, section},
		{"mark only", "\uFEFF", false, "\uFEFF" + section},
		{"comment only", "# keys\n", false, "# keys\n\n" + section},
		{"after another", other, false, other + "\n" + section},
		{"after another and a blank line", other + "\n", false, other + "\n" + section},
		{"after another without a newline", strings.TrimSuffix(other, "\n"), false, other + "\n" + section},
		{"after another in CRLF", crlf(other), false, crlf(other + "\n" + section)},
		{"after one of another case", "[Prod]\n", false, "[Prod]\n\n" + section},
		{"after one that begins the same", "[prod2]\nx=1\n", true, "[prod2]\nx=1\n\n" + section},
		{"replacing the only one", old, true, section},
		{"replacing the only one after a mark", "\uFEFF" + old, true, "\uFEFF" + section},
		{"replacing the first", old + "\n" + other, true, section + "\n" + other},
		{"replacing the last", other + old, true, other + section},
		{"replacing the middle one", "[a]\nx=1\n\n" + old + "\n\n" + other, true, "[a]\nx=1\n\n" + section + "\n\n" + other},
		{"replacing in CRLF", crlf("[a]\n" + old + other), true, crlf("[a]\n" + section + other)},
		{"replacing one that is only a head", "[prod]\n\n" + other, true, section + "\n" + other},
		{"replacing without a final newline", other + "[prod]\nSERVER=b", true, other + section},
		{"replacing one with blanks in its head", "  [ prod ]  # mine\nSERVER=b\n" + other, true, section + other},
		{"replacing before comments", old + "# the end\n", true, section + "# the end\n"},
	}
	for _, test := range tests {
		existing := []byte(test.existing)
		got, err := AppendINI(existing, testCredential(), "prod", test.replace)
		if err != nil {
			t.Errorf("%s: AppendINI = %v", test.name, err)
			continue
		}
		if diff := cmp.Diff(test.want, string(got)); diff != "" {
			t.Errorf("%s: AppendINI (-want +got):\n%s", test.name, diff)
		}
		if string(existing) != test.existing {
			t.Errorf("%s: AppendINI changed its argument", test.name)
		}
	}
}

func TestAppendINIRefuses(t *testing.T) {
	tests := []struct {
		name, existing, profile string
		replace                 bool
		code                    fault.Code
	}{
		{"there already", goldens[INI], "web-01", false, fault.Exists},
		{"there already, by the credential's name", goldens[INI], "", false, fault.Exists},
		{"there already, empty", "[prod]\n", "prod", false, fault.Exists},
		{"there twice", "[prod]\n[a]\n[prod]\n", "prod", true, fault.Invalid},
		{"variables", goldens[Env], "prod", false, fault.Invalid},
		{"keys before a section", "SERVER = a\n[prod]\n", "prod", true, fault.Invalid},
		{"json", goldens[JSON], "prod", true, fault.Invalid},
		{"bad profile", "", "a b", false, fault.Invalid},
		{"profile of one character", "", "a", false, fault.Invalid},
		{"too long", "#" + strings.Repeat("x", maxText-1), "prod", false, fault.Invalid},
	}
	for _, test := range tests {
		got, err := AppendINI([]byte(test.existing), testCredential(), test.profile, test.replace)
		if !fault.Is(err, test.code) || got != nil {
			t.Errorf("%s: AppendINI = %q, %v, want %s", test.name, got, err, test.code)
		}
	}
	if _, err := AppendINI(nil, Credential{}, "prod", false); !fault.Is(err, fault.Invalid) {
		t.Errorf("AppendINI of no credential = %v, want invalid", err)
	}
}

// Whatever was there: the new profile reads back, and what was there stays, as a beginning or around the section.
func FuzzAppendINI(f *testing.F) {
	f.Add([]byte(""), false)
	f.Add([]byte(goldens[INI]), false)
	f.Add([]byte("\uFEFF; a\r\n[prod] # b\r\nSERVER = c\r\n\r\n; d\r\n[e]\r\n"), true)
	f.Add([]byte(" \r"), false)
	f.Add([]byte("[a]\nx=1\n[prod]\ny=2\n[prod2]"), true)
	f.Fuzz(func(t *testing.T, existing []byte, replace bool) {
		c := testCredential()
		got, err := AppendINI(existing, c, "prod", replace)
		if err != nil {
			if code := fault.CodeOf(err); code != fault.Invalid && code != fault.Exists {
				t.Errorf("AppendINI(%q) = %v, want invalid or exists", existing, err)
			}
			return
		}
		if !replace && !bytes.HasPrefix(got, existing) {
			t.Errorf("AppendINI(%q) = %q, want it to begin with what was there", existing, got)
		}
		parsed, err := Parse(bytes.NewReader(got), "prod")
		if want := carried(c, INI, "prod"); err != nil || !cmp.Equal(parsed, want) {
			t.Errorf("Parse(AppendINI(%q)) = %+v, %v, want %+v", existing, parsed, err, want)
		}
		// Where both kinds of line end occur, replacing may settle on the other one.
		withoutCR := func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("\r"), nil) }
		again, err := AppendINI(got, c, "prod", true)
		if err != nil || !bytes.Equal(withoutCR(again), withoutCR(got)) {
			t.Errorf("AppendINI(%q) again = %q, %v, want the same", got, again, err)
		}
	})
}
