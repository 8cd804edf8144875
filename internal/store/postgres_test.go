//go:build unix

package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"keyctl/internal/fault"
	"keyctl/internal/keys"
	"keyctl/internal/postgrestest"
)

// postgresFiles are the embedded migrations for PostgreSQL.
func postgresFiles(t testing.TB) fs.FS {
	t.Helper()
	files, err := fs.Sub(postgresMigrations, "migrations/postgres")
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// execPostgres runs statements behind the store's back.
func execPostgres(t testing.TB, url string, statements ...string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	for _, statement := range statements {
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

// openingFails opens a store that must not be opened, and checks what is said.
func openingFails(t *testing.T, url string, want fault.Code, words string) {
	t.Helper()
	db, err := OpenPostgres(t.Context(), url, Options{Wait: 300 * time.Millisecond})
	if err == nil {
		_ = db.Close()
	}
	if fault.CodeOf(err) != want || !strings.Contains(fmt.Sprint(err), words) {
		t.Errorf("OpenPostgres(%s) = %v (%s), want %s with %q", url, err, fault.CodeOf(err), want, words)
	}
}

// A server that answers before a change is durable is refused on every connection (R41).
func TestR41_PostgresThatLosesChangesIsRefused(t *testing.T) {
	server := postgrestest.New(t, postgrestest.Options{})
	url := server.Database(t)
	if err := CreatePostgres(t.Context(), url, Options{}, putTestMeta); err != nil {
		t.Fatal(err)
	}
	before := openPostgresStore(t, url)
	putKeys(t, before, testKey(1))
	for _, setting := range []struct{ on, off string }{
		{"ALTER ROLE test SET synchronous_commit = off", "ALTER ROLE test RESET synchronous_commit"},
		{"ALTER DATABASE test_1 SET synchronous_commit = off", "ALTER DATABASE test_1 RESET synchronous_commit"},
	} {
		if err := server.SQL(setting.on); err != nil {
			t.Fatal(err)
		}
		openingFails(t, url, fault.Invalid, "synchronous_commit=off")
		err := CreatePostgres(t.Context(), url, Options{}, putTestMeta)
		if fault.CodeOf(err) != fault.Invalid {
			t.Errorf("CreatePostgres() = %v, want code invalid", err)
		}
		if err := server.SQL(setting.off); err != nil {
			t.Fatal(err)
		}
	}
	openPostgresStore(t, url)

	weak := postgrestest.New(t, postgrestest.Options{Settings: []string{"fsync=off"}})
	openingFails(t, weak.Database(t), fault.Invalid, "fsync=off")
}

// A standby answers queries, and is not what decisions rest on (R51).
func TestR51_StandbyAloneIsRefused(t *testing.T) {
	pair := postgrestest.NewPair(t)
	if err := CreatePostgres(t.Context(), pair.URL("postgres"), Options{}, putTestMeta); err != nil {
		t.Fatal(err)
	}
	openingFails(t, "postgres://test@"+pair.Standby.Address()+"/postgres?sslmode=disable", fault.Unavailable, "cannot be reached")
	openingFails(t, "postgres://test@"+pair.Standby.Address()+"/postgres?sslmode=disable&target_session_attrs=any", fault.Unavailable, "cannot be reached")
}

// Beyond this machine there is no connection without verified TLS, whatever the URL asks for (R24).
func TestR24_PostgresBeyondThisMachine(t *testing.T) {
	t.Setenv("PGSSLMODE", "")
	for _, tt := range []struct {
		url  string
		want fault.Code
	}{
		{"postgres://u:secret@db.example.com/keyctl", fault.Invalid},
		{"postgres://u:secret@db.example.com/keyctl?sslmode=disable", fault.Invalid},
		{"postgres://u:secret@db.example.com/keyctl?sslmode=prefer", fault.Invalid},
		{"postgres://u:secret@db.example.com/keyctl?sslmode=require", fault.Invalid},
		{"postgres://u:secret@db.example.com/keyctl?sslmode=verify-ca", fault.Invalid},
		{"postgres://u:secret@db.example.com/keyctl?sslmode=verify-full", ""},
		{"postgres://u:secret@127.0.0.1,db.example.com/keyctl?sslmode=disable", fault.Invalid},
		{"postgres://u:secret@localhost,db.example.com/keyctl?sslmode=prefer", fault.Invalid},
		{"postgres://u:secret@127.0.0.2/keyctl?sslmode=disable", ""},
		{"postgres://u:secret@[::1]/keyctl?sslmode=disable", ""},
		{"postgres://u:secret@localhost.example.com/keyctl?sslmode=disable", fault.Invalid},
		{"postgres://u:secret@/keyctl?host=/var/run/postgresql", ""},
		{"postgres://u:secret@db.example.com:port/keyctl", fault.Invalid},
		{"postgres://u:sec%zzret@db.example.com/keyctl", fault.Invalid},
		{"host=db.example.com password=secret dbname=keyctl sslmode=require", fault.Invalid},
	} {
		_, err := postgresConfig(tt.url)
		if fault.CodeOf(err) != tt.want {
			t.Errorf("%s = %v (%s), want %q", tt.url, err, fault.CodeOf(err), tt.want)
		}
		wantNoSecret(t, err, "secret", "sec%zzret")
	}
}

// wantNoSecret looks for a password in everything an error says, its causes included.
func wantNoSecret(t *testing.T, err error, secrets ...string) {
	t.Helper()
	for ; err != nil; err = errors.Unwrap(err) {
		text := fmt.Sprintf("%v %+v %#v", err, err, err)
		if f := fault.From(err); f != nil {
			text += f.Message + f.Hint
		}
		for _, secret := range secrets {
			if strings.Contains(text, secret) {
				t.Errorf("an error repeats the password: %s", text)
			}
		}
	}
}

// Whoever is not let in is told so in words, at once, and without the password.
func TestPostgresUsers(t *testing.T) {
	folder, err := os.MkdirTemp("", "keyctl-hba-") // which PostgreSQL's own user can read
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	hba := filepath.Join(folder, "hba.conf")
	if err := errors.Join(os.Chmod(folder, 0o755),
		os.WriteFile(hba, []byte("local all test trust\nlocal all all scram-sha-256\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	server := postgrestest.New(t, postgrestest.Options{Settings: []string{"hba_file='" + hba + "'"}})
	url := server.Database(t)
	if err := CreatePostgres(t.Context(), url, Options{}, putTestMeta); err != nil {
		t.Fatal(err)
	}
	if err := server.SQL("CREATE ROLE clerk LOGIN PASSWORD 'correct-horse'"); err != nil {
		t.Fatal(err)
	}
	as := func(user, database string) string {
		return "postgres://" + user + "@/" + database + "?host=" + server.Socket() + "&port=5432"
	}
	for _, tt := range []struct {
		what, url, words string
		want             fault.Code
	}{
		{"a wrong password", as("clerk:wrong-horse", "test_1"), "does not let this user", fault.Unavailable},
		{"an unknown user", as("nobody:wrong-horse", "test_1"), "does not let this user", fault.Unavailable},
		{"a missing database", as("clerk:correct-horse", "missing"), "no database", fault.NoStore},
		{"insufficient rights", as("clerk:correct-horse", "test_1"), "may not use", fault.Unavailable},
	} {
		begun := time.Now()
		for name, open := range map[string]func() error{
			"OpenPostgres": func() error {
				db, err := OpenPostgres(t.Context(), tt.url, Options{Wait: 20 * time.Second})
				if err == nil {
					_ = db.Close()
				}
				return err
			},
			"CreatePostgres": func() error { return CreatePostgres(t.Context(), tt.url, Options{Wait: 20 * time.Second}, putTestMeta) },
		} {
			err := open()
			if fault.CodeOf(err) != tt.want || !strings.Contains(fmt.Sprint(err), tt.words) {
				t.Errorf("%s: %s = %v (%s), want %s with %q", tt.what, name, err, fault.CodeOf(err), tt.want, tt.words)
			}
			wantNoSecret(t, err, "wrong-horse", "correct-horse")
		}
		if waited := time.Since(begun); waited > 15*time.Second {
			t.Errorf("%s was tried for %v: it does not pass by itself", tt.what, waited)
		}
	}
	if got := server.Log(); strings.Contains(got, "wrong-horse") {
		t.Error("the server's log has the password")
	}
}

// Who waits for the writers' lock waits no longer than the options say (R43), and readers do not wait at all.
func TestR43_PostgresWaitIsBounded(t *testing.T) {
	url := newPostgresStore(t)
	holder := openPostgresStore(t, url)
	waiter, err := OpenPostgres(t.Context(), url, Options{Wait: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer waiter.Close()
	update(t, holder, func(keys.Tx) error {
		for range 2 {
			start := time.Now()
			wantCode(t, waiter, "Update while another server writes", fault.StoreBusy, func(keys.Tx) error { return nil })
			if waited := time.Since(start); waited < 250*time.Millisecond || waited > 10*time.Second {
				t.Errorf("it waited %v, want about 300ms", waited)
			}
		}
		view(t, waiter, keys.Tx.Meta)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if err := waiter.Update(ctx, func(keys.Tx) error { return nil }); fault.CodeOf(err) != fault.Unavailable {
			t.Errorf("Update with a deadline = %v, want code unavailable", err)
		}
		stopped, stop := context.WithCancel(t.Context())
		time.AfterFunc(50*time.Millisecond, stop)
		if err := waiter.Update(stopped, func(keys.Tx) error { return nil }); !errors.Is(err, context.Canceled) {
			t.Errorf("Update that was cancelled while it waited = %v, want context.Canceled", err)
		}
		return nil
	})
	wantCode(t, waiter, "Update afterwards", "", func(keys.Tx) error { return nil })
}

func TestR47_PostgresNewerSchema(t *testing.T) {
	url := newPostgresStore(t)
	old := openPostgresStore(t, url)
	execPostgres(t, url, `INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, true)`)
	openingFails(t, url, fault.SchemaNewer, "newer keyctl")
	wantCode(t, old, "Update by an older keyctl", fault.SchemaNewer, func(tx keys.Tx) error { return tx.PutKey(testKey(1)) })
	if got := view(t, old, allKeys); len(got) != 0 {
		t.Errorf("an older keyctl wrote %d keys", len(got))
	}
}

func TestR47_PostgresTwoUpgradesAtOnce(t *testing.T) {
	for range 3 {
		url := newPostgresStore(t)
		putKeys(t, openPostgresStore(t, url), testKey(1))
		later := Options{migrations: laterThan(t, postgresFiles(t), upgradeSteps, []string{`UPDATE keys SET description = description || '-'`})}
		upgradesOnce(t, func() (*DB, error) { return OpenPostgres(t.Context(), url, later) })
	}
}

// Of several first starts on one empty database one makes the tables and the others find them.
func TestPostgresCreatedByTwo(t *testing.T) {
	url := postgrestest.Database(t)
	results := make(chan error, 4)
	for range cap(results) {
		go func() {
			results <- CreatePostgres(t.Context(), url, Options{}, func(ctx context.Context, db *DB) error {
				return db.View(ctx, func(tx keys.Tx) error {
					_, err := tx.Meta()
					if fault.Is(err, fault.NoStore) {
						err = nil
					}
					return err
				})
			})
		}()
	}
	for range cap(results) {
		if err := <-results; err != nil {
			t.Errorf("CreatePostgres() of several at once = %v", err)
		}
	}
	if empty, err := IsEmptyPostgres(t.Context(), url, Options{}); err != nil || !empty {
		t.Errorf("IsEmptyPostgres() = %t, %v: nobody filled it", empty, err)
	}
}

// TestR47_PostgresUpgradeCutAtEachStatement ends the connection of an upgrade after each of its statements: nothing of that
// step is left, the steps before it are, and the next upgrade takes up from there.
func TestR47_PostgresUpgradeCutAtEachStatement(t *testing.T) {
	first := []string{`CREATE TABLE first_step (x BIGINT)`}
	for stop := range len(upgradeSteps) + 1 {
		url := newPostgresStore(t)
		putKeys(t, openPostgresStore(t, url), testKey(1))
		cut := slices.Insert(slices.Clone(upgradeSteps), stop, `SELECT pg_terminate_backend(pg_backend_pid())`)
		db, err := OpenPostgres(t.Context(), url, Options{migrations: laterThan(t, postgresFiles(t), first, cut)})
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Migrate(t.Context()); err == nil {
			t.Fatalf("an upgrade cut at statement %d succeeded", stop)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
		db, err = OpenPostgres(t.Context(), url, Options{migrations: laterThan(t, postgresFiles(t), first, upgradeSteps)})
		if err != nil {
			t.Fatal(err)
		}
		closeAtEnd(t, db)
		if db.SchemaVersion() != released(t)+1 {
			t.Errorf("cut at %d: version %d, want %d", stop, db.SchemaVersion(), released(t)+1)
		}
		wantCode(t, db, "Update before the upgrade", fault.Internal, func(tx keys.Tx) error { return tx.PutKey(testKey(2)) })
		if err := db.Migrate(t.Context()); err != nil {
			t.Errorf("cut at %d: the next upgrade = %v", stop, err)
		}
		if got := view(t, db, allKeys); len(got) != 1 || got[0].Description != "+" {
			t.Errorf("cut at %d: the upgrade was not made exactly once: %v", stop, got)
		}
	}
}

// TestEnginesHaveTheSameTables compares what the migrations of the two engines are called, and what they make: tables, columns,
// what may be NULL, keys, references and indexes.
func TestEnginesHaveTheSameTables(t *testing.T) {
	names := func(files fs.FS) []string {
		found, err := fs.Glob(files, "*.sql")
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	diff(t, "the migrations for PostgreSQL", names(postgresFiles(t)), names(embedded()))

	path, url := newStore(t), newPostgresStore(t)
	sqlite, postgres := openStore(t, path), openPostgresStore(t, url)
	lines := func(db *DB, query string) []string {
		t.Helper()
		var all []string
		err := db.view(t.Context(), func(tx *tx) (err error) {
			all, err = list(tx, func(row scan) (line string, err error) { err = row(&line); return line, err }, query)
			return err
		})
		if err != nil {
			t.Fatalf("%s: %v (%v)", query, err, fault.From(err).Cause)
		}
		slices.Sort(all)
		return all
	}
	const own = `('goose_db_version', 'sqlite_sequence', 'writers')` // of goose, of SQLite, and the lock of PostgreSQL
	for _, part := range []struct{ what, sqlite, postgres string }{
		{"columns",
			`SELECT m.name || '.' || c.name || ' ' || CASE WHEN c.type LIKE 'INT%' THEN 'number' WHEN c.type = 'BLOB' THEN 'bytes' ELSE 'text' END ||
			CASE WHEN c."notnull" OR c.pk > 0 THEN ' always' ELSE '' END || CASE WHEN c.pk > 0 THEN ' key' ELSE '' END
			FROM sqlite_schema AS m, pragma_table_xinfo(m.name) AS c WHERE m.type = 'table' AND m.name NOT IN ` + own,
			`SELECT c.table_name || '.' || c.column_name || ' ' || CASE c.data_type WHEN 'bigint' THEN 'number' WHEN 'bytea' THEN 'bytes' ELSE 'text' END ||
			CASE WHEN c.is_nullable = 'NO' THEN ' always' ELSE '' END ||
			CASE WHEN EXISTS (SELECT FROM information_schema.key_column_usage AS u JOIN information_schema.table_constraints AS p USING (constraint_name)
				WHERE p.constraint_type = 'PRIMARY KEY' AND u.table_name = c.table_name AND u.column_name = c.column_name) THEN ' key' ELSE '' END
			FROM information_schema.columns AS c WHERE c.table_schema = 'public' AND c.table_name NOT IN ` + own},
		{"references",
			`SELECT m.name || '.' || f."from" || ' to ' || f."table" || '.' || f."to"
			FROM sqlite_schema AS m, pragma_foreign_key_list(m.name) AS f WHERE m.type = 'table'`,
			`SELECT u.table_name || '.' || u.column_name || ' to ' || o.table_name || '.' || o.column_name
			FROM information_schema.table_constraints AS c JOIN information_schema.key_column_usage AS u USING (constraint_name)
			JOIN information_schema.constraint_column_usage AS o USING (constraint_name) WHERE c.constraint_type = 'FOREIGN KEY'`},
		{"indexes",
			`SELECT m.name || ' on ' || m.tbl_name || CASE WHEN l."unique" THEN ' unique' ELSE '' END || CASE WHEN l.partial THEN ' partial' ELSE '' END ||
			' (' || (SELECT group_concat(coalesce(i.name, 'expression'), ', ') FROM pragma_index_info(m.name) AS i) || ')'
			FROM sqlite_schema AS m JOIN pragma_index_list(m.tbl_name) AS l ON l.name = m.name WHERE m.type = 'index' AND m.name NOT LIKE 'sqlite_%' AND m.tbl_name <> 'goose_db_version'`,
			`SELECT n.relname || ' on ' || t.relname || CASE WHEN i.indisunique THEN ' unique' ELSE '' END || CASE WHEN i.indpred IS NOT NULL THEN ' partial' ELSE '' END ||
			' (' || (SELECT string_agg(coalesce(a.attname, 'expression'), ', ' ORDER BY k.place) FROM unnest(i.indkey) WITH ORDINALITY AS k (number, place)
				LEFT JOIN pg_attribute AS a ON a.attrelid = t.oid AND a.attnum = k.number AND k.number > 0) || ')'
			FROM pg_index AS i JOIN pg_class AS n ON n.oid = i.indexrelid JOIN pg_class AS t ON t.oid = i.indrelid JOIN pg_namespace AS s ON s.oid = t.relnamespace
			WHERE s.nspname = 'public' AND t.relname <> 'goose_db_version' AND NOT EXISTS (SELECT FROM pg_constraint AS c WHERE c.conindid = i.indexrelid AND c.contype IN ('p', 'u'))`},
	} {
		got, want := lines(postgres, part.postgres), lines(sqlite, part.sqlite)
		if len(want) < 5 {
			t.Errorf("%s: only %d found", part.what, len(want))
		}
		diff(t, "the "+part.what+" of PostgreSQL", got, want)
	}
}

// raising makes each of the next so many writes to keys fail with a code of PostgreSQL's. A sequence counts, because it is not
// rolled back.
func raising(t *testing.T, url, when, body string) {
	t.Helper()
	execPostgres(t, url, `CREATE SEQUENCE met`,
		`CREATE FUNCTION meet() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN `+body+` RETURN NEW; END $$`,
		`CREATE CONSTRAINT TRIGGER meet AFTER INSERT ON keys `+when+` FOR EACH ROW EXECUTE FUNCTION meet()`)
}

// A change that others were in the way of runs again as a whole, from its first read on (R31), whether its statement or its
// COMMIT is told so.
func TestR31_PostgresRetries(t *testing.T) {
	for _, code := range []string{"40001", "40P01"} {
		for _, when := range []string{"NOT DEFERRABLE", "DEFERRABLE INITIALLY DEFERRED"} {
			t.Run(code+" "+when, func(t *testing.T) {
				url := newPostgresStore(t)
				raising(t, url, when, `IF nextval('met') <= 3 THEN RAISE EXCEPTION 'in the way' USING ERRCODE = '`+code+`'; END IF;`)
				db, runs := openPostgresStore(t, url), 0
				update(t, db, func(tx keys.Tx) error {
					runs++
					return tx.PutKey(testKey(1))
				})
				if got := view(t, db, allKeys); runs != 4 || len(got) != 1 {
					t.Errorf("%d runs, %d keys, want 4 and 1", runs, len(got))
				}
			})
		}
	}
	t.Run("without end", func(t *testing.T) {
		url := newPostgresStore(t)
		raising(t, url, "NOT DEFERRABLE", `RAISE EXCEPTION 'in the way' USING ERRCODE = '40001';`)
		db, err := OpenPostgres(t.Context(), url, Options{Wait: 300 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		closeAtEnd(t, db)
		wantCode(t, db, "a change that others are always in the way of", fault.StoreBusy, func(tx keys.Tx) error { return tx.PutKey(testKey(1)) })
	})
}

// A connection that ends before COMMIT costs an attempt; one that ends at COMMIT leaves the outcome unknown, and nothing is
// tried again here (R32).
func TestR32_PostgresLostConnection(t *testing.T) {
	const gone = `PERFORM pg_terminate_backend(pg_backend_pid());`
	t.Run("before COMMIT", func(t *testing.T) {
		url := newPostgresStore(t)
		raising(t, url, "NOT DEFERRABLE", `IF nextval('met') <= 2 THEN `+gone+` END IF;`)
		db, runs := openPostgresStore(t, url), 0
		update(t, db, func(tx keys.Tx) error {
			runs++
			if err := tx.PutKey(testKey(1)); err != nil {
				return err
			}
			_, err := tx.Key(testKey(1).ID) // so that the write is sent
			return err
		})
		if got := view(t, db, allKeys); runs != 3 || len(got) != 1 {
			t.Errorf("%d runs, %d keys, want 3 and 1", runs, len(got))
		}
	})
	t.Run("at COMMIT", func(t *testing.T) {
		url := newPostgresStore(t)
		raising(t, url, "DEFERRABLE INITIALLY DEFERRED", gone)
		db, runs := openPostgresStore(t, url), 0
		wantCode(t, db, "a change whose connection ended at COMMIT", fault.OutcomeUnknown, func(tx keys.Tx) error {
			runs++
			return tx.PutKey(testKey(1))
		})
		if got := view(t, db, allKeys); runs != 1 || len(got) != 0 {
			t.Errorf("%d runs, %d keys, want 1 and 0", runs, len(got))
		}
	})
}

// A view with more than one statement sees one state, and cannot write.
func TestPostgresViewIsOneSnapshot(t *testing.T) {
	db := openPostgresStore(t, newPostgresStore(t))
	err := db.view(t.Context(), func(tx *tx) error {
		for name, want := range map[string]string{"transaction_isolation": "repeatable read", "transaction_read_only": "on", "synchronous_commit": "on"} {
			got, _, err := first(tx, func(row scan) (text string, err error) { err = row(&text); return text, err }, `SELECT current_setting('`+name+`')`)
			if err != nil || got != want {
				t.Errorf("in a view %s = %q, %v, want %q", name, got, err, want)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestPostgresListPlans asks PostgreSQL whether it can read each list through an index, in the order of the list, and has it
// avoid everything else. What it sorts is no more than one page of living and one of deleted keys, or keys of one name.
func TestPostgresListPlans(t *testing.T) {
	url := newPostgresStore(t)
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	for _, setting := range []string{"enable_seqscan", "enable_bitmapscan", "enable_sort"} {
		if _, err := conn.Exec(t.Context(), "SET "+setting+" = off"); err != nil {
			t.Fatal(err)
		}
	}
	plan := func(t *testing.T, query string, args ...any) string {
		t.Helper()
		rows, err := conn.Query(t.Context(), "EXPLAIN (COSTS OFF) "+query, append([]any{pgx.QueryExecModeSimpleProtocol}, args...)...)
		if err != nil {
			t.Fatal(err)
		}
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatalf("%s: %v", query, err)
		}
		return strings.Join(lines, "\n")
	}
	check := func(t *testing.T, index, query string, args ...any) {
		t.Helper()
		got := plan(t, query, args...)
		sorted := ""
		for line := range strings.Lines(got) {
			line = strings.TrimPrefix(strings.TrimSpace(line), "->  ")
			if sorted == "Sort" && line != "Append" && !strings.HasPrefix(line, "Sort Key") || strings.Contains(line, "Seq Scan on") {
				t.Errorf("plan of %s\nhas %q:\n%s", query, line, got)
			}
			if line == "Sort" || line == "Append" {
				sorted = line
			}
		}
		if !strings.Contains(got, index) {
			t.Errorf("plan of %s\ndoes not use %s:\n%s", query, index, got)
		}
	}
	indexes := map[keys.KeyOrder]string{
		keys.OrderName: "keys_live_name", keys.OrderCreated: "keys_live_created", keys.OrderExpires: "keys_live_expires", keys.OrderLastUsed: "keys_live_used",
	}
	eachOrder(t, func(t *testing.T, page keys.KeyPage) {
		page.Limit = 100
		for _, after := range []*keys.KeyPosition{nil, {Name: "web-5000", Time: time.UnixMicro(10000), ID: "key_10000"}} {
			page.After = after
			query, args, err := keysQuery(page, false, true)
			if err != nil {
				t.Fatal(err)
			}
			check(t, indexes[page.Order], query, args...)
			if page.Deleted {
				check(t, strings.Replace(indexes[page.Order], "live", "past", 1), query, args...)
			}
			if after != nil && !strings.Contains(plan(t, query, args...), "Index Cond") {
				t.Errorf("a later page does not begin with a search:\n%s", plan(t, query, args...))
			}
		}
	})
	page := keys.KeyPage{Order: keys.OrderName, NamePrefix: "web-", Limit: 100}
	query, args, err := keysQuery(page, false, true)
	if err != nil {
		t.Fatal(err)
	}
	if got := plan(t, query, args...); !strings.Contains(got, "Index Cond: ((name >= 'web-'::text) AND (name < 'web-~'::text))") {
		t.Errorf("names with a prefix are not searched for:\n%s", got)
	}
	check(t, "credentials_open", `SELECT `+credentialColumns+` FROM credentials WHERE key_id IN (`+idArray+`) AND ended_at IS NULL`, `["a","b"]`)
	check(t, "credentials_admissible", selectCandidate, "KCa")
	check(t, "credentials_admissible", selectBearerAndCandidate, "t", "KCa")
	check(t, "datasets_live_name", selectDataset+`WHERE datasets.deleted_at IS NULL AND datasets.name > $1 ORDER BY datasets.name LIMIT $2`, "", 10)
	check(t, "primary_keys_name_key", selectPrimaryKey+`WHERE name > $1 ORDER BY name LIMIT $2`, "", 10)
}
