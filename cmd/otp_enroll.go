package cmd

import (
	"github.com/spf13/cobra"
)

func newOTPEnroll(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "enroll",
		Short: "Begin to enrol an authenticator",
		Long: `Draw a new seed and show it once, as text and as an otpauth URI, for an authenticator app. On a terminal it then asks for the
first code; elsewhere complete it with otp confirm. The seed of an enrolment that was never confirmed is replaced.`,
		Example: `  keyctl otp enroll
  keyctl otp enroll -o json`,
		Args: args(),
		RunE: func(c *cobra.Command, _ []string) error {
			p, err := a.onceOnly()
			if err != nil {
				return err
			}
			service, err := a.open(c.Context())
			if err != nil {
				return err
			}
			screen, err := a.terminal()
			if err != nil {
				return err
			}
			if screen.CanPrompt() && p.form == "table" {
				return a.enrollOnTerminal(c.Context(), service)
			}
			enrolled, err := service.EnrollOTP(c.Context())
			if err != nil {
				return err
			}
			shown := enrollment{Secret: enrolled.Secret.Reveal(), URI: enrolled.URI.Reveal()}
			if p.form != "table" {
				return p.document(shown)
			}
			if err := p.line("secret  " + shown.Secret + "\nuri     " + shown.URI); err != nil {
				return err
			}
			a.hint("complete it with the first code: `keyctl otp confirm --otp CODE`")
			return nil
		},
	}
}
