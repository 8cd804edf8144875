package cmd

import (
	"fmt"

	"github.com/spf13/cobra"

	"keyctl/internal/keys"
)

func newOperatorsDisable(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "disable OPERATOR",
		Short: "Keep an operator out, at once",
		Long: `Keep an operator out: its next request is refused, whatever token it has. The keys it made go on working. keyctl operators
enable lets it in again.`,
		Example:           `  keyctl operators disable ann`,
		Args:              args("OPERATOR"),
		ValidArgsFunction: a.completes(operatorNames(isActive)),
		RunE: func(c *cobra.Command, args []string) error {
			return showOne(a, c.Context(), operatorShape, func(service keys.Service) (keys.OperatorView, error) {
				o, err := service.Operator(c.Context(), args[0])
				if err != nil {
					return o, err
				}
				if err := a.confirm(c.Context(), fmt.Sprintf("Keep the operator %q out?", o.Name)); err != nil {
					return o, err
				}
				return service.DisableOperator(c.Context(), args[0])
			})
		},
	}
}
