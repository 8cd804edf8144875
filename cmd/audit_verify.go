package cmd

import (
	"fmt"

	"github.com/spf13/cobra"

	"keyctl/internal/keys"
	"keyctl/internal/term"
)

func newAuditVerify(a *app) *cobra.Command {
	var head string
	c := &cobra.Command{
		Use:   "verify",
		Short: "Check the chain of audit records",
		Long: `Check every record of the audit log and its head. The first bad or missing record is named, and the exit status is 8. With --head
the log must also contain the record that an earlier audit head named: that shows a log that was cut and sealed anew.`,
		Annotations: onlyReads(),
		Example: `  keyctl audit verify
  keyctl audit verify --head "$(cat kept-elsewhere)"`,
		Args: args(),
		RunE: func(c *cobra.Command, _ []string) error {
			var report keys.AuditReport
			err := showOne(a, c.Context(), auditReportShape, func(service keys.Service) (_ keys.AuditReport, err error) {
				report, err = service.VerifyAudit(c.Context(), head)
				return report, err
			})
			if err == nil && !report.OK {
				return errNegative
			}
			return err
		},
	}
	c.Flags().Var(nonEmpty(&head), "head", "a value that audit head printed earlier")
	return c
}

// auditReportShape says how the result of a check is shown.
var auditReportShape = shape[keys.AuditReport]{
	id:   func(r keys.AuditReport) string { return r.Head },
	name: func(r keys.AuditReport) string { return r.Head },
	details: []column[keys.AuditReport]{
		{"audit log", false, func(_ *printer, r keys.AuditReport) term.Cell {
			if r.OK {
				return term.Cell{Text: "unbroken", Tone: term.Good}
			}
			return term.Cell{Text: "broken", Tone: term.Bad}
		}},
		{"good records", false, func(_ *printer, r keys.AuditReport) term.Cell { return text(fmt.Sprint(r.Records)) }},
		{"first bad record", false, func(_ *printer, r keys.AuditReport) term.Cell {
			if r.FirstBad == nil {
				return text("")
			}
			return text(fmt.Sprintf("%d: %s", *r.FirstBad, orNone(r.Why)))
		}},
		{"head", false, func(_ *printer, r keys.AuditReport) term.Cell { return text(r.Head) }},
	},
}
