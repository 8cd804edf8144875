package cmd

import (
	"github.com/spf13/cobra"

	"keyctl/internal/config"
	"keyctl/internal/fault"
)

func newContextUse(a *app) *cobra.Command {
	var none bool
	c := &cobra.Command{
		Use:   "use [NAME]",
		Short: "Say which context commands work in from now on",
		Long: `Say which context commands work in from now on, where neither -c nor the environment says otherwise. With --none it is no context:
commands work on the store in its default place.`,
		Example: `  keyctl context use prod
  keyctl context use --none`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.oneContext,
		RunE: func(_ *cobra.Command, args []string) error {
			if none == (len(args) == 1) {
				return fault.New(fault.Invalid, "which context is meant?").WithHint("name one, or say --none: `keyctl context list` shows them")
			}
			name := ""
			if !none {
				name = args[0]
			}
			changed, err := config.UseContext(a.inputs(), name)
			switch {
			case err != nil:
				return err
			case !changed && none:
				a.say("no context was in use")
			case !changed:
				a.say("the context %q is in use already", name)
			case none:
				a.say("no context is in use any more: commands work on the store in its default place")
			default:
				a.say("commands work in the context %q from now on", name)
			}
			return nil
		},
	}
	c.Flags().BoolVar(&none, "none", false, "work in no context")
	return c
}

// oneContext completes the name of a context.
func (a *app) oneContext(c *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.contexts(c, args, typed)
}
