package cmd

import (
	"github.com/spf13/cobra"

	"keyctl/internal/fault"
	"keyctl/internal/keys"
)

func newDatasetsEdit(a *app) *cobra.Command {
	var rename, description, algorithm string
	c := &cobra.Command{
		Use:   "edit DATASET",
		Short: "Change a dataset's name, description or algorithm",
		Long: `Change what the flags name and leave the rest. A new algorithm is for data encrypted from now on; what was encrypted before
decrypts as before.`,
		Example:           `  keyctl datasets edit payments --description "card payments"`,
		Args:              args("DATASET"),
		ValidArgsFunction: a.completes(datasetNames),
		RunE: func(c *cobra.Command, args []string) error {
			if !anyChanged(c.Flags(), "rename", "description", "algorithm") {
				return fault.New(fault.Invalid, "nothing to change").WithHint("give --rename, --description or --algorithm")
			}
			var edit keys.DatasetEdit
			if rename != "" {
				edit.Name = &rename
			}
			if c.Flags().Changed("description") {
				edit.Description = &description
			}
			if algorithm != "" {
				edit.Algorithm = &algorithm
			}
			return showOne(a, c.Context(), datasetShape, func(service keys.Service) (keys.DatasetView, error) {
				return service.EditDataset(c.Context(), args[0], edit)
			})
		},
	}
	c.Flags().SortFlags = false
	c.Flags().Var(nonEmpty(&rename), "rename", "a new name")
	c.Flags().StringVar(&description, "description", "", "a new description; empty removes it")
	c.Flags().Var(nonEmpty(&algorithm), "algorithm", "AES-256-GCM or AES-128-GCM")
	return c
}
