package cmd

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"keyctl/internal/config"
	"keyctl/internal/credential"
	"keyctl/internal/envelope"
	"keyctl/internal/fault"
	"keyctl/internal/httpapi"
	"keyctl/internal/keys"
	"keyctl/internal/store"
	"keyctl/internal/term"
)

// app is what commands share: the system, the flags every command has, and what is opened late, on first need, so that
// help, version and completion touch no file.
type app struct {
	sys      *System
	flags    *pflag.FlagSet // of the root command
	unharden func()         // puts back what process.Harden found, for a program that is to run as if keyctl was not there

	output    string // -o, or KEYCTL_OUTPUT and the file once configured
	fields    string // --json
	jq        string
	quiet     bool
	noHeaders bool
	yes       bool
	verbose   bool
	cfg       *config.Config
	screen    *term.Terminal
	progress  *term.Progress // of long work, while it goes on
	master    *envelope.MasterKey
	db        *store.DB
	local     *keys.Local     // on the store db
	remote    *httpapi.Client // of a server, in its place

	takeWarning func(message string) // in the place of saying it
	onlyLooks   bool                 // doctor: no dialog of the keyring's opens
}

func newApp(sys *System) *app { return &app{sys: sys, unharden: func() {}} }

// config reads flags, environment and file, once.
func (a *app) config() (config.Config, error) {
	if a.cfg != nil {
		return *a.cfg, nil
	}
	cfg, err := config.Load(a.inputs())
	if err != nil {
		return cfg, err
	}
	a.cfg, a.output = &cfg, cfg.Output
	return cfg, nil
}

func (a *app) inputs() config.Inputs {
	return config.Inputs{
		Flags: a.flags, Getenv: a.sys.Getenv, Home: homeDir(a.sys.Getenv), Formats: outputs,
		ParseDuration: keys.ParseDuration, Warn: a.warn, Stderr: a.sys.Stderr, Keyring: a.masterKeyFromKeyring, Tokens: a.tokenFromKeyring,
	}
}

// terminal looks at the streams, once.
func (a *app) terminal() (*term.Terminal, error) {
	if a.screen != nil {
		return a.screen, nil
	}
	cfg, err := a.config()
	if err != nil {
		return nil, err
	}
	a.screen = term.New(a.sys.Stdin, a.sys.Stdout, a.sys.Stderr, term.Options{
		NoInput: cfg.NoInput, Color: cfg.Color, Getenv: a.sys.Getenv,
	})
	return a.screen, nil
}

// say tells a person something on standard error.
func (a *app) say(format string, args ...any) {
	text := term.Clean(credential.MaskTokens(fmt.Sprintf(format, args...)))
	a.progress.Above(func() { fmt.Fprintf(a.sys.Stderr, "keyctl: %s\n", text) })
}

func (a *app) hint(format string, args ...any) { a.say("hint: "+format, args...) }

func (a *app) warn(message string) {
	if a.takeWarning != nil {
		a.takeWarning(message)
		return
	}
	a.say("warning: %s", message)
}

// tell says something only with -v.
func (a *app) tell(format string, args ...any) {
	if a.verbose {
		a.say(format, args...)
	}
}

// open gives the Service to a command, on first need.
func (a *app) open(ctx context.Context) (keys.Service, error) {
	if a.local != nil {
		return a.local, nil
	}
	if a.remote != nil {
		return a.remote, nil
	}
	cfg, err := a.config()
	if err != nil {
		return nil, err
	}
	if cfg.Server != "" {
		if a.remote, err = a.openServer(ctx, cfg); err != nil {
			a.remote = nil
			return nil, err
		}
		return a.remote, nil
	}
	if err := a.openStore(ctx, cfg); err != nil {
		return nil, err
	}
	return a.local, nil
}

// begin gives a command what it answers with and what it asks: the printer first, for wrong flags open nothing.
func (a *app) begin(ctx context.Context) (*printer, keys.Service, error) {
	p, err := a.printer()
	if err != nil {
		return nil, nil, err
	}
	service, err := a.open(ctx)
	return p, service, err
}

// openOrCreate is open for the commands that may be somebody's first: on the default paths they make the store.
func (a *app) openOrCreate(ctx context.Context) (keys.Service, error) {
	service, err := a.open(ctx)
	if !fault.Is(err, fault.NoStore) {
		return service, err
	}
	cfg, cfgErr := a.config()
	if cfgErr != nil || !cfg.StoreIsDefault || !cfg.MasterKeyIsDefault || store.WasMoved(cfg.StorePath) != "" {
		return nil, err
	}
	if _, err := a.createStore(ctx, cfg); err != nil && !fault.Is(err, fault.Exists) {
		return nil, err
	}
	return a.open(ctx)
}

// openStore opens store and master key, in this order: without the right key nothing is written, not even an upgrade.
func (a *app) openStore(ctx context.Context, cfg config.Config) error {
	begun := time.Now()
	db, err := openDB(ctx, cfg, a.storeOptions())
	if err != nil {
		return err
	}
	a.db = db
	if err := a.readMaster(ctx); err != nil {
		return err
	}
	if db.Outdated() {
		if err := keys.CheckMaster(ctx, db, *a.master); err != nil {
			return err
		}
		a.say("upgrading the store %s to this version of keyctl", db.Path())
		if err := db.Migrate(ctx); err != nil {
			return err
		}
	}
	local, err := keys.Open(ctx, db, *a.master, a.env())
	if err != nil {
		return err
	}
	a.local = local
	a.tell("opened the store %s with the master key of %s as %q in %s", db.Path(), cfg.MasterKey,
		local.Caller().Name, time.Since(begun).Round(100*time.Microsecond))
	return nil
}

// openDB opens the store that is configured.
func openDB(ctx context.Context, cfg config.Config, options store.Options) (*store.DB, error) {
	if cfg.Postgres != "" {
		return store.OpenPostgres(ctx, cfg.Postgres, options)
	}
	return store.Open(ctx, cfg.StorePath, options)
}

// storeOptions bounds the wait for other writers by --timeout, where that is shorter than what the store would wait.
func (a *app) storeOptions() store.Options {
	return store.Options{Wait: min(a.cfg.Timeout, store.DefaultWait), Warn: a.warn}
}

// readMaster reads the master key from its source, once.
func (a *app) readMaster(ctx context.Context) error {
	if a.master != nil {
		return nil
	}
	if _, inKeyring := a.cfg.MasterKey.Keyring(); !inKeyring { // whose wait for a person has a bound of its own
		var cancel func()
		ctx, cancel = context.WithTimeout(ctx, a.cfg.Timeout)
		defer cancel()
	}
	text, err := a.cfg.MasterKey.Read(ctx)
	if err != nil {
		return err
	}
	master, err := envelope.ParseMasterKey(text)
	if err == nil {
		a.master = &master
	}
	return err
}

func (a *app) env() keys.Env {
	return keys.Env{Now: a.sys.Now, Rand: a.sys.Rand, OSUser: osUser(), Skew: a.cfg.Serve.Skew}
}

// close releases the store.
func (a *app) close() error {
	if a.db == nil {
		return nil
	}
	return a.db.Close()
}

// now is the instant at which a command reads relative times.
func (a *app) now() time.Time { return keys.Instant(a.sys.Now()) }

// wantsJSON reports whether failures are to be told as JSON, also when the configuration never got read.
func (a *app) wantsJSON() bool {
	return a.output == "json" || a.fields != "" || a.jq != "" || a.output == "" && strings.EqualFold(a.sys.Getenv("KEYCTL_OUTPUT"), "json")
}
