package cmd

import (
	"github.com/spf13/cobra"

	"keyctl/internal/keys"
)

func newPrimaryKeysCreate(a *app) *cobra.Command {
	var description string
	c := &cobra.Command{
		Use:     "create NAME",
		Short:   "Create a Primary Key that datasets can share",
		Long:    `Create a Primary Key. A dataset makes one of its own; create one here when several datasets are to share it.`,
		Example: `  keyctl primary-keys create shared --description "all customer data"`,
		Args:    args("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := keys.ValidatePrimaryKey(args[0], description); err != nil {
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
			primary, err := service.CreatePrimaryKey(c.Context(), args[0], description)
			if err != nil {
				return err
			}
			return printOne(p, primaryKeyShape, primary)
		},
	}
	c.Flags().StringVar(&description, "description", "", "what the Primary Key is for")
	return c
}
