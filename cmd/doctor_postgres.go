package cmd

import (
	"context"
	"time"
)

// maxClockGap is how far this machine's clock and the database's may be apart: authenticator codes tolerate half a minute.
const maxClockGap = 10 * time.Second

// postgresChecks are checks for a store in PostgreSQL. What is about its files is the database's administrator's.
func (e *examination) postgresChecks() []check {
	return []check{
		{"configuration", e.configuration}, {"store", e.postgresStore}, {"database", e.database}, {"master-key", e.masterKey},
		{"permissions", e.permissions}, {"audit-log", e.auditLog}, {"second-factor", e.secondFactor}, {"clock", e.clocks},
		{"keyring", e.keyring}, {"clipboard", e.clipboard}, {"path", e.path}, {"expiring-keys", e.expiringKeys},
		{"unrestricted-keys", e.unrestrictedKeys}, {"unused-keys", e.unusedKeys}, {"leftovers", e.leftovers},
	}
}

// postgresStore: can it be reached, and is it one that this program reads?
func (e *examination) postgresStore(context.Context) []finding {
	switch {
	case e.cfgErr != nil:
		return e.unreadable()
	case e.storeErr != nil:
		return []finding{undecided(e.storeErr)}
	}
	db := e.a.db
	if db.Outdated() {
		return []finding{found(resultWarning, "%q is there, and of format %d, where this keyctl has %d", db.Path(), db.SchemaVersion(), db.NewestVersion()).
			hint("the next command that works on it upgrades it: make a copy first, with PostgreSQL's own tools")}
	}
	return []finding{found(resultOK, "%q is there, of format %d", db.Path(), db.SchemaVersion())}
}

// database: does PostgreSQL keep what keyctl promises? That it reports no change as done before it is durable was found out when
// it was connected to.
func (e *examination) database(ctx context.Context) []finding {
	if e.cfgErr != nil || e.storeErr != nil {
		return e.unreadable()
	}
	server, err := e.a.db.Server(ctx)
	if err != nil {
		return []finding{undecided(err)}
	}
	if !server.FullPageWrites {
		return []finding{found(resultWarning, "PostgreSQL %s runs with full_page_writes=off: a crash of its machine can damage the store", server.Version).
			hint("set full_page_writes=on, unless its file system never tears a page")}
	}
	durable := "a change is durable there before it is reported"
	if server.Standby {
		durable = "a change is durable there and on a standby before it is reported"
	}
	return []finding{found(resultOK, "PostgreSQL %s, %s in all; %s", server.Version, sizeText(uint64(server.Size)), durable)}
}

// clocks is clock, and compares with the database's.
func (e *examination) clocks(ctx context.Context) []finding {
	findings := e.clock(ctx)
	if e.cfgErr != nil || e.storeErr != nil {
		return findings
	}
	before := e.a.sys.Now()
	server, err := e.a.db.Server(ctx)
	if err != nil {
		return append(findings, undecided(err))
	}
	now := before.Add(e.a.sys.Now().Sub(before) / 2)
	if gap := now.Sub(server.Now).Abs(); gap > maxClockGap {
		findings = append(findings, found(resultWarning, "this machine's clock and the database's are %s apart", gap.Round(time.Second)).
			hint("set both: every server judges expiries, graces and authenticator codes by its own clock"))
	}
	return findings
}
