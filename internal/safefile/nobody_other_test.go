//go:build unix && !linux

package safefile

import (
	"os"
	"testing"
)

// asNobody runs a function as an ordinary user, if that is who runs the test.
func asNobody(t *testing.T, f func()) {
	t.Helper()
	if os.Geteuid() == 0 {
		t.Skip("root can write everywhere")
	}
	f()
}
