// Package process sets up the operating system process that keyctl runs in: what it leaves behind when it crashes, with
// which modes it creates files, what happens when its output is gone, what its children inherit, when its memory is collected,
// and how it makes way for another program.
//
// Everything here is state of the whole process, so only main and cmd call it. The package handles no requests to stop
// (those are contexts), and the only program it starts beside itself is keyctl again, detached.
package process

import (
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
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

// HideEnv takes variables out of the environment of the process, so that no program it starts inherits them, whoever
// starts it and however (R30). The result is os.Getenv for a caller that still needs them: it knows what they held.
func HideEnv(names ...string) (getenv func(name string) string) {
	hidden := make(map[string]string, len(names))
	for _, name := range names {
		if value, set := os.LookupEnv(name); set {
			hidden[envKey(name)] = value
			_ = os.Unsetenv(name) // fails for names that no variable can have, and this one is there
		}
	}
	return func(name string) string {
		if value, ok := hidden[envKey(name)]; ok {
			return value
		}
		return os.Getenv(name)
	}
}

// envKey is the name of a variable as the system compares it: Windows folds case.
func envKey(name string) string {
	if runtime.GOOS == "windows" {
		return strings.ToUpper(name)
	}
	return name
}

// collectAfter is how far a server lets its memory grow before it is collected, in percent of what is in use.
const collectAfter = 400

// CollectLater has unused memory collected less often, unless GOGC says how often. A server has a few megabytes in use and
// makes garbage at every request: with Go's setting it would collect a hundred times a second.
func CollectLater() {
	const gosOwn = 100
	if before := debug.SetGCPercent(collectAfter); before != gosOwn {
		debug.SetGCPercent(before)
	}
}
