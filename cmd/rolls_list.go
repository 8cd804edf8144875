package cmd

import (
	"github.com/spf13/cobra"

	"keyctl/internal/keys"
)

func newRollsList(a *app) *cobra.Command {
	var page pageFlags
	c := &cobra.Command{
		Use:         "list",
		Short:       "List keys whose old credential still works",
		Long:        `List the keys that were rolled and whose old credential still works, ordered by name.`,
		Annotations: onlyReads(),
		Example:     `  keyctl rolls list`,
		Args:        args(),
		RunE: func(c *cobra.Command, _ []string) error {
			return showList(a, c.Context(), rollShape, page, func(service keys.Service, limit int, cursor string) (keys.Page[keys.RollView], error) {
				return service.Rolls(c.Context(), cursor, limit)
			})
		},
	}
	page.add(c.Flags())
	return c
}
