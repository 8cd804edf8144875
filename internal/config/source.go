package config

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strings"
	"sync"

	"keyctl/internal/credential"
	"keyctl/internal/fault"
	"keyctl/internal/safefile"
)

// secret is a kind of secret that is read from a Source.
type secret struct {
	name         string     // in messages
	prefix       string     // of its text
	missing      fault.Code // for a source that has none
	remedy       string     // what to do then
	variable     string     // of the environment, that carries it
	fileVariable string     // that names its file
}

// The secrets that have sources.
var (
	masterKey = &secret{
		"master key", "kcm_", fault.MasterKeyMissing, "bring it back from where copies of it are kept, or name another source with --master-key",
		"KEYCTL_MASTER_KEY", "KEYCTL_MASTER_KEY_FILE",
	}
	token = &secret{
		"token", "kct_", fault.Unauthenticated, "`keyctl login SERVER` keeps one; KEYCTL_TOKEN_FILE or KEYCTL_TOKEN gives one",
		"KEYCTL_TOKEN", "KEYCTL_TOKEN_FILE",
	}
)

// The kinds of places a secret is read from, as they are written before the colon.
const (
	fromFile    = "file"
	fromEnv     = "env"
	fromKeyring = "keyring"
	fromCommand = "command"
)

// looksLike knows roughly the form of the secret, only to notice one in the wrong place.
func (s *secret) looksLike(text string) bool {
	rest, ok := strings.CutPrefix(text, s.prefix)
	return ok && len(rest) >= 32 && !strings.ContainsFunc(rest, isNotBase62)
}

func isNotBase62(r rune) bool {
	return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
}

// maxKeyBytes bounds what is read as a secret; it is one short line.
const maxKeyBytes = 4096

// Source is a place to read the master key or a token from: file:PATH, env:VARIABLE, keyring:NAME or command:COMMAND. Load
// makes them.
type Source struct {
	secret *secret
	kind   string
	value  string
	env    environment
}

var variableName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`) })

// parseSource reads the text form of a source. Errors are fault.Invalid, and do not repeat the value: people paste
// keys into places that want the name of one.
func parseSource(of *secret, text, source string) (Source, error) {
	const hint = "write file:PATH, env:VARIABLE, keyring:NAME or command:COMMAND"
	invalid := func(what string) (Source, error) {
		return Source{}, fault.New(fault.Invalid, "%s %s", source, what).WithHint(hint)
	}
	kind, value, found := strings.Cut(text, ":")
	switch {
	case of.looksLike(text) || of.looksLike(value):
		return invalid("holds a " + of.name + ", where the place to read it from belongs")
	case !found || kind != fromFile && kind != fromEnv && kind != fromKeyring && kind != fromCommand:
		return invalid("does not say where the " + of.name + " is read from")
	case strings.TrimSpace(value) == "":
		return invalid("names nothing after the colon")
	case kind != fromCommand && strings.ContainsFunc(value, isControl):
		return invalid("contains control characters")
	case kind == fromEnv && !variableName().MatchString(value):
		return invalid("does not name an environment variable")
	case kind == fromKeyring && !credential.IsName(value):
		return invalid("does not name an entry of the keyring: up to 64 letters, digits, dots, underscores and hyphens")
	}
	return Source{secret: of, kind: kind, value: value}, nil
}

// String names the source, as in messages. Of a command it shows the program alone: arguments may be secrets.
func (s Source) String() string {
	if s.kind == fromCommand {
		return fromCommand + ":" + programOf(s.value)
	}
	return s.kind + ":" + s.value
}

// Path returns the path of a source that is a file, and whether it is one.
func (s Source) Path() (string, bool) { return s.value, s.kind == fromFile }

// IsZero reports whether there is no source.
func (s Source) IsZero() bool { return s.kind == "" }

// AtHand reports whether Read takes the key from a file or a variable: it then runs no program, and nobody is asked
// anything.
func (s Source) AtHand() bool { return s.kind == fromFile || s.kind == fromEnv }

// Keyring returns the name of a source that is an entry of the keyring, and whether it is one.
func (s Source) Keyring() (string, bool) { return s.value, s.kind == fromKeyring }

// Read returns the secret without the line end after it. Its form is not checked here.
//
// A source that has none is fault.MasterKeyMissing or, for a token, fault.Unauthenticated, and so is a command that fails. A file that others may read is
// fault.Forbidden (see safefile.OpenPrivate), and a command that runs beyond ctx is fault.Unavailable, as is a keyring that
// cannot be used.
func (s Source) Read(ctx context.Context) (credential.Secret, error) {
	if err := ctx.Err(); err != nil {
		return credential.Secret{}, err
	}
	var text string
	var err error
	switch s.kind {
	case fromFile:
		text, err = s.readFile()
	case fromEnv:
		text, err = s.env.getenv(s.value), nil
	case fromKeyring:
		text, err = s.readKeyring(ctx)
	case fromCommand:
		text, err = s.runCommand(ctx)
	default:
		return credential.Secret{}, fault.New(s.secret.missing, "there is no %s", s.secret.name).WithHint("%s", s.secret.remedy)
	}
	if err != nil {
		return credential.Secret{}, err
	}
	if text = strings.TrimRight(text, "\r\n"); text == "" {
		return credential.Secret{}, fault.New(s.secret.missing, "%s", s.emptiness())
	}
	return credential.NewSecret(text), nil
}

// emptiness says of a source that it had no key.
func (s Source) emptiness() string {
	switch s.kind {
	case fromEnv:
		return fmt.Sprintf("the environment variable %q for the %s is not set", s.value, s.secret.name)
	case fromKeyring:
		return fmt.Sprintf("the %s %q in the keyring is empty", s.secret.name, s.value)
	case fromCommand:
		return fmt.Sprintf("the %s command %q printed nothing", s.secret.name, programOf(s.value))
	}
	return fmt.Sprintf("the %s file %q is empty", s.secret.name, s.value)
}

func (s Source) readFile() (string, error) {
	data, err := safefile.ReadPrivate(s.value, maxKeyBytes, s.env.warn)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fault.New(s.secret.missing, "no %s file %q", s.secret.name, s.value).WithHint("%s", s.secret.remedy).WithCause(err)
	}
	return string(data), err
}

func (s Source) readKeyring(ctx context.Context) (string, error) {
	read := s.env.keyring
	if s.secret == token {
		read = s.env.tokens
	}
	key, err := read(ctx, s.value)
	if fault.Is(err, fault.NotFound) {
		return "", fault.New(s.secret.missing, "no %s %q in the keyring", s.secret.name, s.value).WithHint("%s", s.secret.remedy).WithCause(err)
	}
	return key.Reveal(), err
}

func (s Source) runCommand(ctx context.Context) (string, error) {
	text, err := s.env.output(ctx, s.value)
	return text, commandFault(err, s.secret.missing, "the "+s.secret.name+" command", s.value)
}

// commandFault makes an error of environment.output one for the user: of the given code, unless the time was up or the
// user stopped it.
func commandFault(err error, code fault.Code, what, command string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled):
		return context.Canceled
	case errors.Is(err, context.DeadlineExceeded):
		return fault.New(fault.Unavailable, "%s %q did not finish in time", what, programOf(command)).
			WithHint("give it more with --timeout").WithCause(err)
	}
	return fault.New(code, "%s %q %v", what, programOf(command), err).
		WithHint("run the command by itself to see what is wrong").WithCause(err)
}
