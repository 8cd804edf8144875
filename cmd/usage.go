package cmd

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"keyctl/internal/fault"
	"keyctl/internal/keys"
	"keyctl/internal/term"
)

// usageOptions are the filters of usage, as typed.
type usageOptions struct{ key, dataset, since string }

func newUsage(a *app) *cobra.Command {
	var o usageOptions
	c := &cobra.Command{
		Use:   "usage",
		Short: "Show how often keys encrypted and decrypted",
		Long: `Show how often keys encrypted and decrypted, and with which library, as client libraries tell it. They do so every few minutes and
when they end, so the last of it comes late; a library that was killed, or that does not tell, is missing. When a credential was
last used for anything keyctl keys show says.

The table has a line for each key and dataset, and with --key one for each day and dataset; on a terminal with a bar, in
proportion to the longest. JSON and CSV have the counts of each action, library, version and day (UTC) by themselves.`,
		Annotations: onlyReads(),
		Example: `  keyctl usage
  keyctl usage --key web-01 --since 30d
  keyctl usage --dataset payments --since 2027-01-01 -o csv`,
		Args: args(),
		RunE: func(c *cobra.Command, _ []string) error { return a.usage(c.Context(), o) },
	}
	f := c.Flags()
	f.SortFlags = false
	f.Var(nonEmpty(&o.key), "key", "only of this key, day by day")
	f.Var(nonEmpty(&o.dataset), "dataset", "only in this dataset")
	f.Var(nonEmpty(&o.since), "since", "only on the day of this time and later: a date, or 30d for the last 30 days")
	_ = c.RegisterFlagCompletionFunc("key", a.completesFlag("key", keyNames(keys.KeyFilter{}))) // of others it is a profile
	return c
}

func (a *app) usage(ctx context.Context, o usageOptions) error {
	query := keys.UsageQuery{Key: o.key, Dataset: o.dataset}
	var err error
	if query.Since, err = past(o.since, a.now()); err != nil {
		return err
	}
	if query.Since.After(a.now()) {
		return fault.New(fault.Invalid, "--since is still to come").WithHint("write 30d for the last 30 days, or a date that has been")
	}
	p, service, err := a.begin(ctx)
	if err != nil {
		return err
	}
	fetch := func() ([]keys.UsageView, error) { return service.Usage(ctx, query) }
	if p.quiet || p.form == "name" {
		return printUsage(p, fetch, func(v keys.UsageView) usageGroup { return usageGroup{key: v.Key} })
	}
	if p.form != "table" {
		return printList(p, shape[keys.UsageView]{}, whole(fetch))
	}
	return printUsage(p, fetch, func(v keys.UsageView) usageGroup {
		if o.key != "" {
			return usageGroup{day: v.Day, dataset: v.Dataset}
		}
		return usageGroup{key: v.Key, dataset: v.Dataset}
	})
}

// whole is a list that comes at once.
func whole[T any](fetch func() ([]T, error)) *listing[T] {
	return &listing[T]{fetch: func(int, string) (keys.Page[T], error) {
		items, err := fetch()
		return keys.Page[T]{Items: items}, err
	}}
}

// usageGroup is what counts have in common that are added up.
type usageGroup struct {
	key, dataset string
	day          time.Time // zero where days are added up
}

// usageLine is what they come to.
type usageLine struct {
	usageGroup
	encrypted, decrypted int64
	lastAt               time.Time
	libraries            []string
}

func (l usageLine) total() int64 { return l.encrypted + l.decrypted }

// printUsage adds up counts by group, and prints a line for each.
func printUsage(p *printer, fetch func() ([]keys.UsageView, error), group func(keys.UsageView) usageGroup) error {
	views, err := fetch()
	if err != nil {
		return err
	}
	var lines []usageLine
	at := map[usageGroup]int{}
	for _, v := range views {
		g := group(v)
		i, known := at[g]
		if !known {
			i = len(lines)
			at[g] = i
			lines = append(lines, usageLine{usageGroup: g})
		}
		lines[i].add(v)
	}
	slices.SortStableFunc(lines, func(a, b usageLine) int { return a.day.Compare(b.day) })
	return printList(p, usageShape(p, lines), whole(func() ([]usageLine, error) { return lines, nil }))
}

func (l *usageLine) add(v keys.UsageView) {
	if v.Action == keys.ActionEncrypt {
		l.encrypted += v.Count
	} else {
		l.decrypted += v.Count
	}
	if v.LastAt.After(l.lastAt) {
		l.lastAt = v.LastAt
	}
	if library := strings.TrimSpace(v.Product + " " + v.Version); library != "" && !slices.Contains(l.libraries, library) {
		l.libraries = append(l.libraries, library)
	}
}

// usageBar is how many columns a bar has: so few that it is never cut.
const usageBar = 8

// usageShape says how these lines are shown. A bar only repeats what the numbers before it say.
func usageShape(p *printer, lines []usageLine) shape[usageLine] {
	var most int64
	digits := map[string]int{}
	byDay := false
	for _, l := range lines {
		most = max(most, l.total())
		digits["ENCRYPTED"] = max(digits["ENCRYPTED"], len(strconv.FormatInt(l.encrypted, 10)))
		digits["DECRYPTED"] = max(digits["DECRYPTED"], len(strconv.FormatInt(l.decrypted, 10)))
		byDay = byDay || !l.day.IsZero()
	}
	number := func(title string, count func(usageLine) int64) column[usageLine] {
		width := max(len(title), digits[title])
		return column[usageLine]{title, false, func(_ *printer, l usageLine) term.Cell { return text(fmt.Sprintf("%*d", width, count(l))) }}
	}
	var columns []column[usageLine]
	if byDay {
		columns = append(columns, column[usageLine]{"DAY", false, func(_ *printer, l usageLine) term.Cell { return text(l.day.Format(time.DateOnly)) }})
	} else {
		columns = append(columns, column[usageLine]{"KEY", false, func(_ *printer, l usageLine) term.Cell { return text(l.key) }})
	}
	columns = append(columns, column[usageLine]{"DATASET", true, func(_ *printer, l usageLine) term.Cell { return text(l.dataset) }},
		number("ENCRYPTED", func(l usageLine) int64 { return l.encrypted }), number("DECRYPTED", func(l usageLine) int64 { return l.decrypted }))
	if p.relative {
		columns = append(columns, column[usageLine]{"", true, func(p *printer, l usageLine) term.Cell {
			return term.Cell{Text: term.Bar(l.total(), most, usageBar, p.unicode)}
		}})
	}
	if !byDay {
		columns = append(columns, column[usageLine]{"LAST USED", true, func(p *printer, l usageLine) term.Cell { return text(p.time(&l.lastAt)) }})
	}
	key := func(l usageLine) string { return l.key }
	return shape[usageLine]{id: key, name: key, columns: append(columns,
		column[usageLine]{"LIBRARY", true, func(_ *printer, l usageLine) term.Cell { return text(strings.Join(l.libraries, ", ")) }})}
}
