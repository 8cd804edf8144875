package cmd

import (
	"github.com/spf13/cobra"

	"keyctl/internal/credential"
	"keyctl/internal/keys"
)

func newOTPRecoveryCodes(a *app) *cobra.Command {
	var code codeFlags
	c := &cobra.Command{
		Use:     "recovery-codes",
		Short:   "Replace the recovery codes",
		Long:    `Draw eight new recovery codes and print them, once. The old ones stop working. It asks for an authenticator code.`,
		Example: `  keyctl otp recovery-codes`,
		Args:    args(),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.drawRecoveryCodes(c.Context(), code, func(service keys.Service, code string) ([]credential.Secret, error) {
				return service.NewRecoveryCodes(c.Context(), code)
			})
		},
	}
	code.add(c.Flags())
	return c
}
