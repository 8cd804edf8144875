package cmd

import (
	"github.com/spf13/cobra"

	"keyctl/internal/keys"
)

func newOperatorsList(a *app) *cobra.Command {
	return &cobra.Command{
		Use:         "list",
		Short:       "List operators",
		Long:        `List all operators but deleted ones, in the order they were made, with how many tokens let each in.`,
		Annotations: onlyReads(),
		Example:     `  keyctl operators list`,
		Args:        args(),
		RunE: func(c *cobra.Command, _ []string) error {
			return showList(a, c.Context(), operatorShape, pageFlags{}, func(service keys.Service, _ int, _ string) (keys.Page[keys.OperatorView], error) {
				all, err := service.Operators(c.Context())
				return keys.Page[keys.OperatorView]{Items: all}, err
			})
		},
	}
}
