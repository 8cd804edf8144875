package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"keyctl/internal/audit"
	"keyctl/internal/fault"
	"keyctl/internal/keys"
)

// This file moves a whole store to another place, row by row and byte by byte. Sealed values stay sealed, and no key is
// needed. move_sqlite.go and move_postgres.go hold still what is moved, and keep what is not complete from being used.

// Place says where a store is: in a SQLite file, or in a PostgreSQL database.
type Place struct {
	Path     string
	Postgres string // its URL; empty for a file
}

// Open opens the store there; see Open and OpenPostgres.
func (p Place) Open(ctx context.Context, opts Options) (*DB, error) {
	if p.Postgres != "" {
		return OpenPostgres(ctx, p.Postgres, opts)
	}
	return Open(ctx, p.Path, opts)
}

// ErrMoved is what Move returns where the store is whole at its new place already.
var ErrMoved = errors.New("the store is there already")

// errDiffers ends a copy whose target has rows that are not the source's.
var errDiffers = errors.New("the copy differs from the store")

// batchRows is how many rows are read, or written in one transaction, at a time.
const batchRows = 250

// table is a table of a store as it is copied.
type table struct {
	name     string
	order    int      // how many columns, from the first, are the primary key
	columns  []string // without generated ones
	numbered bool     // the engine numbers new rows in the first column
}

// tables are all that a store consists of, in an order in which rows come after those that they refer to. The row that makes a
// store of it comes last.
var tables = []table{
	newTable("operators", 1, "seq id name role created_at created_by disabled_at deleted_at").counting(),
	newTable("second_factors", 1, "operator_id seed created_at confirmed_at last_step failures locked_until disabled"),
	newTable("recovery_codes", 2, "operator_id mac used_at"),
	newTable("tokens", 1, "seq id operator_id description mac datasets created_at created_by expires_at revoked_at last_used_at last_used_from").counting(),
	newTable("primary_keys", 1, "id name description created_at created_by disabled_at"),
	newTable("primary_key_versions", 2, "primary_key_id version created_at disabled_at sealed"),
	newTable("datasets", 1, "id name description type algorithm primary_key_id created_at created_by deleted_at first_key_id own_primary_key format"),
	newTable("keys", 1, "id name description labels ip_ranges created_at created_by activated_at expires_at disabled_at compromised_at deleted_at last_used_at"),
	newTable("key_datasets", 2, "key_id dataset_id attached_at may_encrypt may_decrypt"),
	newTable("credentials", 1, "seq access_key_id key_id generation created_at pending_until proven_at grace_until ended_at ended_as "+
		"signing_key challenge fingerprint terms previous last_used_at last_used_from").counting(),
	newTable("data_keys", 2, "dataset_id number created_at created_by sealed"),
	newTable("usage", 6, "key_id dataset_id action product version day count first_at last_at"),
	newTable("credential_material", 1, "access_key_id public_key private_key_pem"),
	newTable("audit_log", 1, "seq body mac"),
	newTable("audit_head", 1, "id seq hash mac"),
	newTable("meta", 1, "id store_id created_at check_value keyring decoy"),
}

func newTable(name string, order int, columns string) table {
	return table{name: name, order: order, columns: strings.Fields(columns)}
}

func (tb table) counting() table {
	tb.numbered = true
	return tb
}

// row is a row as it is stored: nil, int64, string and []byte.
type row []any

// page reads rows in the order of the primary key, after one of them or from the beginning.
func (tb table) page(t *tx, after row, limit int) ([]row, error) {
	columns, key := strings.Join(tb.columns, ", "), strings.Join(tb.columns[:tb.order], ", ")
	if after == nil {
		return list(t, tb.read, fmt.Sprintf(`SELECT %s FROM %s ORDER BY %s LIMIT $1`, columns, tb.name, key), limit)
	}
	query := fmt.Sprintf(`SELECT %s FROM %s WHERE (%s) > (%s) ORDER BY %s LIMIT $%d`, columns, tb.name, key, parameters(1, tb.order), key, tb.order+1)
	return list(t, tb.read, query, append(slices.Clone(after[:tb.order]), limit)...)
}

// parameters names n parameters, from one on.
func parameters(from, n int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "$%d", from+i)
	}
	return b.String()
}

// read reads a row, and refuses what only one of the two engines can keep.
func (tb table) read(columns scan) (row, error) {
	values, into := make(row, len(tb.columns)), make([]any, len(tb.columns))
	for i := range values {
		into[i] = &values[i]
	}
	if err := columns(into...); err != nil {
		return nil, err
	}
	for i, v := range values {
		switch v := v.(type) {
		case nil, int64:
		case []byte:
			if v == nil {
				values[i] = []byte{} // nothing, which is not the same as none
			}
		case string:
			if !utf8.ValidString(v) || strings.ContainsRune(v, 0) {
				return nil, fmt.Errorf("%s.%s is no text", tb.name, tb.columns[i])
			}
		default:
			return nil, fmt.Errorf("%s.%s is stored as %T", tb.name, tb.columns[i], v)
		}
	}
	return values, nil
}

func (r row) equal(other row) bool {
	return slices.EqualFunc(r, other, func(a, b any) bool {
		one, isBytes := a.([]byte)
		two, areBytes := b.([]byte)
		if isBytes && areBytes {
			return bytes.Equal(one, two)
		}
		return !isBytes && !areBytes && a == b
	})
}

// insert writes rows with one statement.
func (tb table) insert(t *tx, rows []row) error {
	var b strings.Builder
	var values []any
	fmt.Fprintf(&b, `INSERT INTO %s (%s) VALUES `, tb.name, strings.Join(tb.columns, ", "))
	for i, r := range rows {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "(%s)", parameters(len(values)+1, len(r)))
		values = append(values, r...)
	}
	_, err := t.exec(b.String(), values...)
	if isTaken(err) {
		err = fault.New(fault.Exists, "another program writes to %q", t.db.path).WithHint("let it come to its end, and look").WithCause(err)
	}
	return err
}

// Frozen is a store that is about to be moved: until Release nobody else changes it, and a file nobody else even reads. It is
// for one goroutine.
type Frozen struct {
	t        *tx
	storeID  string
	rows     int
	batch    int
	setAside func(now time.Time) (string, error)
	unfreeze func()
}

// Freeze holds a store still. store_busy: it is in somebody's use.
func Freeze(ctx context.Context, p Place, opts Options) (*Frozen, error) {
	f := &Frozen{batch: batchRows}
	if opts.batch > 0 {
		f.batch = opts.batch
	}
	var err error
	if p.Postgres != "" {
		err = f.freezePostgres(ctx, p.Postgres, opts)
	} else {
		err = f.freezeFile(ctx, p.Path, opts)
	}
	if err == nil {
		err = f.look()
	}
	if err != nil {
		f.Release()
		return nil, err
	}
	return f, nil
}

// look learns what there is to move.
func (f *Frozen) look() error {
	version, err := f.t.schemaVersion()
	if err == nil {
		err = f.t.checkVersion(version)
	}
	if err != nil {
		return err
	}
	meta, err := f.t.Meta()
	if err != nil {
		return err
	}
	f.storeID = meta.StoreID
	for _, tb := range tables {
		n, _, err := first(f.t, integer, `SELECT count(*) FROM `+tb.name)
		if err != nil {
			return err
		}
		f.rows += int(n)
	}
	return nil
}

// Release lets others use the store again, where it still is. A second call does nothing.
func (f *Frozen) Release() {
	if f.unfreeze != nil {
		f.unfreeze()
	}
	f.unfreeze = nil
}

// Rows is how many rows there are; Move passes each one twice.
func (f *Frozen) Rows() int { return f.rows }

// AuditHead is the end of the store's audit log.
func (f *Frozen) AuditHead() (audit.Head, error) { return f.t.AuditHead() }

// PutAside takes the store out of use, for it lives elsewhere now: its file gets a name with the time, its tables a schema of
// their own. It returns where it is kept.
func (f *Frozen) PutAside(now time.Time) (string, error) { return f.setAside(now) }

// Move copies the store to a place of the other kind, compares the copy with it row by row, has check look at the copy, and
// only then makes a store of it; until then nobody can use what is there. A move into PostgreSQL that was stopped goes on where
// it was, unless the store was changed since: then it begins anew. One into a file begins anew always. progress is told of rows
// that are passed, and with a negative number that they are to be passed again.
//
// ErrMoved: the store is there. exists: something else is. no_store: there is no such database.
func (f *Frozen) Move(ctx context.Context, to Place, opts Options, check func(context.Context, *DB) error, progress func(rows int)) error {
	if err := f.whatIsAt(ctx, to, opts); err != nil {
		return err
	}
	if to.Postgres != "" {
		return f.movePostgres(ctx, to.Postgres, opts, check, progress)
	}
	return Create(ctx, to.Path, opts, func(ctx context.Context, db *DB) error {
		a := &arriving{db: db, ground: (*tx).checkGround}
		err := f.copyAll(ctx, a, progress)
		if err == nil {
			err = check(ctx, db)
		}
		return err
	})
}

// whatIsAt looks whether there is room for the store.
func (f *Frozen) whatIsAt(ctx context.Context, to Place, opts Options) error {
	db, err := to.Open(ctx, opts)
	if isArriving(err) || fault.Is(err, fault.NoStore) && (to.Postgres == "" || fault.From(err).Cause == nil) {
		return nil
	}
	if err != nil {
		return err
	}
	defer db.Close()
	var meta keys.Meta
	err = db.View(ctx, func(tx keys.Tx) (err error) {
		meta, err = tx.Meta()
		return err
	})
	switch {
	case fault.Is(err, fault.NoStore):
		return nil
	case err != nil:
		return err
	case meta.StoreID == f.storeID:
		return ErrMoved
	}
	return fault.New(fault.Exists, "there is another store in %q already", db.path).WithHint("name a place where there is none")
}

// arriving is a place that a store is being copied to.
type arriving struct {
	db     *DB
	ground func(*tx) error // looks, in each transaction that writes, whether this is the place still
}

func (a *arriving) change(ctx context.Context, fn func(*tx) error) error {
	return a.db.change(ctx, beginOn(a.ground), fn)
}

// beginOn begins a transaction that writes where ground says that it may.
func beginOn(ground func(*tx) error) func(*tx) error {
	return func(t *tx) error {
		if err := t.begin(t.db.statement(beginUpdate, beginPostgresUpdate)); err != nil {
			return err
		}
		return ground(t)
	}
}

// copyAll copies what is missing and then compares everything. errDiffers: there was something else.
func (f *Frozen) copyAll(ctx context.Context, a *arriving, progress func(int)) error {
	for _, tb := range tables {
		if err := f.copyTable(ctx, a, tb, true, progress); err != nil {
			return err
		}
	}
	for _, tb := range tables {
		err := f.copyTable(ctx, a, tb, false, progress)
		if errors.Is(err, errDiffers) {
			return fault.New(fault.StoreDamaged, "the copy in %q does not have what was written to it, in the table %s", a.db.path, tb.name).
				WithHint("it is no store, and cannot be used; run the same command again, which begins anew, and look after the disk and who else writes there")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// copyTable goes through a table on both sides. Rows that are missing at the end of the copy are written, or else are a
// difference.
func (f *Frozen) copyTable(ctx context.Context, a *arriving, tb table, write bool, progress func(int)) error {
	var last row
	ended := false // the copy is
	for {
		want, err := tb.page(f.t, last, f.batch)
		if err != nil {
			return err
		}
		var have []row
		if !ended {
			err = a.db.view(ctx, func(t *tx) (err error) {
				have, err = tb.page(t, last, f.batch)
				return err
			})
			if err != nil {
				return err
			}
			ended = len(have) < f.batch
		}
		if len(have) > len(want) || !slices.EqualFunc(have, want[:len(have)], row.equal) {
			return errDiffers
		}
		if missing := want[len(have):]; len(missing) > 0 {
			if !write {
				return errDiffers
			}
			if err := a.change(ctx, func(t *tx) error { return tb.insert(t, missing) }); err != nil {
				return err
			}
		}
		progress(len(want))
		if len(want) < f.batch {
			return nil
		}
		last = want[len(want)-1]
	}
}
