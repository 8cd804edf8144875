//go:build unix

package cmd

import (
	"database/sql"
	"encoding/json"
	"strings"
	"testing"

	"keyctl/internal/postgrestest"
)

// doctor looks at a store in PostgreSQL: everything but files.
func TestDoctorPostgres(t *testing.T) {
	url := postgrestest.Database(t)
	w, _ := settled(t)
	p := w.withStore(url)
	check := func(status int, want map[string]string, flags ...string) {
		t.Helper()
		r := p.run(append(flags, "doctor", "-o", "json")...)
		r.wants(t, status, "doctor")
		var answer struct {
			Items []struct{ Check, Result, Message string }
		}
		if err := json.Unmarshal([]byte(r.out), &answer); err != nil {
			t.Fatalf("%v in %q", err, r.out)
		}
		got := map[string]string{}
		for _, f := range answer.Items {
			got[f.Check] += f.Result + ": " + f.Message + "\n"
		}
		for name, text := range want {
			if !strings.HasPrefix(got[name], text) {
				t.Errorf("%s is %q, want %q", name, got[name], text)
			}
		}
		if got["disk"] != "" {
			t.Errorf("it looks at a disk: %s", got["disk"])
		}
	}
	check(exitNegative, map[string]string{"store": "error: no store in", "database": "skipped: ", "audit-log": "skipped: there is no store"})
	w.ok("migrate", "--to", url)
	check(exitOK, map[string]string{
		"configuration": "ok: ", "store": "ok: ", "database": "ok: PostgreSQL ", "master-key": "ok: file:" + w.masterKey() + " opens the store",
		"permissions": "ok: ", "audit-log": "ok: ", "second-factor": "ok: ", "clock": "ok: ", "expiring-keys": "ok: ",
		"unrestricted-keys": "ok: ", "unused-keys": "skipped: ", "leftovers": "ok: nothing is left behind",
	})
	db, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, test := range []struct {
		statement string
		status    int
		want      map[string]string
	}{
		{`UPDATE audit_log SET body = body || '\x20' WHERE seq = 3`, exitNegative, map[string]string{"audit-log": "error: it is broken at record 3"}},
		{`CREATE TABLE incoming_store ()`, exitNegative, map[string]string{"store": "error: what is in"}},
		{`DROP TABLE incoming_store; INSERT INTO goose_db_version (version_id, is_applied) VALUES (9000, true)`, exitNegative,
			map[string]string{"store": "error: the store "}},
	} {
		if _, err := db.Exec(test.statement); err != nil {
			t.Fatal(err)
		}
		check(test.status, test.want)
	}
	p = w.withStore("postgres://127.0.0.1:1/no")
	p.env = append(p.env, "PGCONNECT_TIMEOUT=1")
	check(exitNegative, map[string]string{"store": "error: the PostgreSQL server of the store", "master-key": "skipped: "}, "--timeout", "1s")
}
