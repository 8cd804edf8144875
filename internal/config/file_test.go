package config

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"keyctl/internal/fault"
)

func TestFileErrors(t *testing.T) {
	for _, tt := range []struct{ name, yaml, want string }{
		{"unknown field", "timeout: 5s\nstroe: sqlite:x\n", `line 2: an unknown field "stroe"`},
		{"capitals", "Store: sqlite:x\n", `line 1: an unknown field "Store"`},
		{"unknown field of a context", "contexts:\n  a:\n    output: json\n", `line 3: an unknown field "output"`},
		{"a secret as field", testKey + ": x\n", `line 1: an unknown field`},
		{"merge key", "contexts:\n  a:\n    <<: {store: x}\n", `line 3: an unknown field`},
		{"twice", "color: never\ncolor: auto\n", `line 2: a second "color"`},
		{"context twice", "contexts:\n  a: {}\n  a: {}\n", `line 3: a second "a"`},
		{"syntax", "store: sqlite:x\n  color: never\n", `line 2: not valid YAML`},
		{"tab", "store:\n\t- x\n", `line 2: not valid YAML`},
		{"list", "- store\n", `line 1: something that is not "name: value"`},
		{"scalar", testKey + "\n", `line 1: something that is not "name: value"`},
		{"two documents", "color: auto\n---\ncolor: never\n", `line 2: a second document`},
		{"list as value", "store: [a, b]\n", `line 1: "store" is not a single value`},
		{"alias as value", "store: &a sqlite:x\nmaster-key: *a\n", `line 2: "master-key" is not a single value`},
		{"complex key", "? [a]\n: b\n", `line 1: something that is not "name: value"`},
		{"nothing", "store:\n", `line 1: "store" is empty`},
		{"quoted nothing", "color: ''\n", `line 1: "color" is empty`},
		{"blank", "store: ' '\n", `line 1: "store" is empty`},
		{"no-input", "no-input: maybe\n", `line 1: "no-input" is neither true nor false`},
		{"context name", "contexts:\n  -a: {}\n", `line 2: a context with a name that cannot be one`},
		{"contexts", "contexts: [a]\n", `line 1: something that is not "name: value"`},
		{"context", "contexts: {a: b}\n", `line 1: something that is not "name: value"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parseDocument("/dir/config.yaml", []byte(tt.yaml))
			want := `"/dir/config.yaml", ` + tt.want
			if fault.CodeOf(err) != fault.Invalid || err.Error() != want {
				t.Fatalf("parseDocument(%q) = %v (code %s), want %s", tt.yaml, err, fault.CodeOf(err), want)
			}
			if f := fault.From(err); strings.Contains(f.Message+f.Hint, testKey) {
				t.Errorf("the error %q repeats a secret", f.Message+f.Hint)
			}
		})
	}
}

func TestEmptyFiles(t *testing.T) {
	for _, yaml := range []string{"", "\n", "# only a comment\n", "---\n", "null\n", "{}\n", "contexts:\n", "\ufeff"} {
		u := newUser(t)
		u.configure(yaml)
		if got, err := Load(u.inputs()); err != nil || !got.StoreIsDefault {
			t.Errorf("Load with the file %q = %+v, %v, want the defaults", yaml, got, err)
		}
	}
}

func TestUnknownFieldHint(t *testing.T) {
	_, err := parseDocument("f", []byte("contexts: {a: {colour: x}}"))
	if f := fault.From(err); f == nil || f.Hint != "known fields here: store, server, ca-file, token, master-key, default-grace" {
		t.Errorf("parseDocument = %v with %+v, want a hint with the fields of a context", err, f)
	}
}

func TestFileSize(t *testing.T) {
	u := newUser(t)
	u.configure("# " + strings.Repeat("x", maxFileBytes))
	if _, err := Load(u.inputs()); fault.CodeOf(err) != fault.Invalid {
		t.Errorf("Load of a file beyond %d bytes = %v, want code invalid", maxFileBytes, err)
	}
}

func TestHomeInFileNeedsHome(t *testing.T) {
	u := newUser(t)
	u.configure("store: sqlite:~/a.db")
	u.vars["XDG_CONFIG_HOME"], u.vars["XDG_DATA_HOME"] = u.path(".config"), u.path("data")
	u.home = ""
	if _, err := Load(u.inputs()); fault.CodeOf(err) != fault.Invalid || !strings.Contains(err.Error(), "home directory") {
		t.Errorf("Load of ~/ without a home = %v, want code invalid", err)
	}
}

// Only a file expands ~: on a command line the shell has done what the user wanted done.
func TestTildeElsewhereIsAName(t *testing.T) {
	u := newUser(t)
	u.args = []string{"--store=sqlite:~/a.db"}
	if got, err := Load(u.inputs()); err != nil || got.StorePath != "~/a.db" {
		t.Errorf("Load(--store=sqlite:~/a.db) = %q, %v, want the path as it is", got.StorePath, err)
	}
	u = newUser(t)
	u.configure("store: sqlite:a/~/b.db\nmaster-key: 'command:~/bin/print-key'\n")
	got, err := Load(u.inputs())
	if err != nil || got.StorePath != "a/~/b.db" || got.MasterKey.value != "~/bin/print-key" {
		t.Errorf("Load = %q, %q, %v, want a tilde within a path, and the shell's, left alone", got.StorePath, got.MasterKey.value, err)
	}
}

func FuzzConfig(f *testing.F) {
	for _, s := range []string{
		"", "store: sqlite:x", "context: a\ncontexts: {a: {store: 'sqlite:~/x', default-grace: 1h}}", "a: &a [*a]", "? {}\n: 1",
		"!!binary x", "timeout: 5s\ncolor: never\noutput: json\nno-input: true", "---\n---\n", "\xff", "contexts: {<<: {a: b}}",
		"default-grace: now", "master-key: command:x", "store: postgres://u:p@h", "store: !!int sqlite:x", "%YAML 9.9\n---\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		in := Inputs{
			Getenv: func(string) string { return "" }, Home: "/home/test",
			Formats: []string{"table", "json"}, ParseDuration: time.ParseDuration,
		}
		doc, err := parseDocument("/dir/config.yaml", data)
		var c Config
		if err == nil {
			c, err = in.assemble(findDirs(in.Getenv, in.Home), doc)
		}
		if err != nil {
			if code := fault.CodeOf(err); code != fault.Invalid && code != fault.NotFound {
				t.Errorf("%q: %v (code %s), want code invalid or not_found", data, err, code)
			}
			return
		}
		if c.Server == "" && (c.StorePath == "" && c.Postgres == "" || c.MasterKey.value == "") || c.Timeout <= 0 || c.Color == "" || c.Output == "" {
			t.Errorf("%q: incomplete configuration %+v", data, c)
		}
	})
}

func BenchmarkLoadHundredContexts(b *testing.B) {
	home := b.TempDir()
	var yaml strings.Builder
	yaml.WriteString("context: c50\ncontexts:\n")
	for i := range 100 {
		fmt.Fprintf(&yaml, "  c%d: {store: 'sqlite:/s/%d.db', master-key: 'file:/k/%d'}\n", i, i, i)
	}
	if err := os.MkdirAll(home+"/.config/keyctl", 0o700); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(home+"/.config/keyctl/config.yaml", []byte(yaml.String()), 0o600); err != nil {
		b.Fatal(err)
	}
	in := Inputs{
		Getenv: func(string) string { return "" }, Home: home,
		Formats: []string{"table"}, ParseDuration: time.ParseDuration,
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Load(in); err != nil {
			b.Fatal(err)
		}
	}
}
