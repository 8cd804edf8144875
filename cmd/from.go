package cmd

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"

	"github.com/spf13/pflag"

	"keyctl/internal/credential"
	"keyctl/internal/fault"
	"keyctl/internal/safefile"
)

// fromFlags name a credential that is in hand.
type fromFlags struct{ file, profile string }

func (f *fromFlags) add(flags *pflag.FlagSet) {
	flags.Var(nonEmpty(&f.file), "from", "a file that holds a credential in any format, - for standard input")
	flags.Var(nonEmpty(&f.profile), "profile", "the profile to take from a file that holds several")
}

// heldFlags name a credential that is kept on this machine: in the keyring, or in a file.
type heldFlags struct {
	key  string
	from fromFlags
}

func (h *heldFlags) add(flags *pflag.FlagSet) {
	flags.Var(nonEmpty(&h.key), "key", "the key: a profile of the keyring, a key's name or an access key id")
	h.from.add(flags)
}

// credential finds the credential that is meant.
func (h heldFlags) credential(ctx context.Context, a *app) (credential.Credential, error) {
	switch {
	case h.from.file != "":
		return h.from.readOf(a, h.key)
	case h.from.profile != "":
		return credential.Credential{}, fault.New(fault.Invalid, "--profile goes with --from").WithHint("a profile of the keyring is named by --key")
	case h.key == "":
		return credential.Credential{}, fault.New(fault.Invalid, "a credential is needed").
			WithHint("name a key of the keyring with --key KEY, or pass a credential with --from FILE")
	}
	profiles, err := a.profiles()
	if err != nil {
		return credential.Credential{}, err
	}
	_, cred, err := profiles.Find(ctx, h.key)
	if fault.Is(err, fault.NotFound) {
		return cred, fault.From(err).WithHint("`keyctl credentials list` shows what is stored; a credential in a file is passed with --from FILE")
	}
	return cred, err
}

// read reads the credential.
func (f fromFlags) read(a *app) (credential.Credential, error) {
	text, err := f.text(a)
	if err != nil {
		return credential.Credential{}, err
	}
	return credential.Parse(bytes.NewReader(text), f.profile)
}

// text reads what the credential is in.
func (f fromFlags) text(a *app) ([]byte, error) {
	if f.file == "-" {
		text, err := io.ReadAll(io.LimitReader(a.sys.Stdin, maxCredentialFile+1)) // of which Parse refuses the last byte
		if err != nil {
			return nil, fault.New(fault.Unavailable, "standard input could not be read").WithCause(err)
		}
		return text, nil
	}
	text, err := safefile.ReadPrivate(f.file, maxCredentialFile, a.warn)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(fault.NotFound, "no file %q", f.file).WithHint("--from takes a file that holds a credential, or - for standard input")
	}
	return text, err
}

// readOf reads the credential of a key, given by name or access key id; empty is any. Where the text has profiles, the key
// chooses one unless --profile does. A text that knows no name is taken for any name's.
func (f fromFlags) readOf(a *app, key string) (credential.Credential, error) {
	text, err := f.text(a)
	if err != nil {
		return credential.Credential{}, err
	}
	parse := func(profile string) (credential.Credential, error) {
		return credential.Parse(bytes.NewReader(text), profile)
	}
	if f.profile == "" && key != "" {
		if cred, err := parse(key); err == nil {
			return cred, nil
		}
	}
	cred, err := parse(f.profile)
	if err != nil || key == "" {
		return cred, err
	}
	other := f.profile == "" && cred.Name != "" && cred.Name != key // a chosen profile need not be named after its key
	if credential.IsAccessKeyID(key) {
		other = cred.AccessKeyID != key
	}
	if other {
		return credential.Credential{}, fault.New(fault.NotFound, "--from holds another credential than that of %q", key).
			WithHint("leave --key out to take it as it is")
	}
	return cred, nil
}
