package keys

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"keyctl/internal/credential"
	"keyctl/internal/fault"
)

// Limits of the words people give to things.
const (
	maxDescription = 256 // characters
	maxLabels      = 32
	maxLabelValue  = 128 // characters
)

// ValidateName checks the name of a key, dataset or Primary Key: 1 to 64 ASCII letters, digits, dots, underscores and
// dashes, beginning with a letter or digit, and not shaped like an access key id. what is the noun for the message.
// Names compare exactly, byte for byte. Fails with fault.Invalid.
func ValidateName(what, name string) error {
	const form = "use 1 to 64 letters, digits, dots, underscores and dashes, beginning with a letter or digit: web-01"
	switch {
	case looksSecret(name):
		return fault.New(fault.Invalid, "what was given as the name of a %s looks like a secret or is too long", what).WithHint(form)
	case credential.IsAccessKeyID(name):
		return fault.New(fault.Invalid, "%q is shaped like an access key id and cannot name a %s", name, what).
			WithHint("choose a name such as web-01")
	case !credential.IsName(name):
		return fault.New(fault.Invalid, "%q cannot name a %s", name, what).WithHint(form)
	}
	return nil
}

// looksSecret reports whether a word given as a name or an id may be a secret pasted in the wrong place, or has one in it:
// such a word is not repeated in an error, and names nothing. Names and ids are short.
func looksSecret(word string) bool {
	begins := func(kind string) bool { return strings.HasPrefix(word, kind) }
	return slices.ContainsFunc([]string{"kcs_", "kcx_", "kcm_", "kct_"}, begins) || credential.MaskTokens(word) != word || len(word) > 64
}

// isLabel reports whether text can name a label: 1 to 63 characters, like a name, and slashes.
func isLabel(text string) bool {
	return len(text) < 64 && credential.IsName(strings.ReplaceAll(text, "/", "-")) && text[0] != '/'
}

// validateText checks free text: at most limit characters, all printable, no control characters and none of Unicode's
// formatting characters (bidirectional overrides among them), so that it can be shown anywhere as it is.
func validateText(what, text string, limit int) error {
	if !utf8.ValidString(text) {
		return fault.New(fault.Invalid, "the %s is not valid UTF-8", what)
	}
	if n := utf8.RuneCountInString(text); n > limit {
		return fault.New(fault.Invalid, "the %s has %d characters", what, n).WithHint("the limit is %d", limit)
	}
	for _, r := range text {
		if !unicode.IsPrint(r) {
			return fault.New(fault.Invalid, "the %s holds the unprintable character %U", what, r).
				WithHint("use printable characters on one line")
		}
	}
	return nil
}

// validateLabels checks a whole label set.
func validateLabels(labels map[string]string) error {
	if len(labels) > maxLabels {
		return fault.New(fault.Invalid, "%d labels on one key", len(labels)).WithHint("the limit is %d", maxLabels)
	}
	for name, value := range labels {
		if !isLabel(name) {
			return fault.New(fault.Invalid, "%q cannot name a label", name).
				WithHint("use 1 to 63 letters, digits, dots, slashes, underscores and dashes: --label env=prod")
		}
		if err := validateText("value of label "+name, value, maxLabelValue); err != nil {
			return err
		}
	}
	return nil
}
