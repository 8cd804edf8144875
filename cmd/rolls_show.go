package cmd

import (
	"github.com/spf13/cobra"

	"keyctl/internal/keys"
)

func newRollsShow(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "show KEY",
		Short: "Show a key's last roll: is the old credential still used?",
		Long: `Show a key's last roll: until when the old credential works, when it was last used, and from where. When it has not been used for
longer than your clients cache keys, finishing the roll cuts nobody off.`,
		Annotations:       onlyReads(),
		Example:           `  keyctl rolls show web-01`,
		Args:              args("KEY"),
		ValidArgsFunction: a.completes(keyNames(keys.KeyFilter{InGrace: true})),
		RunE: func(c *cobra.Command, args []string) error {
			return showOne(a, c.Context(), rollShape, func(service keys.Service) (keys.RollView, error) {
				return service.RollOf(c.Context(), args[0])
			})
		},
	}
}
