package cmd

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"keyctl/internal/config"
	"keyctl/internal/credential"
	"keyctl/internal/fault"
	"keyctl/internal/keys"
	"keyctl/internal/term"
)

func newDoctor(a *app) *cobra.Command {
	var strict bool
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Check that everything is well",
		Long: `Look whether anything is wrong, or soon will be, with the configuration, the store and its master key, the second factor, this
machine and the keys. Nothing is changed, and nothing is asked.

Each check has a name and a result: ok, warning, error or skipped. Errors are what commands fail with, or a promise that is
broken; warnings should be looked at; a hint says what to do. The exit status is 8 if there is an error, and with --strict also
if there is a warning. Where standard output is no terminal the answer is JSON, unless -o or the configuration says otherwise.
Each check takes no longer than --timeout.`,
		Annotations: onlyReads(),
		Example: `  keyctl doctor
  keyctl doctor --strict -o json
  keyctl doctor --jq '.items[] | select(.result == "error").message'`,
		Args: args(),
		RunE: func(c *cobra.Command, _ []string) error { return a.doctor(c.Context(), strict) },
	}
	c.Flags().BoolVar(&strict, "strict", false, "end with exit status 8 also if there are only warnings")
	return c
}

// checkResult is what a check came to, as one word.
type checkResult string

const (
	resultOK      checkResult = "ok"
	resultWarning checkResult = "warning" // all works, and somebody should look
	resultError   checkResult = "error"   // commands fail, or a promise is broken
	resultSkipped checkResult = "skipped" // nothing can be said
)

// finding is what a check has to say. A check has at least one.
type finding struct {
	Check   string      `json:"check"`
	Result  checkResult `json:"result"`
	Message string      `json:"message"`
	Hint    *string     `json:"hint"`
}

func found(result checkResult, format string, args ...any) finding {
	return finding{Result: result, Message: fmt.Sprintf(format, args...)}
}

func (f finding) hint(format string, args ...any) finding {
	f.Hint = noneIfEmpty(fmt.Sprintf(format, args...))
	return f
}

// trouble makes a finding of what every command would fail with.
func trouble(err error) finding {
	f := found(resultError, "%s", err)
	if e := fault.From(err); e != nil {
		f.Hint = noneIfEmpty(e.Hint)
	}
	return f
}

// undecided is trouble for a check that may have had too little time, or met a store that is being replaced.
func undecided(err error) finding {
	if fault.Is(err, fault.Forbidden) {
		return found(resultSkipped, "%s", err)
	}
	if !errors.Is(err, context.DeadlineExceeded) && !fault.Is(err, fault.StoreBusy) {
		return trouble(err)
	}
	return found(resultWarning, "this was not checked: %s", err).hint("try again; --timeout 5m gives each check more time")
}

// tally counts the findings that matter.
type tally struct {
	Errors   int `json:"errors"`
	Warnings int `json:"warnings"`
}

func (t tally) String() string {
	if t == (tally{}) {
		return "all is well"
	}
	var parts []string
	for _, part := range []struct {
		n    int
		word string
	}{{t.Errors, "error"}, {t.Warnings, "warning"}} {
		if part.n > 0 {
			parts = append(parts, counted(part.n, part.word))
		}
	}
	return strings.Join(parts, ", ")
}

// counted is a number of things in words.
func counted(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}

// resultTones adds a colour to a result's word.
var resultTones = map[checkResult]term.Tone{
	resultOK: term.Good, resultWarning: term.Warn, resultError: term.Bad, resultSkipped: term.Dim,
}

// findingShape says how findings are shown.
var findingShape = shape[finding]{
	id:   func(f finding) string { return f.Check },
	name: func(f finding) string { return f.Check },
	columns: []column[finding]{
		{"CHECK", false, func(_ *printer, f finding) term.Cell { return text(f.Check) }},
		{"RESULT", false, func(_ *printer, f finding) term.Cell {
			return term.Cell{Text: string(f.Result), Tone: resultTones[f.Result]}
		}},
		{"MESSAGE", false, func(_ *printer, f finding) term.Cell { return text(f.Message) }},
	},
	note: func(f finding) string {
		if f.Hint == nil {
			return ""
		}
		return "hint: " + *f.Hint
	},
}

// doctor examines, answers, and makes the exit status of it.
func (a *app) doctor(ctx context.Context, strict bool) error {
	e := &examination{a: a}
	p, err := e.begin()
	if err != nil {
		return err
	}
	e.open(ctx)
	findings := e.examine(ctx)
	var total tally
	for _, f := range findings {
		switch f.Result {
		case resultError:
			total.Errors++
		case resultWarning:
			total.Warnings++
		}
	}
	all := &listing[finding]{totals: total, fetch: func(int, string) (keys.Page[finding], error) {
		return keys.Page[finding]{Items: findings}, nil
	}}
	if err := printList(p, findingShape, all); err != nil {
		return err
	}
	if p.form == "table" && !p.quiet {
		a.say("%s", total)
	}
	if total.Errors > 0 || strict && total.Warnings > 0 {
		return errNegative
	}
	return nil
}

// examination is one run of doctor: what could be opened, and why the rest could not.
type examination struct {
	a      *app
	cfg    config.Config // by the flags alone if cfgErr is set
	cfgErr error

	storeErr  error
	masterErr error
	local     *keys.Local // nil without a store that the master key opens
	localErr  error
	service   keys.Service // that store, or the server in its place; nil without either
	serverErr error
	identity  *keys.Identity // who the server says this is
	damaged   bool           // reading the whole store showed it
	warnings  []string       // about modes, from whatever opened a file
	keys      *keySurvey     // nil until the first check about keys
}

// begin reads the configuration as far as it can be read. Wrong flags are the caller's mistake and no finding.
func (e *examination) begin() (*printer, error) {
	a := e.a
	a.onlyLooks = true
	a.takeWarning = func(message string) { e.warnings = append(e.warnings, message) }
	if e.cfg, e.cfgErr = a.config(); e.cfgErr != nil {
		var err error
		if e.cfg, err = config.FromFlags(a.inputs()); err != nil {
			return nil, err
		}
		a.cfg, a.output = &e.cfg, e.cfg.Output
	}
	screen, err := a.terminal()
	if err != nil {
		return nil, err
	}
	if e.cfg.OutputIsDefault && !screen.StdoutIsTerminal() {
		a.output = "json"
	}
	return a.printer()
}

// open opens what there is, in a way that changes nothing.
func (e *examination) open(ctx context.Context) {
	if e.cfgErr != nil {
		return
	}
	if e.cfg.Server != "" {
		e.openServer(ctx)
		return
	}
	options := e.a.storeOptions()
	options.Examine = true
	e.a.db, e.storeErr = openDB(ctx, e.cfg, options)
	e.masterErr = e.a.readMaster(ctx)
	if e.storeErr == nil && e.masterErr == nil {
		if e.local, e.localErr = keys.Open(ctx, e.a.db, *e.a.master, e.a.env()); e.localErr == nil {
			e.service = e.local
		}
	}
}

// check is a check by its stable name.
type check struct {
	name string
	run  func(context.Context) []finding
}

// checks lists the checks in the order in which they run and are shown: what others depend on comes first.
func (e *examination) checks() []check {
	if e.cfgErr == nil && e.cfg.Server != "" {
		return []check{
			{"configuration", e.configuration}, {"server", e.server}, {"token", e.token}, {"permissions", e.permissions},
			{"audit-log", e.auditLog}, {"second-factor", e.secondFactor}, {"clock", e.clock},
			{"keyring", e.keyring}, {"clipboard", e.clipboard}, {"path", e.path}, {"expiring-keys", e.expiringKeys},
			{"unrestricted-keys", e.unrestrictedKeys}, {"unused-keys", e.unusedKeys},
		}
	}
	if e.cfg.Postgres != "" {
		return e.postgresChecks()
	}
	return []check{
		{"configuration", e.configuration}, {"store", e.store}, {"master-key", e.masterKey}, {"permissions", e.permissions},
		{"disk", e.disk}, {"audit-log", e.auditLog}, {"second-factor", e.secondFactor}, {"clock", e.clock},
		{"keyring", e.keyring}, {"clipboard", e.clipboard}, {"path", e.path}, {"expiring-keys", e.expiringKeys},
		{"unrestricted-keys", e.unrestrictedKeys}, {"unused-keys", e.unusedKeys}, {"leftovers", e.leftovers},
	}
}

// examine runs the checks, each for a bounded time.
func (e *examination) examine(ctx context.Context) []finding {
	var all []finding
	for _, c := range e.checks() {
		bounded, cancel := context.WithTimeout(ctx, e.cfg.Timeout)
		for _, f := range c.run(bounded) {
			f.Check, f.Message = c.name, credential.MaskTokens(f.Message)
			all = append(all, f)
		}
		cancel()
	}
	return all
}

// unreadable says why the content of the store cannot be looked at, if it cannot.
func (e *examination) unreadable() []finding {
	why := ""
	switch {
	case e.cfgErr != nil:
		why = "the configuration has to be put right first"
	case e.serverErr != nil:
		why = "the server has to answer first, and to let the token in"
	case fault.Is(e.storeErr, fault.NoStore):
		why = "there is no store"
	case e.storeErr != nil || e.damaged:
		why = "the store has to be put right first"
	case e.service == nil:
		why = "the store cannot be opened without its master key"
	case e.local != nil && e.a.db.Outdated():
		why = "the store has to be upgraded first"
	default:
		return nil
	}
	return []finding{found(resultSkipped, "%s", why)}
}
