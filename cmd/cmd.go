// Package cmd is keyctl's command line: one file a command, root.go for what they share, exit.go for how failures leave.
//
// A command turns flags into one call of keys.Service and hands the answer to the printer. It holds no rule about keys,
// no SQL and no HTTP, and never learns which backend it talks to. Data goes to standard output, words for people to
// standard error, questions to the terminal itself.
package cmd

import (
	"context"
	"io"
	"os"
	"os/signal"
	"os/user"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"keyctl/internal/fault"
	"keyctl/internal/process"
)

// System is the world as a command sees it. main.go fills it with the real one, tests with theirs.
type System struct {
	Args   []string // without the program's name
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
	Getenv func(string) string
	Now    func() time.Time
	Rand   io.Reader
}

// Main runs one command and returns its exit status (exit.go). It hardens the process first, turns interrupts into the
// end of a context, and makes a closed pipe an error that can be answered instead of a sudden death.
func Main(sys *System) int {
	if _, err := process.Harden(); err != nil {
		return report(sys, false, err)
	}
	process.IgnoreBrokenPipe()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	// After the first interrupt the command gets to put things right; a second one ends it at once.
	context.AfterFunc(ctx, stop)

	a := newApp(sys)
	root := newRoot(a)
	root.SetArgs(sys.Args)
	root.SetIn(sys.Stdin)
	root.SetOut(sys.Stdout)
	root.SetErr(sys.Stderr)
	err := root.ExecuteContext(ctx)
	if closing := a.close(); err == nil {
		err = closing
	}
	if ctx.Err() != nil && fault.Is(err, fault.Internal) {
		err = context.Canceled // whatever broke, broke because of the interrupt
	}
	return report(sys, a.wantsJSON(), err)
}

// osUser is the login name that names the local operator: of the effective user, or a made-up one where the system does
// not know it.
func osUser() string {
	if u, err := user.Current(); err == nil && u.Username != "" {
		return u.Username
	}
	return "uid-" + strconv.Itoa(os.Getuid())
}

// homeDir is the user's home directory, or nothing where there is none.
func homeDir(getenv func(string) string) string {
	if home := getenv("HOME"); home != "" || runtime.GOOS != "windows" {
		return home
	}
	return getenv("USERPROFILE")
}
