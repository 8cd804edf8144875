package cmd

import (
	"github.com/spf13/cobra"

	"keyctl/internal/keys"
)

func newKeysEnable(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "enable KEY",
		Short:             "Switch a disabled key on again",
		Long:              `Undo keys disable. A key that was marked compromised, or has expired, stays off.`,
		Example:           `  keyctl keys enable web-01`,
		Args:              args("KEY"),
		ValidArgsFunction: a.completes(keyNames(keys.KeyFilter{States: []keys.KeyState{keys.KeyDisabled}})),
		RunE: func(c *cobra.Command, args []string) error {
			return showOne(a, c.Context(), keyShape, func(service keys.Service) (keys.KeyView, error) {
				return service.EnableKey(c.Context(), args[0])
			})
		},
	}
}
