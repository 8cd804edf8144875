package cmd

import (
	"github.com/spf13/cobra"

	"keyctl/internal/keys"
)

func newOperatorsEnable(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "enable OPERATOR",
		Short:             "Let a disabled operator in again",
		Long:              `Let a disabled operator in again, with the tokens it had.`,
		Example:           `  keyctl operators enable ann`,
		Args:              args("OPERATOR"),
		ValidArgsFunction: a.completes(operatorNames(isInactive)),
		RunE: func(c *cobra.Command, args []string) error {
			return showOne(a, c.Context(), operatorShape, func(service keys.Service) (keys.OperatorView, error) {
				return service.EnableOperator(c.Context(), args[0])
			})
		},
	}
}
