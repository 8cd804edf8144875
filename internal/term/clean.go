package term

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Clean returns s with everything that could do more than be read written as a Go escape (\x1b, \n, \u202e): control
// characters, which steer a terminal; line and paragraph separators; format characters, among them the overrides that
// make text appear in another order; and bytes that are no UTF-8. What is shown but was chosen by somebody else passes
// through here (R26). The joiners U+200C and U+200D stay: scripts and emoji need them. The result is for
// people and cannot be turned back.
func Clean(s string) string {
	bad := strings.IndexFunc(s, hostile)
	if bad < 0 && utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	b.Grow(len(s) + 16)
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && size == 1:
			b.WriteString(`\x` + strconv.FormatUint(uint64(s[0]), 16))
		case hostile(r):
			quoted := strconv.QuoteRuneToASCII(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		default:
			b.WriteString(s[:size])
		}
		s = s[size:]
	}
	return b.String()
}

// hostile reports whether a character must not reach a terminal as it is.
func hostile(r rune) bool {
	if r < 0x7f {
		return r < 0x20
	}
	if r == '\u200c' || r == '\u200d' {
		return false
	}
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
}

// cleanLines is Clean for a text of several lines, each of which is to end in eol.
func cleanLines(s, eol string) string {
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		lines[i] = Clean(line)
	}
	return strings.Join(lines, eol)
}
