package cmd

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"keyctl/internal/keys"
)

func newTokensRevoke(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "revoke TOKEN-ID",
		Short: "End a token, at once",
		Long: `End a token: the next request with it is refused. Anybody may revoke a token of his own; owners revoke all, admins those of the
roles below theirs.`,
		Example:           `  keyctl tokens revoke 4fGh7QmZ2xVb`,
		Args:              args("TOKEN-ID"),
		ValidArgsFunction: a.completes(tokenIDs),
		RunE: func(c *cobra.Command, args []string) error {
			return showOne(a, c.Context(), tokenShape, func(service keys.Service) (keys.TokenView, error) {
				tokens, err := service.Tokens(c.Context(), true)
				if err != nil {
					return keys.TokenView{}, err
				}
				if i := slices.IndexFunc(tokens, func(k keys.TokenView) bool { return k.ID == args[0] }); i >= 0 {
					question := fmt.Sprintf("Revoke the token %q of the operator %q?", args[0], tokens[i].Operator)
					if err := a.confirm(c.Context(), question); err != nil {
						return keys.TokenView{}, err
					}
				}
				return service.RevokeToken(c.Context(), args[0])
			})
		},
	}
}
