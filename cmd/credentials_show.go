package cmd

import "github.com/spf13/cobra"

func newCredentialsShow(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "show PROFILE",
		Short: "Show what a profile of the keyring holds, but for the secrets",
		Long: `Show which credential the keyring has under a profile. Secrets are never shown: keyctl run hands them to a program. A profile
that is missing from keyctl's list, because that was lost or damaged, is put on it again.`,
		Example: `  keyctl credentials show web-01
  keyctl credentials show web-01 --jq .access_key_id`,
		Args:              args("PROFILE"),
		ValidArgsFunction: a.storedProfiles,
		RunE: func(c *cobra.Command, args []string) error {
			p, profiles, err := a.beginProfiles()
			if err != nil {
				return err
			}
			stored, err := profiles.Show(c.Context(), args[0])
			if err != nil {
				return err
			}
			return printOne(p, storedShape, stored)
		},
	}
}
