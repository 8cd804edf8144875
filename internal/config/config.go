// Package config turns flags, the environment and the configuration file into one plain struct, and reads the secrets
// that these point to: the master key and one-time codes.
//
// It is the only package that reads the environment, and the only one that knows viper. It opens no store, checks no
// key's form and asks nobody anything; what it returns has been validated as far as that is possible without either.
// Everything it takes from outside comes in through Inputs, so a test can be any user on any system.
package config

import (
	"cmp"
	"context"
	"io"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"keyctl/internal/credential"
	"keyctl/internal/fault"
	"keyctl/internal/signature"
)

// The names of the settings: of flags, and of fields in the configuration file.
const (
	keyStore        = "store"
	keyServer       = "server"
	keyCAFile       = "ca-file"
	keyToken        = "token"
	keyMasterKey    = "master-key"
	keyContext      = "context"
	keyOutput       = "output"
	keyNoInput      = "no-input"
	keyTimeout      = "timeout"
	keyColor        = "color"
	keyDefaultGrace = "default-grace"
	keyOTPCommand   = "otp-command"
	keyContexts     = "contexts"

	keyListen          = "listen"
	keyTLSCert         = "tls-cert"
	keyTLSKey          = "tls-key"
	keyBehindProxy     = "behind-proxy"
	keyTrustedProxies  = "trusted-proxies"
	keyForwardedHeader = "forwarded-header"
	keyClockSkew       = "clock-skew"
)

// flagKeys are the settings that have a flag of the same name, on every command or on keyctl serve.
var flagKeys = []string{
	keyStore, keyServer, keyCAFile, keyMasterKey, keyContext, keyOutput, keyNoInput, keyTimeout, keyColor,
	keyListen, keyTLSCert, keyTLSKey, keyBehindProxy, keyTrustedProxies, keyForwardedHeader, keyClockSkew,
}

// pathKeys are the settings whose value is a path, alone or behind the kind of a place.
var pathKeys = []string{keyStore, keyMasterKey, keyToken, keyCAFile, keyTLSCert, keyTLSKey}

// defaultTimeout bounds an operation when nothing else is configured.
const defaultTimeout = 30 * time.Second

// Inputs is where a configuration comes from. Getenv, Formats and ParseDuration are required.
type Inputs struct {
	Flags         *pflag.FlagSet                      // after parsing; only flags that were given count; nil is none
	Getenv        func(name string) string            // one environment variable; unset and empty are the same
	Environ       func() []string                     // the environment that commands inherit, less secrets; nil is os.Environ
	Home          string                              // the user's home directory; empty when there is none
	Formats       []string                            // the output formats there are; the first is the default
	ParseDuration func(string) (time.Duration, error) // the syntax that durations have everywhere in keyctl
	Warn          func(message string)                // takes what is not right but works, such as a group-readable key; nil drops it
	Stderr        io.Writer                           // the standard error of commands that print secrets; nil drops it

	// Keyring returns a master key, and Tokens a token, from the keyring of the system; fault.NotFound when there is none of
	// that name. They are required where these may come from there.
	Keyring func(ctx context.Context, name string) (credential.Secret, error)
	Tokens  func(ctx context.Context, name string) (credential.Secret, error)
}

// Config is everything that was configured, validated.
type Config struct {
	File    string // the configuration file that was read; empty when there is none
	Context string // the context in use; empty for none

	Server string // the URL of the server that commands go to; empty: they work on the store
	CAFile string // PEM, of the authorities that are trusted; empty: the system's
	Token  Source // lets the user in there

	StorePath          string // of the SQLite file; empty for a PostgreSQL store
	Postgres           string // the URL of a PostgreSQL store, in which a password may stand; empty for a file
	DefaultStore       string // the path a store is at where nobody says otherwise, also when commands go to a server
	StoreIsDefault     bool   // it is where a first create may make a store
	MasterKey          Source
	MasterKeyIsDefault bool // it is where a first create may make a master key

	CredentialsPath string // of the list of credentials in the keyring; empty where there is no home to keep it in

	Output          string         // one of Inputs.Formats
	OutputIsDefault bool           // nobody chose it
	NoInput         bool           // never ask
	Timeout         time.Duration  // positive
	Color           string         // auto, always or never
	DefaultGrace    *time.Duration // what a roll without --expire does; nil when it is not configured; 0 is "now"

	Serve Serve // for keyctl serve

	otpCommand string // prints one-time codes; empty for none
	env        environment
}

// Serve is how a server listens.
type Serve struct {
	Listen          string        // HOST:PORT
	CertFile        string        // PEM; empty: plain HTTP
	KeyFile         string        // PEM
	BehindProxy     bool          // a proxy in front speaks TLS
	TrustedProxies  []string      // addresses and ranges
	ForwardedHeader string        // that they name the client in; empty: the default
	Skew            time.Duration // how far the clocks of applications may be away
}

// DefaultListen is where a server listens unless it is told otherwise: on this machine alone.
const DefaultListen = "127.0.0.1:8420"

// environment is what remains of Inputs when secrets are read.
type environment struct {
	getenv    func(string) string
	environ   func() []string
	stderr    io.Writer
	warn      func(string)
	secretVar string // the variable that holds the master key, if one does
	keyring   func(context.Context, string) (credential.Secret, error)
	tokens    func(context.Context, string) (credential.Secret, error)
}

// Load puts the configuration together. What a flag says wins over the environment, that over the context in use, that
// over the rest of the configuration file, and that over the defaults. A configuration file need not exist.
//
// Errors are fault.Invalid, naming the flag, variable or line at fault but never a value that could be a secret;
// fault.NotFound for an unknown context; and those of safefile.ReadConfig for a file that cannot be trusted.
func Load(in Inputs) (Config, error) {
	d := findDirs(in.Getenv, in.Home)
	doc, err := readFile(d.configFile())
	if err != nil {
		return Config{}, err
	}
	return in.assemble(d, doc)
}

// LoadContext is Load for a context as the file has it, whatever flags and environment say about places and tokens.
func LoadContext(in Inputs, name string) (Config, error) {
	getenv := in.Getenv
	in.Flags, in.Getenv = nil, func(variable string) string {
		switch variable {
		case "KEYCTL_CONTEXT":
			return name
		case "KEYCTL_STORE", "KEYCTL_SERVER", "KEYCTL_CA_FILE", "KEYCTL_TOKEN", "KEYCTL_TOKEN_FILE":
			return ""
		}
		return getenv(variable)
	}
	return Load(in)
}

// Contexts returns the names of the contexts in the configuration file, in order. Errors are those of Load about the file.
func Contexts(in Inputs) ([]string, error) {
	doc, err := readFile(findDirs(in.Getenv, in.Home).configFile())
	if err != nil {
		return nil, err
	}
	return slices.Sorted(maps.Keys(doc.contexts)), nil
}

// FromFlags is Load by the flags alone, for a command that has to work while the rest of the configuration is broken. It
// knows no default places and looks up no context.
func FromFlags(in Inputs) (Config, error) {
	in.Getenv = func(string) string { return "" }
	s, err := merge(in.Flags)
	if err != nil {
		return Config{}, err
	}
	c, err := in.settle(s)
	if err != nil {
		return Config{}, err
	}
	if err := c.setGivenPlaces(s); err != nil {
		return Config{}, err
	}
	return c, nil
}

// assemble is Load after the file was read.
func (in Inputs) assemble(d dirs, doc document) (Config, error) {
	s, err := in.resolve(d.home, doc)
	if err != nil {
		return Config{}, err
	}
	c, err := in.settle(s)
	if err != nil {
		return Config{}, err
	}
	if doc.values != nil {
		c.File = doc.path
	}
	c.CredentialsPath, c.DefaultStore = d.credentialsFile(), d.storeFile()
	if err := c.setPlaces(d, s); err != nil {
		return Config{}, err
	}
	return c, nil
}

// settle checks and fills in all but the places of store and master key.
func (in Inputs) settle(s settings) (Config, error) {
	if in.Environ == nil {
		in.Environ = os.Environ
	}
	c := Config{
		Context:    s.Context,
		NoInput:    s.NoInput,
		otpCommand: s.OTPCommand,
		env:        environment{getenv: in.Getenv, environ: in.Environ, stderr: in.Stderr, warn: in.Warn, keyring: in.Keyring, tokens: in.Tokens},
		Serve: Serve{
			Listen: cmp.Or(s.Listen, DefaultListen), CertFile: s.TLSCert, KeyFile: s.TLSKey, BehindProxy: s.BehindProxy,
			TrustedProxies: words(s.TrustedProxies), ForwardedHeader: s.ForwardedHeader,
		},
	}
	var err error
	if c.Output, err = s.oneOf(keyOutput, s.Output, in.Formats); err != nil {
		return Config{}, err
	}
	c.OutputIsDefault = !s.given(keyOutput)
	if c.Color, err = s.oneOf(keyColor, s.Color, []string{"auto", "always", "never"}); err != nil {
		return Config{}, err
	}
	if err := c.setTimes(in, s); err != nil {
		return Config{}, err
	}
	return c, nil
}

// setTimes fills in the durations.
func (c *Config) setTimes(in Inputs, s settings) error {
	c.Serve.Skew = signature.Skew
	if s.given(keyClockSkew) {
		d, err := s.duration(keyClockSkew, s.ClockSkew, in.ParseDuration)
		if err != nil {
			return err
		}
		if d <= 0 || d > time.Hour {
			return fault.New(fault.Invalid, "%s must be longer than nothing, and an hour at most", s.source(keyClockSkew))
		}
		c.Serve.Skew = d
	}
	c.Timeout = defaultTimeout
	if s.given(keyTimeout) {
		d, err := s.duration(keyTimeout, s.Timeout, in.ParseDuration)
		if err != nil {
			return err
		}
		if d <= 0 {
			return fault.New(fault.Invalid, "%s must be longer than nothing", s.source(keyTimeout))
		}
		c.Timeout = d
	}
	if !s.given(keyDefaultGrace) {
		return nil
	}
	var grace time.Duration
	if s.DefaultGrace != "now" { // the word that --expire has for it
		d, err := s.duration(keyDefaultGrace, s.DefaultGrace, in.ParseDuration)
		if err != nil {
			return err
		}
		if d < 0 {
			return fault.New(fault.Invalid, "%s must not be negative", s.source(keyDefaultGrace))
		}
		grace = d
	}
	c.DefaultGrace = &grace
	return nil
}

// words splits a list at commas and blanks.
func words(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' || r == '\n' })
}

// setPlaces fills in the server, or else the store and the master key.
func (c *Config) setPlaces(d dirs, s settings) error {
	if s.given(keyServer) {
		c.Server, c.CAFile = s.Server, s.CAFile
		c.Token = Source{secret: token}
		if s.given(keyToken) {
			var err error
			if c.Token, err = parseSource(token, s.Token, s.source(keyToken)); err != nil {
				return err
			}
		}
		c.Token.env = c.env
		return nil
	}
	defaultStore, defaultKey := d.storeFile(), d.masterKeyFile()
	if !s.given(keyStore) && defaultStore == "" || !s.given(keyMasterKey) && defaultKey == "" {
		return fault.New(fault.Invalid, "there is no home directory to keep a store and its master key in").
			WithHint("set HOME, or give both --store and --master-key")
	}
	c.StorePath = defaultStore
	c.MasterKey = Source{secret: masterKey, kind: fromFile, value: defaultKey}
	if err := c.setGivenPlaces(s); err != nil {
		return err
	}
	c.StoreIsDefault = samePath(c.StorePath, defaultStore)
	c.MasterKeyIsDefault = c.MasterKey.kind == fromFile && samePath(c.MasterKey.value, defaultKey)
	if c.MasterKey.kind == fromEnv {
		c.env.secretVar = c.MasterKey.value
	}
	c.MasterKey.env = c.env
	return nil
}

// setGivenPlaces reads where somebody said that store and master key are.
func (c *Config) setGivenPlaces(s settings) (err error) {
	if s.given(keyStore) {
		if c.StorePath, c.Postgres, err = parseStore(s.Store, s.source(keyStore)); err != nil {
			return err
		}
	}
	if s.given(keyMasterKey) {
		c.MasterKey, err = parseSource(masterKey, s.MasterKey, s.source(keyMasterKey))
	}
	return err
}

// WithStore is the configuration with another store, which the flag of that name names.
func (c Config) WithStore(flag, value string) (Config, error) {
	var err error
	c.StorePath, c.Postgres, err = parseStore(value, "--"+flag)
	c.StoreIsDefault = false
	return c, err
}

// parseStore returns the path in sqlite:PATH, or a postgres:// URL. The value is not repeated in errors: a URL may contain a
// password. In a flag it must not: other users of the machine can read the arguments of a program.
func parseStore(value, source string) (path, postgres string, err error) {
	const hint = "write sqlite:PATH, for example sqlite:/var/lib/keyctl/keyctl.db, or postgres://HOST/DATABASE"
	scheme, path, found := strings.Cut(value, ":")
	switch {
	case scheme == "postgres" || scheme == "postgresql":
		u, err := url.Parse(value)
		if err != nil || strings.ContainsFunc(value, isControl) {
			return "", "", fault.New(fault.Invalid, "%s is not a URL", source).WithHint(hint)
		}
		if _, secret := u.User.Password(); (secret || u.Query().Has("password")) && strings.HasPrefix(source, "--") {
			return "", "", fault.New(fault.Invalid, "%s has a password in it, which others can read in the list of processes", source).
				WithHint("put the password into a file (PGPASSFILE), or the URL into KEYCTL_STORE or the configuration file")
		}
		return "", value, nil
	case !found || scheme != "sqlite":
		return "", "", fault.New(fault.Invalid, "%s does not say what kind of store it is", source).WithHint(hint)
	case path == "":
		return "", "", fault.New(fault.Invalid, "%s names no file", source).WithHint(hint)
	case strings.ContainsFunc(path, isControl):
		return "", "", fault.New(fault.Invalid, "%s contains control characters", source).WithHint(hint)
	}
	return path, "", nil
}

func isControl(r rune) bool { return r < 0x20 || r == 0x7f }

// oneOf returns value if it is in known, and known's first for a setting that was not given.
func (s settings) oneOf(key, value string, known []string) (string, error) {
	if !s.given(key) {
		return known[0], nil
	}
	if !slices.Contains(known, value) {
		return "", fault.New(fault.Invalid, "%s is none of %s", s.source(key), strings.Join(known, ", "))
	}
	return value, nil
}

// duration parses a duration and says where a wrong one is from.
func (s settings) duration(key, value string, parse func(string) (time.Duration, error)) (time.Duration, error) {
	d, err := parse(value)
	if err == nil {
		return d, nil
	}
	wrong := fault.New(fault.Invalid, "%s: %v", s.source(key), err).WithCause(err)
	if f := fault.From(err); f != nil && f.Hint != "" {
		return 0, wrong.WithHint("%s", f.Hint)
	}
	return 0, wrong.WithHint("durations look like 30m, 24h, 7d")
}
