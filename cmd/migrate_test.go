//go:build unix

package cmd

import (
	"database/sql"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // for what a database has

	"keyctl/internal/postgrestest"
)

// settled is a world with a store that was in use.
func settled(t *testing.T) (*world, *authenticator) {
	t.Helper()
	w := newWorld(t)
	phone := w.enrol()
	w.ok("datasets", "create", "payments", "--no-key")
	w.ok("keys", "create", "web-01", "--dataset", "payments", "--ip", "10.0.0.0/8", "--out", "web-01.env")
	w.ok("keys", "create", "web-02", "--ip", "10.0.0.0/8", "--out", "web-02.env")
	w.ok("keys", "disable", "web-02", "--yes")
	w.ok("tokens", "create", "--out", "me.token")
	return w, phone
}

// withStore is the world with another store.
func (w *world) withStore(store string) *world {
	other := *w
	other.env = append(append([]string{}, w.env...), "KEYCTL_STORE="+store)
	return &other
}

// aside finds where the old store is kept.
func (w *world) aside() string {
	w.t.Helper()
	kept, err := filepath.Glob(w.store() + ".moved-*")
	if err != nil || len(kept) != 1 {
		w.t.Fatalf("kept are %q, %v", kept, err)
	}
	return kept[0]
}

func (r result) says(t testing.TB, words ...string) {
	t.Helper()
	for _, word := range words {
		if !strings.Contains(r.err, word) {
			t.Errorf("%q is not in what it says:\n%s", word, r.err)
		}
	}
}

// A moved store is the same store: what let somebody in lets him in, a spent code stays spent, the audit log goes on. The old one
// is out of the way, and no new one takes its place by mistake.
func TestMigrate(t *testing.T) {
	t.Parallel()
	url := postgrestest.Database(t)
	w, phone := settled(t)
	c := newCanaries(t)
	c.addAuthenticator(phone)
	c.addMasterKey(w.read(w.masterKey()))
	c.addCredential(w.read(w.path("web-01.env")))
	code := phone.code()
	w.ok("roll", "web-01", "--expire", "24h", "--otp", code, "--out", "rolled.env")
	c.addCredential(w.read(w.path("rolled.env")))
	keys, audit, head := w.ok("keys", "list", "-o", "json"), w.ok("audit", "export"), strings.TrimSpace(w.head())

	r := w.run("migrate", "--to", url, "-v")
	r.wants(t, exitOK, "migrate")
	r.says(t, "is in force now: ", "the old store is kept as "+w.aside(), "hint: name the new store where the old one was named")
	c.Absent("migrate", []byte(r.out+r.err))
	if r.out != "" {
		t.Errorf("standard output has %q", r.out)
	}

	r = w.run("keys", "list")
	r.wants(t, exitNotFound, "keys list")
	r.says(t, "it was moved to another place", w.aside())
	w.run("keys", "create", "web-03").wants(t, exitNotFound, "keys create")
	w.run("migrate", "--to", url).wants(t, exitNotFound, "migrate")
	got := w.run("doctor", "--jq", `.items[] | select(.check == "store") | .result + ": " + .hint`)
	got.wants(t, exitNegative, "doctor")
	if !strings.HasPrefix(got.out, "error: it was moved to another place") {
		t.Errorf("doctor says %q", got.out)
	}
	if _, err := os.Stat(w.store()); !os.IsNotExist(err) {
		t.Errorf("there is a store where the old one was: %v", err)
	}

	p := w.withStore(url)
	if got := p.ok("keys", "list", "-o", "json"); got != keys {
		t.Errorf("keys list says\n%s\nand said\n%s", got, keys)
	}
	if got := p.ok("audit", "export"); !strings.HasPrefix(got, audit) {
		t.Error("the audit log is another")
	}
	p.ok("audit", "verify", "--head", head)
	if got := p.ok("audit", "list", "--jq", `.items[-1] | .action + " " + .detail.head`); strings.TrimSpace(got) != "migrate "+head {
		t.Errorf("the last audit record is %q, want the move", got)
	}
	for _, file := range []string{"web-01.env", "rolled.env"} {
		p.ok("verify", "--from", file, "--ip", "10.1.2.3", "--dataset", "payments")
		p.run("verify", "--from", file, "--ip", "192.0.2.1").wants(t, exitNegative, "verify from elsewhere")
	}
	p.run("verify", "--from", "web-02.env").wants(t, exitNegative, "verify of a disabled key")
	p.run("roll", "web-01", "--expire", "1h", "--finish-previous", "--otp", code).wants(t, exitSecondFactor, "roll with a spent code")
	p.ok("roll", "web-01", "--expire", "1h", "--finish-previous", "--otp", phone.code(), "--out", "again.env")
	p.ok("keys", "create", "web-03", "--out", "web-03.env")

	// What else there is for a store works on one in PostgreSQL, or says what does.
	if offered, _ := p.candidates("keys show web-"); len(offered) != 3 {
		t.Errorf("completion offers %q", offered)
	}
	for _, args := range [][]string{{"backup", "copy"}, {"restore", "web-01.env", "--yes"}} {
		r := p.run(args...)
		r.wants(t, exitUsage, args...)
		r.says(t, "this store is in PostgreSQL", "docs/server.md, Backup", "keyctl migrate")
	}
	p.ok("otp", "reset", "--yes")

	// And back. The schema that keeps the old one is in nobody's way.
	head = strings.TrimSpace(p.head())
	r = w.run("migrate", "--from", url, "--to", "sqlite:"+w.path("back.db"))
	r.wants(t, exitOK, "migrate back")
	r.says(t, "the old store is kept as the schema moved_")
	p.run("keys", "list").wants(t, exitNotFound, "keys list")
	b := w.withStore("sqlite:" + w.path("back.db"))
	b.ok("audit", "verify", "--head", head)
	b.ok("verify", "--from", "again.env", "--ip", "10.1.2.3")
	b.ok("keys", "create", "web-04", "--out", "web-04.env")
	b.ok("migrate", "--to", url)
	p.ok("audit", "verify", "--head", head)
	p.ok("verify", "--from", "web-04.env")
}

// With --keep there are two; what is done in the old one then is found out, and not lost by a second move.
func TestMigrateKeep(t *testing.T) {
	t.Parallel()
	url := postgrestest.Database(t)
	w, _ := settled(t)
	r := w.run("migrate", "--to", url, "--keep")
	r.wants(t, exitOK, "migrate --keep")
	r.says(t, "warning: the old store "+w.store()+" still works")
	p := w.withStore(url)
	head := p.head()
	r = w.run("migrate", "--to", url, "--keep")
	r.wants(t, exitOK, "migrate --keep")
	r.says(t, "was moved to", "nothing was copied")
	if got := p.head(); got != head {
		t.Errorf("the second move left %s in the audit log, which was at %s", got, head)
	}
	w.ok("keys", "edit", "web-01", "--description", "changed in the old one")
	p.ok("keys", "edit", "web-01", "--description", "changed in the new one")
	r = w.run("migrate", "--to", url)
	r.wants(t, exitConflict, "migrate")
	r.says(t, "went different ways")
	w.ok("keys", "list")

	// The new one alone may have gone on: then the old one is put aside.
	url = postgrestest.Database(t)
	w.ok("migrate", "--to", url, "--keep")
	p = w.withStore(url)
	p.ok("keys", "edit", "web-01", "--description", "changed in the new one")
	r = p.run("migrate", "--from", "sqlite:"+w.store())
	r.wants(t, exitOK, "migrate")
	r.says(t, "nothing was copied", w.aside())
	p.ok("audit", "verify")
}

func TestMigrateRefuses(t *testing.T) {
	t.Parallel()
	url := postgrestest.Database(t)
	w, _ := settled(t)
	before := w.homeFiles()
	w.write("wrong.key", "kcm_"+strings.Repeat("A", 43)+"000000\n")
	other := newWorld(t)
	other.ok("init")
	for _, test := range []struct {
		args   []string
		env    string
		status int
		says   string
	}{
		{[]string{}, "", exitUsage, "needs --to or --from"},
		{[]string{"--to", "sqlite:" + w.path("other.db")}, "", exitUsage, "between files use `keyctl backup`"},
		{[]string{"--from", "postgres:///a", "--to", "postgres:///b"}, "", exitUsage, "PostgreSQL's own tools"},
		{[]string{"--to", "postgres://u:secret@h/db"}, "", exitUsage, "--to has a password in it"},
		{[]string{"--from", "postgres://u:secret@h/db"}, "", exitUsage, "--from has a password in it"},
		{[]string{"--to", "postgres://u@h.example.com/db?sslmode=require"}, "", exitUsage, "verified TLS"},
		{[]string{"--to", "nonsense"}, "", exitUsage, "--to does not say what kind of store it is"},
		{[]string{"--to", url}, "KEYCTL_SERVER=https://h.example.com", exitUsage, "commands go to https://h.example.com"},
		{[]string{"--to", url, "--master-key", "file:" + other.masterKey()}, "", exitInternal, "master key"},
		{[]string{"--to", url, "--master-key", "file:" + w.path("wrong.key")}, "", exitInternal, "master key"},
		{[]string{"--to", url, "--from", "sqlite:" + w.path("no.db")}, "", exitNotFound, "no store at"},
	} {
		c := w.command(append([]string{"migrate"}, test.args...)...)
		c.Env = append(append([]string{}, w.env...), test.env)
		r := w.finish(c)
		r.wants(t, test.status, test.args...)
		r.says(t, test.says)
		if strings.Contains(r.err, "secret") {
			t.Errorf("it repeats the password:\n%s", r.err)
		}
	}
	if after := w.homeFiles(); len(after) != len(before) {
		t.Errorf("files came or went: %d, %d before", len(after), len(before))
	}
	// Nothing was written to the database, not even a table.
	db, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var made int
	if err := db.QueryRow(`SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'`).Scan(&made); err != nil || made != 0 {
		t.Errorf("%d tables were made, %v", made, err)
	}

	// A store that is in use stays where it is.
	release := w.holdOpen()
	r := w.run("migrate", "--to", url, "--timeout", "1s")
	release()
	r.wants(t, exitUnavailable, "migrate")
	r.says(t, "stop `keyctl serve`")

	// Another store's database is left alone.
	taken := postgrestest.Database(t)
	theirs := other.withStore(taken)
	theirs.ok("init")
	head := theirs.head()
	r = w.run("migrate", "--to", taken)
	r.wants(t, exitConflict, "migrate over another store")
	r.says(t, "another store")
	if theirs.head() != head {
		t.Error("the other store was changed")
	}

	// A log that somebody changed is not carried on as if nothing was.
	w.sql(`UPDATE audit_log SET body = CAST(replace(CAST(body AS TEXT), 'web-01', 'web-99') AS BLOB)`)
	r = w.run("migrate", "--to", url)
	r.wants(t, exitInternal, "migrate of a broken log")
	r.says(t, "is broken at record")
	w.ok("keys", "list")
}

// killsToMigrate is how many moves are killed without KEYCTL_TORTURE, which asks for a tenth of its kills.
const killsToMigrate = 6

// A move killed at any moment leaves the old store in force, or the new one, and the same command comes to the same end.
func TestR41_MigrateKilled(t *testing.T) {
	t.Parallel()
	kills := killsToMigrate
	if text := os.Getenv("KEYCTL_TORTURE"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		kills = max(kills, n/10)
	}
	origin, _ := settled(t)
	origin.write("old.env", origin.read(origin.path("web-01.env")))
	begun := time.Now()
	origin.copy(t).ok("migrate", "--to", postgrestest.Database(t))
	pace := time.Since(begun)
	found := map[string]int{}
	for range kills {
		url := postgrestest.Database(t)
		w := origin.copy(t)
		head := strings.TrimSpace(w.head())
		c := w.command("migrate", "--to", url)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(rand.Int64N(int64(pace))))
		_ = c.Process.Kill()
		_ = c.Wait()

		p := w.withStore(url)
		old, made := w.run("verify", "--from", "old.env", "--ip", "10.1.2.3"), p.run("verify", "--from", "old.env", "--ip", "10.1.2.3")
		switch {
		case old.status == exitOK && made.status == exitNotFound:
			found["old"]++
		case old.status == exitNotFound && made.status == exitOK:
			found["new"]++
		case old.status == exitOK && made.status == exitOK:
			found["both"]++ // killed between the two; the next run ends that
		default:
			t.Errorf("neither store is in force: exit %d and %d\n%s%s", old.status, made.status, old.err, made.err)
		}
		if made.status == exitNotFound && strings.Contains(made.err, "incomplete copy") {
			found["half a copy"]++
			r := p.run("init")
			r.wants(t, exitNotFound, "init")
			r.says(t, "incomplete copy")
		}
		if old.status == exitOK {
			w.ok("migrate", "--to", url)
		}
		w.run("verify", "--from", "old.env").wants(t, exitNotFound, "verify in the old store")
		p.ok("audit", "verify", "--head", head)
		p.ok("verify", "--from", "old.env", "--ip", "10.1.2.3")
	}
	t.Logf("%d kills found %v", kills, found)
}
