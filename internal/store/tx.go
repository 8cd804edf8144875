package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"keyctl/internal/audit"
	"keyctl/internal/fault"
)

// tx is one transaction; it implements keys.Tx. Statements are prepared once for each connection and kept.
//
// No statement is interrupted half-way when the context ends, COMMIT least of all, so that what happened is always known:
// the context is looked at before each statement. Only one that reads the whole store may be stopped.
type tx struct {
	ctx       context.Context
	db        *DB
	conn      *connection
	writes    bool
	stoppable bool

	open  bool
	begun bool  // BEGIN was executed
	alone bool  // the next statement may be the only one: it runs without BEGIN
	leads bool  // so does it here, and others follow
	spent bool  // it did
	again bool  // another one followed after all: the whole transaction is to run again, from BEGIN
	busy  bool  // a statement met another process's lock: the whole transaction is to run again
	err   error // the first error after which this transaction must not be committed
	wiped bool  // secrets were removed

	lead     *sql.Rows // of the statement that leads: the others see its state as long as these are open
	leadStmt *sql.Stmt

	head    *audit.Head // of the audit log, where it is known
	due     *due        // where it is known
	pending []pending   // for PostgreSQL
}

// begin opens the transaction.
func (t *tx) begin(statement string) error {
	if err := t.ctx.Err(); err != nil {
		return t.fail(err)
	}
	ctx, cancel := t.statementContext(t.ctx)
	defer cancel()
	if err := t.conn.exec(ctx, statement); err != nil {
		return t.fail(err)
	}
	t.open, t.begun = true, true
	t.db.away.Store(false)
	return nil
}

// StandsAlone implements keys.Tx. One statement sees one consistent state without a transaction around it, which saves PostgreSQL
// two round trips of three.
func (t *tx) StandsAlone() { t.alone = !t.begun && !t.spent }

// Leads implements keys.Tx. SQLite keeps the state that a statement reads for as long as the statement has rows to give
// (sqlite.org/isolation.html), so that leaving it open does what BEGIN and ROLLBACK would.
func (t *tx) Leads() { t.leads = !t.db.postgres && !t.begun && !t.spent }

// errAgain ends a View that runs again; its caller never sees it.
var errAgain = errors.New("a statement that was to stand alone is followed by another one")

// beginLate is begin in a View, which waits for the first statement.
func (t *tx) beginLate() error {
	switch {
	case t.begun || t.lead != nil:
		return nil
	case t.spent:
		t.again = true
		return errAgain
	case t.alone || t.leads:
		t.alone, t.spent = false, true
		return nil
	}
	return t.begin(t.db.statement(beginView, beginPostgresView))
}

// pending is a statement that PostgreSQL gets with the next one, or with COMMIT.
type pending struct {
	query   string
	args    []any
	refused func(error) error // says what its failure means
}

// later is exec for a statement that fails or has done what it should: PostgreSQL gets it with what comes next, which saves a
// round trip. That may be COMMIT, so nothing can be decided by what it did. Update returns its error where later does not.
func (t *tx) later(refused func(error) error, query string, args ...any) error {
	if t.db.postgres && t.writes && t.open {
		t.pending = append(t.pending, pending{query, args, refused})
		return nil
	}
	if _, err := t.exec(query, args...); err != nil {
		return refused(err)
	}
	return nil
}

// flush sends what is pending.
func (t *tx) flush() error {
	if len(t.pending) == 0 {
		return nil
	}
	if err := t.send(t.ctx); err != nil {
		return t.fail(err)
	}
	return nil
}

// plainly is for statements whose failure means nothing in particular.
func plainly(err error) error { return err }

// rollback ends the transaction if it is still open. A connection that cannot even do that is not used again.
func (t *tx) rollback() {
	if !t.open {
		return
	}
	t.open = false
	if t.lead != nil && t.lead.Close() != nil {
		t.conn.broken = true
	}
	if t.conn.broken || !t.begun {
		return
	}
	ctx, cancel := t.statementContext(context.WithoutCancel(t.ctx))
	defer cancel()
	if err := t.conn.exec(ctx, "ROLLBACK"); err != nil {
		t.conn.broken = true
	}
}

// commit makes the transaction durable. When the disk fails in the middle of that, nobody knows what a restart will find:
// outcome_unknown, and the store takes no more writes in this process, because the system may have dropped the pages it
// could not write while a second attempt would report success.
func (t *tx) commit() error {
	if t.err != nil {
		return t.err
	}
	if err := t.ctx.Err(); err != nil {
		return t.fail(err)
	}
	if t.wiped {
		t.db.wiped.Store(true)
	}
	var err error
	if ctx := context.WithoutCancel(t.ctx); t.db.postgres {
		err = t.send(ctx, pending{"COMMIT", nil, plainly})
	} else {
		err = t.conn.exec(ctx, "COMMIT")
	}
	if err == nil {
		t.open = false
		return nil
	}
	if t.db.isLost(err) { // after it was sent, perhaps (R32)
		t.conn.broken = true
		return fault.New(fault.OutcomeUnknown, "the connection to the store %q was lost while a change was made durable", t.db.path).
			WithHint("look whether the change is there").WithCause(err)
	}
	if durabilityUnknown(err) {
		t.db.failed.Store(fault.New(fault.Unavailable, "the disk under the store %q failed; nothing more is written", t.db.path).
			WithHint("check the disk, then start keyctl again").WithCause(err))
		return fault.New(fault.OutcomeUnknown, "the disk failed while the store %q made a change durable", t.db.path).
			WithHint("check the disk, then look whether the change is there").WithCause(err)
	}
	return t.fail(err)
}

// fail explains an error of the database and remembers what it means for the transaction. A refused constraint leaves the
// transaction usable; anything else dooms it, also if its function goes on.
func (t *tx) fail(err error) error {
	if isBusy(err) {
		t.busy = true
	}
	explained := explain(t.db.path, err)
	if t.db.isLost(err) {
		t.busy, t.conn.broken = t.ctx.Err() == nil, true // nothing was committed: it can run again
		t.db.away.Store(true)
		if fault.From(explained) == nil {
			explained = unreachable(t.db.path).WithCause(err)
		}
	}
	if t.err == nil && (t.db.postgres || !isConstraint(err)) { // PostgreSQL ends a transaction at any error
		t.err = explained
	}
	return explained
}

// statementContext is what one statement runs under. SQLite's is never interrupted; one that goes over a network has to end.
func (t *tx) statementContext(ctx context.Context) (context.Context, context.CancelFunc) {
	if !t.db.postgres {
		return context.Background(), func() {}
	}
	return context.WithTimeout(ctx, answerTimeout)
}

// statement prepares a query, or finds it prepared.
func (t *tx) statement(ctx context.Context, query string) (*sql.Stmt, error) {
	switch {
	case !t.open:
		return nil, fault.New(fault.Internal, "a transaction was used after its end")
	case t.ctx.Err() != nil:
		return nil, t.fail(t.ctx.Err())
	}
	if err := t.beginLate(); err != nil {
		return nil, err
	}
	if err := t.flush(); err != nil {
		return nil, err
	}
	s, err := t.conn.statement(ctx, query)
	if err != nil {
		return nil, t.fail(err)
	}
	if t.lead != nil && s == t.leadStmt { // it cannot be read twice at once
		t.again = true
		return nil, errAgain
	}
	return s, nil
}

// exec runs a statement that writes and returns how many rows it touched.
func (t *tx) exec(query string, args ...any) (int64, error) {
	if !t.writes {
		return 0, fault.New(fault.Internal, "a view of the store tried to write")
	}
	ctx, cancel := t.statementContext(t.ctx)
	defer cancel()
	s, err := t.statement(ctx, query)
	if err != nil {
		return 0, err
	}
	result, err := s.ExecContext(ctx, args...)
	if err != nil {
		return 0, t.fail(err)
	}
	touched, err := result.RowsAffected()
	if err != nil {
		return 0, t.fail(err)
	}
	return touched, nil
}

// scan reads the columns of the current row, as sql.Rows.Scan does.
type scan func(columns ...any) error

// each runs a query and calls fn with each row it reads. Content that cannot be read is store_damaged.
func each[T any](t *tx, read func(scan) (T, error), fn func(T) error, query string, args ...any) error {
	ctx, cancel := t.statementContext(t.ctx)
	defer cancel()
	s, err := t.statement(ctx, query)
	if err != nil {
		return err
	}
	if t.stoppable {
		ctx = t.ctx
	}
	rows, err := s.QueryContext(ctx, args...)
	if err != nil {
		return t.stopped(err)
	}
	if t.leads { // rollback closes it
		t.leads, t.lead, t.leadStmt = false, rows, s
	} else {
		defer rows.Close()
	}
	for rows.Next() {
		v, err := read(rows.Scan)
		if err != nil {
			return storeDamaged(t.db.path).WithCause(err)
		}
		if err := fn(v); err != nil {
			return err
		}
	}
	if t.lead == rows { // it came to its end, and with it the state that it saw
		t.lead = nil
	}
	if err := rows.Err(); err != nil {
		return t.stopped(err)
	}
	return nil
}

// stopped is fail for a query that may have been stopped. The driver does not use a stopped connection again.
func (t *tx) stopped(err error) error {
	if t.stoppable && t.ctx.Err() != nil {
		t.conn.broken = true
		err = t.ctx.Err()
	}
	return t.fail(err)
}

// list is each for queries whose rows are all wanted together.
func list[T any](t *tx, read func(scan) (T, error), query string, args ...any) ([]T, error) {
	var all []T
	err := each(t, read, func(v T) error {
		all = append(all, v)
		return nil
	}, query, args...)
	if err != nil {
		return nil, err
	}
	return all, nil
}

// errEnough ends each before the last row; its caller never sees it.
var errEnough = errors.New("enough rows were read")

// first reads the first row alone; found reports whether there was one.
func first[T any](t *tx, read func(scan) (T, error), query string, args ...any) (v T, found bool, err error) {
	err = each(t, read, func(row T) error {
		v, found = row, true
		return errEnough
	}, query, args...)
	if errors.Is(err, errEnough) {
		err = nil
	}
	return v, found, err
}

// completed is list for records that have something hanging on them, which complete adds to all of them at once.
func completed[R any](t *tx, read func(scan) (R, error), complete func([]R) error, query string, args ...any) ([]R, error) {
	records, err := list(t, read, query, args...)
	if err != nil {
		return nil, err
	}
	return records, complete(records)
}

// only is completed for the one record that ref, a name or an id, stands for: not_found if there is none.
func only[R any](t *tx, what, ref string, read func(scan) (R, error), complete func([]R) error, query string) (record R, err error) {
	records, err := completed(t, read, complete, query, ref)
	if err != nil {
		return record, err
	}
	if len(records) == 0 {
		return record, fault.New(fault.NotFound, "no %s %q", what, ref)
	}
	return records[0], nil
}

// integer reads the only column of a row.
func integer(row scan) (n int64, err error) {
	err = row(&n)
	return n, err
}

// hang reads rows that hang on records and gives each to its record. read returns the id of the record first; the query
// contains "IN (%s)" for the ids, which are its one parameter.
func hang[R, V any](t *tx, records map[string]*R, ids []string, read func(scan) (string, V, error), add func(*R, V), query string) error {
	type row struct {
		owner string
		value V
	}
	scanRow := func(columns scan) (r row, err error) {
		r.owner, r.value, err = read(columns)
		return r, err
	}
	give := func(r row) error {
		record := records[r.owner]
		if record == nil { // a damaged index leads to rows that were not asked for
			return storeDamaged(t.db.path).WithCause(errors.New("an index and its table disagree"))
		}
		add(record, r.value)
		return nil
	}
	list, err := json.Marshal(ids)
	if err != nil {
		return err
	}
	return each(t, scanRow, give, fmt.Sprintf(query, t.db.statement(idList, idArray)), string(list))
}

// micros is a time as it is stored: UTC microseconds.
func micros(at time.Time) int64 { return at.UnixMicro() }

// optionalMicros stores the zero time as NULL.
func optionalMicros(at time.Time) any {
	if at.IsZero() {
		return nil
	}
	return at.UnixMicro()
}

// The years that RFC 3339 can write. A time outside cannot have been stored by keyctl, and could not be shown.
var (
	earliestMicros = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()
	latestMicros   = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro() - 1
)

// instant reads a stored time; NULL is the zero time.
type instant struct{ at *time.Time }

// Scan implements sql.Scanner.
func (i instant) Scan(value any) error {
	switch v := value.(type) {
	case nil:
		*i.at = time.Time{}
		return nil
	case int64:
		if v < earliestMicros || v > latestMicros {
			return errors.New("a time outside the years 1 to 9999")
		}
		*i.at = time.UnixMicro(v).UTC()
		return nil
	}
	return fmt.Errorf("a time stored as %T", value)
}

// nullable reads NULL as the zero value. It is for columns that are never NULL, but for a LEFT JOIN that finds no row.
type nullable[T any] struct{ into *T }

func orZero[T any](into *T) nullable[T] { return nullable[T]{into} }

// Scan implements sql.Scanner.
func (n nullable[T]) Scan(value any) error {
	var v sql.Null[T]
	err := v.Scan(value)
	*n.into = v.V
	return err
}

// document reads a value stored as JSON; NULL leaves it alone.
type document struct{ into any }

// Scan implements sql.Scanner.
func (d document) Scan(value any) error {
	switch v := value.(type) {
	case nil:
		return nil
	case string:
		return json.Unmarshal([]byte(v), d.into)
	}
	return fmt.Errorf("a document stored as %T", value)
}

// optionalJSON stores a nil pointer as NULL.
func optionalJSON[T any](v *T) (any, error) {
	if v == nil {
		return nil, nil
	}
	text, err := json.Marshal(v)
	return string(text), err
}

// optionalBytes stores nothing as NULL.
func optionalBytes(b []byte) any {
	if len(b) == 0 {
		return nil
	}
	return b
}

// number stores a claim as 0 or 1, which both engines keep alike.
func number(claim bool) int64 {
	if claim {
		return 1
	}
	return 0
}

// optionalText stores the empty text as NULL.
func optionalText(text string) any {
	if text == "" {
		return nil
	}
	return text
}
