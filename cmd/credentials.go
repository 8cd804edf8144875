package cmd

import (
	"github.com/spf13/cobra"

	"keyctl/internal/login"
	"keyctl/internal/term"
)

func newCredentials(a *app) *cobra.Command {
	return a.group(&cobra.Command{
		Use:   "credentials",
		Short: "Credentials kept in the keyring of this machine",
		Long: `A credential can be kept in the keyring of the operating system (Secret Service, Keychain, Credential Manager) instead of a
file, under a profile. keyctl run hands it to a program; these commands list what is there, check that it still works, and
take it out. None of them shows a secret, and none but check opens a store.

A profile is an item with the service keyctl-credential and the profile as its user name. Because a keyring cannot be asked
for all it has, keyctl keeps a list, keyctl/credentials.json in XDG_DATA_HOME. What counts is the keyring.`,
	}, newCredentialsList, newCredentialsShow, newCredentialsCheck, newCredentialsRemove)
}

// storedShape says how stored credentials are shown.
var storedShape = shape[login.Stored]{
	id:   func(s login.Stored) string { return s.AccessKeyID },
	name: func(s login.Stored) string { return s.Profile },
	columns: []column[login.Stored]{
		{"PROFILE", false, func(_ *printer, s login.Stored) term.Cell { return text(s.Profile) }},
		{"KEY", false, func(_ *printer, s login.Stored) term.Cell { return text(orNone(s.Key)) }},
		{"ACCESS KEY ID", false, func(_ *printer, s login.Stored) term.Cell { return text(s.AccessKeyID) }},
		{"SERVER", true, func(_ *printer, s login.Stored) term.Cell { return text(orNone(s.Server)) }},
		{"STORED", true, storedAt},
	},
	details: []column[login.Stored]{
		{"profile", false, func(_ *printer, s login.Stored) term.Cell { return text(s.Profile) }},
		{"key", false, func(_ *printer, s login.Stored) term.Cell { return text(orNone(s.Key)) }},
		{"access key id", false, func(_ *printer, s login.Stored) term.Cell { return text(s.AccessKeyID) }},
		{"server", false, func(_ *printer, s login.Stored) term.Cell { return text(orNone(s.Server)) }},
		{"stored", false, storedAt},
	},
}

func storedAt(p *printer, s login.Stored) term.Cell {
	if s.StoredAt == nil {
		return text("")
	}
	return text(p.time(s.StoredAt))
}

// beginProfiles gives a command what it answers with and the profiles: the printer first, for wrong flags ask nothing.
func (a *app) beginProfiles() (*printer, login.Profiles, error) {
	p, err := a.printer()
	if err != nil {
		return nil, login.Profiles{}, err
	}
	profiles, err := a.profiles()
	return p, profiles, err
}
