//go:build unix

package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"keyctl/internal/access"
	"keyctl/internal/credential"
	"keyctl/internal/envelope"
	"keyctl/internal/fault"
	"keyctl/internal/iprange"
	"keyctl/internal/keys"
	"keyctl/internal/keys/keystest"
	"keyctl/internal/postgrestest"
	"keyctl/internal/structured"
)

func init() { children["move"] = childMove }

// livedStore is a store that was in use, with rows of every kind, and what proves that it works.
type livedStore struct {
	place  Place
	master envelope.MasterKey
	clock  *keystest.Clock
	phone  *keystest.Authenticator
	spent  string // a code that was used
	web    keystest.Drawn
	token  credential.Secret
	words  []string // secrets
}

// open opens the store as keyctl does. done closes it.
func (s *livedStore) open(t testing.TB, p Place) (l *keys.Local, done func()) {
	t.Helper()
	db, err := p.Open(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if l, err = keys.Open(t.Context(), db, s.master, s.clock.Env()); err != nil {
		t.Fatal(err)
	}
	return l, func() {
		if err := db.Close(); err != nil {
			t.Errorf("Close() = %v", err)
		}
	}
}

// newLivedStore makes the store in a file, through the rules.
func newLivedStore(t *testing.T) *livedStore {
	t.Helper()
	master, err := envelope.DrawMasterKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s := &livedStore{place: Place{Path: filepath.Join(t.TempDir(), "keyctl.db")}, master: master, clock: keystest.NewClock()}
	fill := func(ctx context.Context, db *DB) error { return keys.Init(ctx, db, master, s.clock.Env()) }
	if err := Create(t.Context(), s.place.Path, Options{}, fill); err != nil {
		t.Fatal(err)
	}
	db, err := Open(t.Context(), s.place.Path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := keys.Open(t.Context(), db, master, s.clock.Env())
	if err != nil {
		t.Fatal(err)
	}
	s.live(t, l)
	s.use(t, db)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return s
}

// live does in the store whatever can be done.
func (s *livedStore) live(t *testing.T, l *keys.Local) {
	t.Helper()
	ctx := t.Context()
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	create := func(name string, change func(*keys.NewKey)) keystest.Drawn {
		t.Helper()
		d := keystest.Draw(t)
		request := keys.NewKey{Name: name, Description: "Größe \u2014 \U0001F511", Offer: d.Offer}
		if change != nil {
			change(&request)
		}
		pending, err := l.CreateKey(ctx, request)
		must(nil, err)
		if !strings.HasPrefix(name, "pending") {
			must(l.Prove(ctx, d.AccessKeyID, d.Proof(pending)))
		}
		s.words = append(s.words, d.SigningKey.Reveal(), d.CryptoAccessKey.Reveal())
		return d
	}
	s.phone = keystest.Enroll(t, l, s.clock)
	must(l.CreatePrimaryKey(ctx, "shared", "for two"))
	must(l.RotatePrimaryKey(ctx, "shared"))
	must(l.RotatePrimaryKey(ctx, "shared"))
	must(l.DisablePrimaryKey(ctx, "shared", 1, s.phone.Next()))
	must(l.CreatePrimaryKey(ctx, "off", ""))
	must(l.DisablePrimaryKey(ctx, "off", 0, s.phone.Next()))
	format, err := structured.New(structured.Spec{InputCharacterSet: "0123456789", OutputCharacterSet: "0123456789abcdef"}, rand.Reader)
	must(nil, err)
	for _, d := range []keys.NewDataset{
		{Name: "payments", Type: keys.Unstructured, PrimaryKey: "shared"}, {Name: "archive", Type: keys.Unstructured, Description: "old"},
		{Name: "gone", Type: keys.Unstructured}, {Name: "fields", Type: keys.Structured, Format: &format},
	} {
		if d.Name == "archive" {
			first := keystest.Draw(t)
			d.FirstKey = &first.Offer
		}
		_, _, err := l.CreateDataset(ctx, d)
		must(nil, err)
	}
	ranges, err := iprange.ParseList([]string{"10.0.0.0/8", "2001:db8::/32"})
	must(nil, err)
	s.web = create("web-01", func(k *keys.NewKey) {
		k.Datasets, k.IPRanges, k.Labels = []string{"payments"}, ranges, map[string]string{"env": "prod", "team": "a b"}
	})
	must(l.RotateDataset(ctx, "fields"))
	must(l.AttachKeys(ctx, "fields", []string{"web-01"}, keys.Grant{Decrypt: true}))
	used := keys.Claim{AccessKeyID: s.web.AccessKeyID, Proves: s.web.SigningKey.Equal, From: keys.Origin{Address: netip.MustParseAddr("10.1.2.3"), RequestID: "req_move"}}
	must(nil, keys.NewDataPlane(l).Track(ctx, used, []keys.UsageEvent{{Dataset: "fields", Action: keys.ActionDecrypt, Count: 7, Product: "a library", Version: "1.0"}}))
	create("short", func(k *keys.NewKey) { k.ExpiresAt = s.clock.Now().Add(time.Hour) })
	for _, name := range []string{"off", "stolen", "deleted", "rolling", "rolled", "cancelled", "waiting"} {
		create(name, func(k *keys.NewKey) { k.Datasets = []string{"gone"} })
	}
	must(l.DeleteDataset(ctx, "gone", true))
	create("pending", nil)
	roll := func(name string, prove bool) {
		t.Helper()
		d := keystest.Draw(t)
		s.spent = s.phone.Next()
		p, err := l.Roll(ctx, keys.RollRequest{Key: name, Terms: keys.RollTerms{Grace: keys.Grace{For: 24 * time.Hour}}, Offer: d.Offer, Code: s.spent})
		must(nil, err)
		if prove {
			must(l.Prove(ctx, d.AccessKeyID, d.Proof(p)))
		}
	}
	roll("rolling", true)
	roll("rolled", true)
	must(l.FinishRoll(ctx, "rolled"))
	roll("cancelled", true)
	must(l.CancelRoll(ctx, "cancelled", s.phone.Next()))
	roll("waiting", false)
	must(l.DisableKey(ctx, "off", false))
	must(l.DisableKey(ctx, "stolen", true))
	must(l.DeleteKey(ctx, "deleted"))

	for name, role := range map[string]access.Role{"ann": access.Admin, "job": access.CI, "eve": access.Auditor, "bob": access.Verifier} {
		must(l.CreateOperator(ctx, keys.NewOperator{Name: name, Role: role}))
	}
	must(l.DisableOperator(ctx, "eve"))
	must(l.DeleteOperator(ctx, "bob"))
	token := func(operator string, datasets ...string) (credential.Secret, string) {
		t.Helper()
		drawn, err := credential.DrawOperatorToken(rand.Reader)
		must(nil, err)
		made, err := l.CreateToken(ctx, keys.NewToken{Token: drawn, Operator: operator, Description: "for " + operator, Datasets: datasets, ExpiresAt: s.clock.Now().Add(30 * 24 * time.Hour)})
		must(nil, err)
		s.words = append(s.words, drawn.Reveal())
		return drawn, made.ID
	}
	s.token, _ = token("job", "payments")
	_, revoked := token("ann")
	must(l.RevokeToken(ctx, revoked))
	must(l.Admit(ctx, s.token, keys.Origin{Address: netip.MustParseAddr("192.0.2.7"), RequestID: "req_1"}))

	// A wrong code counts, and stays counted; a recovery code is spent below.
	_, err = l.Roll(ctx, keys.RollRequest{Key: "web-01", Terms: keys.RollTerms{Grace: keys.Grace{For: time.Hour}}, Offer: keystest.Draw(t).Offer, Code: s.phone.Wrong()})
	keystest.WantCode(t, "a roll with a wrong code", err, fault.OTPWrong)
	s.clock.Advance(2 * time.Minute)
}

// use gives the columns a value that only other parts of keyctl write, or that take more than a test's time.
func (s *livedStore) use(t *testing.T, db *DB) {
	t.Helper()
	update(t, db, func(any keys.Tx) error {
		tx := any.(*tx)
		for _, statement := range []string{
			`UPDATE credentials SET last_used_at = 1700000000000001, last_used_from = '192.0.2.1' WHERE seq = 3`,
			`UPDATE keys SET last_used_at = 1700000000000001 WHERE name = 'web-01'`,
			`UPDATE second_factors SET locked_until = 1700000000000001`,
			`UPDATE recovery_codes SET used_at = 1700000000000001 WHERE mac = (SELECT min(mac) FROM recovery_codes)`,
			`UPDATE datasets SET first_key_id = (SELECT id FROM keys WHERE name = 'archive') WHERE name = 'archive'`,
		} {
			if n, err := tx.exec(statement); err != nil || n != 1 {
				t.Errorf("%s = %d, %v", statement, n, err)
			}
		}
		return nil
	})
}

// engineOf opens a place past keyctl.
func engineOf(t testing.TB, p Place) *sql.DB {
	t.Helper()
	driver, name := "sqlite", "file:"+p.Path
	if p.Postgres != "" {
		driver, name = "pgx", p.Postgres
	}
	engine, err := sql.Open(driver, name)
	if err != nil {
		t.Fatal(err)
	}
	return engine
}

// dump reads every table of a place in the engine's own words, and each row in one order: the columns' names and all values.
func dump(t testing.TB, p Place) map[string][]string {
	t.Helper()
	engine := engineOf(t, p)
	defer engine.Close()
	all := map[string][]string{}
	for _, name := range schemaTables(t, engine, p) {
		if name == "goose_db_version" || name == "writers" {
			continue
		}
		rows, err := engine.QueryContext(t.Context(), `SELECT * FROM `+name)
		if err != nil {
			t.Fatal(err)
		}
		columns, err := rows.Columns()
		if err != nil {
			t.Fatal(err)
		}
		all[name] = []string{}
		for rows.Next() {
			values, into := make([]any, len(columns)), make([]any, len(columns))
			for i := range values {
				into[i] = &values[i]
			}
			if err := rows.Scan(into...); err != nil {
				t.Fatal(err)
			}
			line := ""
			for i, v := range values {
				if !strings.HasSuffix(columns[i], "_rank") {
					line += fmt.Sprintf("%s=%T %x ", columns[i], v, v)
				}
			}
			all[name] = append(all[name], line)
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			t.Fatal(err)
		}
		slices.Sort(all[name])
	}
	return all
}

// schemaTables are the tables that the migrations made.
func schemaTables(t testing.TB, engine *sql.DB, p Place) (names []string) {
	t.Helper()
	query := `SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name`
	if p.Postgres != "" {
		query = `SELECT table_name::text FROM information_schema.tables WHERE table_schema = 'public' ORDER BY 1`
	}
	rows, err := engine.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	return names
}

// noCheck accepts every copy.
func noCheck(context.Context, *DB) error { return nil }

// move moves a store as keyctl does, with small batches.
func move(ctx context.Context, from, to Place, progress func(int)) error {
	f, err := Freeze(ctx, from, Options{batch: smallBatch})
	if err != nil {
		return err
	}
	defer f.Release()
	return f.Move(ctx, to, Options{Wait: 2 * time.Second}, noCheck, progress)
}

// smallBatch makes batches of tables with few rows.
const smallBatch = 16

func ignore(int) {}

// wantMoved compares two places, whole.
func wantMoved(t testing.TB, what string, want map[string][]string, to Place) {
	t.Helper()
	diff(t, what, dump(t, to), want)
}

// wantNoStore makes sure that nobody can use half a store.
func wantNoStore(t testing.TB, to Place) {
	t.Helper()
	_, err := to.Open(t.Context(), Options{})
	keystest.WantCode(t, "Open() of half a store", err, fault.NoStore)
	if !isArriving(err) {
		t.Errorf("Open() of half a store = %v", err)
	}
	if _, err := IsEmptyPostgres(t.Context(), to.Postgres, Options{}); !isArriving(err) {
		t.Errorf("IsEmptyPostgres() of half a store = %v", err)
	}
	// Who had it open before cannot write either.
	db, err := newPostgres(to.Postgres, Options{Wait: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	closeAtEnd(t, db)
	err = db.Update(t.Context(), func(keys.Tx) error { return nil })
	if !isArriving(err) && fault.CodeOf(err) != fault.StoreDamaged { // there may be no tables yet
		t.Errorf("Update() of half a store = %v", err)
	}
}

// The list of tables and columns is that of both schemas, and the lived store leaves no column empty: what is not moved would be
// noticed.
func TestMoveKnowsEveryColumn(t *testing.T) {
	s := newLivedStore(t)
	for _, p := range []Place{s.place, {Postgres: newPostgresStore(t)}} {
		engine := engineOf(t, p)
		defer engine.Close()
		var names []string
		for _, tb := range tables {
			names = append(names, tb.name)
			query := `SELECT name FROM pragma_table_xinfo('` + tb.name + `') WHERE hidden = 0 ORDER BY cid`
			if p.Postgres != "" {
				query = `SELECT column_name::text FROM information_schema.columns WHERE table_name = '` + tb.name + `' AND is_generated = 'NEVER' ORDER BY ordinal_position`
			}
			rows, err := engine.QueryContext(t.Context(), query)
			if err != nil {
				t.Fatal(err)
			}
			var columns []string
			for rows.Next() {
				var column string
				if err := rows.Scan(&column); err != nil {
					t.Fatal(err)
				}
				columns = append(columns, column)
			}
			_ = rows.Close()
			diff(t, "columns of "+tb.name, tb.columns, columns)
		}
		there := schemaTables(t, engine, p)
		slices.Sort(names)
		diff(t, "tables", names, slices.DeleteFunc(there, func(name string) bool { return name == "goose_db_version" || name == "writers" }))
	}
	engine := engineOf(t, s.place)
	defer engine.Close()
	for _, tb := range tables {
		for _, column := range tb.columns {
			var filled int
			err := engine.QueryRowContext(t.Context(), `SELECT count(*) FROM `+tb.name+` WHERE length(`+column+`) > 0`).Scan(&filled)
			if err != nil || filled == 0 {
				t.Errorf("no row has anything in %s.%s (%v)", tb.name, column, err)
			}
		}
	}
}

func TestMoveAndBack(t *testing.T) {
	s := newLivedStore(t)
	want := dump(t, s.place)
	to := Place{Postgres: postgrestest.Database(t)}
	passed := 0
	f, err := Freeze(t.Context(), s.place, Options{batch: smallBatch})
	if err != nil {
		t.Fatal(err)
	}
	checked := false
	check := func(ctx context.Context, db *DB) error {
		checked = true
		wantNoStore(t, to)
		l, err := keys.Open(ctx, db, s.master, s.clock.Env())
		if err != nil {
			return err
		}
		report, err := l.VerifyAudit(ctx, "")
		if err == nil && !report.OK {
			err = errors.New("the audit log is broken")
		}
		return err
	}
	if err := f.Move(t.Context(), to, Options{}, check, func(n int) { passed += n }); err != nil || !checked {
		t.Fatalf("Move() = %v, checked: %v", err, checked)
	}
	if passed != 2*f.Rows() {
		t.Errorf("%d rows passed, want %d twice", passed, f.Rows())
	}
	wantMoved(t, "the copy", want, to)
	aside, err := f.PutAside(morning)
	f.Release()
	if err != nil || aside != s.place.Path+".moved-20260301T080000Z" {
		t.Fatalf("PutAside() = %q, %v", aside, err)
	}
	wantMoved(t, "what was put aside", want, Place{Path: aside})
	wantFiles(t, filepath.Dir(aside), filepath.Base(aside))
	_, err = s.place.Open(t.Context(), Options{})
	keystest.WantCode(t, "Open() where the store was", err, fault.NoStore)
	if got := WasMoved(s.place.Path); got != aside || !strings.Contains(fault.From(err).Hint, aside) {
		t.Errorf("WasMoved() = %q, want %q; the hint is %q", got, aside, fault.From(err).Hint)
	}
	s.works(t, to)

	// A server that has the store open, and what becomes of it when the store is moved away.
	server, err := to.Open(t.Context(), Options{Wait: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	closeAtEnd(t, server)
	view(t, server, keys.Tx.Meta)
	want = dump(t, to)
	back := Place{Path: filepath.Join(t.TempDir(), "back.db")}
	f, err = Freeze(t.Context(), to, Options{batch: smallBatch})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Release()
	wantCode(t, server, "a change of a frozen store", fault.StoreBusy, func(keys.Tx) error { return nil })
	view(t, server, keys.Tx.Meta)
	if err := f.Move(t.Context(), back, Options{}, noCheck, ignore); err != nil {
		t.Fatal(err)
	}
	wantMoved(t, "the copy of the copy", want, back)
	aside, err = f.PutAside(morning)
	f.Release()
	if err != nil || !strings.HasPrefix(aside, "the schema moved_20260301t080000z of postgres://") {
		t.Fatalf("PutAside() = %q, %v", aside, err)
	}
	if err := server.View(t.Context(), func(tx keys.Tx) error { _, err := tx.Meta(); return err }); err == nil {
		t.Error("a server reads from a store that was moved away")
	}
	if err := server.Update(t.Context(), func(keys.Tx) error { return nil }); err == nil {
		t.Error("a server writes to a store that was moved away")
	}
	_, err = to.Open(t.Context(), Options{})
	keystest.WantCode(t, "Open() where the store was", err, fault.NoStore)
	inSchema := to.Postgres + "&search_path=moved_20260301t080000z"
	kept, err := OpenPostgres(t.Context(), inSchema, Options{})
	if err != nil {
		t.Fatal(err)
	}
	closeAtEnd(t, kept)
	view(t, kept, keys.Tx.Meta)
	s.works(t, back)

	// The database is free again, for a store or for a move.
	if err := move(t.Context(), back, to, ignore); err != nil {
		t.Fatal(err)
	}
}

// works proves that a moved store is the same one: what let somebody in lets him in, what was spent stays spent, and new rows
// come after those that were moved.
func (s *livedStore) works(t *testing.T, p Place) {
	t.Helper()
	l, done := s.open(t, p)
	defer done()
	q := s.web.Question()
	q.Address, q.Dataset = netip.MustParseAddr("10.1.2.3"), "payments"
	if v, err := l.Verify(t.Context(), q); err != nil || v.Reason != keys.ReasonOK {
		t.Errorf("a credential from before is %q, %v", v.Reason, err)
	}
	q.Address = netip.MustParseAddr("192.0.2.7")
	if v, err := l.Verify(t.Context(), q); err != nil || v.Reason == keys.ReasonOK {
		t.Errorf("a credential from before is let in from elsewhere: %q, %v", v.Reason, err)
	}
	if _, err := l.Admit(t.Context(), s.token, keys.Origin{Address: netip.MustParseAddr("192.0.2.7")}); err != nil {
		t.Errorf("Admit() = %v", err)
	}
	request := keys.RollRequest{Key: "web-01", Terms: keys.RollTerms{Grace: keys.Grace{For: time.Hour}, FinishPrevious: true}, Offer: keystest.Draw(t).Offer, Code: s.spent}
	_, err := l.Roll(t.Context(), request)
	if err == nil {
		t.Error("a spent code is taken after the move")
	}
	next := keystest.Draw(t)
	request.Offer, request.Code = next.Offer, s.phone.Next()
	pending, err := l.Roll(t.Context(), request)
	if err == nil {
		_, err = l.Prove(t.Context(), next.AccessKeyID, next.Proof(pending))
	}
	if err != nil {
		t.Errorf("a roll after the move = %v", err)
	}
	s.spent, s.web = request.Code, next
	if _, err := l.CreateOperator(t.Context(), keys.NewOperator{Name: fmt.Sprint("new-", time.Now().UnixNano()), Role: access.CI}); err != nil {
		t.Errorf("an operator after the move = %v", err)
	}
	drawn, err := credential.DrawOperatorToken(rand.Reader)
	if err == nil {
		_, err = l.CreateToken(t.Context(), keys.NewToken{Token: drawn, Operator: "ann", ExpiresAt: s.clock.Now().Add(time.Hour)})
	}
	if err != nil {
		t.Errorf("a token after the move = %v", err)
	}
	if report, err := l.VerifyAudit(t.Context(), ""); err != nil || !report.OK {
		t.Errorf("VerifyAudit() = %+v, %v", report, err)
	}
}

// A move that is stopped at every boundary, once at each, comes to the same end. Half of it is no store.
func TestMoveStoppedAtEachBatch(t *testing.T) {
	s := newLivedStore(t)
	want := dump(t, s.place)
	to := Place{Postgres: postgrestest.Database(t)}
	stops := 0
	for {
		ctx, cancel := context.WithCancel(t.Context())
		left := stops + 1
		err := move(ctx, s.place, to, func(int) {
			if left--; left == 0 {
				cancel()
			}
		})
		cancel()
		if err == nil {
			break
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("stopped after %d batches: %v", stops+1, err)
		}
		wantNoStore(t, to)
		stops++
	}
	if stops < 2*len(tables) {
		t.Errorf("stopped %d times, want more than there are tables, twice", stops)
	}
	wantMoved(t, "the copy", want, to)
	s.works(t, to)
}

// Cut connections are made again, or the next run goes on.
func TestMoveWithoutConnection(t *testing.T) {
	s := newLivedStore(t)
	want := dump(t, s.place)
	to := Place{Postgres: postgrestest.Database(t)}
	admin := engineOf(t, to)
	defer admin.Close()
	cut := 0
	for try := 0; ; try++ {
		err := move(t.Context(), s.place, to, func(int) {
			if _, err := admin.ExecContext(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'keyctl'`); err != nil {
				t.Error(err)
			}
			cut++
		})
		if err == nil {
			break
		}
		if try == 20 {
			t.Fatal(err)
		}
	}
	if cut < 2*len(tables) {
		t.Errorf("cut %d times", cut)
	}
	wantMoved(t, "the copy", want, to)
}

// Killed processes leave half a store, which the next one completes.
func TestMoveKilled(t *testing.T) {
	s := newLivedStore(t)
	want := dump(t, s.place)
	to := Place{Postgres: postgrestest.Database(t)}
	for _, after := range []int{1, 5, 12, 20, 31} {
		c := child(t, "move", s.place.Path, to.Postgres, strconv.Itoa(after))
		err := c.Run()
		var ended *exec.ExitError
		if !errors.As(err, &ended) || ended.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Fatalf("the process was not killed: %v", err)
		}
		wantNoStore(t, to)
	}
	if err := move(t.Context(), s.place, to, ignore); err != nil {
		t.Fatal(err)
	}
	wantMoved(t, "the copy", want, to)

	// Into a file nothing is there before all is.
	back := Place{Path: filepath.Join(t.TempDir(), "back.db")}
	c := exec.CommandContext(t.Context(), os.Args[0], "", back.Path, "20", to.Postgres)
	c.Env = append(os.Environ(), childTask+"=move")
	if err := c.Run(); err == nil {
		t.Error("the process was not killed")
	}
	_, err := back.Open(t.Context(), Options{})
	keystest.WantCode(t, "Open() of half a store", err, fault.NoStore)
	if err := move(t.Context(), to, back, ignore); err != nil {
		t.Fatal(err)
	}
	wantMoved(t, "the copy of the copy", want, back)
}

// childMove moves the store at its first argument to the second, or from the fourth to the second, and kills itself after a
// number of batches.
func childMove() {
	from, to := Place{Path: os.Args[1]}, Place{Postgres: os.Args[2]}
	if len(os.Args) > 4 {
		from, to = Place{Postgres: os.Args[4]}, Place{Path: os.Args[2]}
	}
	left, err := strconv.Atoi(os.Args[3])
	if err == nil {
		err = move(context.Background(), from, to, func(int) {
			if left--; left == 0 {
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
		})
	}
	fmt.Fprintln(os.Stderr, err)
}

// What is done to the store between two runs is not lost: the copy begins anew.
func TestMoveOfAStoreThatWentOn(t *testing.T) {
	s := newLivedStore(t)
	to := Place{Postgres: postgrestest.Database(t)}
	ctx, cancel := context.WithCancel(t.Context())
	left := 25
	err := move(ctx, s.place, to, func(int) {
		if left--; left == 0 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	l, done := s.open(t, s.place)
	if _, err := l.DisableKey(t.Context(), "web-01", true); err != nil {
		t.Fatal(err)
	}
	done()
	want := dump(t, s.place)
	if err := move(t.Context(), s.place, to, ignore); err != nil {
		t.Fatal(err)
	}
	wantMoved(t, "the copy", want, to)
	l, done = s.open(t, to)
	defer done()
	if v, err := l.Verify(t.Context(), s.web.Question()); err != nil || v.Reason == keys.ReasonOK {
		t.Errorf("a key that was disabled between two runs works: %q, %v", v.Reason, err)
	}
}

// A copy that is not what was written is found out, and is no store. Whatever is wrong with it, the next run puts it right.
func TestMoveFindsDifferences(t *testing.T) {
	s := newLivedStore(t)
	want := dump(t, s.place)
	to := Place{Postgres: postgrestest.Database(t)}
	admin := engineOf(t, to)
	defer admin.Close()
	for _, statement := range []string{
		`UPDATE keys SET disabled_at = NULL, compromised_at = NULL`, `UPDATE second_factors SET last_step = last_step - 100`,
		`DELETE FROM audit_log WHERE seq = (SELECT max(seq) FROM audit_log)`, `UPDATE audit_log SET body = body || '\x20' WHERE seq = 7`,
		`DELETE FROM recovery_codes WHERE used_at IS NOT NULL`, `UPDATE meta SET decoy = 'x'`, `DELETE FROM meta`,
		`INSERT INTO key_datasets SELECT k.id, d.id, 1 FROM keys AS k, datasets AS d ON CONFLICT DO NOTHING`,
	} {
		f, err := Freeze(t.Context(), s.place, Options{batch: smallBatch})
		if err != nil {
			t.Fatal(err)
		}
		passed := 0
		err = f.Move(t.Context(), to, Options{}, noCheck, func(n int) {
			if passed += n; passed == f.Rows() { // all is written, nothing is compared
				if _, err := admin.ExecContext(t.Context(), statement); err != nil {
					t.Errorf("%s: %v", statement, err)
				}
			}
		})
		f.Release()
		keystest.WantCode(t, "Move() with "+statement, err, fault.StoreDamaged)
		wantNoStore(t, to)
	}
	if err := move(t.Context(), s.place, to, ignore); err != nil {
		t.Fatal(err)
	}
	wantMoved(t, "the copy", want, to)
}

// A check that fails leaves what is no store.
func TestMoveNotAccepted(t *testing.T) {
	s := newLivedStore(t)
	bad := errors.New("bad")
	for _, to := range []Place{{Postgres: postgrestest.Database(t)}, {Path: filepath.Join(t.TempDir(), "other.db")}} {
		from := s.place
		if to.Postgres == "" {
			from = Place{Postgres: postgrestest.Database(t)}
			if err := move(t.Context(), s.place, from, ignore); err != nil {
				t.Fatal(err)
			}
		}
		f, err := Freeze(t.Context(), from, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Move(t.Context(), to, Options{}, func(context.Context, *DB) error { return bad }, ignore); !errors.Is(err, bad) {
			t.Errorf("Move() = %v", err)
		}
		f.Release()
		_, err = to.Open(t.Context(), Options{})
		keystest.WantCode(t, "Open()", err, fault.NoStore)
	}
}

func TestMoveRefuses(t *testing.T) {
	s := newLivedStore(t)
	other := newLivedStore(t)
	stop := func(from, to Place) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		if err := move(ctx, from, to, func(int) { cancel() }); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	complete, half, taken := Place{Postgres: postgrestest.Database(t)}, Place{Postgres: postgrestest.Database(t)}, Place{Postgres: newPostgresStore(t)}
	if err := move(t.Context(), s.place, complete, ignore); err != nil {
		t.Fatal(err)
	}
	stop(other.place, half)
	before := dump(t, taken)
	unfinished := Place{Postgres: newPostgresStore(t)} // its Meta is gone, and something is left
	engine := engineOf(t, unfinished)
	defer engine.Close()
	for _, statement := range []string{`DELETE FROM meta`, `INSERT INTO audit_log VALUES (1, '', '')`} {
		if _, err := engine.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	for what, c := range map[string]struct {
		to   Place
		want fault.Code
	}{
		"into a store": {taken, fault.Exists}, "into half of another": {half, fault.Exists}, "over what is left": {unfinished, fault.Exists},
		"into no database": {Place{Postgres: strings.Replace(half.Postgres, "/test_", "/no_", 1)}, fault.NoStore},
	} {
		keystest.WantCode(t, "Move() "+what, move(t.Context(), s.place, c.to, ignore), c.want)
	}
	diff(t, "the store that was there", dump(t, taken), before)
	wantNoStore(t, half)
	if err := move(t.Context(), s.place, complete, ignore); !errors.Is(err, ErrMoved) {
		t.Errorf("Move() a second time = %v", err)
	}
	if err := move(t.Context(), complete, s.place, ignore); !errors.Is(err, ErrMoved) {
		t.Errorf("Move() back to where it still is = %v", err)
	}
	keystest.WantCode(t, "Move() over a file", move(t.Context(), complete, other.place, ignore), fault.Exists)

	// A database that an init was stopped in is as good as empty.
	db, err := newPostgres(half.Postgres, Options{})
	if err != nil {
		t.Fatal(err)
	}
	closeAtEnd(t, db)
	begun := Place{Postgres: postgrestest.Database(t)}
	stopped := errors.New("stopped")
	if err := CreatePostgres(t.Context(), begun.Postgres, Options{}, func(context.Context, *DB) error { return stopped }); !errors.Is(err, stopped) {
		t.Fatal(err)
	}
	if err := move(t.Context(), s.place, begun, ignore); err != nil {
		t.Errorf("Move() into a database that init began with = %v", err)
	}
}

// An init that looked before a move began, and wrote after, keeps its store.
func TestMoveMeetsInit(t *testing.T) {
	s := newLivedStore(t)
	to := Place{Postgres: postgrestest.Database(t)}
	f, err := Freeze(t.Context(), s.place, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Release()
	db, err := newPostgres(to.Postgres, Options{})
	if err != nil {
		t.Fatal(err)
	}
	closeAtEnd(t, db)
	if err := f.claim(t.Context(), &arriving{db: db, ground: f.checkIncoming}); err != nil {
		t.Fatal(err)
	}
	if err := CreatePostgres(t.Context(), to.Postgres, Options{}, putTestMeta); err != nil {
		t.Fatal(err)
	}
	keystest.WantCode(t, "Move()", f.Move(t.Context(), to, Options{}, noCheck, ignore), fault.Exists)
	diff(t, "Meta()", view(t, openPostgresStore(t, to.Postgres), keys.Tx.Meta), testMeta)
}

// A store in use is not moved, and nobody uses one that is being moved.
func TestFreeze(t *testing.T) {
	s := newLivedStore(t)
	open := openStore(t, s.place.Path)
	view(t, open, keys.Tx.Meta)
	_, err := Freeze(t.Context(), s.place, Options{})
	keystest.WantCode(t, "Freeze() of a store that this process has open", err, fault.Internal)
	if err := open.Close(); err != nil {
		t.Fatal(err)
	}
	letGo, ended := holdElsewhere(t, s.place.Path)
	_, err = Freeze(t.Context(), s.place, Options{Wait: 300 * time.Millisecond})
	keystest.WantCode(t, "Freeze() of a store that a server has open", err, fault.StoreBusy)
	if hint := fault.From(err).Hint; !strings.Contains(hint, "keyctl serve") {
		t.Errorf("the hint is %q", hint)
	}
	letGo()
	ended()
	f, err := Freeze(t.Context(), s.place, Options{})
	if err != nil {
		t.Fatal(err)
	}
	engine := engineOf(t, s.place)
	defer engine.Close()
	for _, statement := range []string{`SELECT store_id FROM meta`, `DELETE FROM meta`} {
		if _, err := engine.ExecContext(t.Context(), statement); err == nil || !strings.Contains(err.Error(), "locked") {
			t.Errorf("%s in a frozen store = %v", statement, err)
		}
	}
	f.Release()
	if _, err := os.Stat(s.place.Path); err != nil {
		t.Error(err)
	}
	s.works(t, s.place)
	_, err = Freeze(t.Context(), Place{Path: filepath.Join(t.TempDir(), "no.db")}, Options{})
	if !errors.Is(err, os.ErrNotExist) && !fault.Is(err, fault.NoStore) {
		t.Errorf("Freeze() of nothing = %v", err)
	}
}

// No secret is in the database in the clear.
func TestR49_MoveOpensNothing(t *testing.T) {
	s := newLivedStore(t)
	server := postgrestest.New(t, postgrestest.Options{Settings: []string{"log_statement=all", "full_page_writes=on"}})
	to := Place{Postgres: server.Database(t)}
	if err := move(t.Context(), s.place, to, ignore); err != nil {
		t.Fatal(err)
	}
	if err := server.SQL("CHECKPOINT"); err != nil {
		t.Fatal(err)
	}
	words := append(s.words, s.master.Text().Reveal())
	u, err := url.Parse(to.Postgres)
	if err != nil {
		t.Fatal(err)
	}
	files, seen := 0, false
	err = filepath.WalkDir(u.Query().Get("host"), func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		files++
		seen = seen || strings.Contains(string(content), s.web.AccessKeyID)
		for _, word := range words {
			if strings.Contains(string(content), word) {
				t.Errorf("a secret is in %s", path)
			}
		}
		return err
	})
	if err != nil || files < 100 || !seen {
		t.Errorf("%d files were searched, %v; the access key id was found: %v", files, err, seen)
	}
}
