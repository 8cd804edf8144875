package cmd

import (
	"github.com/spf13/cobra"

	"keyctl/internal/fault"
)

func newCompletion(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "completion SHELL",
		Short: "Print a completion script for bash, zsh, fish or powershell",
		Long: `Print a script that completes commands and flags in your shell.

  bash         keyctl completion bash > ~/.local/share/bash-completion/completions/keyctl
  zsh          keyctl completion zsh > "${fpath[1]}/_keyctl"
  fish         keyctl completion fish > ~/.config/fish/completions/keyctl.fish
  powershell   keyctl completion powershell | Out-String | Invoke-Expression`,
		Annotations: onlyReads(),
		Example:     `  keyctl completion bash`,
		Args:        args("SHELL"),
		ValidArgs:   []string{"bash", "zsh", "fish", "powershell"},
		RunE: func(c *cobra.Command, args []string) error {
			root, out := c.Root(), a.sys.Stdout
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(out, true)
			case "zsh":
				return root.GenZshCompletion(out)
			case "fish":
				return root.GenFishCompletion(out, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(out)
			}
			return fault.New(fault.Invalid, "no completion for %q", args[0]).WithHint("there are bash, zsh, fish and powershell")
		},
	}
}
