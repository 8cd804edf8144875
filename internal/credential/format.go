package credential

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"keyctl/internal/fault"
)

// Format is a way to write a credential. Parse reads each of them back.
type Format string

// The formats.
const (
	Text   Format = "text"   // labelled lines for people
	Env    Format = "env"    // export lines for a shell
	Dotenv Format = "dotenv" // the same variables without export and quotes
	JSON   Format = "json"   // the object that Document describes
	INI    Format = "ini"    // a profile of the client libraries' credentials file
	K8s    Format = "k8s"    // a Kubernetes Secret manifest
)

// Formats returns every format once, in the order in which help texts list them.
func Formats() []Format { return []Format{Text, Env, Dotenv, JSON, INI, K8s} }

// ParseFormat returns the format of that exact name, else fault.Invalid with the names there are.
func ParseFormat(text string) (Format, error) {
	if f := Format(text); slices.Contains(Formats(), f) {
		return f, nil
	}
	return "", fault.New(fault.Invalid, "unknown credential format").WithHint("the formats are %s", formatNames())
}

func formatNames() string {
	var names []string
	for _, f := range Formats() {
		names = append(names, string(f))
	}
	return strings.Join(names, ", ")
}

// field is one of the values that every format carries, by the words the formats have for it: label in text, name in
// ini, name after "UBIQ_" in variables and name in lower case in json.
type field struct{ label, name string }

// envPrefix begins the variables that client libraries read.
const envPrefix = "UBIQ_"

// The indices of fields.
const (
	accessKeyID = iota
	signingKey
	cryptoAccessKey
	server
	fieldCount
)

var fields = [fieldCount]field{
	accessKeyID:     {"Access key id", "ACCESS_KEY_ID"},
	signingKey:      {"Secret signing key", "SECRET_SIGNING_KEY"},
	cryptoAccessKey: {"Secret crypto access key", "SECRET_CRYPTO_ACCESS_KEY"},
	server:          {"Server", "SERVER"},
}

// in returns the format's word for the field.
func (d field) in(f Format) string {
	switch f {
	case Text:
		return d.label
	case JSON:
		return strings.ToLower(d.name)
	case INI:
		return d.name
	}
	return envPrefix + d.name
}

// values holds a credential's values in the order of fields, in the clear; an empty one is absent.
type values [fieldCount]string

func (c Credential) values() values {
	return values{
		accessKeyID:     c.AccessKeyID,
		signingKey:      c.SigningKey.Reveal(),
		cryptoAccessKey: c.CryptoAccessKey.Reveal(),
		server:          c.Server,
	}
}

// WriteOptions is what a format needs to know beyond the credential.
type WriteOptions struct {
	// Profile names the section of an ini text and the object of a Kubernetes manifest. Empty means the credential's
	// name. The other formats have no use for it.
	Profile string
}

// Write writes the credential, secrets in the clear, in one call of w.Write. A line is written for the server only when
// it is known. The error is fault.Invalid, before anything was written, when the credential does not pass Validate or
// the profile cannot be written, and else w's.
func (c Credential) Write(w io.Writer, f Format, opts WriteOptions) error {
	text, err := c.format(f, cmp.Or(opts.Profile, c.Name))
	if err != nil {
		return err
	}
	if _, err := w.Write(text); err != nil {
		return fmt.Errorf("writing the credential: %w", err)
	}
	return nil
}

func (c Credential) format(f Format, profile string) ([]byte, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if err := CheckProfile(f, profile); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	switch f {
	case Text:
		if c.Name != "" {
			fmt.Fprintln(&b, c.Name)
		}
		c.writeFields(&b, f, "%-24s  %s\n")
	case Env:
		// Validate lets no value through that has a quote in it.
		c.writeFields(&b, f, "export %s='%s'\n")
	case Dotenv:
		c.writeFields(&b, f, "%s=%s\n")
	case JSON:
		text, err := json.MarshalIndent(Document{Credential: c}, "", "  ")
		if err != nil {
			return nil, fmt.Errorf("encoding the credential: %w", err)
		}
		return append(text, '\n'), nil
	case INI:
		c.writeSection(&b, profile)
	case K8s:
		c.writeManifest(&b, profile)
	default:
		_, err := ParseFormat(string(f))
		return nil, err
	}
	return b.Bytes(), nil
}

// Environ returns the variables that client libraries read, as NAME=value, secrets in the clear. There is none for a server
// that is not known.
func (c Credential) Environ() []string {
	var variables []string
	for i, value := range c.values() {
		if value != "" {
			variables = append(variables, fields[i].in(Env)+"="+value)
		}
	}
	return variables
}

// CheckProfile tells before a credential is drawn whether the format can write it under that profile: fault.Invalid. Of
// the formats that have no profile, every one is right.
func CheckProfile(f Format, profile string) error {
	switch {
	case f == INI:
		return checkSectionName(profile)
	case f == K8s && !IsName(profile):
		return malformedName("profile")
	}
	return nil
}

// writeFields writes each value that is known, after the format's word for it, as the layout says.
func (c Credential) writeFields(b *bytes.Buffer, f Format, layout string) {
	for i, value := range c.values() {
		if value != "" {
			fmt.Fprintf(b, layout, fields[i].in(f), value)
		}
	}
}
