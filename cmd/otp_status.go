package cmd

import (
	"github.com/spf13/cobra"

	"keyctl/internal/keys"
)

func newOTPStatus(a *app) *cobra.Command {
	return &cobra.Command{
		Use:         "status",
		Short:       "Show whether you have a second factor",
		Long:        `Show whether an authenticator is enrolled, how many wrong codes stand against it, and how many recovery codes are left.`,
		Annotations: onlyReads(),
		Example:     `  keyctl otp status`,
		Args:        args(),
		RunE: func(c *cobra.Command, _ []string) error {
			return showOne(a, c.Context(), otpStatusShape, func(service keys.Service) (keys.OTPStatus, error) {
				return service.OTPStatus(c.Context())
			})
		},
	}
}
