package cmd

import (
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"keyctl/internal/config"
	"keyctl/internal/transport"
)

func newContextAdd(a *app) *cobra.Command {
	var token string
	c := &cobra.Command{
		Use:   "add NAME",
		Short: "Write a context into the configuration file",
		Long: `Write a context into the configuration file: a store (--store, and perhaps --master-key), or a server (--server, and perhaps --ca-file
and --token). Nothing is opened and nothing is made. keyctl login does this for a server, and takes care of its token.`,
		Example: `  keyctl context add team --store sqlite:/srv/keyctl/keyctl.db --master-key file:/srv/secrets/keyctl.key
  keyctl context add prod --server https://keys.example.com --token env:PROD_TOKEN`,
		Args:              args("NAME"),
		ValidArgsFunction: noCompletion,
		RunE: func(_ *cobra.Command, args []string) error {
			given := func(name string) string { return a.flags.Lookup(name).Value.String() }
			place := config.Place{
				Store: given("store"), MasterKey: given("master-key"), Server: given("server"), CAFile: given("ca-file"), Token: token,
			}
			if place.Server != "" {
				base, err := transport.ParseServer(place.Server)
				if err != nil {
					return err
				}
				place.Server = base.String()
			}
			var err error
			if place.CAFile != "" {
				place.CAFile = "file:" + place.CAFile
			}
			for _, path := range []*string{&place.Store, &place.MasterKey, &place.CAFile, &place.Token} {
				if *path, err = wholePath(*path); err != nil {
					return err
				}
			}
			place.CAFile = strings.TrimPrefix(place.CAFile, "file:")
			if err := config.AddContext(a.inputs(), args[0], place); err != nil {
				return err
			}
			a.say("the context %q is in the configuration file", args[0])
			a.hint("`keyctl context use %s` makes it the one in use", args[0])
			return nil
		},
	}
	c.Flags().Var(nonEmpty(&token), "token", "where the token comes from: file:PATH, env:VARIABLE, keyring:NAME or command:COMMAND")
	return c
}

// wholePath makes the path in a place independent of the folder a command runs in.
func wholePath(place string) (string, error) {
	kind, path, _ := strings.Cut(place, ":")
	if kind != "sqlite" && kind != "file" || path == "" || strings.HasPrefix(path, "~/") {
		return place, nil
	}
	path, err := filepath.Abs(path)
	return kind + ":" + path, err
}
