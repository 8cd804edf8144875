package cmd

import (
	"github.com/spf13/cobra"

	"keyctl/internal/keys"
	"keyctl/internal/term"
)

func newWhoami(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "whoami",
		Short: "Show who you are to the store or server",
		Long: `Show the operator that commands act for, its role, and on a server the token that lets it in. On a local store you are the operator
named after your login, or else the first owner, and may do everything.`,
		Annotations: onlyReads(),
		Example: `  keyctl whoami
  keyctl whoami --jq .role`,
		Args: args(),
		RunE: func(c *cobra.Command, _ []string) error {
			return showOne(a, c.Context(), identityShape, func(service keys.Service) (keys.Identity, error) {
				return service.Whoami(c.Context())
			})
		},
	}
}

// identityShape says how an identity is shown.
var identityShape = shape[keys.Identity]{
	id:   func(i keys.Identity) string { return i.Operator },
	name: func(i keys.Identity) string { return i.Operator },
	details: []column[keys.Identity]{
		{"operator", false, func(_ *printer, i keys.Identity) term.Cell { return text(i.Operator) }},
		{"role", false, func(_ *printer, i keys.Identity) term.Cell { return text(string(i.Role)) }},
		{"store", false, func(_ *printer, i keys.Identity) term.Cell { return text(i.Store) }},
		{"token", false, func(p *printer, i keys.Identity) term.Cell {
			if i.Token == nil {
				return text("")
			}
			return text(i.Token.ID + ", expires " + p.time(i.Token.ExpiresAt))
		}},
	},
}
