package cmd

import (
	"net/url"

	"github.com/spf13/cobra"

	"keyctl/internal/config"
	"keyctl/internal/keys"
)

func newContextList(a *app) *cobra.Command {
	return &cobra.Command{
		Use:         "list",
		Short:       "List contexts",
		Long:        `List the contexts of the configuration file, by name, and where each gets its master key or its token from.`,
		Annotations: onlyReads(),
		Example:     `  keyctl context list`,
		Args:        args(),
		RunE: func(*cobra.Command, []string) error {
			p, err := a.printer()
			if err != nil {
				return err
			}
			return printList(p, contextShape, &listing[config.Context]{fetch: func(int, string) (keys.Page[config.Context], error) {
				contexts, err := config.ListContexts(a.inputs())
				for i := range contexts {
					contexts[i].Store = hidePassword(contexts[i].Store)
				}
				return keys.Page[config.Context]{Items: contexts}, err
			}})
		},
	}
}

// hidePassword takes the password out of the URL of a store.
func hidePassword(place string) string {
	u, err := url.Parse(place)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return place
	}
	query := u.Query()
	if query.Has("password") {
		query.Set("password", "xxxxx")
		u.RawQuery = query.Encode()
	}
	return u.Redacted()
}
