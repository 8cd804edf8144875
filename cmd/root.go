package cmd

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"keyctl/internal/fault"
)

// newRoot builds the command tree. It opens nothing: constructors only describe, run functions act.
func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "keyctl",
		Short: "Administer API keys: create, limit, roll, switch off",
		Long: `keyctl administers the API keys that applications use to encrypt and decrypt datasets. It issues them, limits them to
addresses and datasets, rolls them without downtime, switches them off, and shows each credential exactly once.

The first create makes a store for you; everything lives in one SQLite file, sealed under a master key.`,
		Example: `  keyctl datasets create payments
  keyctl keys create web-01 --dataset payments --ip 10.0.0.0/8
  keyctl roll web-01 --expire 24h`,
		SilenceErrors: true, SilenceUsage: true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	a.addGlobalFlags(root.PersistentFlags())
	a.flags = root.PersistentFlags()
	root.SetFlagErrorFunc(flagError)
	root.AddGroup(&cobra.Group{ID: groupMain, Title: "Keys and datasets:"}, &cobra.Group{ID: groupStore, Title: "Store and program:"})

	for _, c := range []*cobra.Command{
		newKeys(a), newRoll(a), newRolls(a), newDatasets(a), newPrimaryKeys(a), newOTP(a), newCredentials(a), newRun(a),
		newVerify(a), newEncrypt(a), newDecrypt(a), newUsage(a),
	} {
		c.GroupID = groupMain
		root.AddCommand(c)
	}
	for _, c := range []*cobra.Command{newInit(a), newServe(a), newLogin(a), newLogout(a), newWhoami(a), newContext(a), newOperators(a), newTokens(a), newAudit(a), newBackup(a), newRestore(a), newMigrate(a), newDoctor(a), newCompletion(a), newVersion(a)} {
		c.GroupID = groupStore
		root.AddCommand(c)
	}
	if slices.Contains(a.sys.Args, clipboardClear) { // else help would leave room for its name
		root.AddCommand(newClipboardClear(a))
	}
	root.AddCommand(newTopics()...)
	root.SetHelpCommand(newHelp())
	root.SetHelpCommandGroupID(groupStore)
	asGroup(root)
	return root
}

// group makes a command that only holds others. These are made when the command line has the group's name in it, since
// making all of the tree takes longer than looking up a key; without a command line the tree is whole.
func (a *app) group(c *cobra.Command, members ...func(*app) *cobra.Command) *cobra.Command {
	asGroup(c)
	if len(a.sys.Args) == 0 || slices.Contains(a.sys.Args, c.Name()) {
		for _, member := range members {
			c.AddCommand(member(a))
		}
	}
	return c
}

const (
	groupMain  = "main"
	groupStore = "store"
)

// addGlobalFlags defines the flags that read the same everywhere.
func (a *app) addGlobalFlags(f *pflag.FlagSet) {
	f.SortFlags = false
	f.VarP(nonEmpty(&a.output), "output", "o", "write the answer as table, json, jsonl, yaml, csv or name")
	f.Var(nonEmpty(&a.fields), "json", "write JSON with only these fields, separated by commas")
	f.Var(nonEmpty(&a.jq), "jq", "filter the JSON answer with a jq expression")
	f.BoolVarP(&a.quiet, "quiet", "q", false, "write ids only")
	f.BoolVar(&a.noHeaders, "no-headers", false, "leave out the titles of tables and CSV")
	f.Bool("no-input", false, "never ask anything")
	f.BoolVarP(&a.yes, "yes", "y", false, "answer yes to every confirmation")
	f.VarP(nonEmpty(new(string)), "context", "c", "the context to work in, from the configuration file")
	f.Var(nonEmpty(new(string)), "store", "the store: sqlite:PATH or postgres://HOST/DATABASE")
	f.Var(nonEmpty(new(string)), "server", "the server, in the place of a store: https://HOST")
	f.Var(nonEmpty(new(string)), "ca-file", "whose certificates a server's is checked against, in PEM (default: the system's)")
	f.Var(nonEmpty(new(string)), "master-key", "where the master key comes from: file:PATH, env:VARIABLE, keyring:NAME or command:COMMAND")
	f.Var(nonEmpty(new(string)), "color", "colour: auto, always or never")
	f.Var(nonEmpty(new(string)), "timeout", "the longest time to wait for the store, as in 30s")
	f.BoolVarP(&a.verbose, "verbose", "v", false, "say what is done")
}

// nonEmptyValue is a flag that takes text and refuses an empty one: `--out "$FILE"` with FILE unset is a mistake, not a
// wish for the default.
type nonEmptyValue struct{ p *string }

func nonEmpty(p *string) pflag.Value { return nonEmptyValue{p} }

func (v nonEmptyValue) String() string { return *v.p }
func (v nonEmptyValue) Type() string   { return "string" }
func (v nonEmptyValue) Set(text string) error {
	if text == "" {
		return errEmptyValue
	}
	*v.p = text
	return nil
}

var errEmptyValue = errors.New("an empty value")

// listValue is a flag that may be given several times, one value each; commas mean nothing special.
type listValue struct{ p *[]string }

func list(p *[]string) pflag.Value { return listValue{p} }

func (v listValue) String() string { return strings.Join(*v.p, " ") }
func (v listValue) Type() string   { return "string" }

// GetSlice returns the values so far. By it cobra knows a flag that completion may offer again.
func (v listValue) GetSlice() []string { return *v.p }

func (v listValue) Set(text string) error {
	if text == "" {
		return errEmptyValue
	}
	*v.p = append(*v.p, text)
	return nil
}

// asGroup makes a command that only holds others answer a word that is none of them, and show its help without one.
func asGroup(c *cobra.Command) {
	c.Args = cobra.ArbitraryArgs
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return c.Help()
		}
		return unknownCommand(c, args[0])
	}
}

// keyutilsVerbs are commands of the other keyctl, which manages the kernel's keyrings.
var keyutilsVerbs = []string{
	"add", "chgrp", "chown", "clear", "describe", "dh_compute", "get_persistent", "id", "instantiate", "invalidate", "link",
	"list", "move", "negate", "new_session", "newring", "padd", "pinstantiate", "pipe", "pkey_query", "print", "purge", "rdescribe",
	"read", "reap", "reject", "request", "request2", "restrict_keyring", "revoke", "rlist", "search", "security", "session",
	"setperm", "show", "supports", "timeout", "unlink", "update", "watch",
}

func unknownCommand(c *cobra.Command, word string) error {
	err := fault.New(fault.Invalid, "%q is not a command of %s", word, c.CommandPath())
	if !c.HasParent() && slices.Contains(keyutilsVerbs, word) {
		return err.WithHint("`%s` belongs to the keyctl of keyutils, which manages the kernel's keyrings and is usually /usr/bin/keyctl; "+
			"this keyctl administers API keys: `%s --help`", word, c.CommandPath())
	}
	c.SuggestionsMinimumDistance = 2 // cobra sets its default only where it suggests by itself
	if suggestions := c.SuggestionsFor(word); len(suggestions) > 0 {
		return err.WithHint("did you mean `%s %s`?", c.CommandPath(), suggestions[0])
	}
	return err.WithHint("`%s --help` lists the commands", c.CommandPath())
}

// otherFlag holds flags that people take for one another.
var otherFlag = map[string]string{"expires": "expire", "expire": "expires", "force": "yes", "filter": "jq", "output-file": "out", "format": "output"}

// flagError words what pflag refused.
func flagError(c *cobra.Command, err error) error {
	var missing *pflag.NotExistError
	var value *pflag.ValueRequiredError
	var invalid *pflag.InvalidValueError
	switch {
	case errors.Is(err, pflag.ErrHelp):
		return err
	case errors.As(err, &missing):
		return unknownFlag(c, missing)
	case errors.As(err, &value):
		return fault.New(fault.Invalid, "%s needs a value", dashed(value.GetSpecifiedName())).WithHint("%s", usageHint(c))
	case errors.As(err, &invalid) && errors.Is(err, errEmptyValue):
		return fault.New(fault.Invalid, "--%s has an empty value", invalid.GetFlag().Name).WithHint("leave the flag out, or give it a value")
	case errors.As(err, &invalid):
		// The value is not repeated: it may be a secret that slipped into the wrong place.
		return fault.New(fault.Invalid, "--%s does not take that value", invalid.GetFlag().Name).WithHint("%s", usageHint(c))
	}
	return fault.New(fault.Invalid, "%s", err).WithHint("%s", usageHint(c))
}

func unknownFlag(c *cobra.Command, missing *pflag.NotExistError) error {
	name := missing.GetSpecifiedName()
	err := fault.New(fault.Invalid, "%s has no flag %s", c.CommandPath(), dashed(name))
	if other := c.Flag(otherFlag[name]); other != nil {
		return err.WithHint("use --%s %s", other.Name, flagExample[other.Name])
	}
	return err.WithHint("%s", usageHint(c))
}

// flagExample shows a value of the flags that otherFlag and bareFlags lead to.
var flagExample = map[string]string{
	"expire": "24h", "expires": "90d", "out": "FILE", "output": "json", "jq": "EXPRESSION", "copy": "osc52", "keyring": "PROFILE",
}

func dashed(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}

func usageHint(c *cobra.Command) string {
	return fmt.Sprintf("`%s --help` shows the flags", c.CommandPath())
}

// args checks the number of arguments and names what is missing. words are those of the use line; a last one that ends
// in "…" stands for one or more.
func args(words ...string) cobra.PositionalArgs {
	return func(c *cobra.Command, given []string) error {
		many := len(words) > 0 && strings.HasSuffix(words[len(words)-1], "…")
		switch {
		case len(given) < len(words):
			return fault.New(fault.Invalid, "%s needs %s", c.CommandPath(), strings.TrimSuffix(words[len(given)], "…")).
				WithHint("usage: %s", c.UseLine())
		case len(given) > len(words) && !many:
			if forms := bareFlags(c); len(forms) > 0 {
				return fault.New(fault.Invalid, "%s takes %d argument(s), not %d", c.CommandPath(), len(words), len(given)).
					WithHint("a value of these flags follows an equals sign: write %s", strings.Join(forms, ", "))
			}
			return fault.New(fault.Invalid, "%s takes %d argument(s), not %d", c.CommandPath(), len(words), len(given)).
				WithHint("usage: %s", c.UseLine())
		}
		if slices.Contains(given, "") {
			return fault.New(fault.Invalid, "an argument of %s is empty", c.CommandPath()).WithHint("usage: %s", c.UseLine())
		}
		return nil
	}
}

// bareFlags shows how to write the flags that were given without a value and could have had one, which then counted as an
// argument.
func bareFlags(c *cobra.Command) (forms []string) {
	c.Flags().Visit(func(f *pflag.Flag) {
		if p, ok := f.Value.(*place); ok && p.value == "" {
			forms = append(forms, "--"+f.Name+"="+flagExample[f.Name])
		}
	})
	return forms
}

// optionalArg allows one argument more than none.
func optionalArg(word string) cobra.PositionalArgs {
	return func(c *cobra.Command, given []string) error {
		if len(given) == 0 {
			return nil
		}
		return args(word)(c, given)
	}
}
