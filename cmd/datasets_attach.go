package cmd

import (
	"github.com/spf13/cobra"

	"keyctl/internal/fault"
	"keyctl/internal/keys"
)

func newDatasetsAttach(a *app) *cobra.Command {
	var encryptOnly, decryptOnly bool
	c := &cobra.Command{
		Use:   "attach DATASET KEY…",
		Short: "Let keys reach a dataset",
		Long: `Let keys reach a dataset, all of them or none: to encrypt and decrypt in it, or only one of the two. Attaching again gives them
what the last one says.

A key that may only encrypt gets no data key of unstructured data back, and of structured data the newest one alone. Data keys of
structured data work both ways, so with that one the limit holds as far as the client library keeps it.`,
		Example: `  keyctl datasets attach payments web-01 web-02
  keyctl datasets attach payments collector --encrypt-only`,
		Args:              args("DATASET", "KEY…"),
		ValidArgsFunction: a.completesMany(datasetNames, attachable),
		RunE: func(c *cobra.Command, args []string) error {
			if encryptOnly && decryptOnly {
				return fault.New(fault.Invalid, "--encrypt-only and --decrypt-only leave nothing").WithHint("leave both out for both; `keyctl datasets detach` takes both away")
			}
			return showOne(a, c.Context(), datasetShape, func(service keys.Service) (keys.DatasetView, error) {
				return service.AttachKeys(c.Context(), args[0], args[1:], keys.Grant{Encrypt: !decryptOnly, Decrypt: !encryptOnly})
			})
		},
	}
	c.Flags().BoolVar(&encryptOnly, "encrypt-only", false, "they may encrypt, and not decrypt")
	c.Flags().BoolVar(&decryptOnly, "decrypt-only", false, "they may decrypt, and not encrypt")
	return c
}
