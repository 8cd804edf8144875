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
	own, err := config.LoadContext(a.inputs(), cfg.Context) // a token of the environment is no part of it
	if err != nil {
		return err
	}
	if own.Server != cfg.Server {
		return fault.New(fault.Invalid, "commands go to %s, and the context %q is not that server's", cfg.Server, cfg.Context).
			WithHint("leave out --server, or unset KEYCTL_SERVER; -c names a context")
	}
	token, err := a.readToken(ctx, own)
	if err != nil && revoke {
		return err
	}
	id, _ := credential.OperatorTokenID(token)
	if revoke {
		if err := a.revokeOwn(ctx, own, token, id); err != nil {
			return err
		}
	}
	if err := a.forget(ctx, own.Token); err != nil {
		return err
	}
	if err := config.RemoveContext(a.inputs(), own.Context); err != nil {
		return err
	}
	a.say("logged out of %s; the context %q is gone", own.Server, own.Context)
	if !revoke && id != "" {
		a.hint("the token %s works until it expires, for whoever has it: `keyctl tokens revoke %s` ends it, or next time `keyctl logout --revoke`", id, id)
	}
	return nil
}

// revokeOwn ends the token of a context. One that lets nobody in any more needs no end.
func (a *app) revokeOwn(ctx context.Context, own config.Config, token credential.Secret, id string) error {
	client, err := newClient(own.Server, own.CAFile, token, a.cfg.Timeout)
	if err != nil {
		return err
	}
	defer client.Close()
	if _, err = client.RevokeToken(ctx, id); fault.Is(err, fault.Unauthenticated) {
		a.say("the token %s lets nobody in any more", id)
		return nil
	}
	return err
}
