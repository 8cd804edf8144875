package bench

import (
	"testing"

	"keyctl/internal/postgrestest"
)

// newDatabase skips the benchmark.
func newDatabase(b *testing.B) string {
	b.Helper()
	return postgrestest.Database(b)
}
