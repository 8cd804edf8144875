package cmd

import (
	"github.com/spf13/cobra"

	"keyctl/internal/keys"
)

func newDatasetsRotate(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "rotate DATASET",
		Short: "Add a data key to a structured dataset",
		Long: `Add a data key to a structured dataset, which encrypts from now on. Older ones stay for decryption: no data has to be encrypted
again. Each ciphertext carries the number of its data key in its first character, so the output alphabet limits how many there
can be; keyctl datasets show tells how many are left.

An unstructured dataset needs no rotation: every encryption has a data key of its own.`,
		Example:           `  keyctl datasets rotate ssn`,
		Args:              args("DATASET"),
		ValidArgsFunction: a.completes(datasetNames),
		RunE: func(c *cobra.Command, args []string) error {
			return showOne(a, c.Context(), datasetShape, func(service keys.Service) (keys.DatasetView, error) {
				return service.RotateDataset(c.Context(), args[0])
			})
		},
	}
}
