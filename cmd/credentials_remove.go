package cmd

import (
	"cmp"
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"keyctl/internal/login"
)

func newCredentialsRemove(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "remove PROFILE",
		Short: "Take a credential out of the keyring",
		Long: `Take a credential out of the keyring and off keyctl's list. If this was its only copy the secrets are gone: a key whose
credential is lost is rolled. The key itself goes on working for whoever has a copy; disabling or deleting the key ends that.`,
		Example: `  keyctl credentials remove web-01
  keyctl credentials remove web-01 --yes`,
		Args:              args("PROFILE"),
		ValidArgsFunction: a.storedProfiles,
		RunE:              func(c *cobra.Command, args []string) error { return a.removeCredential(c.Context(), args[0]) },
	}
}

func (a *app) removeCredential(ctx context.Context, profile string) error {
	p, profiles, err := a.beginProfiles()
	if err != nil {
		return err
	}
	stored, err := profiles.Removable(ctx, profile)
	if err != nil {
		return err
	}
	if err := a.confirm(ctx, fmt.Sprintf("Take the credential of the profile %q out of the keyring? It cannot be brought back.", profile)); err != nil {
		return err
	}
	if err := profiles.Remove(ctx, profile); err != nil {
		return err
	}
	if err := printOne(p, storedShape, stored); err != nil {
		return err
	}
	a.sayKeyGoesOn(stored)
	return nil
}

// sayKeyGoesOn tells what taking a credential out of the keyring does not do.
func (a *app) sayKeyGoesOn(stored login.Stored) {
	if stored.AccessKeyID == "" {
		return // it was no credential
	}
	a.say("the credential is out of the keyring; the key goes on working for whoever has a copy")
	key := cmp.Or(orNone(stored.Key), stored.AccessKeyID)
	a.hint("`keyctl keys disable %s` or `keyctl keys delete %s` ends it", key, key)
}
