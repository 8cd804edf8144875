package cmd

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"keyctl/internal/fault"
	"keyctl/internal/iprange"
	"keyctl/internal/keys"
)

// editOptions are the flags of keys edit.
type editOptions struct {
	rename, description, expires string
	ranges, add, remove, labels  []string
	anyAddress                   bool
}

func newKeysEdit(a *app) *cobra.Command {
	var o editOptions
	c := &cobra.Command{
		Use:   "edit KEY",
		Short: "Change a key's name, description, labels, ranges or end",
		Long: `Change what the flags name and leave the rest. A change holds for the very next request; client libraries that cache data
keys notice when their cache ends, after 30 minutes by default.

An expired key keeps its end and its ranges: only its name, description and labels can change.`,
		Example: `  keyctl keys edit web-01 --add-ip 192.0.2.8
  keyctl keys edit web-01 --ip 10.0.0.0/8 --expires 90d
  keyctl keys edit web-01 --label env=prod --label team-`,
		Args:              args("KEY"),
		ValidArgsFunction: a.completes(keyNames(keys.KeyFilter{States: []keys.KeyState{keys.KeyActive, keys.KeyDisabled, keys.KeyExpired}})),
		RunE: func(c *cobra.Command, args []string) error {
			edit, err := o.edit(a, c.Flags())
			if err != nil {
				return err
			}
			return a.editKey(c.Context(), args[0], edit)
		},
	}
	f := c.Flags()
	f.SortFlags = false
	f.Var(nonEmpty(&o.rename), "rename", "a new name")
	f.StringVar(&o.description, "description", "", "a new description; empty removes it")
	f.Var(list(&o.ranges), "ip", "replace the ranges by this one (repeatable)")
	f.Var(list(&o.add), "add-ip", "add a range (repeatable)")
	f.Var(list(&o.remove), "remove-ip", "remove a range (repeatable)")
	f.BoolVar(&o.anyAddress, "any-ip", false, "allow any address")
	f.Var(nonEmpty(&o.expires), "expires", "a new end: 90d, 2027-01-31 or never")
	f.Var(list(&o.labels), "label", "set a label with name=value, remove one with name- (repeatable)")
	return c
}

// edit reads what the flags ask for.
func (o editOptions) edit(a *app, flags *pflag.FlagSet) (keys.KeyEdit, error) {
	edit := keys.KeyEdit{AnyAddress: o.anyAddress, SetLabels: map[string]string{}}
	var err error
	if o.rename != "" {
		edit.Name = &o.rename
	}
	if flags.Changed("description") {
		edit.Description = &o.description
	}
	if o.expires != "" {
		at, err := keys.ParseExpiry(o.expires, a.now())
		if err != nil {
			return edit, err
		}
		edit.ExpiresAt = &at
	}
	if len(o.ranges) > 0 {
		ranges, err := iprange.ParseList(o.ranges)
		if err != nil {
			return edit, err
		}
		edit.IPRanges = &ranges
	}
	if edit.AddRanges, err = parseRanges(o.add); err != nil {
		return edit, err
	}
	if edit.RemoveRanges, err = parseRanges(o.remove); err != nil {
		return edit, err
	}
	for _, label := range o.labels {
		if name, removes := strings.CutSuffix(label, "-"); removes && !strings.Contains(label, "=") {
			edit.RemoveLabels = append(edit.RemoveLabels, name)
			continue
		}
		set, err := parseLabels([]string{label})
		if err != nil {
			return edit, err
		}
		for name, value := range set {
			edit.SetLabels[name] = value
		}
	}
	if flags.NFlag() == 0 || !anyChanged(flags, "rename", "description", "ip", "add-ip", "remove-ip", "any-ip", "expires", "label") {
		return edit, fault.New(fault.Invalid, "nothing to change").WithHint("`keyctl keys edit --help` shows what can be changed")
	}
	return edit, nil
}

func anyChanged(flags *pflag.FlagSet, names ...string) bool {
	for _, name := range names {
		if flags.Changed(name) {
			return true
		}
	}
	return false
}

func parseRanges(texts []string) ([]netip.Prefix, error) {
	list, err := iprange.ParseList(texts)
	return list.Prefixes(), err
}

// editKey asks first when the edit would shut out an address that was used lately.
func (a *app) editKey(ctx context.Context, ref string, edit keys.KeyEdit) error {
	return showOne(a, ctx, keyShape, func(service keys.Service) (keys.KeyView, error) {
		shutOut, err := service.CheckEdit(ctx, ref, edit)
		if err != nil {
			return keys.KeyView{}, err
		}
		if len(shutOut) > 0 {
			key, err := service.Key(ctx, ref)
			if err != nil {
				return key, err
			}
			question := fmt.Sprintf("%s used the key %q in the last 7 days and would be shut out.", addresses(shutOut), key.Name)
			if err := a.confirmName(ctx, question, key.Name); err != nil {
				return key, err
			}
		}
		return service.EditKey(ctx, ref, edit)
	})
}

func addresses(list []netip.Addr) string {
	texts := make([]string, len(list))
	for i, addr := range list {
		texts[i] = addr.String()
	}
	return strings.Join(texts, " and ")
}
