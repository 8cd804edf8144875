package cmd

import (
	"github.com/spf13/cobra"

	"keyctl/internal/keys"
)

func newOperatorsCreate(a *app) *cobra.Command {
	var roles roleFlag
	var code codeFlags
	c := &cobra.Command{
		Use:   "create NAME --role ROLE",
		Short: "Create an operator",
		Long: `Create an operator: a person or a machine that administers, in a role (see keyctl help operators). It gets in with a token: make one
with keyctl tokens create. A name is given once, since the audit log goes on naming who acted. An owner asks for an
authenticator code.`,
		Example: `  keyctl operators create ann --role admin
  keyctl operators create build --role ci`,
		Args: args("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			role, err := roles.role("an operator needs a role")
			if err != nil {
				return err
			}
			if err := keys.ValidateName("operator", args[0]); err != nil {
				return err
			}
			p, err := a.printer()
			if err != nil {
				return err
			}
			service, err := a.openOrCreate(c.Context())
			if err != nil {
				return err
			}
			var made keys.OperatorView
			err = a.withCode(c.Context(), code, func(code string) (err error) {
				made, err = service.CreateOperator(c.Context(), keys.NewOperator{Name: args[0], Role: role, Code: code})
				return err
			})
			if err != nil {
				return err
			}
			if err := printOne(p, operatorShape, made); err != nil {
				return err
			}
			a.hint("`keyctl tokens create --operator %s` makes a token for it", made.Name)
			return nil
		},
	}
	c.Flags().SortFlags = false
	roles.add(c.Flags())
	code.add(c.Flags())
	return c
}
