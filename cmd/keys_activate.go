package cmd

import (
	"github.com/spf13/cobra"

	"keyctl/internal/credential"
	"keyctl/internal/fault"
	"keyctl/internal/keys"
)

func newKeysActivate(a *app) *cobra.Command {
	var from fromFlags
	c := &cobra.Command{
		Use:   "activate --from FILE",
		Short: "Prove a delivered credential whose command was cut short",
		Long: `When a create or a roll dies between handing out the credential and proving it, the credential is in your hands and not yet
active. This proves it, within 10 minutes of its making. It can be repeated.`,
		Example: `  keyctl keys activate --from web-01.env
  pass show web-01 | keyctl keys activate --from -`,
		Args: args(),
		RunE: func(c *cobra.Command, _ []string) error {
			if from.file == "" {
				return fault.New(fault.Invalid, "--from is missing").WithHint("name the file that holds the credential, or - for standard input")
			}
			cred, err := from.read(a)
			if err != nil {
				return err
			}
			return showOne(a, c.Context(), keyShape, func(service keys.Service) (keys.KeyView, error) {
				pending, err := service.Pending(c.Context(), cred.AccessKeyID)
				if err != nil {
					return keys.KeyView{}, err
				}
				proof := credential.Proof(cred.SigningKey, pending.KeyID, cred.AccessKeyID, pending.Challenge)
				proven, err := service.Prove(c.Context(), cred.AccessKeyID, proof)
				return proven.Key, err
			})
		},
	}
	from.add(c.Flags())
	return c
}
