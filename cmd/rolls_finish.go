package cmd

import (
	"fmt"

	"github.com/spf13/cobra"

	"keyctl/internal/keys"
)

func newRollsFinish(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "finish KEY",
		Short:             "End an old credential now",
		Long:              `End the grace of a rolled key: its old credential stops working now. It never asks for a code. It can be repeated.`,
		Example:           `  keyctl rolls finish web-01`,
		Args:              args("KEY"),
		ValidArgsFunction: a.completes(keyNames(keys.KeyFilter{InGrace: true})),
		RunE: func(c *cobra.Command, args []string) error {
			return showOne(a, c.Context(), rollShape, func(service keys.Service) (keys.RollView, error) {
				roll, err := service.RollOf(c.Context(), args[0])
				if err != nil {
					return roll, err
				}
				if roll.Previous.State == keys.CredentialGrace {
					question := fmt.Sprintf("End the old credential %s of key %q now?", roll.Previous.AccessKeyID, roll.Name)
					if err := a.confirm(c.Context(), question); err != nil {
						return roll, err
					}
				}
				return service.FinishRoll(c.Context(), args[0])
			})
		},
	}
}
