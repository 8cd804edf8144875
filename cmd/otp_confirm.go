package cmd

import (
	"github.com/spf13/cobra"

	"keyctl/internal/credential"
	"keyctl/internal/keys"
)

func newOTPConfirm(a *app) *cobra.Command {
	var code codeFlags
	c := &cobra.Command{
		Use:   "confirm",
		Short: "Complete an enrolment with its first code",
		Long: `Complete an enrolment with the first code that the authenticator shows, and print eight recovery codes, once. A code works once:
what confirms the enrolment does not roll a key as well.`,
		Example: `  keyctl otp confirm --otp 123456`,
		Args:    args(),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.drawRecoveryCodes(c.Context(), code, func(service keys.Service, code string) ([]credential.Secret, error) {
				return service.ConfirmOTP(c.Context(), code)
			})
		},
	}
	code.add(c.Flags())
	return c
}
