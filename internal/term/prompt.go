package term

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"keyctl/internal/credential"
	"keyctl/internal/fault"
)

// maxAnswerBytes bounds what is kept of an answer; the longest that makes sense is a pasted credential.
const maxAnswerBytes = 4096

// Ask asks for one line and returns it without its end. The prompt is followed by a colon and a blank; it may have
// several lines.
//
// All prompts share these errors: ErrNotTerminal when CanPrompt is false, ErrAborted for Ctrl-D, context.Canceled for
// Ctrl-C, the error of ctx when that ends first, and fault.Invalid for an answer of more than 4096 bytes. However a
// prompt ends, the terminal is left as it was found. Ctrl-C reaches Ask as the signal that main turns into the end of
// ctx.
func (t *Terminal) Ask(ctx context.Context, prompt string) (string, error) {
	return t.ask(ctx, prompt+": ", readLine, nil)
}

// AskSecret asks for one line without showing it. Backspace and Ctrl-U work as usual. Apart from that it is Ask.
func (t *Terminal) AskSecret(ctx context.Context, prompt string) (credential.Secret, error) {
	text, err := t.ask(ctx, prompt+": ", readSecret, hideTyping)
	return credential.NewSecret(text), err
}

// Confirm asks a question that is answered with y or yes, in any case. Everything else, and above all nothing, is no.
func (t *Terminal) Confirm(ctx context.Context, question string) (bool, error) {
	answer, err := t.Ask(ctx, question+" [y/N]")
	if err != nil {
		return false, err
	}
	answer = strings.TrimSpace(answer)
	return strings.EqualFold(answer, "y") || strings.EqualFold(answer, "yes"), nil
}

// ConfirmName asks to type a name before something that cannot be undone, and returns nil when it was typed exactly.
// Anything else is fault.Invalid.
func (t *Terminal) ConfirmName(ctx context.Context, question, name string) error {
	answer, err := t.Ask(ctx, fmt.Sprintf("%s\nType %s to confirm", question, Clean(name)))
	if err != nil {
		return err
	}
	if strings.TrimSpace(answer) != name {
		return fault.New(fault.Invalid, "that is not %q: nothing was changed", name)
	}
	return nil
}

// ask opens the terminal, prepares it, asks, and puts everything back. prepare runs before the prompt is shown, so that
// nothing typed in answer to it can appear on the screen.
func (t *Terminal) ask(ctx context.Context, prompt string, read func(io.Reader) (string, error),
	prepare func(TTY) (restore func() error, err error),
) (answer string, err error) {
	if !t.canPrompt {
		return "", ErrNotTerminal
	}
	if err := ctx.Err(); err != nil {
		return "", err
	}
	tty, err := t.openTTY()
	if err != nil {
		return "", fmt.Errorf("opening the terminal: %w", err)
	}
	defer tty.Close()

	eol := "\n"
	if prepare != nil {
		eol = "\r\n" // the terminal no longer completes a line end
		restore, prepareErr := prepare(tty)
		if prepareErr != nil {
			return "", fmt.Errorf("preparing the terminal: %w", prepareErr)
		}
		defer func() {
			if restoreErr := restore(); err == nil && restoreErr != nil {
				err = fmt.Errorf("restoring the terminal: %w", restoreErr)
			}
		}()
	}
	if _, err := io.WriteString(tty.Out, cleanLines(prompt, eol)); err != nil {
		return "", fmt.Errorf("writing to the terminal: %w", err)
	}
	answer, err = readOrCancel(ctx, tty.In, read)
	if prepare != nil || err != nil {
		// Nothing typed has ended the line on the screen.
		_, _ = io.WriteString(tty.Out, eol)
	}
	return answer, err
}

// readOrCancel returns what read makes of the terminal's input, or the error of ctx as soon as that ends. Where the
// system cannot interrupt a read from a terminal (macOS, Windows), the reading goroutine stays behind until the process
// ends, which after a cancelled prompt is soon.
func readOrCancel(ctx context.Context, in *os.File, read func(io.Reader) (string, error)) (string, error) {
	type result struct {
		text string
		err  error
	}
	done := make(chan result, 1)
	go func() {
		text, err := read(in)
		done <- result{text, err}
	}()
	select {
	case <-ctx.Done():
		_ = in.SetReadDeadline(time.Unix(0, 0))
		return "", ctx.Err()
	case r := <-done:
		return r.text, r.err
	}
}

// hideTyping takes the terminal out of echo and line mode. Ctrl-C then arrives as a byte, so that no signal can end the
// process between here and restore.
func hideTyping(tty TTY) (restore func() error, err error) {
	var former *term.State
	if err := control(tty.In, func(fd int) (err error) {
		former, err = term.MakeRaw(fd)
		return err
	}); err != nil {
		return nil, err
	}
	return func() error {
		return control(tty.In, func(fd int) error { return term.Restore(fd, former) })
	}, nil
}

// control calls f with the descriptor of a file. Unlike (*os.File).Fd this leaves the file in non-blocking mode, without
// which a read cannot be interrupted.
func control(file *os.File, f func(fd int) error) error {
	conn, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := conn.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return err
	}
	return inner
}

// readLine reads a line that the terminal has let the user edit. It reads no byte beyond the line: the next one may be
// meant for somebody else.
func readLine(r io.Reader) (string, error) {
	var line []byte
	for {
		b, err := readByte(r)
		if errors.Is(err, io.EOF) && len(line) == 0 {
			return "", ErrAborted
		}
		if errors.Is(err, io.EOF) || b == '\n' && err == nil {
			return strings.TrimSuffix(string(line), "\r"), nil
		}
		if err != nil {
			return "", fmt.Errorf("reading from the terminal: %w", err)
		}
		if line = append(line, b); len(line) > maxAnswerBytes {
			return "", errTooLong()
		}
	}
}

// readSecret reads a line from a terminal that hideTyping has prepared.
func readSecret(r io.Reader) (string, error) {
	var e editor
	for {
		b, err := readByte(r)
		if errors.Is(err, io.EOF) {
			return "", ErrAborted
		}
		if err != nil {
			return "", fmt.Errorf("reading from the terminal: %w", err)
		}
		done, err := e.feed(b)
		if err != nil {
			return "", err
		}
		if done {
			return string(e.line), nil
		}
	}
}

func readByte(r io.Reader) (byte, error) {
	var b [1]byte
	_, err := io.ReadFull(r, b[:])
	return b[0], err
}

func errTooLong() error {
	return fault.New(fault.Invalid, "the answer is longer than %d bytes", maxAnswerBytes)
}
