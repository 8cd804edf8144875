package cmd

import (
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"keyctl/internal/keys"
)

func newPrimaryKeysDisable(a *app) *cobra.Command {
	var version versionFlag
	var code codeFlags
	c := &cobra.Command{
		Use:   "disable PRIMARY-KEY",
		Short: "Stop every use of a Primary Key, or of one older version",
		Long: `Stop every release of data keys under a Primary Key, for all its datasets: nothing encrypts or decrypts until it is enabled again.
With --version only data encrypted under that older version is cut off. It asks for an authenticator code.`,
		Example: `  keyctl primary-keys disable payments
  keyctl primary-keys disable payments --version 1`,
		Args:              args("PRIMARY-KEY"),
		ValidArgsFunction: a.completes(primaryKeyNames(isEnabled)),
		RunE: func(c *cobra.Command, args []string) error {
			return showOne(a, c.Context(), primaryKeyShape, func(service keys.Service) (primary keys.PrimaryKeyView, err error) {
				if primary, err = service.PrimaryKey(c.Context(), args[0]); err != nil {
					return primary, err
				}
				question := fmt.Sprintf("Data under the Primary Key %q (datasets: %d) will neither encrypt nor decrypt.", primary.Name, len(primary.Datasets))
				if version.number > 0 {
					question = fmt.Sprintf("Data encrypted under version %d of the Primary Key %q (datasets: %d) will not decrypt.",
						version.number, primary.Name, len(primary.Datasets))
				}
				if err := a.confirmName(c.Context(), question, primary.Name); err != nil {
					return primary, err
				}
				err = a.withCode(c.Context(), code, func(code string) error {
					primary, err = service.DisablePrimaryKey(c.Context(), args[0], version.number, code)
					return err
				})
				return primary, err
			})
		},
	}
	version.add(c.Flags())
	code.add(c.Flags())
	return c
}

// versionFlag names one version of a Primary Key; 0 is all of it.
type versionFlag struct{ number uint32 }

func (v *versionFlag) add(f *pflag.FlagSet) {
	f.Uint32Var(&v.number, "version", 0, "only this older version (default: the whole Primary Key)")
}
