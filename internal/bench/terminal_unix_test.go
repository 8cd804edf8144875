//go:build unix

package bench

import (
	"io"
	"os/exec"
	"testing"
	"time"

	"github.com/creack/pty"
)

// runOnTerminal is run with a terminal on all three streams.
func (c command) runOnTerminal(b *testing.B) time.Duration {
	b.Helper()
	cmd := exec.Command(c.path, c.args...)
	cmd.Env = c.env
	begun := time.Now()
	terminal, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 50, Cols: 160})
	if err != nil {
		b.Fatal(err)
	}
	defer terminal.Close()
	_, _ = io.Copy(io.Discard, terminal) // its end is an error on Linux
	err = cmd.Wait()
	took := time.Since(begun)
	if err != nil {
		b.Fatalf("%q on a terminal: %v", c.args, err)
	}
	return took
}
