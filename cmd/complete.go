package cmd

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"keyctl/internal/access"
	"keyctl/internal/audit"
	"keyctl/internal/config"
	"keyctl/internal/credential"
	"keyctl/internal/iprange"
	"keyctl/internal/keys"
	"keyctl/internal/login"
	"keyctl/internal/store"
)

// Completion: the scripts that `keyctl completion` prints ask this program, at the press of a key, what may stand where
// the cursor is. Somebody is typing, so an answer comes soon or not at all, nobody is asked anything, no program is run,
// no file is changed, and whatever is wrong with store, master key or configuration is for the command itself to tell.

const (
	// maxCandidates bounds what is offered. A longer list helps nobody, and shells get slow.
	maxCandidates = 100
	// glanceWait bounds the wait for a lock on the store, glanceTime all of the looking.
	glanceWait = 300 * time.Millisecond
	glanceTime = time.Second
)

// completing reports whether it is a shell's script that asks.
func completing(args []string) bool {
	return len(args) > 0 && (args[0] == cobra.ShellCompRequestCmd || args[0] == cobra.ShellCompNoDescRequestCmd)
}

// finder finds what the store offers for the word of which typed is there so far. before are the arguments, or the values
// of the same flag, that stand on the line already. It answers in the order of names, and nothing rather than a part.
type finder func(ctx context.Context, service keys.Service, before []string, typed string) ([]cobra.Completion, error)

// completes completes each argument with the finder in its place.
func (a *app) completes(finders ...finder) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) >= len(finders) { // one more than there are
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return a.glance(c.Context(), finders[len(args)], args, typed), cobra.ShellCompDirectiveNoFileComp
	}
}

// completesMany is completes where the last argument may be repeated.
func (a *app) completesMany(finders ...finder) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		find := finders[min(len(args), len(finders)-1)]
		return a.glance(c.Context(), find, args, typed), cobra.ShellCompDirectiveNoFileComp
	}
}

// completesFlag completes the values of a flag.
func (a *app) completesFlag(name string, find finder) cobra.CompletionFunc {
	return func(c *cobra.Command, _ []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		var before []string
		if several, ok := c.Flag(name).Value.(listValue); ok {
			before = several.GetSlice()
		}
		return a.glance(c.Context(), find, before, typed), cobra.ShellCompDirectiveNoFileComp
	}
}

// glance lets find look into the store, for a short time.
func (a *app) glance(ctx context.Context, find finder, before []string, typed string) []cobra.Completion {
	if typed != "" && !credential.IsName(typed) {
		return nil // no name begins like that, and nothing in it may be taken for a pattern
	}
	ctx, cancel := context.WithTimeout(ctx, glanceTime)
	defer cancel()
	found := make(chan []cobra.Completion, 1)
	// A disk or a pipe that hangs does not look at contexts. What goes on in vain then has an app of its own to write to.
	other := &app{sys: a.sys, flags: a.flags}
	go func() { found <- other.look(ctx, find, before, typed) }()
	select {
	case candidates := <-found:
		return candidates
	case <-ctx.Done():
		return nil
	}
}

// look opens the store as every command does, master key and all, so that whoever may not use it sees no names either. A
// master key that a program would have to print is not there: programs ask for passwords, take long, and cost money.
func (a *app) look(ctx context.Context, find finder, before []string, typed string) []cobra.Completion {
	cfg, err := a.config()
	if err == nil && cfg.Server != "" && cfg.Token.AtHand() {
		return a.lookFar(ctx, cfg, find, before, typed)
	}
	if err != nil || cfg.Server != "" || !cfg.MasterKey.AtHand() {
		return nil
	}
	db, err := openDB(ctx, cfg, store.Options{Glance: true, Wait: glanceWait})
	if err != nil {
		return nil
	}
	defer db.Close()
	if db.Outdated() || a.readMaster(ctx) != nil {
		return nil
	}
	service, err := keys.Open(ctx, db, *a.master, a.env())
	if err != nil {
		return nil
	}
	candidates, err := find(ctx, service, before, typed)
	if err != nil {
		return nil
	}
	return candidates
}

// lookFar lets find ask the server. A token that a program or the keyring would have to give is not there.
func (a *app) lookFar(ctx context.Context, cfg config.Config, find finder, before []string, typed string) []cobra.Completion {
	token, err := a.readToken(ctx, cfg)
	if err != nil {
		return nil
	}
	client, err := newClient(cfg.Server, cfg.CAFile, token, glanceTime)
	if err != nil {
		return nil
	}
	defer client.Close()
	candidates, err := find(ctx, client, before, typed)
	if err != nil {
		return nil
	}
	return candidates
}

// keyNames finds keys that a filter lets through, and tells their states.
func keyNames(filter keys.KeyFilter) finder { return keysThat(filter, nil) }

// keysThat is keyNames for keys that also fit. Of many it offers the first and the very last: a shell fills in what all
// candidates have in common, and in the order of names that is what these two have.
func keysThat(filter keys.KeyFilter, fits func(keys.KeyView) bool) finder {
	return func(ctx context.Context, service keys.Service, before []string, typed string) ([]cobra.Completion, error) {
		filter := filter
		filter.NameGlob, filter.Limit = typed+"*", maxCandidates
		wanted := func(k keys.KeyView) bool {
			stands := func(ref string) bool { return slices.Contains(before, ref) }
			return !stands(k.Name) && !stands(k.ID) && !stands(orNone(k.AccessKeyID)) && (fits == nil || fits(k))
		}
		found, whole, err := firstKeys(ctx, service, filter, wanted, maxCandidates-1)
		if err == nil && !whole {
			var last []keys.KeyView
			filter.Descending, filter.Limit = true, 1
			last, _, err = firstKeys(ctx, service, filter, wanted, 1)
			found = append(found, last...)
		}
		candidates := make([]cobra.Completion, len(found))
		for i, k := range found {
			candidates[i] = cobra.CompletionWithDesc(k.Name, keyState(nil, k).Text)
		}
		return slices.Compact(candidates), err
	}
}

// firstKeys reads up to n keys that are wanted. whole reports whether there are no more.
func firstKeys(
	ctx context.Context, service keys.Service, filter keys.KeyFilter, wanted func(keys.KeyView) bool, n int,
) (found []keys.KeyView, whole bool, err error) {
	for {
		page, err := service.Keys(ctx, filter)
		if err != nil {
			return nil, false, err
		}
		for _, k := range page.Items {
			if !wanted(k) {
				continue
			}
			if len(found) == n {
				return found, false, nil
			}
			found = append(found, k)
		}
		if page.NextCursor == nil {
			return found, true, nil
		}
		if len(found) == n {
			return found, false, nil
		}
		filter.Cursor, filter.Limit = *page.NextCursor, min(4*filter.Limit, keys.MaxPage)
	}
}

// attachable finds the keys that a dataset, the first argument, may be given.
func attachable(ctx context.Context, service keys.Service, args []string, typed string) ([]cobra.Completion, error) {
	free := func(k keys.KeyView) bool { return !slices.Contains(k.Datasets, args[0]) }
	filter := keys.KeyFilter{States: []keys.KeyState{keys.KeyActive, keys.KeyDisabled}}
	return keysThat(filter, free)(ctx, service, args[1:], typed)
}

// attached finds the keys of a dataset, the first argument.
func attached(ctx context.Context, service keys.Service, args []string, typed string) ([]cobra.Completion, error) {
	return keyNames(keys.KeyFilter{Dataset: args[0]})(ctx, service, args[1:], typed)
}

// datasetNames finds datasets, and tells what they are.
func datasetNames(ctx context.Context, service keys.Service, before []string, typed string) ([]cobra.Completion, error) {
	var candidates []cobra.Completion
	all := &listing[keys.DatasetView]{fetch: func(limit int, cursor string) (keys.Page[keys.DatasetView], error) {
		return service.Datasets(ctx, cursor, limit)
	}}
	err := each(all.items(), func(d keys.DatasetView) error {
		if strings.HasPrefix(d.Name, typed) && !slices.Contains(before, d.Name) {
			candidates = append(candidates, cobra.CompletionWithDesc(d.Name, string(d.Type)))
		}
		return nil
	})
	return fewer(candidates), err
}

// primaryKeyNames finds Primary Keys that fit, all without a condition, and tells their states.
func primaryKeyNames(fits func(keys.PrimaryKeyView) bool) finder {
	return func(ctx context.Context, service keys.Service, _ []string, typed string) ([]cobra.Completion, error) {
		var candidates []cobra.Completion
		all := &listing[keys.PrimaryKeyView]{fetch: func(limit int, cursor string) (keys.Page[keys.PrimaryKeyView], error) {
			return service.PrimaryKeys(ctx, cursor, limit)
		}}
		err := each(all.items(), func(k keys.PrimaryKeyView) error {
			if strings.HasPrefix(k.Name, typed) && (fits == nil || fits(k)) {
				candidates = append(candidates, cobra.CompletionWithDesc(k.Name, string(k.State)))
			}
			return nil
		})
		return fewer(candidates), err
	}
}

// isEnabled is true for a Primary Key that can be rotated, and disabled.
func isEnabled(k keys.PrimaryKeyView) bool { return k.State == keys.PrimaryKeyEnabled }

// hasDisabled is true for a Primary Key of which all or a version can be enabled.
func hasDisabled(k keys.PrimaryKeyView) bool {
	return !isEnabled(k) || slices.ContainsFunc(k.Versions, func(v keys.PrimaryKeyVersionView) bool {
		return v.State == keys.PrimaryKeyDisabled
	})
}

// fewer keeps the first of many candidates, and the very last: see keysThat.
func fewer(candidates []cobra.Completion) []cobra.Completion {
	if len(candidates) <= maxCandidates {
		return candidates
	}
	return append(candidates[:maxCandidates-1], candidates[len(candidates)-1])
}

// oneFile leaves the first argument to the shell, which knows files best.
func oneFile(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return nil, cobra.ShellCompDirectiveDefault
}

// helpWords completes the words after help: commands, and topics.
func helpWords(c *cobra.Command, words []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
	target, rest, err := c.Root().Find(words)
	if err != nil || len(rest) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var candidates []cobra.Completion
	for _, sub := range target.Commands() {
		if strings.HasPrefix(sub.Name(), typed) && (sub.IsAvailableCommand() || sub.IsAdditionalHelpTopicCommand()) {
			candidates = append(candidates, cobra.CompletionWithDesc(sub.Name(), sub.Short))
		}
	}
	return candidates, cobra.ShellCompDirectiveNoFileComp
}

// offerValues says for a whole tree what is offered as values of flags, which mean the same on every command. Where nothing
// is said, nothing is offered: names of files would be in the way. A flag that is not there yet spoils no completion.
func (a *app) offerValues(root *cobra.Command) {
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
	values := a.flagValues()
	var visit func(c *cobra.Command)
	visit = func(c *cobra.Command) {
		c.FParseErrWhitelist.UnknownFlags = true
		offer := func(f *pflag.Flag) {
			if complete := values[f.Name]; complete != nil {
				_ = c.RegisterFlagCompletionFunc(f.Name, complete) // it fails for a flag that has one
			}
		}
		c.PersistentFlags().VisitAll(offer)
		c.Flags().VisitAll(offer)
		for _, sub := range c.Commands() {
			visit(sub)
		}
	}
	visit(root)
}

// flagValues says what completes the values of flags, by their names.
func (a *app) flagValues() map[string]cobra.CompletionFunc {
	return map[string]cobra.CompletionFunc{
		"output": words(outputs...), "color": words("auto", "always", "never"), "context": a.contexts, "key": a.storedFlag,
		"store": stores, "to": stores, "token": places("file:", "env:", "keyring:", "command:"), "master-key": places("file:", "env:", "keyring:", "command:"),

		"dataset": a.completesFlag("dataset", datasetNames), "primary-key": a.completesFlag("primary-key", primaryKeyNames(nil)),
		"object": a.completesFlag("object", keyNames(keys.KeyFilter{States: keys.KeyStates()})),

		"operator": a.completesFlag("operator", operatorNames(nil)), "role": words(access.Roles()...),

		"state":  words(keys.KeyStates()...),
		"sort":   words("name", "created", "expires", "last-used", "-name", "-created", "-expires", "-last-used"),
		"expire": words(graces()...), "expires": words("30d", "90d", "365d", "never"),
		"format": words(append(credential.Formats(), formatGitHub)...), "outcome": words(audit.OK, audit.NoOp, audit.Refused),
		"type": words(keys.Unstructured, keys.Structured), "preset": presetWords, "algorithm": words(keys.AES256GCM, keys.AES128GCM),

		"ca-file": files, "tls-cert": files, "tls-key": files, "forwarded-header": words(iprange.XForwardedFor, iprange.Forwarded),
		"out": files, "from": files, "file": files, "otp-file": files, "recovery-code-file": files, "audit-export": files,
		"out-dir": folders,
	}
}

// words offers a fixed set, in its order.
func words[W ~string](set ...W) cobra.CompletionFunc {
	return func(_ *cobra.Command, _ []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		var candidates []cobra.Completion
		for _, word := range set {
			if strings.HasPrefix(string(word), typed) {
				candidates = append(candidates, string(word))
			}
		}
		return candidates, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
	}
}

// presetWords offers the presets of structured datasets.
func presetWords(c *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return words(strings.Split(presetNames(), ", ")...)(c, args, typed)
}

// places offers the beginnings of a value such as sqlite:PATH. The rest is for the shell, as far as it can: most complete
// files behind a colon.
func places(kinds ...string) cobra.CompletionFunc {
	return func(c *cobra.Command, _ []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if kind, _, found := strings.Cut(typed, ":"); found && (kind == "sqlite" || kind == "file") {
			return nil, cobra.ShellCompDirectiveDefault
		}
		candidates, directive := words(kinds...)(c, nil, typed)
		return candidates, directive | cobra.ShellCompDirectiveNoSpace
	}
}

// stores offers the two kinds of stores.
var stores = places("sqlite:", "postgres://")

func files(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveDefault
}

func folders(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveFilterDirs
}

// contexts offers those of the configuration file.
func (a *app) contexts(_ *cobra.Command, _ []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
	names, err := config.Contexts(config.Inputs{Getenv: a.sys.Getenv, Home: homeDir(a.sys.Getenv)})
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return words(names...)(nil, nil, typed)
}

// storedProfiles offers the profiles on keyctl's list of what the keyring has. The keyring itself is not asked.
func (a *app) storedProfiles(_ *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
	cfg, err := a.config()
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, stored := range (login.Profiles{IndexPath: cfg.CredentialsPath, Warn: func(string) {}}).List() {
		names = append(names, stored.Profile)
	}
	return words(names...)(nil, nil, typed)
}

// storedFlag is storedProfiles for the value of a flag.
func (a *app) storedFlag(c *cobra.Command, _ []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return a.storedProfiles(c, nil, typed)
}
