package cmd

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"

	"keyctl/internal/credential"
	"keyctl/internal/fault"
	"keyctl/internal/keys"
	"keyctl/internal/safefile"
)

func newOTPReset(a *app) *cobra.Command {
	var recoveryFile, operator string
	var code codeFlags
	c := &cobra.Command{
		Use:   "reset",
		Short: "Remove the second factor, to enrol another",
		Long: `Remove the second factor. It takes one of three: an authenticator code; a recovery code, from a prompt or --recovery-code-file; or, on
a local store, breaking the glass: typing the store's path on a terminal, or --yes. Each is in the audit log.

The reset works while wrong codes have locked the second factor, except with a code. An owner also removes another operator's, with
--operator and a code of the owner's own or, on a local store, by breaking the glass.`,
		Example: `  keyctl otp reset
  keyctl otp reset --recovery-code-file code.txt
  keyctl otp reset --yes
  keyctl otp reset --operator ann`,
		Args: args(),
		RunE: func(c *cobra.Command, _ []string) error {
			service, err := a.open(c.Context())
			if err != nil {
				return err
			}
			if err := a.resetOTP(c.Context(), service, operator, code, recoveryFile); err != nil {
				return err
			}
			if operator != "" {
				a.say("the second factor of the operator %q is removed", operator)
				a.hint("it enrols another itself, with `keyctl otp enroll`")
				return nil
			}
			a.say("the second factor is removed")
			a.hint("enrol another with `keyctl otp enroll`")
			return nil
		},
	}
	c.Flags().SortFlags = false
	c.Flags().Var(nonEmpty(&recoveryFile), "recovery-code-file", "read a recovery code from this file, - for standard input")
	c.Flags().Var(nonEmpty(&operator), "operator", "whose second factor, as an owner (default: yours)")
	code.add(c.Flags())
	return c
}

// resetOTP takes the authority that was given, or else asks which one there is.
func (a *app) resetOTP(ctx context.Context, service keys.Service, operator string, flags codeFlags, recoveryFile string) error {
	if flags != (codeFlags{}) {
		if recoveryFile != "" {
			return fault.New(fault.Invalid, "a reset rests on a code or on a recovery code, not on both").WithHint("leave one out")
		}
		return a.withCode(ctx, flags, func(code string) error {
			return service.ResetOTP(ctx, keys.OTPAuthority{Operator: operator, Code: code})
		})
	}
	if recoveryFile != "" {
		code, err := a.recoveryCode(recoveryFile)
		if err != nil {
			return err
		}
		return service.ResetOTP(ctx, keys.OTPAuthority{Operator: operator, RecoveryCode: code})
	}
	screen, err := a.terminal()
	if err != nil {
		return err
	}
	if screen.CanPrompt() && !a.yes && operator == "" {
		code, err := screen.AskSecret(ctx, "Recovery code (empty: none left)")
		if err != nil {
			return err
		}
		if code.Reveal() != "" {
			return service.ResetOTP(ctx, keys.OTPAuthority{Operator: operator, RecoveryCode: code})
		}
	}
	if a.db == nil {
		return a.withCode(ctx, flags, func(code string) error {
			return service.ResetOTP(ctx, keys.OTPAuthority{Operator: operator, Code: code})
		})
	}
	question := "Without a recovery code only the owner of the store may go on. The audit log will tell."
	if err := a.confirmName(ctx, question, a.db.Path()); err != nil {
		if fault.Is(err, fault.Invalid) && !screen.CanPrompt() {
			return fault.From(err).WithHint("add --recovery-code-file FILE, or --yes to break the glass")
		}
		return err
	}
	return service.ResetOTP(ctx, keys.OTPAuthority{Operator: operator, BreakGlass: true})
}

// maxRecoveryFile bounds the file of --recovery-code-file.
const maxRecoveryFile = 4096

// recoveryCode reads a recovery code from a file or from standard input.
func (a *app) recoveryCode(file string) (credential.Secret, error) {
	var text []byte
	var err error
	if file == "-" {
		text, err = io.ReadAll(io.LimitReader(a.sys.Stdin, maxRecoveryFile))
	} else {
		text, err = safefile.ReadPrivate(file, maxRecoveryFile, a.warn)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return credential.Secret{}, fault.New(fault.NotFound, "no file %q", file).WithHint("--recovery-code-file takes a file, or - for standard input")
	}
	return credential.NewSecret(strings.TrimSpace(string(text))), err
}
