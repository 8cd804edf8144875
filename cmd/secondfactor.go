package cmd

import (
	"context"
	"fmt"

	"github.com/spf13/pflag"

	"keyctl/internal/access"
	"keyctl/internal/config"
	"keyctl/internal/fault"
	"keyctl/internal/term"
)

// codeFlags say where an authenticator code comes from when it is not asked for.
type codeFlags struct{ code, file, command string }

func (f *codeFlags) add(flags *pflag.FlagSet) {
	flags.Var(nonEmpty(&f.code), "otp", "the authenticator code")
	flags.Var(nonEmpty(&f.file), "otp-file", "read the authenticator code from this file, - for standard input")
	flags.Var(nonEmpty(&f.command), "otp-command", "run this command to get the authenticator code")
}

// promptedCodes is how often a mistyped code may be corrected at the prompt.
const promptedCodes = 3

// withCode calls do with the authenticator code that flags, environment or configuration provide. Without one it calls do
// with none first, so that everything else is checked before a person is asked; then it asks, if there is a terminal.
func (a *app) withCode(ctx context.Context, f codeFlags, do func(code string) error) error {
	code, given, err := a.givenCode(ctx, f)
	if err != nil {
		return err
	}
	err = do(code)
	screen, termErr := a.terminal()
	if given || termErr != nil || !screen.CanPrompt() {
		return err
	}
	for tries := 0; tries < promptedCodes; tries++ {
		switch fault.CodeOf(err) {
		case fault.OTPRequired:
		case fault.OTPWrong, fault.OTPUsed:
			a.say("%s", err)
		default:
			return err
		}
		if code, err = a.askCode(ctx, screen); err != nil {
			return err
		}
		err = do(code)
	}
	return err
}

// askCode asks for an authenticator code. The seconds are those of the moment when the question appears: counting them down
// would write over what is being typed.
func (a *app) askCode(ctx context.Context, screen *term.Terminal) (string, error) {
	return screen.Ask(ctx, fmt.Sprintf("Authenticator code (%d s left)", access.SecondsLeft(a.sys.Now())))
}

// givenCode finds a code without asking anybody.
func (a *app) givenCode(ctx context.Context, f codeFlags) (code string, given bool, err error) {
	cfg, err := a.config()
	if err != nil {
		return "", false, err
	}
	return cfg.ReadOTP(ctx, config.OTPFlags{Code: f.code, File: f.file, Command: f.command}, a.sys.Stdin)
}
