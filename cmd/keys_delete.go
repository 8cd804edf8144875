package cmd

import (
	"fmt"

	"github.com/spf13/cobra"

	"keyctl/internal/keys"
)

func newKeysDelete(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "delete KEY",
		Short: "End a key for good and wipe its secrets",
		Long: `End a key for good: it lets nobody in from now on, its secrets are wiped, its name is free again. Data stays: the Primary Key of
its datasets is untouched, and other keys reach it. It never asks for a code.`,
		Example: `  keyctl keys delete web-01
  keyctl keys delete web-01 --yes`,
		Args:              args("KEY"),
		ValidArgsFunction: a.completes(keyNames(keys.KeyFilter{})),
		RunE: func(c *cobra.Command, args []string) error {
			return showOne(a, c.Context(), keyShape, func(service keys.Service) (keys.KeyView, error) {
				key, err := service.Key(c.Context(), args[0])
				if err != nil {
					return key, err
				}
				question := fmt.Sprintf("The key %q and its credentials will be gone for good.", key.Name)
				if err := a.confirmName(c.Context(), question, key.Name); err != nil {
					return key, err
				}
				return service.DeleteKey(c.Context(), args[0])
			})
		},
	}
}
