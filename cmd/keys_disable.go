package cmd

import (
	"fmt"

	"github.com/spf13/cobra"

	"keyctl/internal/keys"
)

func newKeysDisable(a *app) *cobra.Command {
	var compromised bool
	c := &cobra.Command{
		Use:   "disable KEY",
		Short: "Switch a key off at once",
		Long: `Switch a key off, with its old credential if it was rolled lately. The next request is refused; client libraries may go on
with data keys they hold until their cache ends, after 30 minutes by default. It never asks for a code.

With --compromised it stays off for good: delete it then, and create another.`,
		Example: `  keyctl keys disable web-01
  keyctl keys disable web-01 --compromised --yes`,
		Args: args("KEY"),
		ValidArgsFunction: func(c *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
			states := []keys.KeyState{keys.KeyActive}
			if compromised {
				states = append(states, keys.KeyDisabled)
			}
			return a.completes(keyNames(keys.KeyFilter{States: states}))(c, args, typed)
		},
		RunE: func(c *cobra.Command, args []string) error {
			return showOne(a, c.Context(), keyShape, func(service keys.Service) (keys.KeyView, error) {
				key, err := service.Key(c.Context(), args[0])
				if err != nil {
					return key, err
				}
				question := fmt.Sprintf("Disable the key %q?", key.Name)
				if compromised {
					question = fmt.Sprintf("Disable the key %q for good?", key.Name)
				}
				if err := a.confirm(c.Context(), question); err != nil {
					return key, err
				}
				return service.DisableKey(c.Context(), args[0], compromised)
			})
		},
	}
	c.Flags().BoolVar(&compromised, "compromised", false, "somebody else has the credential: never enable the key again")
	return c
}
