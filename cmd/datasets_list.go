package cmd

import (
	"github.com/spf13/cobra"

	"keyctl/internal/keys"
)

func newDatasetsList(a *app) *cobra.Command {
	var page pageFlags
	c := &cobra.Command{
		Use:         "list",
		Short:       "List datasets",
		Long:        `List all datasets, ordered by name.`,
		Annotations: onlyReads(),
		Example:     `  keyctl datasets list`,
		Args:        args(),
		RunE: func(c *cobra.Command, _ []string) error {
			return showList(a, c.Context(), datasetShape, page, func(service keys.Service, limit int, cursor string) (keys.Page[keys.DatasetView], error) {
				return service.Datasets(c.Context(), cursor, limit)
			})
		},
	}
	page.add(c.Flags())
	return c
}
