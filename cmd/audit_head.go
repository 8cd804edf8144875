package cmd

import (
	"github.com/spf13/cobra"

	"keyctl/internal/keys"
	"keyctl/internal/term"
)

func newAuditHead(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "head",
		Short: "Print the end of the audit log, to keep elsewhere",
		Long: `Print the number and hash of the newest audit record as one value. Kept elsewhere, it later proves with audit verify --head that
nothing before it was changed or cut.`,
		Annotations: onlyReads(),
		Example:     `  keyctl audit head`,
		Args:        args(),
		RunE: func(c *cobra.Command, _ []string) error {
			return showOne(a, c.Context(), auditHeadShape, func(service keys.Service) (keys.AuditHeadView, error) {
				return service.AuditHead(c.Context())
			})
		},
	}
}

// auditHeadShape shows nothing but the value, so that it can be piped as it is.
var auditHeadShape = shape[keys.AuditHeadView]{
	id:      func(h keys.AuditHeadView) string { return h.Value },
	name:    func(h keys.AuditHeadView) string { return h.Value },
	details: []column[keys.AuditHeadView]{{"", false, func(_ *printer, h keys.AuditHeadView) term.Cell { return text(h.Value) }}},
}
