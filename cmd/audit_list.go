package cmd

import (
	"github.com/spf13/cobra"

	"keyctl/internal/keys"
)

func newAuditList(a *app) *cobra.Command {
	var page pageFlags
	var f auditFilterFlags
	c := &cobra.Command{
		Use:         "list",
		Short:       "List audit records, oldest first",
		Long:        `List what was done, by whom, to what, and how it went, oldest first. Listing does not check the chain: audit verify does.`,
		Annotations: onlyReads(),
		Example: `  keyctl audit list --since 7d
  keyctl audit list --object web-01 -o json`,
		Args: args(),
		RunE: func(c *cobra.Command, _ []string) error {
			filter, err := f.filter(a.now())
			if err != nil {
				return err
			}
			return showList(a, c.Context(), auditShape, page, func(service keys.Service, limit int, cursor string) (keys.Page[auditEntry], error) {
				filter.Limit, filter.Cursor = limit, cursor
				records, err := service.AuditRecords(c.Context(), filter)
				entries := keys.Page[auditEntry]{Items: make([]auditEntry, len(records.Items)), NextCursor: records.NextCursor}
				for i, r := range records.Items {
					entries.Items[i] = newAuditEntry(r)
				}
				return entries, err
			})
		},
	}
	c.Flags().SortFlags = false
	f.add(c.Flags())
	page.add(c.Flags())
	return c
}
