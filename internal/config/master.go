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

// The variables that carry a master key, or the name of its file.
const (
	masterKeyVar     = "KEYCTL_MASTER_KEY"
	masterKeyFileVar = "KEYCTL_MASTER_KEY_FILE"
)

// The kinds of places a master key is read from, as they are written before the colon.
const (
	fromFile    = "file"
	fromEnv     = "env"
	fromKeyring = "keyring"
	fromCommand = "command"
)

// looksLikeMasterKey knows roughly the form of a master key, only to notice one in the wrong place.
func looksLikeMasterKey(text string) bool {
	rest, ok := strings.CutPrefix(text, "kcm_")
	return ok && len(rest) >= 32 && !strings.ContainsFunc(rest, isNotBase62)
}

func isNotBase62(r rune) bool {
	return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
}

// maxKeyBytes bounds what is read as a master key; a key is one short line.
const maxKeyBytes = 4096

// MasterKeySource is a place to read the master key from: file:PATH, env:VARIABLE, keyring:NAME or command:COMMAND. Load
// makes them.
type MasterKeySource struct {
	kind  string
	value string
	env   environment
}

var variableName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`) })

// parseMasterKey reads the text form of a source. Errors are fault.Invalid, and do not repeat the value: people paste
// keys into places that want the name of one.
func parseMasterKey(text, source string) (MasterKeySource, error) {
	const hint = "write file:PATH, env:VARIABLE, keyring:NAME or command:COMMAND"
	invalid := func(what string) (MasterKeySource, error) {
		return MasterKeySource{}, fault.New(fault.Invalid, "%s %s", source, what).WithHint(hint)
	}
	kind, value, found := strings.Cut(text, ":")
	switch {
	case looksLikeMasterKey(text) || looksLikeMasterKey(value):
		return invalid("holds a master key, where the place to read it from belongs")
	case !found || kind != fromFile && kind != fromEnv && kind != fromKeyring && kind != fromCommand:
		return invalid("does not say where the master key is read from")
	case strings.TrimSpace(value) == "":
		return invalid("names nothing after the colon")
	case kind != fromCommand && strings.ContainsFunc(value, isControl):
		return invalid("contains control characters")
	case kind == fromEnv && !variableName().MatchString(value):
		return invalid("does not name an environment variable")
	case kind == fromKeyring && !credential.IsName(value):
		return invalid("does not name an entry of the keyring: up to 64 letters, digits, dots, underscores and hyphens")
	}
	return MasterKeySource{kind: kind, value: value}, nil
}

// String names the source, as in messages. Of a command it shows the program alone: arguments may be secrets.
func (s MasterKeySource) String() string {
	if s.kind == fromCommand {
		return fromCommand + ":" + programOf(s.value)
	}
	return s.kind + ":" + s.value
}

// Path returns the path of a source that is a file, and whether it is one.
func (s MasterKeySource) Path() (string, bool) { return s.value, s.kind == fromFile }

// AtHand reports whether Read takes the key from a file or a variable: it then runs no program, and nobody is asked
// anything.
func (s MasterKeySource) AtHand() bool { return s.kind == fromFile || s.kind == fromEnv }

// Keyring returns the name of a source that is an entry of the keyring, and whether it is one.
func (s MasterKeySource) Keyring() (string, bool) { return s.value, s.kind == fromKeyring }

// Read returns the master key without the line end after it. Its form is not checked here.
//
// A source that has no key is fault.MasterKeyMissing, and so is a command that fails. A file that others may read is
// fault.Forbidden (see safefile.OpenPrivate), and a command that runs beyond ctx is fault.Unavailable, as is a keyring that
// cannot be used.
func (s MasterKeySource) Read(ctx context.Context) (credential.Secret, error) {
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
		err = errors.New("the zero MasterKeySource has no key")
	}
	if err != nil {
		return credential.Secret{}, err
	}
	if text = strings.TrimRight(text, "\r\n"); text == "" {
		return credential.Secret{}, fault.New(fault.MasterKeyMissing, "%s", s.emptiness())
	}
	return credential.NewSecret(text), nil
}

// emptiness says of a source that it had no key.
func (s MasterKeySource) emptiness() string {
	switch s.kind {
	case fromEnv:
		return fmt.Sprintf("the environment variable %q for the master key is not set", s.value)
	case fromKeyring:
		return fmt.Sprintf("the master key %q in the keyring is empty", s.value)
	case fromCommand:
		return fmt.Sprintf("the master key command %q printed nothing", programOf(s.value))
	}
	return fmt.Sprintf("the master key file %q is empty", s.value)
}

func (s MasterKeySource) readFile() (string, error) {
	data, err := safefile.ReadPrivate(s.value, maxKeyBytes, s.env.warn)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fault.New(fault.MasterKeyMissing, "no master key file %q", s.value).
			WithHint("bring it back from where copies of it are kept, or name another source with --master-key").
			WithCause(err)
	}
	return string(data), err
}

func (s MasterKeySource) readKeyring(ctx context.Context) (string, error) {
	key, err := s.env.keyring(ctx, s.value)
	if fault.Is(err, fault.NotFound) {
		return "", fault.New(fault.MasterKeyMissing, "no master key %q in the keyring", s.value).
			WithHint("bring it back from where copies of it are kept, or name another source with --master-key").
			WithCause(err)
	}
	return key.Reveal(), err
}

func (s MasterKeySource) runCommand(ctx context.Context) (string, error) {
	text, err := s.env.output(ctx, s.value)
	return text, commandFault(err, fault.MasterKeyMissing, "the master key command", s.value)
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
