package cmd

import (
	"github.com/spf13/cobra"

	"keyctl/internal/keys"
)

func newPrimaryKeysList(a *app) *cobra.Command {
	var page pageFlags
	c := &cobra.Command{
		Use:         "list",
		Short:       "List Primary Keys",
		Long:        `List all Primary Keys, ordered by name.`,
		Annotations: onlyReads(),
		Example:     `  keyctl primary-keys list`,
		Args:        args(),
		RunE: func(c *cobra.Command, _ []string) error {
			return showList(a, c.Context(), primaryKeyShape, page, func(service keys.Service, limit int, cursor string) (keys.Page[keys.PrimaryKeyView], error) {
				return service.PrimaryKeys(c.Context(), cursor, limit)
			})
		},
	}
	page.add(c.Flags())
	return c
}
