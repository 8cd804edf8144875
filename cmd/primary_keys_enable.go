package cmd

import (
	"github.com/spf13/cobra"

	"keyctl/internal/keys"
)

func newPrimaryKeysEnable(a *app) *cobra.Command {
	var version versionFlag
	c := &cobra.Command{
		Use:               "enable PRIMARY-KEY",
		Short:             "Undo primary-keys disable",
		Long:              `Let a disabled Primary Key, or one version of it, be used again.`,
		Example:           `  keyctl primary-keys enable payments`,
		Args:              args("PRIMARY-KEY"),
		ValidArgsFunction: a.completes(primaryKeyNames(hasDisabled)),
		RunE: func(c *cobra.Command, args []string) error {
			return showOne(a, c.Context(), primaryKeyShape, func(service keys.Service) (keys.PrimaryKeyView, error) {
				return service.EnablePrimaryKey(c.Context(), args[0], version.number)
			})
		},
	}
	version.add(c.Flags())
	return c
}
