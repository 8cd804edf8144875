package cmd

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"keyctl/internal/audit"
	"keyctl/internal/fault"
	"keyctl/internal/keys"
	"keyctl/internal/term"
)

func newAudit(a *app) *cobra.Command {
	return a.group(&cobra.Command{
		Use:   "audit",
		Short: "Read, check and export the audit log",
		Long: `Every change is in the audit log, written in the same transaction. The records form a chain, each bound to the one before it and
authenticated with a key of the store, so that a record that was edited, removed, inserted or moved is found.`,
	}, newAuditList, newAuditVerify, newAuditHead, newAuditExport)
}

// auditEntry is an audit record as it is printed.
type auditEntry struct {
	Seq       int64             `json:"seq"`
	At        time.Time         `json:"at"`
	Actor     audit.Actor       `json:"actor"`
	Action    string            `json:"action"`
	Object    audit.Object      `json:"object"`
	Outcome   audit.Outcome     `json:"outcome"`
	Reason    *string           `json:"reason"`
	Address   *string           `json:"address"`
	RequestID *string           `json:"request_id"`
	Detail    map[string]string `json:"detail"`
}

func newAuditEntry(r keys.AuditRecord) auditEntry {
	e := r.Event
	entry := auditEntry{
		Seq: r.Record.Seq, At: e.At, Actor: e.Actor, Action: e.Action, Object: e.Object, Outcome: e.Outcome,
		Reason: noneIfEmpty(e.Reason), Address: noneIfEmpty(e.Address), RequestID: noneIfEmpty(e.RequestID), Detail: e.Detail,
	}
	if entry.Detail == nil {
		entry.Detail = map[string]string{}
	}
	return entry
}

func noneIfEmpty(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// auditShape says how audit records are shown.
var auditShape = shape[auditEntry]{
	id:   func(e auditEntry) string { return fmt.Sprint(e.Seq) },
	name: func(e auditEntry) string { return e.Action },
	columns: []column[auditEntry]{
		{"SEQ", false, func(_ *printer, e auditEntry) term.Cell { return text(fmt.Sprint(e.Seq)) }},
		{"TIME", false, func(p *printer, e auditEntry) term.Cell { return text(p.time(&e.At)) }},
		{"ACTOR", true, func(_ *printer, e auditEntry) term.Cell { return text(e.Actor.Name) }},
		{"ACTION", false, func(_ *printer, e auditEntry) term.Cell { return text(e.Action) }},
		{"OBJECT", false, func(_ *printer, e auditEntry) term.Cell {
			return text(strings.TrimSpace(e.Object.Type + " " + orElse(e.Object.Name, e.Object.ID)))
		}},
		{"OUTCOME", false, auditOutcome},
		{"DETAIL", true, func(_ *printer, e auditEntry) term.Cell { return text(labelText(e.Detail)) }},
	},
}

func orElse(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}

func auditOutcome(_ *printer, e auditEntry) term.Cell {
	word, tone := string(e.Outcome), term.Plain
	if e.Reason != nil {
		word += ": " + *e.Reason
	}
	if e.Outcome == audit.Refused {
		tone = term.Bad
	}
	return term.Cell{Text: word, Tone: tone}
}

// auditFilterFlags select audit records.
type auditFilterFlags struct{ since, until, action, object, actor, outcome string }

func (f *auditFilterFlags) add(flags *pflag.FlagSet) {
	flags.Var(nonEmpty(&f.since), "since", "only records from this time on: a date, or 7d for the last 7 days")
	flags.Var(nonEmpty(&f.until), "until", "only records before this time: a date, or 1d for a day ago")
	flags.Var(nonEmpty(&f.action), "action", "only this action, as keys.roll, or all of a kind, as keys.")
	flags.Var(nonEmpty(&f.object), "object", "only records about this name or id")
	flags.Var(nonEmpty(&f.actor), "actor", "only records of this operator")
	flags.Var(nonEmpty(&f.outcome), "outcome", "only this outcome: ok, noop or refused")
}

func (f auditFilterFlags) filter(now time.Time) (keys.AuditFilter, error) {
	filter := keys.AuditFilter{Action: f.action, Object: f.object, Actor: f.actor, Outcome: f.outcome}
	if f.outcome != "" && f.outcome != string(audit.OK) && f.outcome != string(audit.NoOp) && f.outcome != string(audit.Refused) {
		return filter, fault.New(fault.Invalid, "no outcome %q", f.outcome).WithHint("the outcomes are ok, noop and refused")
	}
	var err error
	if filter.Since, err = past(f.since, now); err != nil {
		return filter, err
	}
	filter.Until, err = past(f.until, now)
	return filter, err
}

// past reads a time that has been: a date, or how long ago.
func past(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := keys.ParseDuration(text); err == nil {
		return now.Add(-d), nil
	}
	at, err := keys.ParseDate(text)
	if err != nil {
		return at, fault.From(err).WithHint("write 7d for 7 days ago, 2026-01-31 or 2026-01-31T12:00:00Z")
	}
	return at, nil
}

// exported is an audit record as it leaves the store for keeping elsewhere: the exact bytes that the chain is about, and
// what authenticates them.
type exported struct {
	Record json.RawMessage `json:"record"`
	Hash   string          `json:"hash"` // SHA-256 of record, hex
	MAC    string          `json:"mac"`  // hex
}
