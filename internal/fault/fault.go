// Package fault is the vocabulary of failures: one code for each thing a user can run into, with a message for people,
// an optional hint with the next step, and an optional cause for logs.
//
// An error is made here once, where the fact is known, and translated once at each edge: to an exit status in cmd, to
// an HTTP status in the server. Programs branch on the code and never on the text. An error that carries no code counts
// as Internal. The package imports the standard library only, so that every other package can use it.
package fault

import (
	"errors"
	"fmt"
)

// Code names a class of failure. Its text is part of keyctl's interface: it is printed with -o json, travels in HTTP
// bodies and is never renamed.
type Code string

// The codes, in the order of the exit statuses they lead to (cmd/exit.go).
const (
	Internal         Code = "internal"           // a defect or an environment nobody planned for
	MasterKeyMissing Code = "master_key_missing" // no master key where the configuration says there is one
	MasterKeyWrong   Code = "master_key_wrong"   // a master key, but not this store's, or a damaged one
	StoreDamaged     Code = "store_damaged"      // the store's content contradicts itself
	SchemaNewer      Code = "schema_newer"       // a newer keyctl wrote this store
	Unsupported      Code = "unsupported"        // the server is of another version and cannot do this

	Invalid       Code = "invalid"        // input that can never be right
	NoRestriction Code = "no_restriction" // an edit would silently lift a key's last address restriction

	NotFound Code = "not_found" // no such key, dataset, Primary Key or record
	NoStore  Code = "no_store"  // the store itself is not there

	Unauthenticated Code = "unauthenticated" // who is asking is not known
	Forbidden       Code = "forbidden"       // who is asking may not do this, or a file's mode forbids its use

	Exists         Code = "exists"           // the name, file or enrolment is there already
	KeyPending     Code = "key_pending"      // the key's first credential was never proven
	KeyDisabled    Code = "key_disabled"     // the key is disabled or compromised
	KeyExpired     Code = "key_expired"      // the key's end has passed
	KeyDeleted     Code = "key_deleted"      // the key is a tombstone
	RollInProgress Code = "roll_in_progress" // an earlier roll's old credential is still in grace
	Superseded     Code = "superseded"       // the credential gave way to another one, or ended before its proof
	IDConflict     Code = "id_conflict"      // the access key id was used for a different request
	StillAttached  Code = "still_attached"   // keys or datasets still hang on the object

	OTPRequired    Code = "otp_required"     // an authenticator code is needed and none was given
	OTPWrong       Code = "otp_wrong"        // the code is malformed or wrong
	OTPUsed        Code = "otp_used"         // the code was right, once
	OTPNotEnrolled Code = "otp_not_enrolled" // the operator has no second factor yet

	BatchFailed Code = "batch_failed" // some of many were done, and some failed

	Unavailable    Code = "unavailable"     // the store or server cannot answer now: disk full, no connection, timeout
	StoreBusy      Code = "store_busy"      // other writers held the store for the whole bounded wait
	OutcomeUnknown Code = "outcome_unknown" // the change may or may not have happened: look, then retry

	Undelivered Code = "undelivered" // a credential could not be handed over; nothing was activated

	OTPLocked   Code = "otp_locked"   // too many wrong codes
	RateLimited Code = "rate_limited" // too many failures from this address
)

// Codes returns every code once, in the order above.
func Codes() []Code {
	return []Code{
		Internal, MasterKeyMissing, MasterKeyWrong, StoreDamaged, SchemaNewer, Unsupported,
		Invalid, NoRestriction,
		NotFound, NoStore,
		Unauthenticated, Forbidden,
		Exists, KeyPending, KeyDisabled, KeyExpired, KeyDeleted, RollInProgress, Superseded, IDConflict, StillAttached,
		OTPRequired, OTPWrong, OTPUsed, OTPNotEnrolled,
		BatchFailed,
		Unavailable, StoreBusy, OutcomeUnknown,
		Undelivered,
		OTPLocked, RateLimited,
	}
}

// Error is a failure with a code. Message is lower case without a final stop and names the thing in quotes; Hint is the
// next step, or empty. Neither ever repeats a received value that could be a secret. Cause is for logs and errors.Is,
// and is not shown to users of a server.
type Error struct {
	Code    Code
	Message string
	Hint    string
	Cause   error

	RequestID string // of the server that answered so; empty for a local store
}

// New makes an error with a code and a message in the manner of fmt.Sprintf.
func New(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// WithHint returns a copy of e that carries the next step.
func (e *Error) WithHint(format string, args ...any) *Error {
	c := *e
	c.Hint = fmt.Sprintf(format, args...)
	return &c
}

// WithCause returns a copy of e that remembers the error it was made from.
func (e *Error) WithCause(err error) *Error {
	c := *e
	c.Cause = err
	return &c
}

// Error returns the message; the hint and the cause are read from the fields.
func (e *Error) Error() string { return e.Message }

// Unwrap returns the cause, or nil.
func (e *Error) Unwrap() error { return e.Cause }

// From returns the first Error in err's chain, or nil when there is none.
func From(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return nil
}

// CodeOf returns err's code: empty for nil, Internal for an error that carries none.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	if e := From(err); e != nil {
		return e.Code
	}
	return Internal
}

// Is reports whether err carries the code.
func Is(err error, code Code) bool { return err != nil && CodeOf(err) == code }

// Retryable reports whether the same request may succeed later without a change by the caller.
func (c Code) Retryable() bool {
	switch c {
	case Unavailable, StoreBusy, OutcomeUnknown, OTPLocked, RateLimited:
		return true
	}
	return false
}
