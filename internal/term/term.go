// Package term is everything keyctl knows about the terminal: whether there is one, how wide it is, whether it wants
// colour, how to ask a person something, how to draw a table, how to show text that somebody else chose.
//
// The rules: data goes to standard output and words to standard error, by the commands; questions go to the terminal
// itself, so that pipes stay free; nothing is asked where nobody would answer; and nothing is ever asked of the terminal,
// because one that does not reply would hold keyctl up for seconds. The package decides nothing about keys, and it reads
// the environment only through the function it is given.
//
// It also reaches the clipboard, which is as near to the person as the terminal.
package term

import (
	"cmp"
	"errors"
	"io"
	"os"
	"runtime"
	"strings"

	"golang.org/x/term"
)

// ErrNotTerminal is returned by prompts when Terminal.CanPrompt is false. Commands ask CanPrompt first and name the flag
// that is missing; the error is there in case one forgets.
var ErrNotTerminal = errors.New("there is no terminal to ask on")

// ErrAborted is returned by prompts that were left with Ctrl-D, or whose terminal was closed.
var ErrAborted = errors.New("the prompt was left without an answer")

// Options are what a Terminal cannot find out from its streams.
type Options struct {
	NoInput bool                // never ask, whatever the streams are
	Color   string              // "auto", "always" or "never"; empty is "auto"
	Getenv  func(string) string // for NO_COLOR, CLICOLOR_FORCE, TERM, TMUX, STY and the locale; nil is an empty environment
	OpenTTY func() (TTY, error) // opens the terminal for one use; nil is the process's own terminal
}

// TTY is a terminal opened for one use, such as a prompt. On Unix both ends are the same file.
type TTY struct{ In, Out *os.File }

// Close closes both ends.
func (t TTY) Close() error {
	err := t.In.Close()
	if t.Out == t.In {
		return err
	}
	return errors.Join(err, t.Out.Close())
}

// Terminal answers questions about the streams of a process and asks questions of the person in front of it. The answers
// are found once, by New, except for widths, which change with the window.
type Terminal struct {
	stdin     bool // it is a terminal
	stdout    output
	stderr    output
	canPrompt bool
	getenv    func(string) string
	openTTY   func() (TTY, error)
}

// output is a stream that is written to.
type output struct {
	w       io.Writer
	tty     bool
	color   bool
	unicode bool
	redraws bool // a line of it can be drawn again
}

// Surface is what a stream can show. Its zero value is one that is no terminal.
type Surface struct {
	Width   int  // columns; 0: it is no terminal, or does not tell
	Color   bool // it should be coloured
	Unicode bool // it draws lines and blocks; else only ASCII is safe
}

// New looks at the streams. Only an *os.File (or another value with its Fd method) can be a terminal.
func New(stdin io.Reader, stdout, stderr io.Writer, opts Options) *Terminal {
	getenv := opts.Getenv
	if getenv == nil {
		getenv = func(string) string { return "" }
	}
	t := &Terminal{
		stdout:  newOutput(stdout, opts.Color, getenv),
		stderr:  newOutput(stderr, opts.Color, getenv),
		stdin:   isTerminal(stdin),
		getenv:  getenv,
		openTTY: opts.OpenTTY,
	}
	t.canPrompt = !opts.NoInput && t.stdin && t.stderr.tty
	if t.openTTY == nil {
		t.openTTY = openTTY
	}
	return t
}

func newOutput(w io.Writer, color string, getenv func(string) string) output {
	o := output{w: w, tty: isTerminal(w), unicode: drawsUnicode(getenv)}
	o.redraws = o.tty && getenv("TERM") != "dumb"
	o.color = wantsColor(color, o.tty, getenv)
	if o.color && o.tty {
		o.color = enableColor(w) || color == "always"
	}
	return o
}

// CanPrompt reports whether questions may be asked: standard input and standard error are terminals, and input was not
// forbidden. Standard output may be a pipe: the answer then still goes where the user wanted it.
func (t *Terminal) CanPrompt() bool { return t.canPrompt }

// StdinIsTerminal reports whether standard input is a terminal, so that nothing comes from there unless a person types it.
func (t *Terminal) StdinIsTerminal() bool { return t.stdin }

// StdoutIsTerminal reports whether a person reads the standard output directly.
func (t *Terminal) StdoutIsTerminal() bool { return t.stdout.tty }

// Stdout tells what standard output can show, now.
func (t *Terminal) Stdout() Surface { return t.stdout.surface() }

// Stderr tells what standard error can show, now.
func (t *Terminal) Stderr() Surface { return t.stderr.surface() }

func (o output) surface() Surface {
	return Surface{Width: o.width(), Color: o.color, Unicode: o.unicode}
}

func (o output) width() int {
	if !o.tty {
		return 0
	}
	fd, _ := descriptor(o.w)
	width, _, err := term.GetSize(fd)
	if err != nil || width < 0 {
		return 0
	}
	return width
}

// wantsColor decides by the first of these that says something: the flag; NO_COLOR, set to anything (no-color.org);
// CLICOLOR_FORCE, set to anything but 0 (bixense.com/clicolors); output to something else than a terminal; a terminal
// that cannot (TERM=dumb).
func wantsColor(flag string, terminal bool, getenv func(string) string) bool {
	switch flag {
	case "always":
		return true
	case "never":
		return false
	}
	if getenv("NO_COLOR") != "" {
		return false
	}
	if force := getenv("CLICOLOR_FORCE"); force != "" && force != "0" {
		return true
	}
	return terminal && getenv("TERM") != "dumb"
}

// drawsUnicode decides by the locale, in the order of POSIX (the Base Definitions' 8.2): the first variable that is set
// counts. Consoles of Windows have no locale in the environment, and draw.
func drawsUnicode(getenv func(string) string) bool {
	if getenv("TERM") == "dumb" {
		return false
	}
	locale := cmp.Or(getenv("LC_ALL"), getenv("LC_CTYPE"), getenv("LANG"))
	if locale == "" {
		return runtime.GOOS == "windows"
	}
	locale = strings.ToLower(locale)
	return strings.Contains(locale, "utf-8") || strings.Contains(locale, "utf8")
}

// descriptor returns the file descriptor behind a stream, if it has one.
func descriptor(stream any) (int, bool) {
	f, ok := stream.(interface{ Fd() uintptr })
	if !ok {
		return 0, false
	}
	return int(f.Fd()), true
}

func isTerminal(stream any) bool {
	fd, ok := descriptor(stream)
	return ok && term.IsTerminal(fd)
}
