package config

import (
	"bytes"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"

	"keyctl/internal/credential"
	"keyctl/internal/fault"
	"keyctl/internal/safefile"
)

// editWait bounds the wait for another process that changes the configuration file.
const editWait = 5 * time.Second

// Place is what a context names: a store or a server, and how to get in. Empty fields are left out.
type Place struct {
	Store     string `json:"store"`
	MasterKey string `json:"master_key"` // a source
	Server    string `json:"server"`
	CAFile    string `json:"ca_file"`
	Token     string `json:"token"` // a source
}

// settings are the fields of the context, in the order they are written.
func (p Place) settings() [][2]string {
	return [][2]string{
		{keyStore, p.Store}, {keyServer, p.Server}, {keyCAFile, p.CAFile}, {keyToken, p.Token}, {keyMasterKey, p.MasterKey},
	}
}

// Context is a context of the configuration file.
type Context struct {
	Name    string `json:"name"`
	Current bool   `json:"current"` // it is used unless another one is named
	Place
}

// ListContexts returns the contexts of the configuration file, by name. Errors are those of Load about the file.
func ListContexts(in Inputs) ([]Context, error) {
	doc, err := readFile(findDirs(in.Getenv, in.Home).configFile())
	if err != nil {
		return nil, err
	}
	contexts := []Context{}
	for name, values := range doc.contexts {
		contexts = append(contexts, Context{name, doc.values[keyContext] == name, placeOf(values)})
	}
	slices.SortFunc(contexts, func(a, b Context) int { return bytes.Compare([]byte(a.Name), []byte(b.Name)) })
	return contexts, nil
}

func placeOf(values map[string]string) Place {
	return Place{
		Store: values[keyStore], MasterKey: values[keyMasterKey], Server: values[keyServer], CAFile: values[keyCAFile], Token: values[keyToken],
	}
}

// CheckContext finds out whether LogIn would take the name for that server.
func CheckContext(in Inputs, name, server string) error {
	if err := checkContextName(name); err != nil {
		return err
	}
	doc, err := readFile(findDirs(in.Getenv, in.Home).configFile())
	if err != nil {
		return err
	}
	if old, known := doc.contexts[name]; known && !sameServer(old[keyServer], server) {
		return otherContext(name)
	}
	return nil
}

func checkContextName(name string) error {
	if !credential.IsName(name) {
		return fault.New(fault.Invalid, "the name of the context cannot be one").
			WithHint("names are up to 64 letters, digits, dots, dashes and underscores, beginning with a letter or digit")
	}
	return nil
}

func otherContext(name string) error {
	return fault.New(fault.Exists, "there is a context %q already, and it says something else", name).
		WithHint("choose another name, or take it away: `keyctl context remove %s`", name)
}

// AddContext writes a context into the configuration file, which it makes if there is none. Comments and order stay.
// exists: there is a context of that name that says something else. invalid: the place is none. Repeating it is a no-op.
func AddContext(in Inputs, name string, p Place) error { return in.putContext(name, p, false) }

// LogIn is AddContext for a server, and makes the context the one in use. In the place of a context of the same server it
// may say something else than that did.
func LogIn(in Inputs, name string, p Place) error { return in.putContext(name, p, true) }

func (in Inputs) putContext(name string, p Place, loggedIn bool) error {
	if err := checkContextName(name); err != nil {
		return err
	}
	if err := p.check(); err != nil {
		return err
	}
	return in.edit(func(doc document, root *yaml.Node) (bool, error) {
		old, known := doc.contexts[name]
		same := known && placeOf(old) == p
		if known && !same && !(loggedIn && sameServer(old[keyServer], p.Server)) {
			return false, otherContext(name)
		}
		if !same {
			contexts := child(root, keyContexts)
			if contexts == nil {
				contexts = &yaml.Node{Kind: yaml.MappingNode}
				setChild(root, keyContexts, contexts)
			}
			contexts.Style = 0
			setChild(contexts, name, p.node(child(contexts, name)))
		}
		if loggedIn && doc.values[keyContext] != name {
			setChild(root, keyContext, scalar(name))
			return true, nil
		}
		return !same, nil
	})
}

// check refuses a place that is none, in words for flags.
func (p Place) check() error {
	switch {
	case p.Store == "" && p.Server == "":
		return fault.New(fault.Invalid, "a context names a store or a server").WithHint("add --server URL or --store sqlite:PATH")
	case p.Store != "" && p.Server != "":
		return fault.New(fault.Invalid, "a context names a store or a server, not both").WithHint("leave one out")
	}
	if p.Store != "" {
		if _, _, err := parseStore(p.Store, "--store"); err != nil {
			return err
		}
	}
	if p.MasterKey != "" {
		if _, err := parseSource(masterKey, p.MasterKey, "--master-key"); err != nil {
			return err
		}
	}
	if p.Token != "" {
		if _, err := parseSource(token, p.Token, "--token"); err != nil {
			return err
		}
	}
	return nil
}

// node writes the place over the one there is, so that comments and other fields of it stay.
func (p Place) node(old *yaml.Node) *yaml.Node {
	node := &yaml.Node{Kind: yaml.MappingNode}
	if old != nil && old.Kind == yaml.MappingNode {
		node = old
	}
	for _, setting := range p.settings() {
		if setting[1] == "" {
			removeChild(node, setting[0])
		} else {
			setChild(node, setting[0], scalar(setting[1]))
		}
	}
	return node
}

// UseContext makes a context the one in use; empty is none. not_found: there is no such context. changed is false when it
// was in use already.
func UseContext(in Inputs, name string) (changed bool, err error) {
	err = in.edit(func(doc document, root *yaml.Node) (bool, error) {
		if _, known := doc.contexts[name]; !known && name != "" {
			return false, doc.unknownContext(name)
		}
		if changed = doc.values[keyContext] != name; !changed {
			return false, nil
		}
		if name == "" {
			removeChild(root, keyContext)
		} else {
			setChild(root, keyContext, scalar(name))
		}
		return true, nil
	})
	return changed, err
}

// RemoveContext takes a context out of the configuration file, and with the one in use that it is in use. not_found: there
// is no such context.
func RemoveContext(in Inputs, name string) error {
	return in.edit(func(doc document, root *yaml.Node) (bool, error) {
		if _, known := doc.contexts[name]; !known {
			return false, doc.unknownContext(name)
		}
		contexts := child(root, keyContexts)
		removeChild(contexts, name)
		if len(contexts.Content) == 0 {
			removeChild(root, keyContexts)
		}
		if doc.values[keyContext] == name {
			removeChild(root, keyContext)
		}
		return true, nil
	})
}

// edit changes the configuration file, alone among the processes that do. change gets what the file says and its node, and
// reports whether it changed the node. What comes out is read again before it takes the file's place.
func (in Inputs) edit(change func(doc document, root *yaml.Node) (bool, error)) error {
	path := findDirs(in.Getenv, in.Home).configFile()
	if path == "" {
		return fault.New(fault.Invalid, "there is no home directory to keep a configuration file in").WithHint("set HOME")
	}
	if err := safefile.MkdirPrivate(filepath.Dir(path)); err != nil {
		return err
	}
	unlock, err := safefile.LockDir(filepath.Dir(path), editWait)
	if err != nil {
		return err
	}
	defer unlock()
	data, err := safefile.ReadConfig(path, maxFileBytes)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	doc, err := parseDocument(path, data)
	if err != nil {
		return err
	}
	var root yaml.Node
	if err := yaml.Unmarshal(data, &root); err != nil {
		return doc.syntaxError(err)
	}
	if len(root.Content) == 0 || root.Content[0].Kind != yaml.MappingNode {
		root = yaml.Node{Kind: yaml.DocumentNode, HeadComment: root.HeadComment, Content: []*yaml.Node{{Kind: yaml.MappingNode}}}
	}
	changed, err := change(doc, root.Content[0])
	if err != nil || !changed {
		return err
	}
	return replaceFile(path, &root)
}

// replaceFile writes a configuration file whole or not at all.
func replaceFile(path string, root *yaml.Node) error {
	var text bytes.Buffer
	encoder := yaml.NewEncoder(&text)
	encoder.SetIndent(2)
	if err := encoder.Encode(root); err != nil {
		return err
	}
	if len(root.Content[0].Content) == 0 {
		text.Reset()
	}
	if _, err := parseDocument(path, text.Bytes()); err != nil {
		return err
	}
	staged, err := safefile.Stage(path)
	if err != nil {
		return err
	}
	defer func() { _ = staged.Discard() }()
	if _, err := staged.Write(text.Bytes()); err != nil {
		return err
	}
	return staged.CommitReplace()
}

func scalar(text string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text}
}

// child is the value of a field of a mapping, or nil.
func child(mapping *yaml.Node, name string) *yaml.Node {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == name {
			return mapping.Content[i+1]
		}
	}
	return nil
}

// setChild gives a field of a mapping a value; a new field comes last. Comments on the old value stay.
func setChild(mapping *yaml.Node, name string, value *yaml.Node) {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == name {
			if old := mapping.Content[i+1]; old != value {
				value.LineComment, value.HeadComment, value.FootComment = old.LineComment, old.HeadComment, old.FootComment
			}
			mapping.Content[i+1] = value
			return
		}
	}
	mapping.Content = append(mapping.Content, scalar(name), value)
}

func removeChild(mapping *yaml.Node, name string) {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == name {
			mapping.Content = slices.Delete(mapping.Content, i, i+2)
			return
		}
	}
}
