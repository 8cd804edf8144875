// Command tree is the bare program that `keyctl --help`, `version` and `completion bash` are compared with: cobra and
// viper, linked and used, around one command.
package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/viper"
)

func main() {
	v := viper.New()
	root := &cobra.Command{Use: "tree", Short: "Nothing but a command tree"}
	root.PersistentFlags().String("store", "", "a flag that viper knows")
	if err := v.BindPFlag("store", root.PersistentFlags().Lookup("store")); err != nil {
		fmt.Fprintln(os.Stderr, "tree:", err)
		os.Exit(1)
	}
	root.AddCommand(&cobra.Command{
		Use: "version", Short: "Print a version",
		Run: func(c *cobra.Command, _ []string) { fmt.Fprintln(c.OutOrStdout(), "tree 1.0") },
	})
	if err := root.Execute(); err != nil {
		os.Exit(1)
	}
}
