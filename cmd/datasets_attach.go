package cmd

import (
	"github.com/spf13/cobra"

	"keyctl/internal/keys"
)

func newDatasetsAttach(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "attach DATASET KEY…",
		Short:             "Let keys reach a dataset",
		Long:              `Let keys reach a dataset, all of them or none. Attaching twice changes nothing.`,
		Example:           `  keyctl datasets attach payments web-01 web-02`,
		Args:              args("DATASET", "KEY…"),
		ValidArgsFunction: a.completesMany(datasetNames, attachable),
		RunE: func(c *cobra.Command, args []string) error {
			return showOne(a, c.Context(), datasetShape, func(service keys.Service) (keys.DatasetView, error) {
				return service.AttachKeys(c.Context(), args[0], args[1:])
			})
		},
	}
}
