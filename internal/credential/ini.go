package credential

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"

	"keyctl/internal/fault"
)

// checkSectionName returns fault.Invalid unless a profile of that name can be written to an ini text: a name like a key's,
// of more than one character, because the Go client library passes over shorter ones.
func checkSectionName(profile string) error {
	if !IsName(profile) {
		return malformedName("profile")
	}
	if len(profile) == 1 {
		return fault.New(fault.Invalid, "the profile %q is too short: the Go client library ignores it", profile).
			WithHint("name a profile of at least two characters")
	}
	return nil
}

// writeSection writes the credential as one section, named profile. The keys are in upper case because the Go client
// library knows no other.
func (c Credential) writeSection(b *bytes.Buffer, profile string) {
	fmt.Fprintf(b, "[%s]\n", profile)
	c.writeFields(b, INI, "%s = %s\n")
}

// AppendINI returns the ini text existing with the credential added as a section named profile, or named after the
// credential when profile is empty. Everything else stays byte for byte, and the new lines end like the ones there are. A
// section of that name is fault.Exists, unless replace is set: then its lines are replaced, up to the comments and blank
// lines before the next section, which belong to that. The error is fault.Invalid when the credential, the profile or
// existing is malformed; existing may be empty.
func AppendINI(existing []byte, c Credential, profile string, replace bool) ([]byte, error) {
	profile = cmp.Or(profile, c.Name)
	addition, err := c.format(INI, profile)
	if err != nil {
		return nil, err
	}
	text := string(existing)
	at, err := insertion(text, profile, replace)
	if err != nil {
		return nil, err
	}
	newline := "\n"
	if strings.Contains(text, "\r\n") {
		newline = "\r\n"
	}
	before, after := text[:at.start], text[at.end:]
	if at.start == len(text) {
		before += separator(before, newline)
	}
	result := before + strings.ReplaceAll(string(addition), "\n", newline) + after
	if len(result) > maxText {
		return nil, errTooLong()
	}
	return []byte(result), nil
}

// CheckAppendINI tells, before there is a credential, how AppendINI would refuse a profile.
func CheckAppendINI(existing []byte, profile string, replace bool) error {
	if err := checkSectionName(profile); err != nil {
		return err
	}
	_, err := insertion(string(existing), profile, replace)
	return err
}

// insertion returns the place of the profile's section in an ini text: the one to replace, or the very end.
func insertion(text, profile string, replace bool) (section, error) {
	sections, err := iniSections(text)
	if err != nil {
		return section{}, err
	}
	found := slices.DeleteFunc(sections, func(s section) bool { return s.name != profile })
	switch {
	case len(found) == 0:
		return section{name: profile, start: len(text), end: len(text)}, nil
	case !replace:
		return section{}, fault.New(fault.Exists, "profile %q is there already", profile).
			WithHint("name another profile, or replace this one with --replace")
	case len(found) > 1:
		return section{}, fault.New(fault.Invalid, "profile %q is there twice", profile).WithHint("remove one by hand")
	}
	return found[0], nil
}

// separator returns what is missing after text for a blank line before the next section.
func separator(text, newline string) string {
	switch {
	case text == "" || text == byteOrderMark || strings.HasSuffix(text, newline+newline):
		return ""
	case strings.HasSuffix(text, "\n"):
		return newline
	}
	return newline + newline
}

// parseINI reads every section of an ini text as a credential, though it may be none. Keys count in any case, as in most
// client libraries, and are followed by an equals sign or a colon.
func parseINI(text string) ([]*entry, error) {
	sections, err := iniSections(text)
	if err != nil {
		return nil, err
	}
	byName := make(map[string]*entry)
	var entries []*entry
	for _, s := range sections {
		e := byName[s.name]
		if e == nil {
			e = &entry{format: INI, name: s.name}
			byName[s.name] = e
			entries = append(entries, e)
		}
		for line := range strings.Lines(text[s.start:s.end]) {
			at := strings.IndexAny(line, "=:")
			if at < 0 {
				continue
			}
			if i := fieldIndex(INI, strings.ToUpper(strings.TrimSpace(line[:at]))); i >= 0 {
				e.set(i, strings.TrimSpace(line[at+1:]))
			}
		}
	}
	return entries, nil
}

// section is a section of an ini text: its name and where it is, from its head to after its last line that is neither
// blank nor a comment.
type section struct {
	name       string
	start, end int
}

// iniSections returns the sections in order. A line before the first of them, other than blank ones and comments, is
// fault.Invalid: such a text is something else, and client libraries refuse it.
func iniSections(text string) ([]section, error) {
	var sections []section
	at := len(text) - len(strings.TrimPrefix(text, byteOrderMark))
	for line := range strings.Lines(text[at:]) {
		start := at
		at += len(line)
		line = strings.TrimSpace(line)
		if name, ok := sectionName(line); ok {
			sections = append(sections, section{name: name, start: start, end: at})
			continue
		}
		if !isContent(line) {
			continue
		}
		if len(sections) == 0 {
			return nil, fault.New(fault.Invalid, "the text is not an ini text: it does not begin with a [profile]")
		}
		sections[len(sections)-1].end = at
	}
	return sections, nil
}

// sectionName returns the name in a trimmed line of the form [name], which may have a comment after it.
func sectionName(line string) (string, bool) {
	name, rest, ok := strings.Cut(strings.TrimPrefix(line, "["), "]")
	if !ok || !strings.HasPrefix(line, "[") || isContent(strings.TrimSpace(rest)) {
		return "", false
	}
	return strings.TrimSpace(name), true
}
