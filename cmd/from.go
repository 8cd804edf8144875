package cmd

import (
	"bytes"
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

// read reads the credential.
func (f fromFlags) read(a *app) (credential.Credential, error) {
	var r io.Reader = a.sys.Stdin
	if f.file != "-" {
		text, err := safefile.ReadPrivate(f.file, maxCredentialFile, a.warn)
		if errors.Is(err, fs.ErrNotExist) {
			return credential.Credential{}, fault.New(fault.NotFound, "no file %q", f.file).WithHint("--from takes a file that holds a credential, or - for standard input")
		}
		if err != nil {
			return credential.Credential{}, err
		}
		r = bytes.NewReader(text)
	}
	return credential.Parse(r, f.profile)
}
