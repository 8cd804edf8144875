package cmd

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"keyctl/internal/audit"
	"keyctl/internal/config"
	"keyctl/internal/fault"
	"keyctl/internal/keys"
	"keyctl/internal/store"
)

func newMigrate(a *app) *cobra.Command {
	var from, to string
	var keep bool
	c := &cobra.Command{
		Use:   "migrate",
		Short: "Move the store to PostgreSQL, or back",
		Long: `Move a whole store from a SQLite file into an empty PostgreSQL database, or from there into a new file: keys and credentials,
second factors, tokens and the audit log, byte for byte. Everything secret in it stays sealed, and the master key stays the same.
--from and --to name the two; whichever is left out is the store that commands work on (--store, KEYCTL_STORE, the
configuration), so that a URL with a password need not be an argument.

Nobody may use the store meanwhile: stop its servers first. When all is copied, compared and its audit log checked, the new
store is in force and the old one is put aside under another name. A command that was stopped is run again, and goes on; until
it comes to its end the copy is no store, and the old one stays in force.`,
		Example: `  keyctl migrate --to postgres://keyctl@db.example.com/keyctl?sslmode=verify-full
  KEYCTL_STORE="$(cat url)" keyctl migrate --from sqlite:/var/lib/keyctl/keyctl.db
  keyctl migrate --from postgres://keyctl@127.0.0.1/keyctl --to sqlite:/var/lib/keyctl/keyctl.db`,
		Args: args(),
		RunE: func(c *cobra.Command, _ []string) error { return a.migrate(c.Context(), from, to, keep) },
	}
	c.Flags().SortFlags = false
	c.Flags().Var(nonEmpty(&from), "from", "the store: sqlite:PATH or postgres://HOST/DATABASE")
	c.Flags().Var(nonEmpty(&to), "to", "where to: postgres://HOST/DATABASE or sqlite:PATH")
	_ = c.RegisterFlagCompletionFunc("from", stores) // of others it is a file
	c.Flags().BoolVar(&keep, "keep", false, "leave the old store where it is; from then on there are two that know nothing of each other")
	return c
}

func (a *app) migrate(ctx context.Context, fromFlag, toFlag string, keep bool) error {
	from, to, err := a.ends(fromFlag, toFlag)
	if err != nil {
		return err
	}
	m := &migration{app: a, from: from, to: to, target: placeOf(to)}
	if err := m.checkSource(ctx); err != nil {
		return err
	}
	frozen, err := store.Freeze(ctx, placeOf(from), a.storeOptions())
	if err != nil {
		return err
	}
	defer frozen.Release()
	if m.head, err = frozen.AuditHead(); err != nil {
		return err
	}
	err = m.copy(ctx, frozen)
	moved := err == nil
	if errors.Is(err, store.ErrMoved) {
		err = m.checkTarget(ctx)
	}
	if err != nil {
		return err
	}
	return m.settle(ctx, frozen, moved, keep)
}

// ends are the configurations of the two stores.
func (a *app) ends(fromFlag, toFlag string) (from, to config.Config, err error) {
	cfg, err := a.config()
	if err != nil {
		return from, to, err
	}
	from, to = cfg, cfg
	switch {
	case cfg.Server != "":
		err = fault.New(fault.Invalid, "a store is moved where it lies, and commands go to %s", cfg.Server).
			WithHint("name it with --store sqlite:PATH or --store postgres://HOST/DATABASE")
	case fromFlag == "" && toFlag == "":
		err = fault.New(fault.Invalid, "keyctl migrate needs --to or --from").WithHint("write --to postgres://HOST/DATABASE")
	}
	if err == nil && fromFlag != "" {
		from, err = cfg.WithStore("from", fromFlag)
	}
	if err == nil && toFlag != "" {
		to, err = cfg.WithStore("to", toFlag)
	}
	if err == nil && (from.Postgres == "") == (to.Postgres == "") {
		err = fault.New(fault.Invalid, "a store is moved from a file into PostgreSQL, or back").
			WithHint("between files use `keyctl backup` and `keyctl restore`, between databases PostgreSQL's own tools; the one that neither --from nor --to names is that of --store or KEYCTL_STORE")
	}
	return from, to, err
}

func placeOf(cfg config.Config) store.Place {
	return store.Place{Path: cfg.StorePath, Postgres: cfg.Postgres}
}

// migration is one run of keyctl migrate.
type migration struct {
	*app
	from, to config.Config
	target   store.Place
	name     string     // of the source
	head     audit.Head // of the source
	rows     int
}

// checkSource opens the store as every command does, with its master key, and makes sure that it is whole.
func (m *migration) checkSource(ctx context.Context) error {
	m.cfg = &m.from
	if err := m.openStore(ctx, m.from); err != nil {
		return err
	}
	m.name = m.db.Path()
	if m.from.Postgres == "" {
		if err := m.db.QuickCheck(ctx); err != nil {
			return err
		}
	}
	if err := wantUnbroken(ctx, m.local, "", m.name); err != nil {
		return err
	}
	return m.letGo()
}

// letGo closes the store that is open.
func (m *migration) letGo() error {
	err := m.close()
	m.db, m.local = nil, nil
	return err
}

// wantUnbroken makes sure that a store's audit log is whole, and has what an earlier head named.
func wantUnbroken(ctx context.Context, local *keys.Local, head, name string) error {
	report, err := local.VerifyAudit(ctx, head)
	if err == nil && !report.OK {
		err = fault.New(fault.StoreDamaged, "the audit log of %q is broken at record %d: %s", name, *report.FirstBad, orNone(report.Why)).
			WithHint("`keyctl audit verify` says it of a store; compare with a backup and with the audit heads that you keep elsewhere")
	}
	return err
}

// copy copies the store, with its progress on a terminal.
func (m *migration) copy(ctx context.Context, frozen *store.Frozen) error {
	screen, err := m.terminal()
	if err != nil {
		return err
	}
	m.rows = frozen.Rows()
	m.progress = screen.NewProgress(2*m.rows, "rows copied and compared")
	defer m.progress.Done()
	begun := false
	err = frozen.Move(ctx, m.target, m.storeOptions(), m.check, func(rows int) {
		begun = true
		m.progress.Add(rows)
	})
	if err != nil && begun && m.to.Postgres != "" {
		m.hint("what is there is no store yet, and nobody can use it; %s is in force as before; run the same command again to go on", m.name)
	}
	return err
}

// check is for the copy before it is a store.
func (m *migration) check(ctx context.Context, db *store.DB) error {
	local, err := keys.Open(ctx, db, *m.master, m.env())
	if err != nil {
		return err
	}
	return wantUnbroken(ctx, local, m.head.Value(), db.Path())
}

// checkTarget makes sure that a store which is there already continues the one that is to be moved there.
func (m *migration) checkTarget(ctx context.Context) error {
	if err := m.openStore(ctx, m.to); err != nil {
		return err
	}
	err := wantUnbroken(ctx, m.local, m.head.Value(), m.db.Path())
	if fault.Is(err, fault.StoreDamaged) {
		return fault.New(fault.Exists, "%q has this store already, and not what was done since in %q", m.db.Path(), m.name).
			WithHint("these are two copies of one store that went different ways: `keyctl audit list --store …` tells what was done in each; " +
				"decide which one stays, and do there again what is missing").WithCause(err)
	}
	return err
}

// settle puts the old store aside, now that the new one is in force, and says so.
func (m *migration) settle(ctx context.Context, frozen *store.Frozen, moved, keep bool) error {
	aside := ""
	if !keep {
		var err error
		if aside, err = frozen.PutAside(m.now()); err != nil {
			m.warn("the store is moved, but the old one is still in its place: do not use it, and run the same command again")
			return err
		}
	}
	frozen.Release()
	if m.local == nil {
		if err := m.openStore(ctx, m.to); err != nil {
			return err
		}
	}
	// A run that was killed at the very end noted nothing.
	head, err := m.local.AuditHead(ctx)
	if err == nil && head.Value == m.head.Value() {
		err = m.local.NoteMove(ctx, m.head)
	}
	if moved {
		m.say("%s is in force now: %d rows were copied from %s and compared, the audit log up to record %d is unbroken", m.db.Path(), m.rows, m.name, m.head.Seq)
	} else {
		m.say("%s was moved to %s before; nothing was copied", m.name, m.db.Path())
	}
	if keep {
		m.warn("the old store " + m.name + " still works: change nothing in it, for what is revoked in one of the two still works in the other")
	} else {
		m.say("the old store is kept as %s; remove it when you trust the new one", aside)
	}
	m.hint("name the new store where the old one was named: KEYCTL_STORE, the configuration, the server's unit")
	return err
}
