package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"keyctl/internal/fault"
)

const (
	// applicationID marks a file as a keyctl store: "kctl" at offset 68 of the header.
	applicationID = 0x6B63746C

	beginView   = "BEGIN DEFERRED"
	beginUpdate = "BEGIN IMMEDIATE" // takes the write lock before anything is read (R31)

	// lockWait is how long SQLite itself waits for a lock. It is short: DB.run retries with random pauses, and notices
	// between two attempts that its context has ended.
	lockWait = 150 * time.Millisecond
	// patientWait serves work outside DB.run: upgrades and copies.
	patientWait = 5 * time.Second

	maxReaders = 4
)

// readers is how many connections read a file at once: as many as there are processors, and two at least, so that one that reads
// much does not keep all others waiting. Each has a cache of its own, which every commit of somebody else makes worthless: more of
// them read the same pages more often, and take more memory.
func readers() int { return max(2, min(runtime.GOMAXPROCS(0), maxReaders)) }

// purpose says what a connection is for.
type purpose string

const (
	forReading purpose = "reading" // refuses every statement that would write
	forLooking purpose = "looking" // like forReading, with the file to itself and without the file of the log's index
	forGlance  purpose = "glance"  // like forReading, and makes, changes and removes no file: see Options.Glance
	forWriting purpose = "writing"
	forRepair  purpose = "repair" // like forWriting, but leaves the journal mode as it finds it

	// forExamining is like forReading, and leaves the files as they are. The last process to close a store folds the log
	// into the file, unless it cannot write; with nothing in the log there is nothing to fold, and one that can write
	// takes away the files it had to make.
	forExamining purpose = "examining"
)

// idList stands for a list of ids in a query, given as one parameter that holds a JSON array: a statement is the same for
// every number of ids, and is prepared without counting through its parameters.
const idList = `SELECT value FROM json_each($1)`

// dsn names a store file for the driver. Durability comes from WAL with synchronous=FULL (R41); the other settings
// distrust the file: no functions or views with side effects from its schema, no unchecked cells, no mapped memory.
func dsn(path string, use purpose, wait time.Duration) string {
	pragmas := []string{
		fmt.Sprintf("busy_timeout(%d)", wait.Milliseconds()), "synchronous(FULL)", "foreign_keys(1)",
		"trusted_schema(0)", "cell_size_check(1)", "mmap_size(0)", "secure_delete(1)",
	}
	switch use {
	case forReading, forWriting:
		pragmas = append(pragmas, "journal_mode(WAL)")
	case forLooking:
		pragmas = append(pragmas, "locking_mode(EXCLUSIVE)")
	}
	query := url.Values{"mode": {"rw"}, "_txlock": {"immediate"}, "_defensive": {"1"}, "_pragma": pragmas}
	if use != forWriting && use != forRepair {
		query.Set("_query_only", "1")
	}
	switch {
	case use == forGlance:
		query.Set("mode", "ro")
		query.Set(untouched(path), "1")
	case use == forExamining && hasLog(path):
		query.Set("mode", "ro")
	}
	slashed := filepath.ToSlash(path)
	if !strings.HasPrefix(slashed, "/") {
		slashed = "/" + slashed // a Windows drive
	}
	return (&url.URL{Scheme: "file", Path: slashed, RawQuery: query.Encode()}).String()
}

// untouched is the setting with which SQLite reads a file in WAL mode without making the log and its index. Where there is
// a log, the index beside it is read as it is, or rebuilt in memory (sqlite.org/wal.html section 5). Where there is none,
// nobody has the store open, and the file alone is the store: it is read as one that does not change, without locks.
func untouched(path string) string {
	if _, err := os.Lstat(resolved(path) + logSuffix); errors.Is(err, fs.ErrNotExist) {
		return "immutable"
	}
	return "readonly_shm"
}

// hasLog reports whether changes wait in the write-ahead log.
func hasLog(path string) bool {
	info, err := os.Stat(resolved(path) + logSuffix)
	return err == nil && info.Size() > 0
}

// openEngine prepares a handle whose connections go to the file. It keeps no idle connections: pool does.
func openEngine(path string, use purpose, wait time.Duration) (*sql.DB, error) {
	connector, err := sqlite.NewConnector(dsn(path, use, wait))
	if err != nil {
		return nil, err
	}
	engine := sql.OpenDB(connector)
	engine.SetMaxIdleConns(-1)
	return engine, nil
}

// connection is one connection with the statements prepared on it. It serves one transaction at a time.
type connection struct {
	raw        *sql.Conn
	statements map[string]*sql.Stmt
	broken     bool // it is not to be used again
}

func (c *connection) statement(ctx context.Context, query string) (*sql.Stmt, error) {
	if s := c.statements[query]; s != nil {
		return s, nil
	}
	s, err := c.raw.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	c.statements[query] = s
	return s, nil
}

func (c *connection) exec(ctx context.Context, query string) error {
	s, err := c.statement(ctx, query)
	if err != nil {
		return err
	}
	_, err = s.ExecContext(ctx)
	return err
}

// truncateLog moves the whole write-ahead log into the file and empties it, and reports whether it could: a reader of an
// older state prevents it.
func (c *connection) truncateLog() bool {
	var blocked, pages, moved int
	err := c.raw.QueryRowContext(context.Background(), "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&blocked, &pages, &moved)
	return err == nil && blocked == 0
}

func (c *connection) close() error {
	c.forget()
	return c.raw.Close()
}

// forget closes the statements.
func (c *connection) forget() {
	for _, s := range c.statements {
		_ = s.Close()
	}
	clear(c.statements)
}

// pool holds up to a number of connections to one file. They are opened when they are first needed.
type pool struct {
	path  string
	use   purpose
	slots chan struct{}

	mu     sync.Mutex
	engine *sql.DB // nil until the first connection, and once closed
	looker *sql.DB // nil until the disk is found full
	closed bool
	idle   []*connection
}

func newPool(path string, use purpose, size int) *pool {
	return &pool{path: path, use: use, slots: make(chan struct{}, size)}
}

// take waits for a free connection, or opens one. put gives it back.
func (p *pool) take(ctx context.Context, limit *bound) (*connection, error) {
	select {
	case p.slots <- struct{}{}:
	default:
		select {
		case p.slots <- struct{}{}:
		case <-limit.reached():
			return nil, storeBusy(p.path)
		case <-ctx.Done():
			return nil, explain(p.path, ctx.Err())
		}
	}
	c, err := p.connect(ctx)
	if err != nil {
		<-p.slots
		return nil, explain(p.path, err)
	}
	return c, nil
}

func (p *pool) connect(ctx context.Context) (*connection, error) {
	c, engine, err := p.idleOrEngine()
	if c != nil || err != nil {
		return c, err
	}
	raw, err := engine.Conn(ctx) // without the lock: a server that is away may take its time to say so
	if err != nil && (p.use == forReading || p.use == forExamining) && code(err) == sqlite3.SQLITE_IOERR_SHMSIZE {
		return p.look(ctx)
	}
	if err != nil {
		return nil, err
	}
	return &connection{raw: raw, statements: map[string]*sql.Stmt{}}, nil
}

// idleOrEngine returns an idle connection, or else what makes one.
func (p *pool) idleOrEngine() (*connection, *sql.DB, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, nil, fault.New(fault.Internal, "the store %q is closed", p.path)
	}
	if last := len(p.idle) - 1; last >= 0 {
		c := p.idle[last]
		p.idle = p.idle[:last]
		return c, nil, nil
	}
	if p.engine == nil {
		engine, err := openEngine(p.path, p.use, lockWait)
		if err != nil {
			return nil, nil, err
		}
		p.engine = engine
	}
	return nil, p.engine, nil
}

// look makes a connection that reads on a full disk (R45). The index of the write-ahead log, which processes share
// in a file, finds no room there; a process that has the store to itself keeps it in memory (sqlite.org/wal.html section
// 8). The connection is closed after its transaction, for it keeps all others out.
func (p *pool) look(ctx context.Context) (*connection, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.looker == nil {
		looker, err := openEngine(p.path, forLooking, lockWait)
		if err != nil {
			return nil, err
		}
		p.looker = looker
	}
	raw, err := p.looker.Conn(ctx)
	if err != nil {
		return nil, err
	}
	return &connection{raw: raw, statements: map[string]*sql.Stmt{}, broken: true}, nil
}

func (p *pool) put(c *connection) {
	p.mu.Lock()
	if c.broken {
		_ = c.close()
	} else {
		p.idle = append(p.idle, c)
	}
	p.mu.Unlock()
	<-p.slots
}

// close waits for the connections in use and closes all.
func (p *pool) close() error {
	for range cap(p.slots) {
		p.slots <- struct{}{}
	}
	defer func() {
		for range cap(p.slots) {
			<-p.slots
		}
	}()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	var err error
	for _, c := range p.idle {
		err = errors.Join(err, c.close())
	}
	p.idle = nil
	for _, engine := range []*sql.DB{p.engine, p.looker} {
		if engine != nil {
			err = errors.Join(err, engine.Close())
		}
	}
	p.engine, p.looker = nil, nil
	return err
}

// Causes by which the files of SQL recognise a refused constraint; both come with a general message that the caller of the
// statement, who knows what was refused, replaces.
var (
	errTaken    = errors.New("a unique name or id is taken")
	errDangling = errors.New("something refers to a row that is not there")
	errMissing  = errors.New("a value that has to be there is missing")
)

// code returns the driver's extended result code, 0 for other errors.
func code(err error) int {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		return e.Code()
	}
	return 0
}

// isBusy reports whether another process's lock was in the way, so that the same may succeed a moment later.
func isBusy(err error) bool {
	switch code(err) & 0xff {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL:
		return true
	}
	return isPostgresBusy(err)
}

func isConstraint(err error) bool { return code(err)&0xff == sqlite3.SQLITE_CONSTRAINT }

// durabilityUnknown reports whether a failed COMMIT may nevertheless be found after a restart. A write that failed is
// not among the reasons: the frame that completes a transaction is the last one written to the log, so without it the
// transaction is void. That makes a full disk, a used-up quota and a file size limit plain failures.
func durabilityUnknown(err error) bool {
	c := code(err)
	return c&0xff == sqlite3.SQLITE_IOERR && c != sqlite3.SQLITE_IOERR_WRITE
}

// explain turns an error of the driver into a fault, in the one place that knows the driver. Faults, nil and a cancelled
// context are returned as they are.
func explain(path string, err error) error {
	switch {
	case err == nil, fault.From(err) != nil:
		return err
	case errors.Is(err, context.DeadlineExceeded):
		return fault.New(fault.Unavailable, "the work on the store %q timed out", path).WithCause(err)
	case errors.Is(err, context.Canceled):
		return context.Canceled
	case errors.Is(err, driver.ErrBadConn):
		return fault.New(fault.Unavailable, "the store %q cannot be reached", path).WithCause(err)
	}
	if e := explainPostgres(path, err); e != nil {
		return e.WithCause(err)
	}
	if e := explainExtended(path, code(err)); e != nil {
		return e.WithCause(err)
	}
	switch code(err) & 0xff {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL:
		return storeBusy(path).WithCause(err)
	case sqlite3.SQLITE_FULL:
		return noSpace(path).WithCause(err)
	case sqlite3.SQLITE_READONLY:
		return fault.New(fault.Unavailable, "the store %q cannot be written to; nothing was changed", path).
			WithHint("its file or folder is read-only").WithCause(err)
	case sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH:
		return fault.New(fault.Unavailable, "the store %q cannot be opened", path).
			WithHint("its folder must be writable, also for reading").WithCause(err)
	case sqlite3.SQLITE_IOERR:
		return fault.New(fault.Unavailable, "the disk under the store %q reports an error", path).WithCause(err)
	case sqlite3.SQLITE_NOMEM:
		return fault.New(fault.Unavailable, "not enough memory to work on the store %q", path).WithCause(err)
	case sqlite3.SQLITE_INTERRUPT:
		return fault.New(fault.Unavailable, "the work on the store %q was interrupted", path).WithCause(err)
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_ERROR:
		// SQLITE_ERROR: every statement here is fixed and tested, so a table or column that is not there means that the
		// file's schema is not what its version says.
		return storeDamaged(path).WithCause(err)
	}
	return fmt.Errorf("store %q: %w", path, err)
}

// explainExtended knows the codes that mean something else than the group they belong to.
func explainExtended(path string, code int) *fault.Error {
	switch code {
	case sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, sqlite3.SQLITE_CONSTRAINT_ROWID:
		return &fault.Error{Code: fault.Exists, Message: errTaken.Error()}
	case sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY:
		return &fault.Error{Code: fault.Internal, Message: errDangling.Error()}
	case sqlite3.SQLITE_CONSTRAINT_NOTNULL:
		return &fault.Error{Code: fault.Internal, Message: errMissing.Error()}
	case sqlite3.SQLITE_IOERR_SHORT_READ, sqlite3.SQLITE_IOERR_CORRUPTFS, sqlite3.SQLITE_IOERR_DATA,
		sqlite3.SQLITE_CONSTRAINT_DATATYPE: // the schema was damaged: what is stored here has the right types
		return storeDamaged(path)
	case sqlite3.SQLITE_IOERR_SHMSIZE:
		return noSpace(path)
	}
	return nil
}

// isTaken, isDangling and isMissing recognise the refusals of constraints in what explain returned.
func isTaken(err error) bool {
	e := fault.From(err)
	return e != nil && e.Code == fault.Exists && (isConstraint(e.Cause) || postgresCode(e.Cause) == pgUniqueViolation)
}

func isDangling(err error) bool {
	e := fault.From(err)
	return e != nil && (code(e.Cause) == sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY || postgresCode(e.Cause) == pgForeignKeyViolation)
}

func isMissing(err error) bool {
	e := fault.From(err)
	return e != nil && (code(e.Cause) == sqlite3.SQLITE_CONSTRAINT_NOTNULL || postgresCode(e.Cause) == pgNotNullViolation)
}

func storeBusy(path string) *fault.Error {
	return fault.New(fault.StoreBusy, "the store %q is busy with other writers", path).
		WithHint("try again in a moment")
}

func noSpace(path string) *fault.Error {
	return fault.New(fault.Unavailable, "no space left for the store %q; nothing was changed", path)
}

func storeDamaged(path string) *fault.Error {
	return fault.New(fault.StoreDamaged, "the store %q is damaged", path).
		WithHint("restore a backup: keyctl restore FILE")
}
