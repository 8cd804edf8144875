package cmd

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"keyctl/internal/fault"
	"keyctl/internal/keys"
)

// pageFlags page a list.
type pageFlags struct {
	limit  int
	cursor string
}

func (f *pageFlags) add(flags *pflag.FlagSet) {
	flags.IntVar(&f.limit, "limit", 0, "show at most this many, and the cursor of the rest (0: all)")
	flags.Var(nonEmpty(&f.cursor), "cursor", "go on where the page with this next_cursor ended")
}

// keyFilterFlags are the filters of keys list, as typed.
type keyFilterFlags struct {
	states, labels                      []string
	dataset, name, sort                 string
	unusedFor, expiresWithin, olderThan string
	neverUsed, inGrace                  bool
}

func newKeysList(a *app) *cobra.Command {
	var page pageFlags
	var f keyFilterFlags
	c := &cobra.Command{
		Use:         "list",
		Short:       "List keys",
		Long:        `List all keys but deleted ones, ordered by name. Filters narrow the list; several of them must all hold.`,
		Annotations: onlyReads(),
		Example: `  keyctl keys list
  keyctl keys list --dataset payments --state active -o json
  keyctl keys list --unused-for 90d --sort last-used
  keyctl keys list --expires-within 14d -q`,
		Args: args(),
		RunE: func(c *cobra.Command, _ []string) error {
			filter, err := f.filter()
			if err != nil {
				return err
			}
			return showList(a, c.Context(), keyShape, page, func(service keys.Service, limit int, cursor string) (keys.Page[keys.KeyView], error) {
				filter.Limit, filter.Cursor = limit, cursor
				return service.Keys(c.Context(), filter)
			})
		},
	}
	c.Flags().SortFlags = false
	c.Flags().Var(list(&f.states), "state", "only keys in this state: pending, active, disabled, compromised, expired or deleted (repeatable)")
	c.Flags().Var(nonEmpty(&f.dataset), "dataset", "only keys attached to this dataset")
	c.Flags().Var(list(&f.labels), "label", "only keys with this label, as name=value (repeatable)")
	c.Flags().Var(nonEmpty(&f.name), "name", "only keys whose name matches this pattern, as web-*")
	c.Flags().Var(nonEmpty(&f.unusedFor), "unused-for", "only keys not used for this long, as 90d")
	c.Flags().BoolVar(&f.neverUsed, "never-used", false, "only keys that were never used")
	c.Flags().Var(nonEmpty(&f.expiresWithin), "expires-within", "only keys that expire within this time, as 14d, or have expired")
	c.Flags().Var(nonEmpty(&f.olderThan), "older-than", "only keys created longer ago than this, as 180d")
	c.Flags().BoolVar(&f.inGrace, "in-grace", false, "only keys whose old credential still works after a roll")
	c.Flags().Var(nonEmpty(&f.sort), "sort", "order by name, created, expires or last-used; a leading dash reverses")
	page.add(c.Flags())
	return c
}

// showList opens the store, fetches page by page and prints what comes.
func showList[T any](a *app, ctx context.Context, s shape[T], f pageFlags, fetch func(service keys.Service, limit int, cursor string) (keys.Page[T], error)) error {
	p, service, err := a.begin(ctx)
	if err != nil {
		return err
	}
	if f.limit < 0 {
		return fault.New(fault.Invalid, "--limit is negative").WithHint("0 shows all, 100 one page of a hundred")
	}
	l := &listing[T]{limit: f.limit, cursor: f.cursor, fetch: func(limit int, cursor string) (keys.Page[T], error) {
		return fetch(service, limit, cursor)
	}}
	if err := printList(p, s, l); err != nil {
		return err
	}
	if l.next != nil && !p.showsCursor() {
		a.hint("there is more: --cursor %s", *l.next)
	}
	return nil
}

// filter reads the filters.
func (f keyFilterFlags) filter() (keys.KeyFilter, error) {
	filter := keys.KeyFilter{Dataset: f.dataset, NameGlob: f.name, NeverUsed: f.neverUsed, InGrace: f.inGrace}
	for _, state := range f.states {
		filter.States = append(filter.States, keys.KeyState(state))
	}
	var err error
	if filter.Labels, err = parseLabels(f.labels); err != nil {
		return filter, err
	}
	for _, d := range []struct {
		text  string
		field *time.Duration
	}{{f.unusedFor, &filter.UnusedFor}, {f.expiresWithin, &filter.ExpiresWithin}, {f.olderThan, &filter.OlderThan}} {
		if d.text == "" {
			continue
		}
		if *d.field, err = keys.ParseDuration(d.text); err != nil {
			return filter, err
		}
	}
	order, descending := strings.CutPrefix(f.sort, "-")
	filter.Order, filter.Descending = keys.KeyOrder(order), descending
	return filter, nil
}
