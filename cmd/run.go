package cmd

import (
	"context"
	"errors"
	"io/fs"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"keyctl/internal/credential"
	"keyctl/internal/fault"
	"keyctl/internal/process"
)

// runForm is how run is written.
const runForm = "write `keyctl run --key KEY -- COMMAND`: all that comes after -- is the command's own"

func newRun(a *app) *cobra.Command {
	var held heldFlags
	c := &cobra.Command{
		Use:   "run --key KEY [--from FILE] -- COMMAND [ARG…]",
		Short: "Run a command with a credential in its environment",
		Long: `Run a command with the credential of a key in UBIQ_ACCESS_KEY_ID, UBIQ_SECRET_SIGNING_KEY and UBIQ_SECRET_CRYPTO_ACCESS_KEY,
where client libraries look for it, and with UBIQ_SERVER where the credential says which. So a secret that is kept in the
keyring of this machine, or in a file, gets to one program without a line in a shell's history or profile.

--key names a profile of the keyring, or a key or access key id that credentials list shows. With --from the credential
comes from a file instead; of several profiles in it --profile or --key chooses.

keyctl becomes the command: signals, output and exit status are the command's own. keyctl's own secrets, such as
KEYCTL_MASTER_KEY, are not passed on. Other programs of yours can read the environment of a running one. No store is opened.`,
		Example: `  keyctl run --key web-01 -- ./server --port 8080
  keyctl run --from web-01.env -- sh -c 'echo "$UBIQ_ACCESS_KEY_ID"'
  pass show web-01 | keyctl run --from - -- ./server`,
		DisableFlagsInUseLine: true,
		Annotations:           onlyReads(), // the signals are the command's
		Args:                  runArgs,
		ValidArgsFunction:     files, // of the command, which is not keyctl's to complete
		RunE:                  func(c *cobra.Command, args []string) error { return a.run(c.Context(), held, args) },
	}
	c.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		var missing *pflag.NotExistError
		if errors.As(err, &missing) {
			return fault.New(fault.Invalid, "%s has no flag %s", c.CommandPath(), dashed(missing.GetSpecifiedName())).WithHint(runForm)
		}
		return flagError(c, err)
	})
	f := c.Flags()
	f.SortFlags = false
	held.add(f)
	return c
}

// runArgs wants the command after "--". Without it the command's flags would be taken for keyctl's, or keyctl's for the
// command's, and nobody could tell by looking.
func runArgs(c *cobra.Command, given []string) error {
	switch at := c.ArgsLenAtDash(); {
	case len(given) == 0:
		return fault.New(fault.Invalid, "%s needs COMMAND", c.CommandPath()).WithHint(runForm)
	case at != 0:
		return fault.New(fault.Invalid, "the command has to come after --").WithHint(runForm)
	case given[0] == "":
		return fault.New(fault.Invalid, "the command is empty").WithHint(runForm)
	}
	return nil
}

func (a *app) run(ctx context.Context, held heldFlags, command []string) error {
	cfg, err := a.config()
	if err != nil {
		return err
	}
	if err := a.printsNothing("run"); err != nil {
		return fault.From(err).WithHint(runForm)
	}
	// Before the keyring is asked: looking for it sets a variable where it was not set.
	environment := cfg.ChildEnviron()
	path, err := exec.LookPath(command[0])
	if err != nil {
		return programFault(command[0], err)
	}
	cred, err := held.credential(ctx, a)
	if err != nil {
		return err
	}
	a.tell("running %s with the credential %s", path, cred.AccessKeyID)
	a.unharden()
	status, err := process.Exec(path, command, withCredential(environment, cred))
	if err != nil {
		return programFault(command[0], err)
	}
	return programStatus(status)
}

// printsNothing refuses the flags for output with a command that has no answer to print in a form.
func (a *app) printsNothing(command string) error {
	if a.quiet || a.noHeaders || a.fields != "" || a.jq != "" || a.flags.Changed("output") && a.output != "json" {
		return fault.New(fault.Invalid, "%s prints nothing of its own: of the flags for output only -o json applies, to errors", command)
	}
	return nil
}

// withCredential puts a credential's variables in the place of those that were inherited. An inherited server stays where
// the credential knows none.
func withCredential(environment []string, cred credential.Credential) []string {
	variables := cred.Environ()
	kept := slices.DeleteFunc(slices.Clone(environment), func(entry string) bool {
		return slices.ContainsFunc(variables, func(variable string) bool { return sameVariable(entry, variable) })
	})
	return append(kept, variables...)
}

// sameVariable reports whether two entries of an environment have the same name.
func sameVariable(a, b string) bool {
	a, _, _ = strings.Cut(a, "=")
	b, _, _ = strings.Cut(b, "=")
	return a == b || runtime.GOOS == "windows" && strings.EqualFold(a, b)
}

// programFault says why a program was not run.
func programFault(name string, err error) error {
	var errno syscall.Errno
	errors.As(err, &errno)
	switch {
	case errors.Is(err, exec.ErrDot):
		return fault.New(fault.NotFound, "the program %q is in the current folder, which is not searched", name).
			WithHint("name it with its folder, as ./%s", name).WithCause(err)
	case errno == syscall.ENOEXEC:
		return fault.New(fault.Forbidden, "%q is no program that this system can run", name).
			WithHint("a script begins with a line like #!/bin/sh").WithCause(err)
	case errno == syscall.E2BIG:
		return fault.New(fault.Invalid, "the arguments and the environment are too long for %q", name).WithCause(err)
	case errors.Is(err, fs.ErrPermission) || errno == syscall.EISDIR:
		return fault.New(fault.Forbidden, "%q may not be executed", name).WithHint("is it a program? `ls -l` shows its mode").WithCause(err)
	case errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist):
		return fault.New(fault.NotFound, "no program %q", name).
			WithHint("it is looked for in the folders of PATH; of a script, the first line may name an interpreter that is not there").WithCause(err)
	}
	return fault.New(fault.Unavailable, "%q could not be run: %s", name, err).WithCause(err)
}
