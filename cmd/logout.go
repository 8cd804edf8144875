package cmd

import (
	"context"

	"github.com/spf13/cobra"

	"keyctl/internal/config"
	"keyctl/internal/credential"
	"keyctl/internal/fault"
)

func newLogout(a *app) *cobra.Command {
	var revoke bool
	c := &cobra.Command{
		Use:   "logout",
		Short: "Forget the server that commands go to, and its token",
		Long: `Take the context in use, which must be a server's, out of the configuration, and its token out of the keyring or its file. With
--revoke the token is revoked first, so that no copy of it works either.`,
		Example: `  keyctl logout
  keyctl logout --revoke`,
		Args: args(),
		RunE: func(c *cobra.Command, _ []string) error { return a.logout(c.Context(), revoke) },
	}
	c.Flags().BoolVar(&revoke, "revoke", false, "revoke the token on the server, too")
	return c
}

func (a *app) logout(ctx context.Context, revoke bool) error {
	cfg, err := a.config()
	if err != nil {
		return err
	}
	if cfg.Context == "" || cfg.Server == "" {
		return fault.New(fault.Invalid, "commands do not go to a server of a context").WithHint("`keyctl context list` shows the contexts; -c names one")
	}
	if revoke {
		if err := a.revokeOwn(ctx, cfg); err != nil {
			return err
		}
	}
	if err := a.forget(ctx, cfg.Token); err != nil {
		return err
	}
	if err := config.RemoveContext(a.inputs(), cfg.Context); err != nil {
		return err
	}
	a.say("logged out of %s; the context %q is gone", cfg.Server, cfg.Context)
	if !revoke {
		a.hint("the token itself still works until it expires: `keyctl tokens revoke` ends it")
	}
	return nil
}

// revokeOwn ends the token that this command comes in with.
func (a *app) revokeOwn(ctx context.Context, cfg config.Config) error {
	token, err := a.readToken(ctx, cfg)
	if err != nil {
		return err
	}
	id, err := credential.OperatorTokenID(token)
	if err != nil {
		return err
	}
	service, err := a.open(ctx)
	if err != nil {
		return err
	}
	_, err = service.RevokeToken(ctx, id)
	return err
}
