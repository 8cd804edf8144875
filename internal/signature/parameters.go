package signature

import "strings"

// maxHeader bounds the Signature header. The longest that a library sends has 330 bytes, and one has room for 512.
const maxHeader = 1 << 10

const keyIDLength = 24

// algorithm is the only one there is, by the name the libraries have for it.
const algorithm = "hmac-sha512"

// parameters are the values in a Signature header. What is missing is empty; what is there is not.
type parameters struct {
	keyID     string
	algorithm string
	created   string
	headers   string
	signature string
}

// parseParameters reads a Signature header, which has to look as all libraries write it: parameters once each and with no
// others among them, in any order, with a comma and optional spaces between, and in quotes, but for created, which is a
// number without.
func parseParameters(text string) (p parameters, err error) {
	if len(text) > maxHeader {
		return p, malformed("it is longer than %d bytes", maxHeader)
	}
	for {
		name, rest, ok := strings.Cut(text, "=")
		if !ok {
			return p, malformed("there is something other than a parameter")
		}
		value := p.named(name)
		switch {
		case value == nil:
			return p, malformed("it has an unknown parameter")
		case *value != "":
			return p, malformed("it has a parameter twice")
		}
		if value == &p.created {
			*value, rest = cutDigits(rest)
		} else {
			*value, rest = cutQuoted(rest)
		}
		switch {
		case *value == "":
			return p, malformed("a parameter has an empty value or one of the wrong form")
		case rest == "":
			return p, nil
		case rest[0] != ',':
			return p, malformed("there is something between its parameters")
		}
		text = strings.TrimLeft(rest[1:], " ")
	}
}

// named returns the place of the parameter with exactly that name, or nil.
func (p *parameters) named(name string) *string {
	switch name {
	case "keyId":
		return &p.keyID
	case "algorithm":
		return &p.algorithm
	case "created":
		return &p.created
	case "headers":
		return &p.headers
	case "signature":
		return &p.signature
	}
	return nil
}

// cutQuoted returns what stands between quotes at the beginning of text, and what follows. There are no escapes: no value
// that can be right needs one.
func cutQuoted(text string) (value, rest string) {
	text, opened := strings.CutPrefix(text, `"`)
	value, rest, closed := strings.Cut(text, `"`)
	if !opened || !closed {
		return "", rest
	}
	return value, rest
}

// cutDigits returns the digits at the beginning of text, and what follows.
func cutDigits(text string) (value, rest string) {
	n := 0
	for n < len(text) && '0' <= text[n] && text[n] <= '9' {
		n++
	}
	return text[:n], text[n:]
}

// parseCreated reads seconds since 1970, digits without a leading zero.
func parseCreated(digits string) (seconds int64, err error) {
	if len(digits) > 12 || digits[0] == '0' {
		return 0, malformed("its time of creation is no number of seconds")
	}
	for _, d := range []byte(digits) {
		seconds = seconds*10 + int64(d-'0')
	}
	return seconds, nil
}

// isKeyID reports whether text can be an access key id. It does not ask for the prefix that keyctl draws: a well-formed id
// that nobody has is unknown, not malformed.
func isKeyID(text string) bool {
	if len(text) != keyIDLength {
		return false
	}
	for _, c := range []byte(text) {
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}

// isName reports whether text may stand in the list: a header's name in lower case, or one of the two that are none.
func isName(text string) bool {
	if text == nameCreated || text == nameTarget {
		return true
	}
	for _, c := range []byte(text) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && c != '-' && c != '_' {
			return false
		}
	}
	return text != ""
}
