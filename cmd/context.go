package cmd

import (
	"github.com/spf13/cobra"

	"keyctl/internal/config"
	"keyctl/internal/term"
)

func newContext(a *app) *cobra.Command {
	return a.group(&cobra.Command{
		Use:   "context",
		Short: "Name the stores and servers that commands work on",
		Long: `A context is a named place to work on: a store on this machine, or a server. Commands work on the one in use, or on the one that
-c names, or without any on the store in its default place. Contexts stand in the configuration file; keyctl login makes those of
servers.`,
	}, newContextList, newContextUse, newContextAdd, newContextRemove)
}

// contextShape says how contexts are shown.
var contextShape = shape[config.Context]{
	id:   func(c config.Context) string { return c.Name },
	name: func(c config.Context) string { return c.Name },
	columns: []column[config.Context]{
		{"NAME", false, func(_ *printer, c config.Context) term.Cell { return text(c.Name) }},
		{"IN USE", false, func(_ *printer, c config.Context) term.Cell { return text(yesNo(c.Current)) }},
		{"PLACE", true, func(_ *printer, c config.Context) term.Cell { return text(hidePassword(c.Store + c.Server)) }},
		{"SECRET FROM", true, func(_ *printer, c config.Context) term.Cell { return text(c.MasterKey + c.Token) }},
	},
}
