package cmd

import (
	"fmt"

	"github.com/spf13/cobra"

	"keyctl/internal/config"
)

func newContextRemove(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "remove NAME",
		Short: "Take a context out of the configuration file",
		Long: `Take a context out of the configuration file. The store or server itself is not touched, nor is a token in the keyring: keyctl logout
takes that away, too.`,
		Example:           `  keyctl context remove prod`,
		Args:              args("NAME"),
		ValidArgsFunction: a.oneContext,
		RunE: func(c *cobra.Command, args []string) error {
			contexts, err := config.ListContexts(a.inputs())
			if err != nil {
				return err
			}
			for _, known := range contexts {
				if known.Name == args[0] && known.Current {
					if err := a.confirm(c.Context(), fmt.Sprintf("The context %q is in use. Remove it?", args[0])); err != nil {
						return err
					}
				}
			}
			if err := config.RemoveContext(a.inputs(), args[0]); err != nil {
				return err
			}
			a.say("the context %q is out of the configuration file", args[0])
			return nil
		},
	}
}
