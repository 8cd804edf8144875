package cmd

import (
	"context"

	"keyctl/internal/credential"
	"keyctl/internal/login"
)

// keyring gives the keyring of the system, which waits for a person where there is one and something is to be done.
func (a *app) keyring() (login.Ring, error) {
	screen, err := a.terminal()
	if err != nil {
		return login.Ring{}, err
	}
	return login.Open(screen.CanPrompt() && !a.onlyLooks), nil
}

// masterKeyFromKeyring and tokenFromKeyring are how the configuration gets at keyring:NAME.
func (a *app) masterKeyFromKeyring(ctx context.Context, name string) (credential.Secret, error) {
	return a.fromKeyring(ctx, login.MasterKey, name)
}

func (a *app) tokenFromKeyring(ctx context.Context, name string) (credential.Secret, error) {
	return a.fromKeyring(ctx, login.Token, name)
}

func (a *app) fromKeyring(ctx context.Context, kind login.Kind, name string) (credential.Secret, error) {
	ring, err := a.keyring()
	if err != nil {
		return credential.Secret{}, err
	}
	if a.onlyLooks {
		if err := ring.Look(ctx, kind); err != nil {
			return credential.Secret{}, err
		}
	}
	return ring.Load(ctx, kind, name)
}

// profiles gives the credentials in the keyring.
func (a *app) profiles() (login.Profiles, error) {
	ring, err := a.keyring()
	if err != nil {
		return login.Profiles{}, err
	}
	return login.Profiles{Ring: ring, IndexPath: a.cfg.CredentialsPath, Wait: a.cfg.Timeout, Now: a.now, Warn: a.warn}, nil
}
