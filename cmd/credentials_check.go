package cmd

import (
	"context"

	"github.com/spf13/cobra"

	"keyctl/internal/keys"
)

func newCredentialsCheck(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "check PROFILE",
		Short: "Does the credential of a profile still work, and why (not)?",
		Long: `Prove to the store that the credential in the keyring is good, both secrets, and tell whether it would be let in: after a roll,
say, to see which machines still hold the old one. The exit status is 0 for yes and 8 for no; the reason is one word.`,
		Annotations: onlyReads(),
		Example: `  keyctl credentials check web-01
  keyctl credentials check web-01 -q && systemctl restart web`,
		Args:              args("PROFILE"),
		ValidArgsFunction: a.storedProfiles,
		RunE:              func(c *cobra.Command, args []string) error { return a.checkCredential(c.Context(), args[0]) },
	}
}

func (a *app) checkCredential(ctx context.Context, profile string) error {
	p, profiles, err := a.beginProfiles()
	if err != nil {
		return err
	}
	cred, err := profiles.Load(ctx, profile)
	if err != nil {
		return err
	}
	service, err := a.open(ctx)
	if err != nil {
		return err
	}
	verdict, err := a.answer(ctx, p, service, keys.Question{AccessKeyID: cred.AccessKeyID, SigningKey: cred.SigningKey}, cred)
	if err == nil && !verdict.AddressChecked {
		a.say("the key's address ranges were not looked at: `keyctl verify %s --ip ADDRESS` does", orNone(verdict.Key))
	}
	return err
}
