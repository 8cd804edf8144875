// Package store is keys.Store in SQL: what keyctl administers, kept in one SQLite file or in a PostgreSQL database.
//
// It remembers and decides nothing: rules are internal/keys, secrets arrive here sealed, times and states arrive as
// values. Everything that is particular to PostgreSQL is in postgres.go and move_postgres.go, and to SQLite in sqlite.go, open.go,
// migrate.go, move_sqlite.go and the backup files; the SQL in the other files is what both have in common. The package knows no key material and writes no log.
package store

import (
	"context"
	"database/sql"
	"io/fs"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"time"

	"keyctl/internal/fault"
	"keyctl/internal/keys"
)

// DefaultWait bounds the wait for other writers (R43).
const DefaultWait = 5 * time.Second

// Options are the parts of a store's opening that callers may choose. The zero value is right for keyctl itself.
type Options struct {
	// Wait bounds how long one View or Update waits for other processes; 0 means 5 s.
	Wait time.Duration
	// Glance opens the store for a look in passing, such as a shell's completion: no file is made, changed or removed, not
	// even the log that readers share with writers. Update, Migrate and Snapshot refuse. A writer that comes and goes during a
	// View goes unnoticed, so that what was read may be a mixture of two states, or store_damaged. It serves as a hint,
	// never as the ground of a decision.
	Glance bool
	// Warn is told about file modes that are accepted but should be closed. It may be nil.
	Warn func(message string)
	// Examine is for looking at a store and leaving its files as they are: what a killed writer left in the write-ahead log
	// stays there, and every Update is unavailable. Migrate and Snapshot are not for a store opened so. On a full disk
	// reading may still move the log into the store's file.
	Examine bool

	// migrations stands in for the embedded ones where a test plays a newer keyctl.
	migrations fs.FS
	// batch stands in for batchRows where a test wants many batches of few rows.
	batch int
}

func (o Options) wait() time.Duration {
	if o.Wait > 0 {
		return o.Wait
	}
	return DefaultWait
}

// DB is an open store. Its methods may be called from many goroutines; Close waits for running transactions.
type DB struct {
	path       string  // as the user named it, made absolute; of a PostgreSQL store its URL without user and password
	postgres   bool    // it is in PostgreSQL: what belongs to files is empty
	engine     *sql.DB // of PostgreSQL
	file       fileID  // the file that was opened
	wait       time.Duration
	glance     bool
	migrations fs.FS
	newest     int64        // the version this program reads and writes
	version    atomic.Int64 // the version the file has

	readers *pool
	writer  *pool
	queue   *queue  // of those who want to write
	formats formats // of structured datasets
	closed  atomic.Bool
	// away says that the last connection to PostgreSQL was lost or could not be made.
	away atomic.Bool

	// failed is set when the disk broke a promise about durability; from then on nothing is written (R45).
	failed atomic.Pointer[fault.Error]
	// wiped says that secrets were removed whose bytes may still be in the write-ahead log (R49).
	wiped atomic.Bool
}

var _ keys.Store = (*DB)(nil)

// Path returns the absolute path under which the store was opened.
func (db *DB) Path() string { return db.path }

// Close waits for running transactions and closes the store. The last process to close it leaves a single file. A second
// Close does nothing.
func (db *DB) Close() error {
	if db.closed.Swap(true) {
		return nil
	}
	err := db.readers.close()
	if writerErr := db.writer.close(); err == nil {
		err = writerErr
	}
	if db.postgres {
		if engineErr := db.engine.Close(); err == nil {
			err = engineErr
		}
		return explain(db.path, err)
	}
	db.file.release()
	return explain(db.path, err)
}

// View implements keys.Store. It also works on a store that waits for Migrate, as far as its tables reach: Meta always.
func (db *DB) View(ctx context.Context, fn func(keys.Tx) error) error {
	return db.view(ctx, func(t *tx) error { return fn(t) })
}

func (db *DB) view(ctx context.Context, fn func(*tx) error) error {
	return db.run(ctx, db.readers, db.wait, func(c *connection) (busy bool, err error) {
		t := &tx{ctx: ctx, db: db, conn: c, open: true}
		if err = t.run(fn); t.again {
			t = &tx{ctx: ctx, db: db, conn: c}
			if err = t.begin(db.statement(beginView, beginPostgresView)); err == nil {
				err = t.run(fn)
			}
		}
		return t.busy, err
	})
}

// run runs a View's function and ends its transaction, also when the function panics.
func (t *tx) run(fn func(*tx) error) error {
	if err := t.ctx.Err(); err != nil {
		return t.fail(err)
	}
	defer t.rollback()
	return fn(t)
}

// Update implements keys.Store. Beyond its promises: a store whose file was replaced since it was opened is unavailable, as
// is one whose disk failed to make an earlier change durable; outcome_unknown is that failure itself.
func (db *DB) Update(ctx context.Context, fn func(keys.Tx) error) error {
	if db.glance {
		return glancedAt(db.path)
	}
	return db.updateTogether(ctx, func(t *tx) error { return fn(t) })
}

// change is Update with a choice of how the transaction begins, takes the lock and looks where it is.
func (db *DB) change(ctx context.Context, begin, fn func(*tx) error) error {
	return db.changeWithin(ctx, db.wait, begin, fn)
}

// changeWithin is change with another bound of the wait.
func (db *DB) changeWithin(ctx context.Context, wait time.Duration, begin, fn func(*tx) error) error {
	if db.glance {
		return glancedAt(db.path)
	}
	return db.run(ctx, db.writer, wait, func(c *connection) (busy bool, err error) {
		if failed := db.failed.Load(); failed != nil {
			return false, failed
		}
		t := &tx{ctx: ctx, db: db, conn: c, writes: true}
		defer t.rollback()
		if err := begin(t); err != nil {
			return t.busy, err
		}
		if err := fn(t); err != nil {
			return t.busy, err
		}
		if err := t.commit(); err != nil {
			return t.busy, err
		}
		if db.wiped.Load() && !db.postgres {
			db.wiped.Store(!c.truncateLog())
		}
		return false, nil
	})
}

// statement is the one of two texts that the store's engine understands.
func (db *DB) statement(sqlite, postgres string) string {
	if db.postgres {
		return postgres
	}
	return sqlite
}

// glancedAt refuses to write what was opened for a glance.
func glancedAt(path string) error {
	return fault.New(fault.Internal, "the store %q was opened for a glance alone", path)
}

// run makes attempts with a connection of the pool, which is given back even when one panics.
func (db *DB) run(ctx context.Context, p *pool, wait time.Duration, attempt func(*connection) (busy bool, err error)) error {
	return retry(ctx, db.path, wait, func(limit *bound) (busy bool, err error) {
		c, err := p.take(ctx, limit)
		switch {
		case fault.Is(err, fault.StoreBusy) && db.away.Load():
			return false, unreachable(db.path).WithCause(err) // for which those who have the connections wait, too
		case db.isLost(err): // while it was being made
			err = unreachable(db.path).WithCause(err)
		}
		if err != nil {
			if db.mayComeBack(err) {
				db.away.Store(true)
			}
			return isBusy(err) || db.mayComeBack(err) && ctx.Err() == nil, err
		}
		defer p.put(c)
		return attempt(c)
	})
}

// bound is the end of a wait. Its timer is made when somebody waits, which is seldom.
type bound struct {
	end   time.Time
	timer *time.Timer
}

func within(wait time.Duration) *bound { return &bound{end: time.Now().Add(wait)} }

// reached takes a value when the wait is over.
func (b *bound) reached() <-chan time.Time {
	if b.timer == nil {
		b.timer = time.NewTimer(time.Until(b.end))
	}
	return b.timer.C
}

// stop releases the timer.
func (b *bound) stop() {
	if b.timer != nil {
		b.timer.Stop()
	}
}

// retry makes one attempt after another until one is not busy or the wait is over: then it is store_busy. The pauses are
// random, so that processes which collided once do not collide again.
func retry(ctx context.Context, path string, wait time.Duration, attempt func(limit *bound) (busy bool, err error)) error {
	limit := within(wait)
	defer limit.stop()
	for {
		busy, err := attempt(limit)
		if !busy {
			return err
		}
		pause := time.NewTimer(time.Duration(1+rand.IntN(20)) * time.Millisecond)
		select {
		case <-pause.C:
		case <-limit.reached():
			if fault.Is(err, fault.Unavailable) {
				return err // nobody was in the way: the server was not there
			}
			return storeBusy(path).WithCause(err)
		case <-ctx.Done():
			return explain(path, ctx.Err())
		}
	}
}

// beginWriting begins a transaction that is the only writer (R31).
func (t *tx) beginWriting() error {
	if t.db.postgres {
		return t.beginPostgres()
	}
	if err := t.begin(beginUpdate); err != nil {
		return err
	}
	return t.checkGround()
}

// checkGround makes sure, under the write lock, that what is about to be written to is still the store: a restore may have
// put another file in its place, and a newer keyctl may have upgraded it.
func (t *tx) checkGround() error {
	info, err := os.Stat(t.db.path)
	if err != nil || !os.SameFile(info, t.db.file.info) {
		return fault.New(fault.Unavailable, "the store %q was replaced while it was open", t.db.path).
			WithHint("run the command again; restart a server").WithCause(err)
	}
	version, err := t.schemaVersion()
	if err != nil {
		return err
	}
	return t.checkVersion(version)
}

func (t *tx) checkVersion(version int64) error {
	t.db.version.Store(version)
	if version < t.db.newest {
		return fault.New(fault.Internal, "the store %q must be upgraded before it is written to", t.db.path)
	}
	return t.db.checkNotNewer(version)
}
