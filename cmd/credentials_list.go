package cmd

import (
	"github.com/spf13/cobra"

	"keyctl/internal/keys"
	"keyctl/internal/login"
)

func newCredentialsList(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the credentials in the keyring",
		Long: `List the profiles that hold a credential, with its key and access key id. This reads keyctl's own list; the keyring is not
asked and needs not be unlocked.`,
		Annotations: onlyReads(),
		Example: `  keyctl credentials list
  keyctl credentials list --json profile,key`,
		Args: args(),
		RunE: func(_ *cobra.Command, _ []string) error {
			p, profiles, err := a.beginProfiles()
			if err != nil {
				return err
			}
			return printList(p, storedShape, &listing[login.Stored]{fetch: func(int, string) (keys.Page[login.Stored], error) {
				return keys.Page[login.Stored]{Items: profiles.List()}, nil
			}})
		},
	}
}
