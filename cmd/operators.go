package cmd

import (
	"context"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"keyctl/internal/access"
	"keyctl/internal/fault"
	"keyctl/internal/keys"
	"keyctl/internal/term"
)

func newOperators(a *app) *cobra.Command {
	return a.group(&cobra.Command{
		Use:   "operators",
		Short: "Say who administers, and in which role",
		Long: `An operator is a person or a machine that administers keys. Its role says what it may do:

  owner     everything, operators included
  admin     keys, datasets and Primary Keys; rolls with an authenticator code of its own
  ci        makes, activates and disables keys of its own, for the datasets of its token
  auditor   reads everything but secrets, and the audit log
  verifier  asks whether a credential would be let in

The first owner is made with the store. Tokens (keyctl tokens create) let operators in over the network. Only an owner changes
operators, and the last one stays.`,
	}, newOperatorsList, newOperatorsShow, newOperatorsCreate, newOperatorsEdit, newOperatorsDisable, newOperatorsEnable, newOperatorsDelete)
}

// operatorShape says how operators are shown.
var operatorShape = shape[keys.OperatorView]{
	id:   func(o keys.OperatorView) string { return o.ID },
	name: func(o keys.OperatorView) string { return o.Name },
	columns: []column[keys.OperatorView]{
		{"NAME", false, func(_ *printer, o keys.OperatorView) term.Cell { return text(o.Name) }},
		{"ROLE", false, func(_ *printer, o keys.OperatorView) term.Cell { return text(string(o.Role)) }},
		{"STATE", false, operatorState},
		{"SECOND FACTOR", false, func(_ *printer, o keys.OperatorView) term.Cell { return text(yesNo(o.SecondFactor)) }},
		{"TOKENS", false, func(_ *printer, o keys.OperatorView) term.Cell { return text(strconv.Itoa(o.Tokens)) }},
		{"CREATED", true, func(p *printer, o keys.OperatorView) term.Cell { return text(p.time(&o.CreatedAt)) }},
	},
	details: []column[keys.OperatorView]{
		{"name", false, func(_ *printer, o keys.OperatorView) term.Cell { return text(o.Name) }},
		{"id", false, func(_ *printer, o keys.OperatorView) term.Cell { return text(o.ID) }},
		{"role", false, func(_ *printer, o keys.OperatorView) term.Cell { return text(string(o.Role)) }},
		{"state", false, operatorState},
		{"second factor", false, func(_ *printer, o keys.OperatorView) term.Cell { return text(yesNo(o.SecondFactor)) }},
		{"tokens", false, func(_ *printer, o keys.OperatorView) term.Cell { return text(strconv.Itoa(o.Tokens)) }},
		{"created", false, func(p *printer, o keys.OperatorView) term.Cell {
			by := "init"
			if o.CreatedBy != nil {
				by = *o.CreatedBy
			}
			return text(p.time(&o.CreatedAt) + " by " + by)
		}},
	},
}

func operatorState(_ *printer, o keys.OperatorView) term.Cell {
	tone := term.Good
	if o.State != keys.OperatorActive {
		tone = term.Bad
	}
	return term.Cell{Text: string(o.State), Tone: tone}
}

func yesNo(claim bool) string {
	if claim {
		return "yes"
	}
	return "no"
}

// roleFlag is the flag of a role, as typed.
type roleFlag struct{ text string }

func (r *roleFlag) add(f *pflag.FlagSet) {
	f.Var(nonEmpty(&r.text), "role", "what the operator may do: owner, admin, ci, auditor or verifier")
}

// role reads the flag. missing says what is wrong without it.
func (r *roleFlag) role(missing string) (access.Role, error) {
	if r.text == "" {
		return "", fault.New(fault.Invalid, "%s", missing).WithHint("add --role owner, admin, ci, auditor or verifier")
	}
	return access.ParseRole(r.text)
}

// operatorNames finds operators that fit, and tells their roles.
func operatorNames(fits func(keys.OperatorView) bool) finder {
	return func(ctx context.Context, service keys.Service, before []string, typed string) ([]cobra.Completion, error) {
		var candidates []cobra.Completion
		all, err := service.Operators(ctx)
		for _, o := range all {
			if strings.HasPrefix(o.Name, typed) && len(before) == 0 && (fits == nil || fits(o)) {
				candidates = append(candidates, cobra.CompletionWithDesc(o.Name, string(o.Role)))
			}
		}
		return fewer(candidates), err
	}
}

func isActive(o keys.OperatorView) bool   { return o.State == keys.OperatorActive }
func isInactive(o keys.OperatorView) bool { return !isActive(o) }
