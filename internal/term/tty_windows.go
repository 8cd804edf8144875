package term

import (
	"io"
	"os"

	"golang.org/x/sys/windows"
)

// openTTY opens the console that the process is attached to, wherever its streams lead.
func openTTY() (TTY, error) {
	in, err := os.OpenFile("CONIN$", os.O_RDWR, 0) // writable, because its mode is changed through it
	if err != nil {
		return TTY{}, err
	}
	out, err := os.OpenFile("CONOUT$", os.O_RDWR, 0)
	if err != nil {
		_ = in.Close()
		return TTY{}, err
	}
	return TTY{In: in, Out: out}, nil
}

// enableColor makes the console understand colour sequences and reports whether it does. Consoles before Windows 10
// version 1511 print them as they are.
func enableColor(stdout io.Writer) bool {
	fd, ok := descriptor(stdout)
	if !ok {
		return false
	}
	var mode uint32
	if err := windows.GetConsoleMode(windows.Handle(fd), &mode); err != nil {
		return false
	}
	return windows.SetConsoleMode(windows.Handle(fd), mode|windows.ENABLE_VIRTUAL_TERMINAL_PROCESSING) == nil
}
