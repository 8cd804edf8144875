package cmd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"keyctl/internal/fault"
	"keyctl/internal/process"
	"keyctl/internal/term"
)

const (
	// clipboardTime is how long a credential stays on the clipboard.
	clipboardTime = 45 * time.Second
	// maxClipboardTime bounds how long clipboard-clear may be told to wait.
	maxClipboardTime = time.Hour
	// maxClearing bounds the line that clipboard-clear reads.
	maxClearing = 256

	clipboardClear = "clipboard-clear"
)

// newClipboardClear is how keyctl clears the clipboard after the command that filled it has ended: a process of its own
// that knows neither the secret nor the store. Nobody else has a reason to run it.
func newClipboardClear(a *app) *cobra.Command {
	return &cobra.Command{
		Use: clipboardClear, Hidden: true,
		Short: "Clear the clipboard later, if it still holds what keyctl put there",
		Long: `keyctl starts this command itself when it puts a credential on the clipboard. Standard input is one line: a mark
of what was put there (a salt and a hash), and how long to wait.`,
		Args: args(),
		RunE: func(c *cobra.Command, _ []string) error {
			mark, wait, err := readClearing(a.sys.Stdin)
			if err != nil {
				return err
			}
			return clearClipboard(c.Context(), mark, wait)
		},
	}
}

// clearClipboard clears the clipboard after a while, or when it is asked to end: rather too early than not at all.
func clearClipboard(ctx context.Context, mark term.ClipMark, wait time.Duration) error {
	select {
	case <-ctx.Done():
	case <-time.After(wait):
	}
	return term.ClearClipboard(context.WithoutCancel(ctx), mark)
}

// startClearing starts clipboard-clear. environ is its environment, which leads to the display.
func startClearing(environ []string, mark term.ClipMark, wait time.Duration) error {
	return process.Detach(environ, fmt.Sprintf("%s %s\n", mark, wait), clipboardClear)
}

// readClearing reads the line that startClearing wrote.
func readClearing(r io.Reader) (term.ClipMark, time.Duration, error) {
	refused := fault.New(fault.Invalid, "standard input does not say what to clear").WithHint("keyctl runs this command by itself")
	line, err := bufio.NewReader(io.LimitReader(r, maxClearing)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return term.ClipMark{}, 0, refused.WithCause(err)
	}
	var word, duration string
	if _, err := fmt.Sscanf(line, "%s %s\n", &word, &duration); err != nil {
		return term.ClipMark{}, 0, refused.WithCause(err)
	}
	mark, err := term.ParseClipMark(word)
	if err != nil {
		return term.ClipMark{}, 0, refused.WithCause(err)
	}
	wait, err := time.ParseDuration(duration)
	if err != nil || wait < 0 || wait > maxClipboardTime {
		return term.ClipMark{}, 0, refused.WithCause(err)
	}
	return mark, wait, nil
}
