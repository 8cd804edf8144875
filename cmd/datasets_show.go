package cmd

import (
	"github.com/spf13/cobra"

	"keyctl/internal/keys"
)

func newDatasetsShow(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "show DATASET",
		Short:             "Show one dataset",
		Long:              `Show a dataset: its type, its Primary Key and the keys that reach it.`,
		Annotations:       onlyReads(),
		Example:           `  keyctl datasets show payments`,
		Args:              args("DATASET"),
		ValidArgsFunction: a.completes(datasetNames),
		RunE: func(c *cobra.Command, args []string) error {
			return showOne(a, c.Context(), datasetShape, func(service keys.Service) (keys.DatasetView, error) {
				return service.Dataset(c.Context(), args[0])
			})
		},
	}
}
