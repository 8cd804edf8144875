// Package audit defines what an audit event says and how events become a chain that shows tampering: each record names
// the hash of the one before it and carries a MAC over its stored bytes, and a MACed head names the last one, so that
// an edited, missing, inserted, moved or cut record is found and named. It is pure: storing records and heads, in the
// transaction of the change they tell of, is the store's part. It decides neither what is audited nor who may read it.
package audit

import (
	"fmt"
	"maps"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"keyctl/internal/fault"
)

// Event is one thing that happened. It never holds a secret, a code or anything derived from one.
//
// All text is cleaned when the event is appended: bytes that are not UTF-8, control characters and characters that
// change the direction of writing become U+FFFD, so that a record is safe to print; text longer than 1 KiB (a detail's
// value: 16 KiB) is cut and then ends in "…". What is read back is the cleaned event.
type Event struct {
	At        time.Time         // when, to the microsecond, years 1 to 9999; kept in UTC
	Actor     Actor             // who
	Action    string            // what, as the command says it: "keys.roll"; never empty
	Object    Object            // to what; the zero value for actions without an object
	Outcome   Outcome           // how it went
	Reason    string            // why it was refused, a fault code; or empty
	Address   string            // the client's IP address; empty for a local command
	RequestID string            // empty for a local command
	Detail    map[string]string // what else an auditor needs, such as the former and the new ranges; may be nil
}

// Actor is the operator who acted.
type Actor struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// Object is the thing acted on. The name is the one it had then.
type Object struct {
	Type string `json:"type"`
	ID   string `json:"id"`
	Name string `json:"name"`
}

// Outcome is how an action went.
type Outcome string

// The outcomes.
const (
	OK      Outcome = "ok"      // done
	NoOp    Outcome = "noop"    // allowed, and already so
	Refused Outcome = "refused" // not done; Reason has the code
)

// The longest texts an event keeps, in bytes.
const (
	maxText   = 1 << 10
	maxDetail = 16 << 10
)

// cleaned returns e as it is recorded, or internal if it could not be understood later.
func (e Event) cleaned() (Event, error) {
	e.At = e.At.UTC().Truncate(time.Microsecond)
	for _, text := range e.texts() {
		*text = clean(*text, maxText)
	}
	e.Detail = maps.Clone(e.Detail)
	for name, value := range e.Detail {
		e.Detail[name] = clean(value, maxDetail)
	}
	if flaw := e.flaw(); flaw != "" {
		return Event{}, unfit(e, flaw)
	}
	return e, nil
}

// texts points at every text field of e but Outcome.
func (e *Event) texts() []*string {
	return []*string{
		&e.Actor.ID, &e.Actor.Name, &e.Action, &e.Object.Type, &e.Object.ID, &e.Object.Name,
		&e.Reason, &e.Address, &e.RequestID,
	}
}

// flaw says what no recorded event has: no time or one that RFC 3339 cannot write, no action, an unknown outcome, or
// text that is not clean. A detail's name is looked at here instead of being cleaned, because cleaning could make two
// names equal and lose a detail.
func (e Event) flaw() string {
	switch year := e.At.Year(); {
	case e.At.IsZero() || year < 1 || year > 9999:
		return "has no time in the years 1 to 9999"
	case e.Action == "":
		return "has no action"
	case e.Outcome != OK && e.Outcome != NoOp && e.Outcome != Refused:
		return "has an unknown outcome"
	}
	for _, text := range e.texts() {
		if !isClean(*text) {
			return "has text that is not clean"
		}
	}
	for name, value := range e.Detail {
		if name == "" || !isClean(name) || !isClean(value) {
			return "has a detail that is not clean"
		}
	}
	return ""
}

func unfit(e Event, why string) error {
	return fault.New(fault.Internal, "audit event %q %s", clean(e.Action, maxText), why)
}

// clean returns text as an event keeps it, in at most limit bytes.
func clean(text string, limit int) string {
	if isClean(text) && len(text) <= limit {
		return text
	}
	const mark = "…"
	var b strings.Builder
	for _, r := range text { // a byte that is not UTF-8 ranges as U+FFFD
		if unprintable(r) {
			r = utf8.RuneError
		}
		b.WriteRune(r)
		if b.Len() > limit {
			break // a stretch of text that is dropped need not be cleaned
		}
	}
	if b.Len() <= limit {
		return b.String()
	}
	kept := b.String()[:limit-len(mark)]
	for !utf8.ValidString(kept) { // at most three bytes of a cut character
		kept = kept[:len(kept)-1]
	}
	return kept + mark
}

func isClean(text string) bool {
	return utf8.ValidString(text) && strings.IndexFunc(text, unprintable) < 0
}

// unprintable reports whether r can drive a terminal or reorder what stands on it (R26).
func unprintable(r rune) bool {
	return unicode.IsControl(r) || r > unicode.MaxLatin1 && unicode.Is(unicode.Bidi_Control, r) // none of which is Latin
}

// Broken says where a chain first fails to be what was written.
type Broken struct {
	Seq int64  // the first bad record; 0 if the records agree with each other and the head alone is bad
	Why string // what is wrong with it, a clause that follows its name
}

// Error returns, for example, "record 17: its bytes were changed".
func (b *Broken) Error() string {
	if b.Seq == 0 {
		return "head: " + b.Why
	}
	return fmt.Sprintf("record %d: %s", b.Seq, b.Why)
}
