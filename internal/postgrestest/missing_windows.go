// Package postgrestest brings up PostgreSQL servers for tests; on Windows there are none.
package postgrestest

import "testing"

// Database skips the test.
func Database(tb testing.TB) string {
	tb.Helper()
	tb.Skip("no PostgreSQL server is started on Windows")
	return ""
}
