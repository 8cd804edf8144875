//go:build unix

package postgrestest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// Pair is a primary with a standby that confirms each commit before it is reported. After Promote the two have changed
// places, and Rejoin makes a standby of the one that was killed.
type Pair struct {
	Primary, Standby *Server
}

// pairSettings let a server be either of the two.
var pairSettings = []string{"wal_level=replica", "max_wal_senders=5", "hot_standby=on", "wal_keep_size=64MB", "wal_log_hints=on"}

// NewPair starts a pair for the time of a test.
func NewPair(tb testing.TB) *Pair {
	tb.Helper()
	primary := New(tb, Options{TCP: true, Settings: pairSettings})
	standby, err := prepare(Options{TCP: true, Settings: pairSettings})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(standby.Stop)
	err = primary.run("pg_basebackup", "-h", primary.dir, "-p", fmt.Sprint(primary.port), "-U", "test", "-D", standby.data(),
		"-X", "stream", "-c", "fast", "-R", "-C", "-S", "standby", "--no-sync")
	if err == nil {
		err = standby.Up()
	}
	p := &Pair{primary, standby}
	if err == nil {
		err = p.synchronise()
	}
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

// synchronise has the primary wait for its standby at each commit, and the standby for nobody once it is promoted. What was
// committed before is on the standby, too, when it returns.
func (p *Pair) synchronise() error {
	p.Standby.settings = pairSettings
	p.Primary.settings = append(slices.Clone(pairSettings), "synchronous_standby_names='*'")
	if err := p.Primary.configure(); err != nil {
		return err
	}
	if err := p.Primary.SQL("SELECT pg_reload_conf()"); err != nil {
		return err
	}
	return p.Primary.until(`EXISTS (SELECT FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum') AND flush_lsn >= pg_current_wal_flush_lsn())`)
}

// URL names a database on whichever of the two is the primary, as a client is told it.
func (p *Pair) URL(database string) string {
	return "postgres://test@" + p.Primary.Address() + "," + p.Standby.Address() + "/" + database + "?sslmode=disable"
}

// Promote makes a primary of the standby, after the primary was killed or taken down.
func (p *Pair) Promote() error {
	if p.Primary.running() {
		return errors.New("the old primary still runs")
	}
	if err := p.Standby.run("pg_ctl", "-D", p.Standby.data(), "-w", "promote"); err != nil {
		return err
	}
	p.Primary, p.Standby = p.Standby, p.Primary
	return nil
}

// Rejoin makes a standby of the server that is down, and has the primary wait for it again.
func (p *Pair) Rejoin() error {
	// The checkpoint writes the new timeline down; without it the old primary would take itself for one still.
	if err := p.Primary.SQL("CHECKPOINT", "SELECT pg_create_physical_replication_slot('standby')"); err != nil {
		return err
	}
	_ = os.Remove(filepath.Join(p.Standby.data(), "postmaster.pid"))
	source := fmt.Sprintf("host=%s port=%d user=test dbname=postgres", p.Primary.dir, p.Primary.port)
	if err := p.Standby.run("pg_rewind", "-D", p.Standby.data(), "--source-server="+source, "--no-sync", "-R"); err != nil {
		return err
	}
	auto, err := os.OpenFile(filepath.Join(p.Standby.data(), "postgresql.auto.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = auto.WriteString("primary_slot_name = 'standby'\n")
	if err = errors.Join(err, auto.Close()); err != nil {
		return err
	}
	p.Standby.settings = pairSettings
	if err := p.Standby.Up(); err != nil {
		return err
	}
	return p.synchronise()
}
