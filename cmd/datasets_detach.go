package cmd

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"keyctl/internal/keys"
)

func newDatasetsDetach(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "detach DATASET KEY…",
		Short:             "Stop keys from reaching a dataset",
		Long:              `Stop keys from reaching a dataset, all of them or none. Detaching twice changes nothing.`,
		Example:           `  keyctl datasets detach payments web-01`,
		Args:              args("DATASET", "KEY…"),
		ValidArgsFunction: a.completesMany(datasetNames, attached),
		RunE: func(c *cobra.Command, args []string) error {
			return showOne(a, c.Context(), datasetShape, func(service keys.Service) (keys.DatasetView, error) {
				dataset, err := service.Dataset(c.Context(), args[0])
				if err != nil {
					return dataset, err
				}
				names := make([]string, len(args[1:]))
				for i, ref := range args[1:] {
					key, err := service.Key(c.Context(), ref)
					if err != nil {
						return dataset, err
					}
					names[i] = strconv.Quote(key.Name)
				}
				question := fmt.Sprintf("Detach the key %s from the dataset %q?", strings.Join(names, ", "), dataset.Name)
				if err := a.confirm(c.Context(), question); err != nil {
					return dataset, err
				}
				return service.DetachKeys(c.Context(), args[0], args[1:])
			})
		},
	}
}
