package cmd

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"keyctl/internal/access"
	"keyctl/internal/keys"
	"keyctl/internal/term"
)

func newTokens(a *app) *cobra.Command {
	return a.group(&cobra.Command{
		Use:   "tokens",
		Short: "Make and revoke what lets operators in over the network",
		Long: `A token lets its operator in over the network, in the operator's role, until it expires or is revoked. A server keeps no copy: a
token is shown once, when it is made.`,
	}, newTokensList, newTokensCreate, newTokensRevoke)
}

// tokenShape says how tokens are shown.
var tokenShape = shape[keys.TokenView]{
	id:   func(k keys.TokenView) string { return k.ID },
	name: func(k keys.TokenView) string { return k.ID },
	columns: []column[keys.TokenView]{
		{"ID", false, func(_ *printer, k keys.TokenView) term.Cell { return text(k.ID) }},
		{"OPERATOR", false, func(_ *printer, k keys.TokenView) term.Cell { return text(k.Operator) }},
		{"ROLE", false, func(_ *printer, k keys.TokenView) term.Cell { return text(string(k.Role)) }},
		{"STATE", false, tokenState},
		{"DATASETS", true, func(_ *printer, k keys.TokenView) term.Cell { return text(scope(k, ",")) }},
		{"LAST USED", true, func(p *printer, k keys.TokenView) term.Cell { return text(p.time(k.LastUsedAt)) }},
		{"EXPIRES", true, func(p *printer, k keys.TokenView) term.Cell { return text(p.time(k.ExpiresAt)) }},
		{"DESCRIPTION", true, func(_ *printer, k keys.TokenView) term.Cell { return text(k.Description) }},
	},
	details: []column[keys.TokenView]{
		{"id", false, func(_ *printer, k keys.TokenView) term.Cell { return text(k.ID) }},
		{"operator", false, func(_ *printer, k keys.TokenView) term.Cell { return text(k.Operator) }},
		{"role", false, func(_ *printer, k keys.TokenView) term.Cell { return text(string(k.Role)) }},
		{"state", false, tokenState},
		{"description", false, func(_ *printer, k keys.TokenView) term.Cell { return text(k.Description) }},
		{"datasets", false, func(_ *printer, k keys.TokenView) term.Cell { return text(scope(k, ", ")) }},
		{"created", false, func(p *printer, k keys.TokenView) term.Cell { return text(p.time(&k.CreatedAt) + " by " + k.CreatedBy) }},
		{"expires", false, func(p *printer, k keys.TokenView) term.Cell { return text(p.time(k.ExpiresAt)) }},
		{"last used", false, func(p *printer, k keys.TokenView) term.Cell { return text(lastUse(p, k.LastUsedAt, k.LastUsedFrom)) }},
	},
}

func tokenState(_ *printer, k keys.TokenView) term.Cell {
	tone := term.Good
	if k.State != keys.TokenActive {
		tone = term.Bad
	}
	return term.Cell{Text: string(k.State), Tone: tone}
}

// scope is which datasets a token is limited to: a ci operator's to those it names, any other to none in particular.
func scope(k keys.TokenView, separator string) string {
	switch {
	case k.Role != access.CI:
		return ""
	case len(k.Datasets) == 0:
		return "none"
	}
	return strings.Join(k.Datasets, separator)
}

// tokenIDs finds tokens that can still let somebody in, and tells whom.
func tokenIDs(ctx context.Context, service keys.Service, before []string, typed string) ([]cobra.Completion, error) {
	var candidates []cobra.Completion
	all, err := service.Tokens(ctx, false)
	for _, k := range all {
		if strings.HasPrefix(k.ID, typed) && len(before) == 0 {
			candidates = append(candidates, cobra.CompletionWithDesc(k.ID, k.Operator))
		}
	}
	return fewer(candidates), err
}
