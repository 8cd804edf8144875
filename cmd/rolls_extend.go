package cmd

import (
	"github.com/spf13/cobra"

	"keyctl/internal/fault"
	"keyctl/internal/keys"
)

func newRollsExtend(a *app) *cobra.Command {
	var expire string
	var code codeFlags
	c := &cobra.Command{
		Use:   "extend KEY --expire TIME",
		Short: "Give an old credential a new end",
		Long: `Give the old credential of a rolled key a new end, counted from now. A later end asks for an authenticator code and stays within 30
days of the roll and the key's own end; an earlier one is free.`,
		Example:           `  keyctl rolls extend web-01 --expire 48h`,
		Args:              args("KEY"),
		ValidArgsFunction: a.completes(keyNames(keys.KeyFilter{InGrace: true})),
		RunE: func(c *cobra.Command, args []string) error {
			if expire == "" {
				return fault.New(fault.Invalid, "--expire is missing").WithHint("say when the old credential ends: --expire 48h, or a date")
			}
			grace, err := keys.ParseGrace(expire, a.now())
			if err != nil {
				return err
			}
			return showOne(a, c.Context(), rollShape, func(service keys.Service) (roll keys.RollView, err error) {
				err = a.withCode(c.Context(), code, func(code string) error {
					roll, err = service.ExtendRoll(c.Context(), args[0], grace, code)
					return err
				})
				return roll, err
			})
		},
	}
	c.Flags().SortFlags = false
	c.Flags().Var(nonEmpty(&expire), "expire", "when the old credential ends: 48h, 7d or a date")
	code.add(c.Flags())
	return c
}
