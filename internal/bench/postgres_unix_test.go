//go:build unix

package bench

import (
	"os"
	"testing"

	"keyctl/internal/postgrestest"
)

// newDatabase makes an empty database in a server of its own, whose files lie beside those of the other engine: on a disk, not in
// memory.
func newDatabase(b *testing.B) string {
	b.Helper()
	return postgrestest.New(b, postgrestest.Options{Folder: os.TempDir()}).Database(b)
}
