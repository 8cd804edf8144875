package term

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"time"

	"github.com/atotto/clipboard"

	"keyctl/internal/credential"
	"keyctl/internal/fault"
)

const (
	// clipboardWait bounds what is done with the clipboard: a display server that does not answer holds its clients up
	// for ever.
	clipboardWait = 3 * time.Second
	// clipboardPause is the time between two looks at a clipboard that does not hold yet what it was given.
	clipboardPause = 50 * time.Millisecond
)

// otherPlace is the next step where there is no clipboard to be had.
const otherPlace = "choose another place, such as --out FILE"

// CheckClipboard reports whether there is a clipboard to reach: a program that does, and a display. It neither reads nor
// changes what is on it. Errors are fault.Unavailable.
func CheckClipboard(getenv func(string) string) error { return checkClipboard(getenv) }

// CopyToClipboard puts a secret on the clipboard, reads it back and compares (R30). It takes three seconds at most.
//
// Errors are fault.Unavailable, and that of ctx when it ends first. After an error the secret may be on the clipboard all
// the same, or get there when a program that hung wakes up.
func CopyToClipboard(ctx context.Context, secret credential.Secret) error {
	ctx, cancel := withClipboardWait(ctx)
	defer cancel()
	if err := writeClipboard(ctx, secret.Reveal()); err != nil {
		return err
	}
	want := credential.NewSecret(unixLines(secret.Reveal()))
	return settle(ctx, func(text string, err error) error {
		if err != nil || credential.NewSecret(unixLines(text)).Equal(want) {
			return err
		}
		return fault.New(fault.Unavailable, "the clipboard does not hold what was put there")
	})
}

// ClearClipboard empties the clipboard if it holds what was marked, and otherwise leaves it alone. It takes three seconds
// at most.
//
// Errors are fault.Unavailable, and that of ctx when it ends first. A clipboard that cannot be read is one: tools do not
// tell it from an empty one.
func ClearClipboard(ctx context.Context, mark ClipMark) error {
	ctx, cancel := withClipboardWait(ctx)
	defer cancel()
	text, err := readClipboard(ctx)
	if err != nil || !mark.matches(text) {
		return err
	}
	if err := writeClipboard(ctx, ""); err != nil {
		return err
	}
	return settle(ctx, func(text string, err error) error {
		if err == nil && mark.matches(text) {
			return fault.New(fault.Unavailable, "the clipboard still holds what was to be cleared")
		}
		return nil
	})
}

// settle looks at the clipboard until nothing is wrong with it any more, and returns what is wrong when the time is over.
// A tool may have ended before the display server has heard of what it did.
func settle(ctx context.Context, wrong func(text string, err error) error) error {
	last := clipboardHangs()
	for {
		text, err := readClipboard(ctx)
		if ctx.Err() == nil {
			if last = wrong(text, err); last == nil {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return ctx.Err()
			}
			return last
		case <-time.After(clipboardPause):
		}
	}
}

func withClipboardWait(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, clipboardWait, clipboardHangs())
}

func clipboardHangs() error {
	return fault.New(fault.Unavailable, "the clipboard did not answer within %d seconds", int(clipboardWait.Seconds()))
}

func writeClipboard(ctx context.Context, text string) error {
	_, err := leaving(ctx, func() (struct{}, error) { return struct{}{}, clipboard.WriteAll(text) })
	return clipboardFault(err, "written")
}

func readClipboard(ctx context.Context) (string, error) {
	text, err := leaving(ctx, clipboard.ReadAll)
	return text, clipboardFault(err, "read")
}

// clipboardFault words how the programs that reach the clipboard ended. Their error is not kept as its cause: what they
// printed hangs on it, and nobody knows what that is.
func clipboardFault(err error, done string) error {
	if err == nil || fault.From(err) != nil || errors.Is(err, context.Canceled) {
		return err
	}
	reason := err.Error() // "exit status 1", "signal: killed"
	if errors.Is(err, syscall.EPIPE) {
		reason = "its program does not read"
	}
	return fault.New(fault.Unavailable, "the clipboard could not be %s: %s", done, reason)
}

// leaving returns what f returns, or how ctx ended when that comes first. f, which cannot be interrupted, then stays
// behind until the process ends.
func leaving[T any](ctx context.Context, f func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	if ctx.Err() != nil {
		return *new(T), context.Cause(ctx)
	}
	done := make(chan result, 1)
	go func() {
		value, err := f()
		done <- result{value, err}
	}()
	select {
	case <-ctx.Done():
		return *new(T), context.Cause(ctx)
	case r := <-done:
		return r.value, r.err
	}
}

// unixLines takes away what a clipboard may do to a text: Windows ends lines in its own way, and its tools add one to the
// last or lose it.
func unixLines(text string) string {
	return strings.TrimRight(strings.ReplaceAll(text, "\r\n", "\n"), "\n")
}

// ClipMark knows a text on the clipboard again and does not tell what it is: a random salt, and the SHA-256 of salt and
// text. The zero value knows none.
type ClipMark struct {
	salt [16]byte
	sum  [sha256.Size]byte
}

// NewClipMark marks a secret with a salt from rand. Errors are those of rand.
func NewClipMark(rand io.Reader, secret credential.Secret) (ClipMark, error) {
	var m ClipMark
	if _, err := io.ReadFull(rand, m.salt[:]); err != nil {
		return ClipMark{}, fmt.Errorf("drawing a salt: %w", err)
	}
	m.sum = m.sumOf(secret.Reveal())
	return m, nil
}

// ParseClipMark reads what String wrote. Errors are fault.Invalid.
func ParseClipMark(text string) (ClipMark, error) {
	var m ClipMark
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) != len(m.salt)+len(m.sum) {
		return ClipMark{}, fault.New(fault.Invalid, "that is no mark of a text on the clipboard")
	}
	copy(m.sum[:], raw[copy(m.salt[:], raw):])
	return m, nil
}

// String writes the mark as one word.
func (m ClipMark) String() string {
	return base64.RawURLEncoding.EncodeToString(append(m.salt[:], m.sum[:]...))
}

func (m ClipMark) sumOf(text string) [sha256.Size]byte {
	return sha256.Sum256(append(m.salt[:], unixLines(text)...))
}

// matches compares in constant time (R3).
func (m ClipMark) matches(text string) bool {
	sum := m.sumOf(text)
	return subtle.ConstantTimeCompare(sum[:], m.sum[:]) == 1
}
