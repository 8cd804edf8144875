package cmd

import (
	"encoding/hex"
	"io"

	"github.com/spf13/cobra"

	"keyctl/internal/keys"
	"keyctl/internal/safefile"
)

func newAuditExport(a *app) *cobra.Command {
	var out string
	c := &cobra.Command{
		Use:   "export",
		Short: "Write all audit records, as stored, as JSON lines",
		Long: `Write every audit record as one line of JSON, with the exact bytes that were stored, their hash and their MAC. Kept elsewhere, an
export can be searched with any tool, and restore compares a backup with it.`,
		Example: `  keyctl audit export > audit.jsonl
  keyctl audit export --out audit.jsonl`,
		Args: args(),
		RunE: func(c *cobra.Command, _ []string) error {
			service, err := a.open(c.Context())
			if err != nil {
				return err
			}
			all := &listing[keys.AuditRecord]{fetch: func(_ int, cursor string) (keys.Page[keys.AuditRecord], error) {
				return service.AuditRecords(c.Context(), keys.AuditFilter{Cursor: cursor})
			}}
			if out == "" {
				return writeExport(a.sys.Stdout, all)
			}
			staged, err := safefile.Stage(out)
			if err != nil {
				return err
			}
			defer staged.Discard()
			if err := writeExport(staged, all); err != nil {
				return err
			}
			return staged.CommitNew()
		},
	}
	c.Flags().Var(nonEmpty(&out), "out", "write to this new file, mode 0600, instead of standard output")
	return c
}

// writeExport writes the records line by line.
func writeExport(w io.Writer, all *listing[keys.AuditRecord]) error {
	return each(all.items(), func(r keys.AuditRecord) error {
		hash := r.Record.Hash()
		line, err := encodeJSON(exported{Record: r.Record.Body, Hash: hex.EncodeToString(hash[:]), MAC: hex.EncodeToString(r.Record.MAC)})
		if err != nil {
			return err
		}
		_, err = w.Write(append(line, '\n'))
		return err
	})
}
