package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"keyctl/internal/fault"
	"keyctl/internal/keys"
)

const (
	beginPostgresView   = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
	beginPostgresUpdate = "BEGIN ISOLATION LEVEL READ COMMITTED"

	// idArray is idList for PostgreSQL.
	idArray = `SELECT value FROM json_array_elements_text($1::json) AS listed (value)`

	// lockWriters makes a transaction the only writer (R31): every Update begins with it, so that whatever it reads after is
	// the newest there is, and stays so.
	lockWriters = `SELECT id FROM writers WHERE id = 1 FOR UPDATE`

	postgresReaders = 8
	connectTimeout  = 5 * time.Second
	// answerTimeout bounds one statement: a server that does not answer for so long is taken for lost.
	answerTimeout = 15 * time.Second
	upgradeTries  = 5
)

//go:embed migrations/postgres/*.sql
var postgresMigrations embed.FS

// OpenPostgres opens the store in a PostgreSQL database and writes nothing; see Open. It works on the primary alone
// (target_session_attrs=read-write, over all hosts the URL names), beyond this machine over TLS with a verified name alone,
// and on no server that answers before a change is durable.
//
// invalid: the URL is none, names no verified TLS, or the server's synchronous_commit or fsync is off. no_store: there are
// no tables. unavailable: there is no primary to be reached. schema_newer: a newer keyctl wrote it.
func OpenPostgres(ctx context.Context, address string, opts Options) (*DB, error) {
	db, err := newPostgres(address, opts)
	if err != nil {
		return nil, err
	}
	if err = db.checkTables(ctx); err == nil {
		err = db.readVersion(ctx)
	}
	if err != nil {
		_ = db.Close()
		return nil, err
	}
	return db, nil
}

// PostgresName is what messages call the store of a URL: the URL without user and password.
func PostgresName(address string) (string, error) {
	config, err := postgresConfig(address)
	if err != nil {
		return "", err
	}
	return showPostgres(config), nil
}

// IsEmptyPostgres reports whether CreatePostgres has anything to do in a database. Its errors are those of OpenPostgres.
func IsEmptyPostgres(ctx context.Context, address string, opts Options) (bool, error) {
	db, err := OpenPostgres(ctx, address, opts)
	if fault.Is(err, fault.NoStore) && fault.From(err).Cause == nil {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	err = db.View(ctx, func(tx keys.Tx) error { _, err := tx.Meta(); return err })
	empty := fault.Is(err, fault.NoStore)
	if empty {
		err = nil
	}
	return empty, errors.Join(err, db.Close())
}

// CreatePostgres makes the tables in a database that has none, and has init fill them. What a killed run left behind the next
// one takes up.
func CreatePostgres(ctx context.Context, address string, opts Options, init func(context.Context, *DB) error) error {
	db, err := newPostgres(address, opts)
	if err != nil {
		return err
	}
	if err = db.upgrade(ctx); err == nil {
		err = init(ctx, db)
	}
	if closeErr := db.Close(); err == nil {
		err = closeErr
	}
	return err
}

func newPostgres(address string, opts Options) (*DB, error) {
	config, err := postgresConfig(address)
	if err != nil {
		return nil, err
	}
	db := &DB{
		path: showPostgres(config), queue: newQueue(), postgres: true, wait: opts.wait(), glance: opts.Glance || opts.Examine, migrations: opts.migrations,
	}
	if db.migrations == nil {
		if db.migrations, err = fs.Sub(postgresMigrations, "migrations/postgres"); err != nil {
			return nil, err
		}
	}
	if db.newest, err = newestVersion(db.migrations); err != nil {
		return nil, err
	}
	config.RuntimeParams["lock_timeout"] = fmt.Sprint(max(1, opts.wait().Milliseconds())) // 0 would be for ever
	config.RuntimeParams["idle_in_transaction_session_timeout"] = fmt.Sprint(answerTimeout.Milliseconds())
	config.RuntimeParams["application_name"] = "keyctl"
	engine := stdlib.OpenDB(*config, stdlib.OptionAfterConnect(checkDurability))
	engine.SetMaxIdleConns(-1) // pool keeps the idle ones
	db.readers = newPool(db.path, forReading, postgresReaders)
	db.writer = newPool(db.path, forWriting, 1)
	db.readers.engine, db.writer.engine, db.engine = engine, engine, engine
	return db, nil
}

// postgresConfig reads the URL. Its errors do not repeat it: there may be a password in it.
func postgresConfig(address string) (*pgx.ConnConfig, error) {
	config, err := pgx.ParseConfig(address)
	if err != nil {
		return nil, fault.New(fault.Invalid, "the PostgreSQL URL cannot be read").
			WithHint("write postgres://USER@HOST:PORT/DATABASE, as PostgreSQL's own programs take it")
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = connectTimeout
	}
	config.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	for _, host := range append([]*pgconn.FallbackConfig{{Host: config.Host, TLSConfig: config.TLSConfig}}, config.Fallbacks...) {
		if !isNear(host.Host) && (host.TLSConfig == nil || host.TLSConfig.InsecureSkipVerify) {
			return nil, fault.New(fault.Invalid, "the connection to PostgreSQL on %q would not be verified TLS", host.Host).
				WithHint("add ?sslmode=verify-full to the URL, and sslrootcert=FILE for an authority of your own")
		}
	}
	return config, nil
}

// isNear reports whether a PostgreSQL host is on this machine: a folder of a Unix socket, or a loopback address.
func isNear(host string) bool {
	address, err := netip.ParseAddr(host)
	return strings.HasPrefix(host, "/") || strings.HasPrefix(host, "@") || host == "localhost" || err == nil && address.Unmap().IsLoopback()
}

// showPostgres names the store in messages, without user and password.
func showPostgres(c *pgx.ConnConfig) string {
	if strings.HasPrefix(c.Host, "/") {
		return "postgres:///" + c.Database + "?host=" + (&url.URL{Path: c.Host}).EscapedPath()
	}
	return fmt.Sprintf("postgres://%s:%d/%s", c.Host, c.Port, c.Database)
}

// checkDurability refuses, on every new connection, a server that would report changes as done before they are durable
// (R41). A standby that confirms only later is the server's own matter: docs/server.md.
func checkDurability(ctx context.Context, conn *pgx.Conn) error {
	var commit, fsync string
	if err := conn.QueryRow(ctx, `SELECT current_setting('synchronous_commit'), current_setting('fsync')`).Scan(&commit, &fsync); err != nil {
		return err
	}
	for name, value := range map[string]string{"synchronous_commit": commit, "fsync": fsync} {
		if value == "off" {
			return fault.New(fault.Invalid, "PostgreSQL runs with %s=off, and would lose changes that were reported as done", name).
				WithHint("set %s=on for this user or the whole server", name)
		}
	}
	return nil
}

// beginPostgres begins a transaction that is the only writer, and reads what every change wants to know, in one round trip. Each
// of the statements sees what was committed before it ran, so the ones behind the lock see the last writer's work.
func (t *tx) beginPostgres() error {
	if err := t.ctx.Err(); err != nil {
		return t.fail(err)
	}
	var version, locked int64
	batch := &pgx.Batch{}
	batch.Queue(beginPostgresUpdate)
	batch.Queue(lockWriters).QueryRow(func(row pgx.Row) error {
		err := row.Scan(&locked)
		if errors.Is(err, pgx.ErrNoRows) {
			return arrivingStore(t.db.path)
		}
		return err
	})
	batch.Queue(selectVersion).QueryRow(func(row pgx.Row) error { return row.Scan(&version) })
	batch.Queue(selectHead).QueryRow(func(row pgx.Row) error {
		head, err := headRow(row.Scan)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		t.head = &head
		return t.unreadable(err)
	})
	batch.Queue(selectDue).QueryRow(func(row pgx.Row) error {
		due, err := dueRow(row.Scan)
		t.due = &due
		return t.unreadable(err)
	})
	t.open, t.begun = true, true // and to be rolled back, however much of this is done
	if err := t.sendBatch(t.ctx, batch); err != nil {
		return t.fail(err)
	}
	return t.checkVersion(version)
}

// unreadable tells content that cannot be read, which is store_damaged, from a row that did not come.
func (t *tx) unreadable(err error) error {
	switch {
	case err == nil, t.db.isLost(err), postgresCode(err) != "", errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	}
	return storeDamaged(t.db.path).WithCause(err)
}

// send sends what is pending, and what comes after it, in one round trip.
func (t *tx) send(ctx context.Context, after ...pending) error {
	batch := &pgx.Batch{}
	for _, p := range append(t.pending, after...) {
		batch.Queue(p.query, p.args...).Fn = func(results pgx.BatchResults) error {
			_, err := results.Exec()
			if err == nil || t.db.isLost(err) {
				return err
			}
			return p.refused(explain(t.db.path, err))
		}
	}
	t.pending = nil
	return t.sendBatch(ctx, batch)
}

// sendBatch sends statements in one round trip. The server leaves out those that follow one that failed.
func (t *tx) sendBatch(ctx context.Context, batch *pgx.Batch) error {
	ctx, cancel := t.statementContext(ctx)
	defer cancel()
	return t.conn.raw.Raw(func(driver any) error {
		return driver.(*stdlib.Conn).Conn().SendBatch(ctx, batch).Close()
	})
}

// checkTables tells a database without a store from one that cannot be reached.
func (db *DB) checkTables(ctx context.Context) error {
	return db.view(ctx, func(t *tx) error {
		found, _, err := first(t, text, `SELECT concat_ws(' ', to_regclass('goose_db_version'), to_regclass('meta'), to_regclass('incoming_store'))`)
		switch tables := strings.Fields(found); {
		case err != nil:
			return err
		case slices.Contains(tables, "incoming_store"):
			return arrivingStore(db.path)
		case len(tables) < 2:
			return fault.New(fault.NoStore, "no store in %q", db.path).WithHint("run `keyctl init`")
		}
		return nil
	})
}

// upgradePostgres runs the migrations that are missing. Each is one transaction and records itself once, so of two
// programs that start the same one the second is rolled back, and looks again.
func (db *DB) upgradePostgres(ctx context.Context) error {
	provider, err := goose.NewProvider(goose.DialectPostgres, db.engine, db.migrations, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	for try := 1; ; try++ {
		_, err = provider.Up(ctx)
		if err == nil {
			return db.readVersion(ctx)
		}
		if try == upgradeTries || ctx.Err() != nil {
			return explainUpgrade(db.path, err)
		}
		time.Sleep(time.Duration(50+rand.IntN(200)) * time.Millisecond)
	}
}

// postgresCode returns PostgreSQL's code of an error, empty for others.
func postgresCode(err error) string {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Code
	}
	return ""
}

// The codes that mean something here (PostgreSQL manual, appendix A).
const (
	pgUniqueViolation     = "23505"
	pgForeignKeyViolation = "23503"
	pgNotNullViolation    = "23502"
	pgSerialization       = "40001"
	pgDeadlock            = "40P01"
	pgLockNotAvailable    = "55P03"
	pgReadOnly            = "25006"
	pgDiskFull            = "53100"
	pgNoDatabase          = "3D000"
	pgNoRights            = "42501"
	pgNotLetIn            = "28" // and three more: no such user, wrong password
)

// isPostgresBusy reports whether other writers were in the way.
func isPostgresBusy(err error) bool {
	switch postgresCode(err) {
	case pgSerialization, pgDeadlock, pgLockNotAvailable:
		return true
	}
	return false
}

// isLost reports whether the connection to PostgreSQL is gone, or leads to a server that is not the primary any more. What
// was not committed on it is undone.
func (db *DB) isLost(err error) bool {
	if !db.postgres || err == nil || fault.From(err) != nil {
		return false
	}
	switch c := postgresCode(err); {
	case strings.HasPrefix(c, "08"), strings.HasPrefix(c, "57P"), c == pgReadOnly, c == "53300":
		return true
	case c != "":
		return false
	}
	var connect *pgconn.ConnectError
	var network interface{ Timeout() bool }
	return errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) || errors.As(err, &connect) || errors.As(err, &network) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || strings.Contains(err.Error(), "conn closed")
}

// mayComeBack reports whether no connection could be made for a reason that passes by itself.
func (db *DB) mayComeBack(err error) bool {
	return db.postgres && fault.Is(err, fault.Unavailable) && !strings.HasPrefix(postgresCode(err), pgNotLetIn)
}

// explainPostgres turns an error of PostgreSQL into a fault; nil for one that is not its.
func explainPostgres(path string, err error) *fault.Error {
	switch c := postgresCode(err); {
	case c == "":
		var connect *pgconn.ConnectError
		if errors.As(err, &connect) {
			return unreachable(path)
		}
		return nil
	case c == pgUniqueViolation:
		return &fault.Error{Code: fault.Exists, Message: errTaken.Error()}
	case c == pgForeignKeyViolation:
		return &fault.Error{Code: fault.Internal, Message: errDangling.Error()}
	case c == pgNotNullViolation:
		return &fault.Error{Code: fault.Internal, Message: errMissing.Error()}
	case isPostgresBusy(err):
		return storeBusy(path)
	case c == pgDiskFull:
		return noSpace(path)
	case c == pgNoDatabase:
		return fault.New(fault.NoStore, "no database %q", path).WithHint("create it, and a user who owns it: docs/server.md")
	case strings.HasPrefix(c, pgNotLetIn):
		return fault.New(fault.Unavailable, "PostgreSQL does not let this user into %q", path).
			WithHint("check user and password (PGPASSFILE, or the URL in KEYCTL_STORE)")
	case c == pgNoRights:
		return fault.New(fault.Unavailable, "PostgreSQL's user may not use the tables of the store %q, or make them", path).
			WithHint("the database belongs to the user in the URL: docs/server.md")
	case strings.HasPrefix(c, "42"):
		return fault.New(fault.StoreDamaged, "the tables of the store %q are not what its version says", path).
			WithHint("restore a backup of the database")
	}
	return unreachable(path)
}

func unreachable(path string) *fault.Error {
	return fault.New(fault.Unavailable, "the PostgreSQL server of the store %q cannot be reached now", path).
		WithHint("keyctl finds it again by itself when it is back")
}

// Server is what a PostgreSQL server says of itself.
type Server struct {
	Version        string
	Now            time.Time // by its clock
	Size           int64     // of the database, in bytes
	Standby        bool      // one confirms each change before it is reported
	FullPageWrites bool      // pages that were half written when the machine crashed are repaired
}

// Server asks the server of a store in PostgreSQL.
func (db *DB) Server(ctx context.Context) (Server, error) {
	var s Server
	err := db.view(ctx, func(t *tx) error {
		_, _, err := first(t, func(row scan) (struct{}, error) {
			return struct{}{}, row(&s.Version, instant{&s.Now}, &s.Size, &s.Standby, &s.FullPageWrites)
		}, `SELECT current_setting('server_version'), (extract(epoch FROM clock_timestamp()) * 1000000)::bigint,
			pg_database_size(current_database()), current_setting('synchronous_standby_names') <> '' AND
			current_setting('synchronous_commit') <> 'local', current_setting('full_page_writes') = 'on'`)
		return err
	})
	s.Version, _, _ = strings.Cut(s.Version, " ")
	return s, err
}
