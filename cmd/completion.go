package cmd

import (
	"bytes"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"keyctl/internal/fault"
)

func newCompletion(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "completion SHELL",
		Short: "Print a completion script for bash, zsh, fish or powershell",
		Long: `Print a script that completes commands, flags and their values in your shell: also the names of keys, datasets, Primary Keys and
contexts, looked up when the tabulator is pressed. Looking changes no file, asks nothing and runs no other program; without a store,
or with a master key that a command prints, no names are offered.

bash reads the script from the folder of its package bash-completion, or, where that is not installed, by a line in ~/.bashrc:

  mkdir -p ~/.local/share/bash-completion/completions
  keyctl completion bash > ~/.local/share/bash-completion/completions/keyctl

  echo 'source <(keyctl completion bash)' >> ~/.bashrc

zsh reads it from the file _keyctl in a folder of $fpath, once compinit is on ("autoload -U compinit; compinit" in ~/.zshrc):

  keyctl completion zsh > "${fpath[1]}/_keyctl"

fish:

  keyctl completion fish > ~/.config/fish/completions/keyctl.fish

PowerShell, in the file that $PROFILE names:

  keyctl completion powershell | Out-String | Invoke-Expression

A shell that is started after that knows the script. It completes apikeyctl too, as the program is called where keyutils has a keyctl
of its own; bash and fish then look for files named completions/apikeyctl and completions/apikeyctl.fish.`,
		Annotations: onlyReads(),
		Example:     `  keyctl completion bash`,
		Args:        args("SHELL"),
		ValidArgs:   []string{"bash", "zsh", "fish", "powershell"},
		RunE: func(c *cobra.Command, args []string) error {
			script, err := completionScript(c.Root(), args[0])
			if err != nil {
				return err
			}
			_, err = io.WriteString(a.sys.Stdout, script)
			return err
		},
	}
}

// completionScript is cobra's script for a shell, made to complete both names of the program. Whichever name stands on the
// command line is the program it asks: the other one may be somebody else's.
func completionScript(root *cobra.Command, shell string) (string, error) {
	var b bytes.Buffer
	var err error
	adapt := strings.NewReplacer()
	end := ""
	switch shell {
	case "bash":
		err = root.GenBashCompletionV2(&b, true)
		adapt, end = strings.NewReplacer("_filedir", "__keyctl_filedir"), bashEnd
	case "zsh":
		err = root.GenZshCompletion(&b)
		adapt = strings.NewReplacer("#compdef keyctl\n", "#compdef keyctl apikeyctl\n", "compdef _keyctl keyctl\n", "compdef _keyctl keyctl apikeyctl\n",
			// Packages have it in a file called _apikeyctl, and zsh calls it by the name of the file.
			`[ "$funcstack[1]" = "_keyctl" ]`, `[[ "$funcstack[1]" = (_keyctl|_apikeyctl) ]]`)
	case "fish":
		err = root.GenFishCompletion(&b, true)
		end = fishEnd(b.String())
	case "powershell":
		err = root.GenPowerShellCompletionWithDesc(&b)
		adapt = strings.NewReplacer("-CommandName 'keyctl'", "-CommandName 'keyctl', 'apikeyctl'")
	default:
		err = fault.New(fault.Invalid, "no completion for %q", shell).WithHint("there are bash, zsh, fish and powershell")
	}
	return adapt.Replace(b.String()) + end, err
}

// bashEnd goes behind the script for bash, which relies on functions of the package bash-completion and complains at each
// key press where that is not installed. What they do here is little.
const bashEnd = `
# Finds the words up to the cursor. Bash takes --store=sqlite:x for five words, and this for one.
__keyctl_init_completion()
{
    COMPREPLY=()
    if declare -F _get_comp_words_by_ref >/dev/null; then
        _get_comp_words_by_ref "$@" cur prev words cword
        return
    fi
    local i word rest=${COMP_LINE:0:COMP_POINT} blank
    words=()
    for ((i = 0; i <= COMP_CWORD; i++)); do
        blank=${rest%%[![:space:]]*}
        rest=${rest#"$blank"}
        word=${COMP_WORDS[i]}
        ((i < COMP_CWORD)) || word=$rest
        rest=${rest#"$word"}
        if ((i > 0)) && [[ -z $blank ]]; then
            words[${#words[@]}-1]+=$word
        else
            words+=("$word")
        fi
    done
    cword=$((${#words[@]} - 1))
    cur=${words[cword]}
    prev=
    ((cword == 0)) || prev=${words[cword-1]}
}

__keyctl_filedir()
{
    if declare -F _filedir >/dev/null; then
        _filedir "$@"
        return
    fi
    local kind=-f IFS=$'\n'
    [[ ${1-} != -d ]] || kind=-d
    COMPREPLY+=($(compgen $kind -- "$cur"))
    [[ $(type -t compopt) != builtin ]] || compopt -o filenames
}

if [[ $(type -t compopt) = "builtin" ]]; then
    complete -o default -F __start_keyctl apikeyctl
else
    complete -o default -o nospace -F __start_keyctl apikeyctl
fi
`

// fishEnd says for the other name what the script says for keyctl. Fish could wrap one command in the other, but would then
// ask keyctl where apikeyctl stands on the command line.
func fishEnd(script string) string {
	end := "\n# The same for the other name.\n"
	for line := range strings.Lines(script) {
		if strings.HasPrefix(line, "complete ") && strings.Contains(line, "-c keyctl ") {
			end += strings.Replace(line, "-c keyctl ", "-c apikeyctl ", 1)
		}
	}
	return end
}
