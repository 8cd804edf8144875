package cmd

import (
	"github.com/spf13/cobra"

	"keyctl/internal/keys"
)

func newPrimaryKeysShow(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "show PRIMARY-KEY",
		Short:             "Show one Primary Key",
		Long:              `Show a Primary Key: its versions and the datasets under it. The key itself is never shown.`,
		Annotations:       onlyReads(),
		Example:           `  keyctl primary-keys show payments`,
		Args:              args("PRIMARY-KEY"),
		ValidArgsFunction: a.completes(primaryKeyNames(nil)),
		RunE: func(c *cobra.Command, args []string) error {
			return showOne(a, c.Context(), primaryKeyShape, func(service keys.Service) (keys.PrimaryKeyView, error) {
				return service.PrimaryKey(c.Context(), args[0])
			})
		},
	}
}
