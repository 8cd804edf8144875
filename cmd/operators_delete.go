package cmd

import (
	"fmt"

	"github.com/spf13/cobra"

	"keyctl/internal/keys"
)

func newOperatorsDelete(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "delete OPERATOR",
		Short: "Delete an operator for good",
		Long: `Delete an operator for good: its tokens are revoked, its second factor is removed, and its name is not given again. The keys it
made go on working. The last owner stays.`,
		Example:           `  keyctl operators delete ann`,
		Args:              args("OPERATOR"),
		ValidArgsFunction: a.completes(operatorNames(nil)),
		RunE: func(c *cobra.Command, args []string) error {
			return showOne(a, c.Context(), operatorShape, func(service keys.Service) (keys.OperatorView, error) {
				o, err := service.Operator(c.Context(), args[0])
				if err != nil {
					return o, err
				}
				question := fmt.Sprintf("Delete the operator %q for good, with its second factor and tokens (that work: %d).", o.Name, o.Tokens)
				if err := a.confirmName(c.Context(), question, o.Name); err != nil {
					return o, err
				}
				return service.DeleteOperator(c.Context(), args[0])
			})
		},
	}
}
