package store

import (
	"context"
	"errors"
	"strings"
	"time"

	"keyctl/internal/fault"
)

// A database that a store is being moved into has the table incoming_store, and no row in writers. By the first, nobody opens
// it; without the second, whoever had it open before cannot write. Both change when the copy is complete, in one transaction.

// errIncoming is the cause by which a database that a store is being moved into is told from an empty one.
var errIncoming = errors.New("a store is being moved there")

func isArriving(err error) bool { return errors.Is(err, errIncoming) }

// arrivingStore is the answer for a database with half a store.
func arrivingStore(path string) *fault.Error {
	return fault.New(fault.NoStore, "what is in %q is an incomplete copy of a store", path).
		WithHint("run `keyctl migrate` to its end; it goes on where it was stopped").WithCause(errIncoming)
}

// freezePostgres keeps every other program from changing a store in PostgreSQL.
func (f *Frozen) freezePostgres(ctx context.Context, address string, opts Options) error {
	db, err := newPostgres(address, opts)
	if err != nil {
		return err
	}
	if err := db.checkTables(ctx); err != nil {
		_ = db.Close()
		return err
	}
	limit := within(opts.wait())
	defer limit.stop()
	c, err := db.writer.take(ctx, limit)
	if err != nil {
		_ = db.Close()
		return err
	}
	f.t = &tx{ctx: ctx, db: db, conn: c, writes: true}
	f.unfreeze = func() {
		f.t.rollback()
		db.writer.put(c)
		_ = db.Close()
	}
	f.setAside = f.asidePostgres
	if err := f.t.begin(beginPostgresUpdate); err != nil {
		return err
	}
	// It rests while the copy is written and checked. Writers are to wait for the table and not for its row, for then they
	// have locked nothing themselves that is in the way of asidePostgres.
	for _, statement := range []string{`SET LOCAL idle_in_transaction_session_timeout = 0`, `LOCK TABLE writers IN ACCESS EXCLUSIVE MODE`} {
		if _, err := f.t.exec(statement); err != nil {
			return err
		}
	}
	version, err := f.t.schemaVersion()
	if err != nil {
		return err
	}
	return f.t.checkVersion(version)
}

// asidePostgres puts the tables into a schema of their own, where nothing finds them that does not ask for it. Servers that
// have the store open find them no more either.
func (f *Frozen) asidePostgres(now time.Time) (string, error) {
	schema := "moved_" + strings.ToLower(now.UTC().Format(replacedTime))
	statements := []string{"CREATE SCHEMA " + schema}
	for _, name := range append(tableNames(), "writers", "goose_db_version") {
		statements = append(statements, "ALTER TABLE "+name+" SET SCHEMA "+schema)
	}
	for _, statement := range statements {
		if _, err := f.t.exec(statement); err != nil {
			return "", err
		}
	}
	return "the schema " + schema + " of " + f.t.db.path, f.t.commit()
}

func tableNames() []string {
	var names []string
	for _, tb := range tables {
		names = append(names, tb.name)
	}
	return names
}

// movePostgres is Move for a database.
func (f *Frozen) movePostgres(ctx context.Context, address string, opts Options, check func(context.Context, *DB) error, progress func(int)) error {
	db, err := newPostgres(address, opts)
	if err != nil {
		return err
	}
	defer db.Close()
	a := &arriving{db: db, ground: f.checkIncoming}
	if err := f.claim(ctx, a); err != nil {
		return err
	}
	if err := db.upgrade(ctx); err != nil {
		return err
	}
	if err := a.shut(ctx); err != nil {
		return err
	}
	passed := 0
	err = f.copyAll(ctx, a, func(rows int) {
		passed += rows
		progress(rows)
	})
	if errors.Is(err, errDiffers) { // the store was used between two runs
		if err = a.clear(ctx); err == nil {
			progress(-passed)
			err = f.copyAll(ctx, a, progress)
		}
	}
	if err == nil {
		err = check(ctx, db)
	}
	if err == nil {
		err = a.complete(ctx)
	}
	return err
}

// checkIncoming makes sure that the database still waits for this store, and keeps others who copy the same out meanwhile.
func (f *Frozen) checkIncoming(t *tx) error {
	id, _, err := first(t, text, `SELECT store_id FROM incoming_store WHERE id = 1 FOR UPDATE`)
	if err == nil && id != f.storeID {
		err = fault.New(fault.Exists, "another store is being moved into %q", t.db.path).WithHint("name a database of its own")
	}
	return err
}

// text reads the only column of a row.
func text(row scan) (s string, err error) {
	err = row(&s)
	return s, err
}

// noGround is for what is done before there are tables.
func noGround(*tx) error { return nil }

// unclaim undoes claim.
func (a *arriving) unclaim(ctx context.Context) error {
	return a.db.change(ctx, beginOn(noGround), func(t *tx) error {
		_, err := t.exec(`DROP TABLE incoming_store`)
		return err
	})
}

// claim makes sure that the database is this store's to move into. It had nothing in it, or a part of the same store.
func (f *Frozen) claim(ctx context.Context, a *arriving) error {
	return a.db.change(ctx, beginOn(noGround), func(t *tx) error {
		there, _, err := first(t, text, `SELECT concat_ws(' ', to_regclass('incoming_store'), to_regclass('meta'))`)
		switch {
		case err != nil:
			return err
		case strings.Contains(there, "incoming_store"):
			return f.checkIncoming(t)
		case there != "": // an init that was stopped
			if err := a.wantEmpty(t); err != nil {
				return err
			}
		}
		if _, err := t.exec(`CREATE TABLE incoming_store (id BIGINT PRIMARY KEY CHECK (id = 1), store_id TEXT NOT NULL)`); err != nil {
			return err
		}
		_, err = t.exec(`INSERT INTO incoming_store (id, store_id) VALUES (1, $1)`, f.storeID)
		return err
	})
}

// wantEmpty makes sure that there is nothing in the tables.
func (a *arriving) wantEmpty(t *tx) error {
	for _, name := range tableNames() {
		there, _, err := first(t, text, `SELECT concat_ws(' ', to_regclass($1))`, name)
		if err != nil {
			return err
		}
		if there == "" {
			continue // an older keyctl's
		}
		n, _, err := first(t, integer, `SELECT count(*) FROM (SELECT 1 FROM `+name+` LIMIT 1) AS found`)
		if err != nil {
			return err
		}
		if n > 0 {
			return fault.New(fault.Exists, "the table %s in %q is not empty", name, t.db.path).WithHint("name a database of its own")
		}
	}
	return nil
}

// shut takes away the row that every writer locks. If an init was faster, the database is its store's.
func (a *arriving) shut(ctx context.Context) error {
	var occupied error
	err := a.change(ctx, func(t *tx) error {
		taken, err := t.exec(`DELETE FROM writers`)
		if err != nil || taken == 0 {
			return err
		}
		occupied = a.wantEmpty(t)
		return occupied
	})
	if fault.Is(occupied, fault.Exists) {
		return errors.Join(err, a.unclaim(ctx))
	}
	return err
}

// clear removes what was copied.
func (a *arriving) clear(ctx context.Context) error {
	return a.change(ctx, func(t *tx) error {
		_, err := t.exec(`TRUNCATE ` + strings.Join(tableNames(), ", "))
		return err
	})
}

// complete makes a store of the copy: new rows are numbered after those that came, and whoever opens it may write.
func (a *arriving) complete(ctx context.Context) error {
	return a.change(ctx, func(t *tx) error {
		for _, tb := range tables {
			if !tb.numbered {
				continue
			}
			_, _, err := first(t, integer, `SELECT setval(pg_get_serial_sequence('`+tb.name+`', 'seq'), (SELECT COALESCE(max(seq), 0) + 1 FROM `+tb.name+`), false)`)
			if err != nil {
				return err
			}
		}
		if _, err := t.exec(`INSERT INTO writers (id) VALUES (1)`); err != nil {
			return err
		}
		_, err := t.exec(`DROP TABLE incoming_store`)
		return err
	})
}
