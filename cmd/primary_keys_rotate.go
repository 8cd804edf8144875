package cmd

import (
	"github.com/spf13/cobra"

	"keyctl/internal/keys"
)

func newPrimaryKeysRotate(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "rotate PRIMARY-KEY",
		Short:             "Add a version to a Primary Key",
		Long:              `Add a version, which encrypts from now on. Older versions stay for decryption: no data has to be encrypted again.`,
		Example:           `  keyctl primary-keys rotate payments`,
		Args:              args("PRIMARY-KEY"),
		ValidArgsFunction: a.completes(primaryKeyNames(isEnabled)),
		RunE: func(c *cobra.Command, args []string) error {
			return showOne(a, c.Context(), primaryKeyShape, func(service keys.Service) (keys.PrimaryKeyView, error) {
				return service.RotatePrimaryKey(c.Context(), args[0])
			})
		},
	}
}
