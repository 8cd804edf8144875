package cmd

import (
	"fmt"

	"github.com/spf13/cobra"

	"keyctl/internal/keys"
)

func newDatasetsDelete(a *app) *cobra.Command {
	var detach bool
	c := &cobra.Command{
		Use:   "delete DATASET",
		Short: "Delete a dataset",
		Long: `Delete a dataset: no key can encrypt or decrypt its data through keyctl from now on. Its Primary Key stays. A dataset that keys
are attached to is refused, unless --detach detaches them.`,
		Example:           `  keyctl datasets delete payments`,
		Args:              args("DATASET"),
		ValidArgsFunction: a.completes(datasetNames),
		RunE: func(c *cobra.Command, args []string) error {
			return showOne(a, c.Context(), datasetShape, func(service keys.Service) (keys.DatasetView, error) {
				dataset, err := service.Dataset(c.Context(), args[0])
				if err != nil {
					return dataset, err
				}
				if len(dataset.Keys) == 0 || detach {
					question := fmt.Sprintf("The data of the dataset %q will not decrypt any more.", dataset.Name)
					if err := a.confirmName(c.Context(), question, dataset.Name); err != nil {
						return dataset, err
					}
				}
				return service.DeleteDataset(c.Context(), args[0], detach)
			})
		},
	}
	c.Flags().BoolVar(&detach, "detach", false, "detach the keys that are attached")
	return c
}
