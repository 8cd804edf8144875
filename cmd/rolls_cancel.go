package cmd

import (
	"github.com/spf13/cobra"

	"keyctl/internal/keys"
)

func newRollsCancel(a *app) *cobra.Command {
	var code codeFlags
	c := &cobra.Command{
		Use:   "cancel KEY",
		Short: "Undo a roll: the new credential ends, the old one is current again",
		Long: `Undo a roll while the old credential still works: the new credential ends at once, the old one is current again without an end of
its own. It asks for an authenticator code.`,
		Example:           `  keyctl rolls cancel web-01`,
		Args:              args("KEY"),
		ValidArgsFunction: a.completes(keyNames(keys.KeyFilter{InGrace: true})),
		RunE: func(c *cobra.Command, args []string) error {
			return showOne(a, c.Context(), keyShape, func(service keys.Service) (key keys.KeyView, err error) {
				err = a.withCode(c.Context(), code, func(code string) error {
					key, err = service.CancelRoll(c.Context(), args[0], code)
					return err
				})
				return key, err
			})
		},
	}
	code.add(c.Flags())
	return c
}
