// Package process sets up the operating system process that keyctl runs in: what it leaves behind when it crashes, with
// which modes it creates files, what happens when its output is gone.
//
// Everything here is state of the whole process. Only main calls it, first thing; no package changes such state later.
// It handles no requests to stop (those are contexts) and starts no child programs.
package process

import (
	"os"
	"os/signal"
	"syscall"
)

// IgnoreBrokenPipe makes a write to a pipe without a reader return EPIPE on every descriptor. Without it the Go runtime
// ends the process on standard output and standard error, and keyctl could not withdraw the credential that nobody
// received (R28).
//
// The signal is caught, not ignored: an ignored one stays ignored in child programs, and theirs should end as they would
// without keyctl.
func IgnoreBrokenPipe() {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
}

// IsNullDevice reports whether writing to f loses everything: f is the null device. The Go runtime opens it in the place
// of a standard output that the parent had closed, so this is how `keyctl … >&-` looks from inside.
func IsNullDevice(f *os.File) bool { return isNullDevice(f) }
