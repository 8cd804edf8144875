package cmd

import (
	"github.com/spf13/cobra"

	"keyctl/internal/keys"
)

func newTokensList(a *app) *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use:   "list",
		Short: "List tokens",
		Long: `List the tokens that can still let somebody in, in the order they were made: owners, admins and auditors see all of them,
everybody else their own. Last use is kept to the minute.`,
		Annotations: onlyReads(),
		Example: `  keyctl tokens list
  keyctl tokens list --all`,
		Args: args(),
		RunE: func(c *cobra.Command, _ []string) error {
			return showList(a, c.Context(), tokenShape, pageFlags{}, func(service keys.Service, _ int, _ string) (keys.Page[keys.TokenView], error) {
				tokens, err := service.Tokens(c.Context(), all)
				return keys.Page[keys.TokenView]{Items: tokens}, err
			})
		},
	}
	c.Flags().BoolVar(&all, "all", false, "also expired and revoked ones")
	return c
}
