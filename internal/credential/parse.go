package credential

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"keyctl/internal/fault"
)

// maxText bounds the texts that Parse and AppendINI read, in bytes. A credential takes 300.
const maxText = 1 << 20

const byteOrderMark = "\uFEFF"

// Parse reads a credential in any Format, which it tells by the text itself. It takes CRLF for LF, passes over a byte
// order mark, over other variables, keys and members beside the credential's, and over the borders of the box that a
// terminal shows. An ini text and Kubernetes manifests can hold several credentials: profile names the section or
// object, and may be empty when there is one only or one of them is called "default".
//
// The result has passed Validate. Its Name is what the text has for one, as far as a key could have that name; Env and
// Dotenv have none. Errors are fault.Invalid, or fault.NotFound when there is no such profile, and repeat nothing of the
// text but the names of profiles; a failure of r is returned as it is, wrapped.
func Parse(r io.Reader, profile string) (Credential, error) {
	text, err := readText(r)
	if err != nil {
		return Credential{}, err
	}
	entries, err := parseEntries(text)
	if err != nil {
		return Credential{}, err
	}
	e, err := choose(entries, profile)
	if err != nil {
		return Credential{}, err
	}
	return e.credential()
}

func readText(r io.Reader) (string, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxText+1))
	if err != nil {
		return "", fmt.Errorf("reading a credential: %w", err)
	}
	if len(data) > maxText {
		return "", errTooLong()
	}
	return strings.ReplaceAll(strings.TrimPrefix(string(data), byteOrderMark), "\r\n", "\n"), nil
}

func errTooLong() error {
	return fault.New(fault.Invalid, "a text of more than %d bytes is no credential", maxText)
}

// parseEntries tells the format and reads the text. The order of the questions matters: an ini or JSON text says what it
// is in its first line, a manifest in some line, and a text for people can have anything around it.
func parseEntries(text string) ([]*entry, error) {
	first := firstLine(text)
	_, isSection := sectionName(first)
	switch {
	case isSection:
		return parseINI(text)
	case strings.HasPrefix(first, "{"):
		return parseJSON(text)
	case isManifest(text):
		return parseManifests(text)
	case isLabelled(text):
		return parseLabelled(text), nil
	}
	return parseVariables(text), nil
}

// firstLine returns the first line that is neither blank nor a comment.
func firstLine(text string) string {
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); isContent(line) {
			return line
		}
	}
	return ""
}

// isContent reports whether a trimmed line is neither blank nor a comment.
func isContent(line string) bool {
	return line != "" && line[0] != '#' && line[0] != ';'
}

// entry is one credential on its way out of a text, not yet checked. Its err is the first thing that was wrong with it; it
// matters only when this entry is the one that is wanted.
type entry struct {
	format   Format
	name     string
	values   values
	datasets []string
	err      error
}

// set takes the value of fields[i]. An empty value counts as absent; a second value must be the first one again, for
// nobody could tell which of two secrets is meant.
func (e *entry) set(i int, value string) {
	switch e.values[i] {
	case "":
		e.values[i] = value
	case value:
	default:
		if value != "" {
			e.fail("%q is given twice with different values", fields[i].in(e.format))
		}
	}
}

func (e *entry) fail(format string, args ...any) {
	if e.err == nil {
		e.err = fault.New(fault.Invalid, format, args...)
	}
}

// isCredential tells an entry with something of a credential in it from other sections and objects.
func (e *entry) isCredential() bool {
	return e.err != nil || e.values[accessKeyID] != "" || e.values[signingKey] != "" || e.values[cryptoAccessKey] != ""
}

// credential checks the entry and turns it into what it stands for.
func (e *entry) credential() (Credential, error) {
	if e.err != nil {
		return Credential{}, e.err
	}
	for _, i := range []int{accessKeyID, signingKey, cryptoAccessKey} {
		if e.values[i] == "" {
			return Credential{}, fault.New(fault.Invalid, "the credential has no %q", fields[i].in(e.format))
		}
	}
	c := Credential{
		AccessKeyID:     e.values[accessKeyID],
		SigningKey:      NewSecret(e.values[signingKey]),
		CryptoAccessKey: NewSecret(e.values[cryptoAccessKey]),
		Server:          e.values[server],
		Datasets:        e.datasets,
	}
	if IsName(e.name) {
		c.Name = e.name
	}
	if err := c.Validate(); err != nil {
		return Credential{}, err
	}
	return c, nil
}

// choose returns the entry that is meant: the profile's, else the only one, else the one called "default".
func choose(entries []*entry, profile string) (*entry, error) {
	entries = slices.DeleteFunc(entries, func(e *entry) bool { return !e.isCredential() })
	if len(entries) == 0 {
		return nil, fault.New(fault.Invalid, "there is no credential in the text").
			WithHint("the formats are %s", formatNames())
	}
	if f := entries[0].format; profile != "" && f != INI && f != K8s {
		return nil, fault.New(fault.Invalid, "a profile was named, but the credential is in the %s format, which has none", f).
			WithHint("leave the profile out")
	}
	if profile == "" && len(entries) == 1 {
		return entries[0], nil
	}
	wanted := profile
	if wanted == "" {
		wanted = "default"
	}
	for _, e := range entries {
		if e.name == wanted {
			return e, nil
		}
	}
	if profile == "" {
		return nil, fault.New(fault.Invalid, "there are several profiles and none was named").
			WithHint("the profiles are %s", profileNames(entries))
	}
	return nil, fault.New(fault.NotFound, "there is no credential for that profile").
		WithHint("the profiles are %s", profileNames(entries))
}

// profileNames lists the entries' names for a message. A name that keyctl would not have given is not repeated: it may
// be anything.
func profileNames(entries []*entry) string {
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = "(one with an unusual name)"
		if IsName(e.name) {
			names[i] = fmt.Sprintf("%q", e.name)
		}
	}
	return strings.Join(names, ", ")
}

// parseVariables reads env and dotenv texts, and any file of variables that has the credential's among them.
func parseVariables(text string) []*entry {
	e := &entry{format: Env}
	for line := range strings.Lines(text) {
		name, value, found := strings.Cut(strings.TrimSpace(line), "=")
		if rest, exported := strings.CutPrefix(name, "export"); exported && strings.TrimLeft(rest, " \t") != rest {
			name = rest
		}
		i := fieldIndex(Env, strings.TrimSpace(name))
		if !found || i < 0 {
			continue
		}
		value, ok := unquote(strings.TrimSpace(value))
		if !ok {
			e.fail("the value of %q is not one word or one quoted text", fields[i].in(Env))
		}
		e.set(i, value)
	}
	return []*entry{e}
}

// fieldIndex returns the index of the field that the format calls word, or -1.
func fieldIndex(f Format, word string) int {
	return slices.IndexFunc(fields[:], func(d field) bool { return d.in(f) == word })
}

// unquote returns the value of a variable: a word, or what stands between two quotes of a kind, with nothing but a
// comment after it. No value of a credential needs an escape, so none is known.
func unquote(text string) (value string, ok bool) {
	var rest string
	if text != "" && (text[0] == '\'' || text[0] == '"') {
		value, rest, ok = strings.Cut(text[1:], text[:1])
		if !ok {
			return "", false
		}
	} else if end := strings.IndexAny(text, " \t"); end >= 0 {
		value, rest = text[:end], text[end:]
	} else {
		value = text
	}
	rest = strings.TrimSpace(rest)
	return value, rest == "" || rest[0] == '#'
}

// isLabelled reports whether a line has the label of an access key id, as the Text format has.
func isLabelled(text string) bool {
	for line := range strings.Lines(text) {
		if i, _ := labelled(unboxed(line)); i == accessKeyID {
			return true
		}
	}
	return false
}

// parseLabelled reads the Text format. The line before the first label is the name, or the upper border of the terminal's
// box: the name, a comma and something more.
func parseLabelled(text string) []*entry {
	e := &entry{format: Text}
	var previous string
	for line := range strings.Lines(text) {
		line = unboxed(line)
		i, value := labelled(line)
		if i < 0 {
			previous = line
			continue
		}
		if !e.isCredential() {
			e.name, _, _ = strings.Cut(previous, ",")
		}
		e.set(i, value)
	}
	return []*entry{e}
}

// unboxed returns a line without the box-drawing characters (U+2500 to U+257F) and blanks at its ends, or, if it is the
// border of a box in ASCII, without that one's. Elsewhere a hyphen stays: it may end a name.
func unboxed(line string) string {
	line = strings.TrimFunc(line, func(r rune) bool {
		return '\u2500' <= r && r <= '\u257F' || r == ' ' || r == '\t' || r == '\r' || r == '\n'
	})
	if strings.HasPrefix(line, "+-") && strings.HasSuffix(line, "-+") {
		return strings.Trim(line, "+- ")
	}
	return line
}

// labelled splits a line into a label, given by its field's index, and its value; without both the index is -1. The value
// is one word, so that a sentence that begins like a label is not taken for one.
func labelled(line string) (i int, value string) {
	for i, d := range fields {
		rest, ok := strings.CutPrefix(line, d.label)
		value := strings.TrimLeft(rest, " \t")
		if ok && value != rest && value != "" && !strings.ContainsAny(value, " \t") {
			return i, value
		}
	}
	return -1, ""
}

// parseJSON reads the object that Document writes, and a Kubernetes Secret in JSON, which is what kubectl shows. Member
// names count exactly, unlike in package json, where "SERVER" and "server" are one.
func parseJSON(text string) ([]*entry, error) {
	members, err := jsonMembers(text)
	if err != nil {
		return nil, err
	}
	if string(members["kind"]) == `"Secret"` {
		return parseManifests(text)
	}
	e := &entry{format: JSON}
	for i, d := range fields {
		value, err := jsonMember[string](members, d.in(JSON))
		if err != nil {
			return nil, err
		}
		e.values[i] = value
	}
	if e.name, err = jsonMember[string](members, "name"); err != nil {
		return nil, err
	}
	if e.datasets, err = jsonMember[[]string](members, "datasets"); err != nil {
		return nil, err
	}
	if len(e.datasets) == 0 {
		e.datasets = nil
	}
	return []*entry{e}, nil
}

// jsonMembers returns the members of the one object that text is. A member may come twice only if it is the same.
func jsonMembers(text string) (map[string]json.RawMessage, error) {
	malformed := fault.New(fault.Invalid, "the text begins like a JSON object and is not exactly one")
	d := json.NewDecoder(strings.NewReader(text))
	if _, err := d.Token(); err != nil {
		return nil, malformed
	}
	members := make(map[string]json.RawMessage)
	for d.More() {
		token, err := d.Token()
		name, ok := token.(string)
		if err != nil || !ok {
			return nil, malformed
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, malformed
		}
		if old, twice := members[name]; twice && !bytes.Equal(old, value) {
			return nil, fault.New(fault.Invalid, "a member of the JSON object is given twice with different values")
		}
		members[name] = value
	}
	if _, err := d.Token(); err != nil {
		return nil, malformed
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, malformed
	}
	return members, nil
}

// jsonMember returns a member as a T; one that is null or not there is the zero T.
func jsonMember[T any](members map[string]json.RawMessage, name string) (value T, err error) {
	raw, ok := members[name]
	if !ok {
		return value, nil
	}
	if json.Unmarshal(raw, &value) != nil {
		return value, fault.New(fault.Invalid, "the JSON member %q is not of the right type", name)
	}
	return value, nil
}
