package cmd

import (
	"context"

	"github.com/spf13/cobra"

	"keyctl/internal/keys"
)

func newKeysShow(a *app) *cobra.Command {
	return &cobra.Command{
		Use:         "show KEY",
		Short:       "Show one key",
		Long:        `Show everything keyctl knows about a key. Secrets are not among it: a credential is shown once, when it is made.`,
		Annotations: onlyReads(),
		Example: `  keyctl keys show web-01
  keyctl keys show KCb4Hn -o json`,
		Args:              args("KEY"),
		ValidArgsFunction: a.completes(keyNames(keys.KeyFilter{})),
		RunE: func(c *cobra.Command, args []string) error {
			return showOne(a, c.Context(), keyShape, func(service keys.Service) (keys.KeyView, error) {
				return service.Key(c.Context(), args[0])
			})
		},
	}
}

// showOne opens the store, calls the service once and prints what it answers.
func showOne[T any](a *app, ctx context.Context, s shape[T], call func(keys.Service) (T, error)) error {
	p, service, err := a.begin(ctx)
	if err != nil {
		return err
	}
	item, err := call(service)
	if err != nil {
		return err
	}
	return printOne(p, s, item)
}
