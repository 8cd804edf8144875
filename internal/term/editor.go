package term

import (
	"context"
	"unicode/utf8"
)

// Control characters as a terminal in raw mode sends them.
const (
	ctrlC     = 0x03
	ctrlD     = 0x04
	backspace = 0x08
	ctrlU     = 0x15
	escape    = 0x1b
	blank     = 0x20 // the first that is no control character
	del       = 0x7f
)

// editor turns the bytes of a terminal in raw mode into a line, without showing it. The zero value is an empty line.
type editor struct {
	line []byte
	seq  sequence
}

// sequence is where in an escape sequence, such as that of an arrow key, the input is.
type sequence int

const (
	noSequence   sequence = iota
	afterEscape           // ESC was read
	inSequence            // ESC [ was read; a byte from @ to ~ ends it (ECMA-48, 5.4)
	oneMoreInSeq          // ESC O was read; exactly one byte follows
)

// feed takes one byte and reports whether the line is finished. Ctrl-C is context.Canceled, and Ctrl-D on an empty line
// is ErrAborted. Escape sequences and other control characters are dropped: nobody
// could see that they had become part of a secret.
func (e *editor) feed(b byte) (done bool, err error) {
	if e.seq != noSequence && b != ctrlC && b != '\r' && b != '\n' {
		e.skip(b)
		return false, nil
	}
	e.seq = noSequence
	switch b {
	case '\r', '\n':
		return true, nil
	case ctrlC:
		return false, context.Canceled
	case ctrlD:
		if len(e.line) == 0 {
			return false, ErrAborted
		}
	case backspace, del:
		_, size := utf8.DecodeLastRune(e.line)
		e.line = e.line[:len(e.line)-size]
	case ctrlU:
		e.line = e.line[:0]
	case escape:
		e.seq = afterEscape
	default:
		if b < blank {
			return false, nil
		}
		if len(e.line) == maxAnswerBytes {
			return false, errTooLong()
		}
		e.line = append(e.line, b)
	}
	return false, nil
}

// skip advances through an escape sequence.
func (e *editor) skip(b byte) {
	switch {
	case e.seq == afterEscape && b == '[':
		e.seq = inSequence
	case e.seq == afterEscape && b == 'O':
		e.seq = oneMoreInSeq
	case e.seq == inSequence && (b < '@' || b > '~'):
	default:
		e.seq = noSequence
	}
}
