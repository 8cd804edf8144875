package cmd

import (
	"github.com/spf13/cobra"

	"keyctl/internal/keys"
)

func newOperatorsShow(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "show OPERATOR",
		Short:             "Show an operator",
		Long:              `Show an operator, also a deleted one: the audit log goes on naming it.`,
		Annotations:       onlyReads(),
		Example:           `  keyctl operators show ann`,
		Args:              args("OPERATOR"),
		ValidArgsFunction: a.completes(operatorNames(nil)),
		RunE: func(c *cobra.Command, args []string) error {
			return showOne(a, c.Context(), operatorShape, func(service keys.Service) (keys.OperatorView, error) {
				return service.Operator(c.Context(), args[0])
			})
		},
	}
}
