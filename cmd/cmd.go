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

	"github.com/spf13/cobra"

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

// silent is the same system without a standard error. What cobra cannot parse for completion it tells the process's own.
func (sys *System) silent() *System {
	quiet := *sys
	quiet.Stderr = io.Discard
	if null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0); err == nil {
		os.Stderr = null
	}
	return &quiet
}

// Main runs one command and returns its exit status (exit.go). It hardens the process first.
func Main(sys *System) int {
	unharden, err := process.Harden()
	if err != nil {
		return report(sys, false, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	forShell := completing(sys.Args)
	if forShell {
		sys = sys.silent()
	}
	a := newApp(sys)
	a.unharden = unharden
	root := newRoot(a)
	if forShell {
		a.offerValues(root)
	}
	root.PersistentPreRun = func(c *cobra.Command, _ []string) {
		if c.Annotations[reads] == "" && !forShell {
			handleSignals(ctx, cancel)
		}
	}
	root.SetArgs(sys.Args)
	root.SetIn(sys.Stdin)
	root.SetOut(sys.Stdout)
	root.SetErr(sys.Stderr)
	err = root.ExecuteContext(ctx)
	if closing := a.close(); err == nil {
		err = closing
	}
	if ctx.Err() != nil && fault.Is(err, fault.Internal) {
		err = context.Canceled // whatever broke, broke because of the interrupt
	}
	return report(sys, a.wantsJSON(), err)
}

// reads marks a command that only reads and never asks: whatever ends it, there is nothing to put right. It is left to the
// system's own ways with signals, which end in the same exit statuses; handling them would take it 6 % more time.
const reads = "reads"

// onlyReads are the annotations of a command that only reads.
func onlyReads() map[string]string { return map[string]string{reads: "yes"} }

// handleSignals turns an interrupt into the end of the context, so that the command gets to put things right; a second
// one ends it at once. And it makes a closed pipe an error that can be answered, instead of a sudden death.
func handleSignals(ctx context.Context, cancel context.CancelFunc) {
	process.IgnoreBrokenPipe()
	interrupted, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(interrupted, func() {
		stop()
		cancel()
	})
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
