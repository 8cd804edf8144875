package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"

	"keyctl/internal/credential"
	"keyctl/internal/fault"
	"keyctl/internal/safefile"
)

// maxFileBytes bounds the configuration file; a hundred contexts take a tenth of it.
const maxFileBytes = 64 << 10

// document is a configuration file: settings, and settings by the name of a context.
//
//	context: production
//	timeout: 10s
//	contexts:
//	  production:
//	    store: sqlite:/var/lib/keyctl/keyctl.db
//	    master-key: command:vault-read keyctl
//
// The file is read here rather than by viper, which folds names to lower case, splits them at dots, takes the last of
// two equal fields and cannot say in which line something is wrong.
type document struct {
	path     string
	values   map[string]string
	contexts map[string]map[string]string
}

// The fields that may stand at the top of the file and in a context.
var (
	fileFields = []string{
		keyStore, keyServer, keyCAFile, keyToken, keyMasterKey, keyContext, keyOutput, keyNoInput, keyTimeout, keyColor,
		keyDefaultGrace, keyOTPCommand, keyListen, keyTLSCert, keyTLSKey, keyBehindProxy, keyTrustedProxies, keyForwardedHeader, keyClockSkew,
		keyContexts,
	}
	contextFields = []string{keyStore, keyServer, keyCAFile, keyToken, keyMasterKey, keyDefaultGrace}
)

// printableField is what an unknown field must look like to be repeated in an error. It is too short for any secret
// that keyctl makes. Like the other expressions of this package it is compiled when it is needed: every command waits
// for what happens at its start.
var printableField = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]{0,31}$`) })

// readFile reads the configuration file. One that does not exist, or whose place is unknown, is empty.
func readFile(path string) (document, error) {
	if path == "" {
		return document{}, nil
	}
	data, err := safefile.ReadConfig(path, maxFileBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return document{path: path}, nil
	}
	if err != nil {
		return document{}, err
	}
	return parseDocument(path, data)
}

// parseDocument reads YAML. Errors are fault.Invalid and name the line; they repeat no values, which may be secrets in
// the wrong place.
func parseDocument(path string, data []byte) (document, error) {
	d := document{path: path, values: make(map[string]string), contexts: make(map[string]map[string]string)}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var root, next yaml.Node
	if err := decoder.Decode(&root); errors.Is(err, io.EOF) {
		return d, nil
	} else if err != nil {
		return document{}, d.syntaxError(err)
	}
	if err := decoder.Decode(&next); err == nil {
		return document{}, d.invalid(next.Line, "a second document")
	} else if !errors.Is(err, io.EOF) {
		return document{}, d.syntaxError(err)
	}
	if len(root.Content) != 1 {
		return d, nil
	}
	err := d.fields(root.Content[0], fileFields, func(name string, value *yaml.Node) error {
		if name == keyContexts {
			return d.readContexts(value)
		}
		return d.readValue(d.values, name, value)
	})
	if err != nil {
		return document{}, err
	}
	return d, nil
}

// readContexts reads the settings of every context.
func (d document) readContexts(node *yaml.Node) error {
	return d.fields(node, nil, func(name string, value *yaml.Node) error {
		d.contexts[name] = make(map[string]string)
		return d.fields(value, contextFields, func(field string, value *yaml.Node) error {
			return d.readValue(d.contexts[name], field, value)
		})
	})
}

// readValue reads one setting. A quoted "" is as empty as nothing.
func (d document) readValue(into map[string]string, name string, node *yaml.Node) error {
	if node.Kind != yaml.ScalarNode {
		return d.invalid(node.Line, fmt.Sprintf("%q is not a single value", name))
	}
	if node.Tag == "!!null" || strings.TrimSpace(node.Value) == "" {
		return d.invalid(node.Line, fmt.Sprintf("%q is empty", name)).WithHint("leave it out or give it a value")
	}
	if (name == keyNoInput || name == keyBehindProxy) && node.Value != "true" && node.Value != "false" {
		return d.invalid(node.Line, fmt.Sprintf("%q is neither true nor false", name))
	}
	into[name] = node.Value
	return nil
}

// fields calls visit with each field of a mapping, in their order. Fields that are not among known are refused, and
// with nothing known, names that no context may have. Nothing at all is an empty mapping.
func (d document) fields(node *yaml.Node, known []string, visit func(name string, value *yaml.Node) error) error {
	if node.Kind == yaml.ScalarNode && node.Tag == "!!null" {
		return nil
	}
	if node.Kind != yaml.MappingNode {
		return d.invalid(node.Line, "something that is not \"name: value\"")
	}
	seen := make(map[string]bool)
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		if err := d.checkField(key, known); err != nil {
			return err
		}
		if seen[key.Value] {
			return d.invalid(key.Line, fmt.Sprintf("a second %q", key.Value))
		}
		seen[key.Value] = true
		if err := visit(key.Value, value); err != nil {
			return err
		}
	}
	return nil
}

func (d document) checkField(key *yaml.Node, known []string) error {
	switch {
	case key.Kind != yaml.ScalarNode:
		return d.invalid(key.Line, "something that is not \"name: value\"")
	case known == nil && !credential.IsName(key.Value):
		return d.invalid(key.Line, "a context with a name that cannot be one").
			WithHint("names are up to 64 letters, digits, dots, dashes and underscores, beginning with a letter or digit")
	case known == nil || slices.Contains(known, key.Value):
		return nil
	}
	what := "an unknown field"
	if printableField().MatchString(key.Value) {
		what = fmt.Sprintf("an unknown field %q", key.Value)
	}
	return d.invalid(key.Line, what).WithHint("known fields here: %s", strings.Join(known, ", "))
}

// invalid is the error for something in a line of the file.
func (d document) invalid(line int, what string) *fault.Error {
	return fault.New(fault.Invalid, "%q, line %d: %s", d.path, line, what)
}

// lineNumber finds the line in the messages of the YAML library, which has no other way to tell.
var lineNumber = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\bline (\d+)\b`) })

// syntaxError leaves out the library's words, some of which repeat the text.
func (d document) syntaxError(err error) error {
	const hint = "a configuration file consists of lines like  timeout: 10s"
	if m := lineNumber().FindStringSubmatch(err.Error()); m != nil {
		if line, convErr := strconv.Atoi(m[1]); convErr == nil {
			return d.invalid(line, "not valid YAML").WithHint(hint)
		}
	}
	return fault.New(fault.Invalid, "%q is not valid YAML", d.path).WithHint(hint)
}
