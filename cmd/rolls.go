package cmd

import (
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"keyctl/internal/keys"
	"keyctl/internal/term"
)

func newRolls(a *app) *cobra.Command {
	return a.group(&cobra.Command{
		Use:   "rolls",
		Short: "See keys in grace after a roll, give more time, end it, undo it",
		Long: `After a roll the old credential works for a while beside the new one: the key is in grace. These commands tell whether the old
one is still used, give it more time, end it now, or undo the roll.`,
	}, newRollsList, newRollsShow, newRollsExtend, newRollsFinish, newRollsCancel)
}

// rollShape says how rolls are shown.
var rollShape = shape[keys.RollView]{
	id:   func(r keys.RollView) string { return r.ID },
	name: func(r keys.RollView) string { return r.Name },
	columns: []column[keys.RollView]{
		{"NAME", false, func(_ *printer, r keys.RollView) term.Cell { return text(r.Name) }},
		{"OLD ACCESS KEY ID", false, func(_ *printer, r keys.RollView) term.Cell { return text(r.Previous.AccessKeyID) }},
		{"WORKS UNTIL", false, func(p *printer, r keys.RollView) term.Cell { return text(p.time(&r.Previous.Until)) }},
		{"OLD LAST USED", true, func(p *printer, r keys.RollView) term.Cell { return text(p.time(r.Previous.LastUsedAt)) }},
		{"FROM", true, func(_ *printer, r keys.RollView) term.Cell { return text(orNone(r.Previous.LastUsedFrom)) }},
		{"ROLLED", true, func(p *printer, r keys.RollView) term.Cell { return text(p.time(&r.RolledAt)) }},
	},
	details: []column[keys.RollView]{
		{"name", false, func(_ *printer, r keys.RollView) term.Cell { return text(r.Name) }},
		{"rolled", false, func(p *printer, r keys.RollView) term.Cell { return text(p.time(&r.RolledAt)) }},
		{"old credential", false, func(_ *printer, r keys.RollView) term.Cell { return text(r.Previous.AccessKeyID) }},
		{"  state", false, func(_ *printer, r keys.RollView) term.Cell { return text(string(r.Previous.State)) }},
		{"  works until", false, func(p *printer, r keys.RollView) term.Cell { return text(p.time(&r.Previous.Until)) }},
		{"  last used", false, func(p *printer, r keys.RollView) term.Cell {
			return text(lastUse(p, r.Previous.LastUsedAt, r.Previous.LastUsedFrom))
		}},
		{"new credential", false, func(_ *printer, r keys.RollView) term.Cell { return text(r.AccessKeyID) }},
		{"  generation", false, func(_ *printer, r keys.RollView) term.Cell { return text(strconv.Itoa(r.Generation)) }},
		{"  last used", false, func(p *printer, r keys.RollView) term.Cell { return text(lastUse(p, r.LastUsedAt, r.LastUsedFrom)) }},
	},
}

// lastUse says when and from where something was last used.
func lastUse(p *printer, at *time.Time, from *string) string {
	if from == nil {
		return p.time(at)
	}
	return p.time(at) + " from " + *from
}
