package config

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spf13/pflag"

	"keyctl/internal/fault"
	"keyctl/internal/signature"
)

// testKey has the form of a master key, and is none.
var testKey = "kcm_" + strings.Repeat("TEST0", 9) + "Test"

// user is a user with a home directory of their own, an environment and flags.
type user struct {
	t    *testing.T
	home string
	vars map[string]string
	args []string
}

func newUser(t *testing.T) *user {
	t.Helper()
	return &user{t: t, home: t.TempDir(), vars: map[string]string{}}
}

func (u *user) path(names ...string) string {
	return filepath.Join(append([]string{u.home}, names...)...)
}

// configure writes the configuration file.
func (u *user) configure(yaml string) {
	u.t.Helper()
	if err := os.MkdirAll(u.path(".config", "keyctl"), 0o700); err != nil {
		u.t.Fatal(err)
	}
	if err := os.WriteFile(u.path(".config", "keyctl", "config.yaml"), []byte(yaml), 0o600); err != nil {
		u.t.Fatal(err)
	}
}

func (u *user) inputs() Inputs {
	u.t.Helper()
	flags := pflag.NewFlagSet("keyctl", pflag.ContinueOnError)
	for _, name := range flagKeys {
		if name == keyNoInput || name == keyBehindProxy {
			flags.Bool(name, false, "")
		} else {
			flags.String(name, "1m", "") // a default of a flag never counts
		}
	}
	if err := flags.Parse(u.args); err != nil {
		u.t.Fatal(err)
	}
	return Inputs{
		Flags:         flags,
		Getenv:        func(name string) string { return u.vars[name] },
		Environ:       os.Environ,
		Home:          u.home,
		Formats:       []string{"table", "json", "yaml"},
		ParseDuration: time.ParseDuration,
	}
}

// absolute makes a path absolute on every system.
func absolute(t *testing.T, path string) string {
	t.Helper()
	abs, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return abs
}

var ignoreEnv = cmp.Options{
	cmpopts.IgnoreUnexported(Config{}),
	cmpopts.EquateEmpty(),
	cmp.Transformer("source", func(s Source) string { return s.String() }),
}

// atHome is how a server listens that nobody told anything.
var atHome = Serve{Listen: DefaultListen, Skew: signature.Skew}

func TestDefaults(t *testing.T) {
	u := newUser(t)
	got, err := Load(u.inputs())
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		DefaultStore:       u.path(".local", "share", "keyctl", "keyctl.db"),
		StorePath:          u.path(".local", "share", "keyctl", "keyctl.db"),
		StoreIsDefault:     true,
		MasterKey:          Source{secret: masterKey, kind: fromFile, value: u.path(".config", "keyctl", "master.key")},
		MasterKeyIsDefault: true,
		CredentialsPath:    u.path(".local", "share", "keyctl", "credentials.json"),
		Output:             "table",
		OutputIsDefault:    true,
		Timeout:            30 * time.Second,
		Color:              "auto",
		Serve:              atHome,
	}
	if diff := cmp.Diff(want, got, ignoreEnv); diff != "" {
		t.Errorf("Load with nothing configured differs (-want +got):\n%s", diff)
	}
}

// Of flag, environment, context and file the first that says something decides.
func TestPrecedence(t *testing.T) {
	for _, tt := range []struct {
		name                     string
		flag, env, context, file bool
		want                     string
	}{
		{"all", true, true, true, true, "flag"},
		{"flag over default", true, false, false, false, "flag"},
		{"flag over file", true, false, false, true, "flag"},
		{"environment over context", false, true, true, true, "env"},
		{"environment over file", false, true, false, true, "env"},
		{"context over file", false, false, true, true, "context"},
		{"context over default", false, false, true, false, "context"},
		{"file over default", false, false, false, true, "file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u := newUser(t)
			var yaml string
			if tt.flag {
				u.args = []string{"--store", "sqlite:flag", "--master-key=file:flag"}
			}
			if tt.env {
				u.vars["KEYCTL_STORE"], u.vars["KEYCTL_MASTER_KEY_FILE"] = "sqlite:env", "env"
			}
			if tt.context {
				yaml += "context: work\ncontexts: {work: {store: 'sqlite:context', master-key: 'file:context'}}\n"
			}
			if tt.file {
				yaml += "store: sqlite:file\nmaster-key: file:file\n"
			}
			u.configure(yaml)
			got, err := Load(u.inputs())
			if err != nil {
				t.Fatal(err)
			}
			if got.StorePath != tt.want || got.MasterKey.String() != "file:"+tt.want {
				t.Errorf("Load = store %q, master key %q, want %q for both", got.StorePath, got.MasterKey, tt.want)
			}
			if got.StoreIsDefault || got.MasterKeyIsDefault {
				t.Error("Load says that they are the defaults")
			}
		})
	}
}

func TestContextPrecedence(t *testing.T) {
	const yaml = `
context: file
contexts:
  flag: {store: sqlite:flag}
  env: {store: sqlite:env}
  file: {store: sqlite:file}
  File: {store: sqlite:upper}
  a.b: {store: sqlite:dotted}
  empty:
`
	for _, tt := range []struct {
		args    []string
		env     string
		context string
		store   string
	}{
		{[]string{"--context", "flag"}, "env", "flag", "flag"},
		{nil, "env", "env", "env"},
		{nil, "", "file", "file"},
		{[]string{"--context=File"}, "", "File", "upper"}, // names compare exactly (R16)
		{[]string{"--context=a.b"}, "", "a.b", "dotted"},
	} {
		u := newUser(t)
		u.configure(yaml)
		u.args, u.vars["KEYCTL_CONTEXT"] = tt.args, tt.env
		got, err := Load(u.inputs())
		if err != nil || got.Context != tt.context || got.StorePath != tt.store {
			t.Errorf("Load(%q, KEYCTL_CONTEXT=%q) = context %q, store %q, %v, want %q, %q",
				tt.args, tt.env, got.Context, got.StorePath, err, tt.context, tt.store)
		}
	}
	u := newUser(t)
	u.configure(yaml)
	u.args = []string{"--context=empty"}
	if got, err := Load(u.inputs()); err != nil || !got.StoreIsDefault {
		t.Errorf("Load with an empty context = store %q, %v, want the default store", got.StorePath, err)
	}
}

func TestEverySettingInFile(t *testing.T) {
	u := newUser(t)
	u.configure(`
# a comment
context: work
output: json
no-input: true
timeout: 5s
color: never
otp-command: print-code --now
default-grace: 1h
contexts:
  work:
    store: sqlite:~/stores/work.db
    master-key: file:~/work.key
    default-grace: 24h
`)
	got, err := Load(u.inputs())
	if err != nil {
		t.Fatal(err)
	}
	grace := 24 * time.Hour
	want := Config{
		File:            u.path(".config", "keyctl", "config.yaml"),
		Context:         "work",
		DefaultStore:    u.path(".local", "share", "keyctl", "keyctl.db"),
		StorePath:       u.path("stores", "work.db"),
		MasterKey:       Source{secret: masterKey, kind: fromFile, value: u.path("work.key")},
		CredentialsPath: u.path(".local", "share", "keyctl", "credentials.json"),
		Output:          "json",
		NoInput:         true,
		Timeout:         5 * time.Second,
		Color:           "never",
		DefaultGrace:    &grace,
		Serve:           atHome,
	}
	if diff := cmp.Diff(want, got, ignoreEnv); diff != "" {
		t.Errorf("Load differs (-want +got):\n%s", diff)
	}
	if got.otpCommand != "print-code --now" {
		t.Errorf("otp-command = %q, want print-code --now", got.otpCommand)
	}
}

func TestFlagsAndVariables(t *testing.T) {
	u := newUser(t)
	u.vars["KEYCTL_OUTPUT"] = "yaml"
	u.vars["KEYCTL_MASTER_KEY"] = testKey
	u.args = []string{"--timeout=2m", "--color=always"}
	got, err := Load(u.inputs())
	if err != nil {
		t.Fatal(err)
	}
	if got.Output != "yaml" || got.Timeout != 2*time.Minute || got.Color != "always" || got.MasterKey.String() != "env:KEYCTL_MASTER_KEY" {
		t.Errorf("Load = output %q, timeout %v, color %q, master key %v, want yaml, 2m, always, env:KEYCTL_MASTER_KEY",
			got.Output, got.Timeout, got.Color, got.MasterKey)
	}
}

func TestNoInput(t *testing.T) {
	for _, tt := range []struct {
		env  string
		args []string
		want bool
	}{
		{"", nil, false},
		{"1", nil, true},
		{"yes", nil, true},
		{"true", nil, true},
		{"0", nil, false},
		{"false", nil, false},
		{"False", nil, false},
		{"", []string{"--no-input"}, true},
		{"1", []string{"--no-input=false"}, false},
		{"0", []string{"--no-input"}, true},
	} {
		u := newUser(t)
		u.vars["KEYCTL_NO_INPUT"], u.args = tt.env, tt.args
		got, err := Load(u.inputs())
		if err != nil || got.NoInput != tt.want {
			t.Errorf("Load(KEYCTL_NO_INPUT=%q, %q).NoInput = %v, %v, want %v", tt.env, tt.args, got.NoInput, err, tt.want)
		}
	}
}

func TestDefaultGrace(t *testing.T) {
	for text, want := range map[string]time.Duration{"24h": 24 * time.Hour, "now": 0, "0s": 0} {
		u := newUser(t)
		u.configure("default-grace: " + text)
		got, err := Load(u.inputs())
		if err != nil || got.DefaultGrace == nil || *got.DefaultGrace != want {
			t.Errorf("default-grace %s = %v, %v, want %v", text, got.DefaultGrace, err, want)
		}
	}
}

func TestDirectories(t *testing.T) {
	xdg := absolute(t, "xdg")
	for _, tt := range []struct {
		name, home, config, data string
		wantStore, wantKey       string
	}{
		{"home", "/h", "", "", "/h/.local/share/keyctl/keyctl.db", "/h/.config/keyctl/master.key"},
		{"XDG", "/h", xdg + "/c", xdg + "/d", xdg + "/d/keyctl/keyctl.db", xdg + "/c/keyctl/master.key"},
		{"XDG without home", "", xdg + "/c", xdg + "/d", xdg + "/d/keyctl/keyctl.db", xdg + "/c/keyctl/master.key"},
		{"relative is ignored", "/h", "c", "./d", "/h/.local/share/keyctl/keyctl.db", "/h/.config/keyctl/master.key"},
	} {
		u := newUser(t)
		u.home = tt.home
		u.vars["XDG_CONFIG_HOME"], u.vars["XDG_DATA_HOME"] = tt.config, tt.data
		got, err := Load(u.inputs())
		if err != nil || got.StorePath != filepath.FromSlash(tt.wantStore) || got.MasterKey.value != filepath.FromSlash(tt.wantKey) {
			t.Errorf("%s: Load = %q, %q, %v, want %q, %q", tt.name, got.StorePath, got.MasterKey, err, tt.wantStore, tt.wantKey)
		}
	}
}

func TestNoHome(t *testing.T) {
	u := newUser(t)
	u.home = ""
	if _, err := Load(u.inputs()); fault.CodeOf(err) != fault.Invalid || !strings.Contains(err.Error(), "home directory") {
		t.Errorf("Load without a home = %v, want code invalid and its reason", err)
	}
	u.args = []string{"--store=sqlite:/s", "--master-key=file:/k"}
	got, err := Load(u.inputs())
	if err != nil || got.StoreIsDefault || got.MasterKeyIsDefault {
		t.Errorf("Load without a home but with both flags = %+v, %v, want success, nothing default", got, err)
	}
}

// The default places are the default places, however they were named.
func TestDefaultPlacesNamed(t *testing.T) {
	u := newUser(t)
	u.args = []string{
		"--store", "sqlite:" + u.path(".local", "share", "keyctl", ".", "keyctl.db"),
		"--master-key", "file:" + u.path(".config", "keyctl", "master.key"),
	}
	got, err := Load(u.inputs())
	if err != nil || !got.StoreIsDefault || !got.MasterKeyIsDefault {
		t.Errorf("Load = StoreIsDefault %v, MasterKeyIsDefault %v, %v, want true, true", got.StoreIsDefault, got.MasterKeyIsDefault, err)
	}
}

func TestInvalidValues(t *testing.T) {
	for _, tt := range []struct {
		name string
		args []string
		vars map[string]string
		yaml string
		want string // the message, %FILE% being the configuration file
	}{
		{"empty flag", []string{"--store="}, nil, "", `--store is empty`},
		{"empty context", []string{"--context="}, nil, "", `--context is empty`},
		{"bare path", []string{"--store=/var/lib/keyctl.db"}, nil, "", `--store does not say what kind of store it is`},
		{"unknown kind", nil, map[string]string{"KEYCTL_STORE": "mysql:x"}, "", `KEYCTL_STORE does not say what kind of store it is`},
		{"a password in a flag", []string{"--store=postgres://u:TESTPASS@h/db"}, nil, "",
			`--store has a password in it, which others can read in the list of processes`},
		{"a password in a flag's query", []string{"--store=postgres://h/db?password=TESTPASS"}, nil, "",
			`--store has a password in it, which others can read in the list of processes`},
		{"no URL", nil, map[string]string{"KEYCTL_STORE": "postgres://u:TESTPASS@h:port/db"}, "", `KEYCTL_STORE is not a URL`},
		{"store and server in flags", []string{"--store=sqlite:a", "--server=https://h"}, nil, "", `both --store and --server are given`},
		{"store and server in variables", nil, map[string]string{"KEYCTL_STORE": "sqlite:a", "KEYCTL_SERVER": "https://h"}, "",
			`both KEYCTL_STORE and KEYCTL_SERVER are given`},
		{"two tokens", nil, map[string]string{"KEYCTL_TOKEN": "a", "KEYCTL_TOKEN_FILE": "b"}, "", `both KEYCTL_TOKEN and KEYCTL_TOKEN_FILE are set`},
		{"no path", []string{"--store=sqlite:"}, nil, "", `--store names no file`},
		{"control characters", []string{"--store=sqlite:a\nb"}, nil, "", `--store contains control characters`},
		{"key as flag", []string{"--master-key=" + testKey}, nil, "",
			`--master-key holds a master key, where the place to read it from belongs`},
		{"key as variable name", []string{"--master-key=env:" + testKey}, nil, "",
			`--master-key holds a master key, where the place to read it from belongs`},
		{"keyring", []string{"--master-key=keyring:a/b"}, nil, "",
			`--master-key does not name an entry of the keyring: up to 64 letters, digits, dots, underscores and hyphens`},
		{"key path", []string{"--master-key=/master.key"}, nil, "", `--master-key does not say where the master key is read from`},
		{"key kind", []string{"--master-key=files:x"}, nil, "", `--master-key does not say where the master key is read from`},
		{"nothing named", []string{"--master-key=command: "}, nil, "", `--master-key names nothing after the colon`},
		{"variable", []string{"--master-key=env:A B"}, nil, "", `--master-key does not name an environment variable`},
		{"control in path", []string{"--master-key=file:a\x1b"}, nil, "", `--master-key contains control characters`},
		{"two keys", nil, map[string]string{"KEYCTL_MASTER_KEY": testKey, "KEYCTL_MASTER_KEY_FILE": "/k"}, "",
			`both KEYCTL_MASTER_KEY and KEYCTL_MASTER_KEY_FILE are set`},
		{"output", []string{"--output=xml"}, nil, "", `--output is none of table, json, yaml`},
		{"color", nil, nil, "color: sometimes", `"color" in %FILE% is none of auto, always, never`},
		{"timeout", []string{"--timeout=30"}, nil, "", `--timeout: time: missing unit in duration "30"`},
		{"no time", []string{"--timeout=0s"}, nil, "", `--timeout must be longer than nothing`},
		{"grace", nil, nil, "default-grace: -1h", `"default-grace" in %FILE% must not be negative`},
		{"context's store", nil, nil, "context: a\ncontexts: {a: {store: x}}",
			`"store" of context "a" in %FILE% does not say what kind of store it is`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u := newUser(t)
			u.args = tt.args
			if tt.vars != nil {
				u.vars = tt.vars
			}
			u.configure(tt.yaml)
			_, err := Load(u.inputs())
			want := strings.ReplaceAll(tt.want, "%FILE%", strconv.Quote(u.path(".config", "keyctl", "config.yaml")))
			if fault.CodeOf(err) != fault.Invalid || err.Error() != want {
				t.Fatalf("Load = %v (code %s), want %s", err, fault.CodeOf(err), want)
			}
			f := fault.From(err)
			if tt.name != "output" && tt.name != "color" && tt.name != "no time" && tt.name != "grace" && f.Hint == "" {
				t.Errorf("%q has no hint", err)
			}
			if text := f.Message + f.Hint; strings.Contains(text, testKey) || strings.Contains(text, "TESTPASS") {
				t.Errorf("the error %q repeats a secret", text)
			}
		})
	}
}

func TestUnknownContext(t *testing.T) {
	u := newUser(t)
	u.args = []string{"--context=prod"}
	_, err := Load(u.inputs())
	if fault.CodeOf(err) != fault.NotFound || err.Error() != `no context "prod"` || !strings.HasPrefix(fault.From(err).Hint, "no contexts are configured") {
		t.Errorf("Load with a context and no file = %v, hint %q", err, fault.From(err).Hint)
	}
	u.configure("contexts: {work: {}, home: {}}")
	_, err = Load(u.inputs())
	if fault.CodeOf(err) != fault.NotFound || fault.From(err).Hint != "known contexts: home, work" {
		t.Errorf("Load with an unknown context = %v, want code not_found and the known ones", err)
	}
}

// The names of contexts can be had also while none of them can be used.
func TestContexts(t *testing.T) {
	u := newUser(t)
	if got, err := Contexts(u.inputs()); err != nil || len(got) != 0 {
		t.Errorf("Contexts() without a file = %q, %v", got, err)
	}
	u.configure("context: nope\nstore: nonsense\ncontexts: {work: {}, home: {store: nonsense}, Away.1: {}}")
	got, err := Contexts(u.inputs())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"Away.1", "home", "work"}, got); diff != "" {
		t.Errorf("Contexts() (-want +got):\n%s", diff)
	}
	u.configure("contexts: [")
	if _, err := Contexts(u.inputs()); fault.CodeOf(err) != fault.Invalid {
		t.Errorf("Contexts() of a broken file = %v, want code invalid", err)
	}
}

func TestMasterKeyAtHand(t *testing.T) {
	for source, want := range map[string]bool{"file:k": true, "env:K": true, "command:cat k": false} {
		u := newUser(t)
		u.args = []string{"--master-key=" + source}
		c, err := Load(u.inputs())
		if err != nil {
			t.Fatal(err)
		}
		if got := c.MasterKey.AtHand(); got != want {
			t.Errorf("AtHand() of %s = %v, want %v", source, got, want)
		}
	}
	if (Source{}).AtHand() {
		t.Error("the zero Source has a key at hand")
	}
}

// FromFlags minds nothing but the flags, and minds those as Load does.
func TestFromFlags(t *testing.T) {
	u := newUser(t)
	u.configure("output: [")
	u.vars["KEYCTL_STORE"] = "nonsense"
	u.args = []string{"--output=yaml", "--store=sqlite:a.db", "--context=prod", "--timeout=2s"}
	if _, err := Load(u.inputs()); err == nil {
		t.Error("Load does not mind the configuration: the test proves nothing")
	}
	got, err := FromFlags(u.inputs())
	if err != nil {
		t.Fatal(err)
	}
	want := Config{Context: "prod", StorePath: "a.db", Output: "yaml", Timeout: 2 * time.Second, Color: "auto", Serve: atHome}
	if diff := cmp.Diff(want, got, ignoreEnv); diff != "" {
		t.Errorf("FromFlags differs (-want +got):\n%s", diff)
	}
	for _, wrong := range []string{"--output=xml", "--color=red", "--timeout=soon", "--store=a.db", "--master-key=a.key", "--store="} {
		u.args = []string{wrong}
		if _, err := FromFlags(u.inputs()); fault.CodeOf(err) != fault.Invalid {
			t.Errorf("FromFlags with %s = %v, want code invalid", wrong, err)
		}
	}
}

// A duration that is refused keeps the hint of whoever refused it.
func TestDurationHint(t *testing.T) {
	u := newUser(t)
	u.args = []string{"--timeout=x"}
	in := u.inputs()
	in.ParseDuration = func(string) (time.Duration, error) {
		return 0, fault.New(fault.Invalid, "not a duration").WithHint("write 7d")
	}
	_, err := Load(in)
	if err == nil || err.Error() != "--timeout: not a duration" || fault.From(err).Hint != "write 7d" {
		t.Errorf("Load = %v, want the parser's message and hint", err)
	}
	in.ParseDuration = func(string) (time.Duration, error) { return 0, errors.New("no") }
	if _, err := Load(in); err == nil || fault.From(err).Hint == "" {
		t.Errorf("Load = %v, want a hint of its own", err)
	}
}

func BenchmarkLoad(b *testing.B) {
	home := b.TempDir()
	flags := pflag.NewFlagSet("keyctl", pflag.ContinueOnError)
	flags.String("store", "", "")
	if err := flags.Parse([]string{"--store=sqlite:/tmp/bench.db"}); err != nil {
		b.Fatal(err)
	}
	in := Inputs{
		Flags: flags, Getenv: func(string) string { return "" }, Home: home,
		Formats: []string{"table"}, ParseDuration: time.ParseDuration,
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Load(in); err != nil {
			b.Fatal(err)
		}
	}
}

// Of a store and a server the one that is named where it counts most decides, and the other is forgotten.
func TestStoreOrServer(t *testing.T) {
	u := newUser(t)
	u.configure(`
context: far
contexts:
  far: {server: "https://keys.example.com", ca-file: ~/ca.pem, token: "file:~/token"}
  near: {store: "sqlite:near.db"}
`)
	for _, tt := range []struct {
		args   []string
		vars   map[string]string
		server string
		store  string
	}{
		{nil, nil, "https://keys.example.com", ""},
		{[]string{"--context=near"}, nil, "", "near.db"},
		{nil, map[string]string{"KEYCTL_STORE": "sqlite:other.db"}, "", "other.db"},
		{[]string{"--store=sqlite:flag.db"}, map[string]string{"KEYCTL_SERVER": "https://env"}, "", "flag.db"},
		{[]string{"--server=https://flag"}, map[string]string{"KEYCTL_STORE": "sqlite:other.db"}, "https://flag", ""},
		{[]string{"--context=near"}, map[string]string{"KEYCTL_SERVER": "https://env"}, "https://env", ""},
	} {
		u.args, u.vars = tt.args, map[string]string{}
		for name, value := range tt.vars {
			u.vars[name] = value
		}
		got, err := Load(u.inputs())
		if err != nil || got.Server != tt.server || got.StorePath != tt.store {
			t.Errorf("%v %v: server %q, store %q, %v, want %q, %q", tt.args, tt.vars, got.Server, got.StorePath, err, tt.server, tt.store)
		}
	}
	u.args, u.vars = nil, map[string]string{}
	got, err := Load(u.inputs())
	if err != nil {
		t.Fatal(err)
	}
	if token, ca := "file:"+u.path("token"), u.path("ca.pem"); got.Token.String() != token || got.CAFile != ca {
		t.Errorf("token %s, CA file %s, want %s, %s", got.Token, got.CAFile, token, ca)
	}
}

// TestR24_TokensStayWithTheirServer names another server than the one that a token is kept for.
func TestR24_TokensStayWithTheirServer(t *testing.T) {
	u := newUser(t)
	u.configure(`
context: prod
contexts:
  prod: {server: "https://prod", ca-file: /prod.pem, token: "file:/prod.token"}
  bare: {token: "file:/bare.token"}
`)
	for _, tt := range []struct {
		args  []string
		vars  map[string]string
		token string
		ca    string
	}{
		{nil, nil, "file:/prod.token", "/prod.pem"},
		{[]string{"--server=https://prod/"}, nil, "file:/prod.token", "/prod.pem"},
		{[]string{"--server=https://other"}, nil, ":", ""},
		{nil, map[string]string{"KEYCTL_SERVER": "https://other"}, ":", ""},
		{nil, map[string]string{"KEYCTL_SERVER": "https://other", "KEYCTL_TOKEN_FILE": "/other.token"}, "file:/other.token", ""},
		{[]string{"--server=https://third"}, map[string]string{"KEYCTL_SERVER": "https://other", "KEYCTL_TOKEN_FILE": "/other.token"}, ":", ""},
		{[]string{"--server=https://other"}, map[string]string{"KEYCTL_TOKEN_FILE": "/any.token"}, "file:/any.token", ""},
		{nil, map[string]string{"KEYCTL_TOKEN_FILE": "/any.token", "KEYCTL_CA_FILE": "/any.pem"}, "file:/any.token", "/any.pem"},
		{[]string{"--server=https://other", "--context=bare"}, nil, "file:/bare.token", ""},
		{[]string{"--server=https://other", "--ca-file=/other.pem"}, nil, ":", "/other.pem"},
	} {
		u.args, u.vars = tt.args, map[string]string{}
		for name, value := range tt.vars {
			u.vars[name] = value
		}
		got, err := Load(u.inputs())
		if err != nil || got.Token.String() != tt.token || got.CAFile != tt.ca {
			t.Errorf("%v %v: token %s, CA file %q, %v, want %s, %q", tt.args, tt.vars, got.Token, got.CAFile, err, tt.token, tt.ca)
		}
	}
}

func TestTokenSources(t *testing.T) {
	const text = "kct_TESTTESTTESTTESTTESTTESTTESTTESTTESTTESTTEST"
	u := newUser(t)
	u.vars = map[string]string{"KEYCTL_SERVER": "https://h", "KEYCTL_TOKEN": text}
	c, err := Load(u.inputs())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.Token.Read(t.Context()); err != nil || got.Reveal() != text {
		t.Errorf("the token of KEYCTL_TOKEN = %v, want it", err)
	}
	delete(u.vars, "KEYCTL_TOKEN")
	if c, err = Load(u.inputs()); err != nil {
		t.Fatal(err)
	}
	_, err = c.Token.Read(t.Context())
	if f := fault.From(err); f == nil || f.Code != fault.Unauthenticated || !strings.Contains(f.Hint, "keyctl login") {
		t.Errorf("no token: %v, want unauthenticated and a hint", err)
	}
	u.configure("token: " + text)
	if _, err := Load(u.inputs()); err == nil || strings.Contains(err.Error(), "TESTTEST") {
		t.Errorf("a token in the place of its source: %v, want it refused without repeating it", err)
	}
}

// TestServeSettings gives each setting of a server in each of the three places, and in all at once.
func TestServeSettings(t *testing.T) {
	const file, variable, flag = "file", "variable", "flag" // in their order, the weakest first
	for name, c := range map[string]struct {
		values map[string]string // as text, by the place
		read   func(Config) string
		unset  string
	}{
		"store":            {map[string]string{file: "sqlite:/f.db", variable: "sqlite:/v.db", flag: "sqlite:/g.db"}, func(c Config) string { return "sqlite:" + c.StorePath }, ""},
		"listen":           {map[string]string{file: "127.0.0.1:1", variable: "127.0.0.1:2", flag: "127.0.0.1:3"}, func(c Config) string { return c.Serve.Listen }, DefaultListen},
		"tls-cert":         {map[string]string{file: "/f.pem", variable: "/v.pem", flag: "/g.pem"}, func(c Config) string { return c.Serve.CertFile }, ""},
		"tls-key":          {map[string]string{file: "/f.key", variable: "/v.key", flag: "/g.key"}, func(c Config) string { return c.Serve.KeyFile }, ""},
		"behind-proxy":     {map[string]string{file: "true", variable: "false", flag: "true"}, func(c Config) string { return strconv.FormatBool(c.Serve.BehindProxy) }, "false"},
		"trusted-proxies":  {map[string]string{file: "10.0.0.1,10.1.0.0/16", variable: "10.0.0.2", flag: "10.0.0.3"}, func(c Config) string { return strings.Join(c.Serve.TrustedProxies, ",") }, ""},
		"forwarded-header": {map[string]string{file: "Forwarded", variable: "X-Forwarded-For", flag: "Forwarded"}, func(c Config) string { return c.Serve.ForwardedHeader }, ""},
		"clock-skew":       {map[string]string{file: "1m0s", variable: "2m0s", flag: "3m0s"}, func(c Config) string { return c.Serve.Skew.String() }, ""},
		"master-key":       {map[string]string{file: "file:/f.master", variable: "file:/v.master", flag: "file:/g.master"}, func(c Config) string { return c.MasterKey.String() }, ""},
		"timeout":          {map[string]string{file: "1s", flag: "3s"}, func(c Config) string { return c.Timeout.String() }, defaultTimeout.String()},
	} {
		named := "KEYCTL_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
		if name == "master-key" {
			named += "_FILE" // beside KEYCTL_MASTER_KEY, which is the key itself
		}
		load := func(t *testing.T, places ...string) string {
			u := newUser(t)
			for _, place := range places {
				text := c.values[place]
				switch place {
				case file:
					u.configure(name + ": " + text + "\n")
				case variable:
					u.vars[named] = strings.TrimPrefix(text, "file:")
				case flag:
					u.args = []string{"--" + name + "=" + text}
				}
			}
			got, err := Load(u.inputs())
			if err != nil {
				t.Errorf("%s in %v: %v", name, places, err)
			}
			return c.read(got)
		}
		t.Run(name, func(t *testing.T) {
			if got := load(t); c.unset != "" && got != c.unset {
				t.Errorf("unset it is %q, want %q", got, c.unset)
			}
			var all []string
			for _, place := range []string{file, variable, flag} {
				if c.values[place] == "" {
					continue
				}
				all = append(all, place)
				for _, places := range [][]string{{place}, all} {
					if got := load(t, places...); got != c.values[place] {
						t.Errorf("in %v it is %q, want %q", places, got, c.values[place])
					}
				}
			}
		})
	}
}

func TestBehindProxyVariable(t *testing.T) {
	for text, want := range map[string]bool{"1": true, "true": true, "yes": true, "0": false, "false": false, "FALSE": false} {
		u := newUser(t)
		u.vars["KEYCTL_BEHIND_PROXY"] = text
		c, err := Load(u.inputs())
		if err != nil || c.Serve.BehindProxy != want {
			t.Errorf("KEYCTL_BEHIND_PROXY=%s: %v, %v, want %v", text, c.Serve.BehindProxy, err, want)
		}
	}
	u := newUser(t)
	u.configure("trusted-proxies: 10.0.0.1, 10.1.0.0/16\ntls-key: ~/key.pem\n")
	c, err := Load(u.inputs())
	if want := []string{"10.0.0.1", "10.1.0.0/16"}; err != nil || !slices.Equal(c.Serve.TrustedProxies, want) || c.Serve.KeyFile != u.path("key.pem") {
		t.Errorf("proxies %q, key %q, %v, want %q, %q", c.Serve.TrustedProxies, c.Serve.KeyFile, err, want, u.path("key.pem"))
	}
	for _, wrong := range []string{"0s", "2h", "5"} {
		u.vars["KEYCTL_CLOCK_SKEW"] = wrong
		if _, err := Load(u.inputs()); !fault.Is(err, fault.Invalid) {
			t.Errorf("a skew of %q: %v, want invalid", wrong, err)
		}
	}
}
