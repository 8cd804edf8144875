package cmd

import (
	"github.com/spf13/cobra"

	"keyctl/internal/keys"
)

func newOperatorsEdit(a *app) *cobra.Command {
	var roles roleFlag
	var code codeFlags
	c := &cobra.Command{
		Use:   "edit OPERATOR --role ROLE",
		Short: "Give an operator another role",
		Long: `Give an operator another role, from its next request on. Making an owner asks for an authenticator code; the last owner keeps
its role.`,
		Example:           `  keyctl operators edit ann --role auditor`,
		Args:              args("OPERATOR"),
		ValidArgsFunction: a.completes(operatorNames(nil)),
		RunE: func(c *cobra.Command, args []string) error {
			role, err := roles.role("nothing to change")
			if err != nil {
				return err
			}
			return showOne(a, c.Context(), operatorShape, func(service keys.Service) (o keys.OperatorView, err error) {
				err = a.withCode(c.Context(), code, func(code string) error {
					o, err = service.SetRole(c.Context(), args[0], role, code)
					return err
				})
				return o, err
			})
		},
	}
	c.Flags().SortFlags = false
	roles.add(c.Flags())
	code.add(c.Flags())
	return c
}
