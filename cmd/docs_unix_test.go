//go:build unix

package cmd_test

import (
	"os/exec"
	"regexp"
	"strings"

	"keyctl/internal/desktoptest"
	"keyctl/internal/keyringtest"
)

func init() {
	onTerminal = (*reader).runOnTerminal
	atDesk = (*reader).sitDown
}

// sitDown gives the reader a keyring and a clipboard, where the page uses them.
func (r *reader) sitDown(uses func(words string) bool) {
	r.t.Helper()
	if uses(`--keyring|keyctl credentials|keyring:|secret-tool`) {
		r.env = append(r.env, keyringtest.New(r.t).Env())
	}
	if uses(`--copy\b|xclip`) {
		desktoptest.Tool(r.t, "xclip")
		r.env = desktoptest.X11(r.t).Environ(r.env)
	}
}

// typed finds what a page shows behind a question: somebody typed it.
var typed = regexp.MustCompile(`^(.*(?:\[y/N\]|or a date|s left\)|to confirm): )(\S+)$`)

// runOnTerminal runs a command with a terminal of its own, and types what the page shows behind questions, each when it is
// asked. Whatever code the page shows, the one typed is the authenticator's next.
func (r *reader) runOnTerminal(command *exec.Cmd, shown []string) (screen string) {
	r.t.Helper()
	command.Env = append(command.Env, "NO_COLOR=1") // pages have none
	c, err := converse(command, 100)
	if err != nil {
		r.t.Fatal(err)
	}
	defer c.terminal.Close()
	codes := 0
	for _, line := range shown {
		m := typed.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		question := regexp.MustCompile(`(?m)^` + seconds.ReplaceAllString(regexp.QuoteMeta(m[1]), `\(\d+ s left\)`))
		if err := c.await(question); err != nil {
			r.t.Fatal(err)
		}
		answer := m[2]
		if strings.HasSuffix(m[1], "s left): ") {
			r.learnSeed(c.screen)
			answer = r.codeAfter(codes)
			codes++
		}
		if err := c.say(answer); err != nil {
			r.t.Fatal(err)
		}
	}
	if _, err := c.end(); err != nil {
		r.t.Fatal(err)
	}
	return c.screen
}

// seconds finds in a pattern how long a code is still good for.
var seconds = regexp.MustCompile(`\\\(\d+ s left\\\)`)
