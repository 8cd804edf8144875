//go:build unix

package postgrestest

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

func rows(t *testing.T, url string) (n int) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url+"&target_session_attrs=read-write")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM kept").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestPairChangesPlaces(t *testing.T) {
	p := NewPair(t)
	if err := p.Primary.SQL("CREATE TABLE kept (n int)"); err != nil {
		t.Fatal(err)
	}
	for round := range 2 {
		if err := p.Primary.SQL("INSERT INTO kept VALUES (1)"); err != nil {
			t.Fatal(err)
		}
		if err := p.Primary.Kill(); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		if err := p.Promote(); err != nil {
			t.Fatal(err)
		}
		t.Logf("promoted in %v", time.Since(begun))
		if n := rows(t, p.URL("postgres")); n != round+1 {
			t.Errorf("%d rows after the primary was killed, want %d", n, round+1)
		}
		if err := p.Rejoin(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDatabasesAreApart(t *testing.T) {
	first, second := Database(t), Database(t)
	if first == second {
		t.Errorf("two databases are %s", first)
	}
}
