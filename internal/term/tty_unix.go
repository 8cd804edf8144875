//go:build unix

package term

import (
	"io"
	"os"
)

// openTTY opens the terminal that controls the process, wherever its streams lead.
func openTTY() (TTY, error) {
	f, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	return TTY{In: f, Out: f}, err
}

// enableColor reports that colours need no preparation.
func enableColor(io.Writer) bool { return true }
