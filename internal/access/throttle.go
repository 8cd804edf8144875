package access

import (
	"time"

	"keyctl/internal/fault"
)

// How wrong codes are slowed down (RFC 4226 section 7.3). All 100 attempts together, which is as many as NIST SP 800-63B
// allows in a row, hit one of the three right codes with a chance of 0.03 %.
const (
	freeFailures    = 4 // the next one locks
	firstLock       = 15 * time.Minute
	longestLock     = 24 * time.Hour
	disableFailures = 100
)

// Throttle is the memory of wrong codes of one second factor, kept in the store: per operator, so that no second token,
// key or address gives a fresh budget. The zero value has no failures. An attempt goes, in this order and with each write
// committed before the next line:
//
//	if err := t.Err(now); err != nil { refuse }
//	t = t.Count(now); store it   // one transaction with the read of t, of its own
//	compare the code
//	right: t.Reset()             // in the transaction of the change that the code allows
//	right but used before: t.Uncount()
//
// So each attempt is paid for before it is looked at: a burst of parallel attempts cannot outrun the count, and the
// rollback of a refused change does not give the attempt back.
type Throttle struct {
	Failures    int       // consecutive attempts that were not followed by a success
	LockedUntil time.Time // no attempt is looked at before; zero: no lock
	Disabled    bool      // no attempt is looked at until the operator enrols again
}

// Locked reports whether attempts are refused at now without being looked at. At LockedUntil itself they no longer are.
func (t Throttle) Locked(now time.Time) bool { return t.Disabled || now.Before(t.LockedUntil) }

// Err returns nil if an attempt may be made at now, or else fault.OTPLocked.
func (t Throttle) Err(now time.Time) error {
	switch {
	case t.Disabled:
		return fault.New(fault.OTPLocked, "the second factor is disabled after %d wrong codes in a row", t.Failures).
			WithHint("reset it with a recovery code (keyctl otp reset), then enrol again; disabling keys needs no code")
	case t.Locked(now):
		until := wholeSecond(t.LockedUntil)
		return fault.New(fault.OTPLocked, "too many wrong codes: the second factor is locked until %s", until).
			WithHint("wait until then; keys disable, keys delete and rolls finish need no code")
	}
	return nil
}

// Count returns the throttle after one more attempt, as if it had failed: from the fifth in a row on it is locked, for 15
// minutes at first and twice as long for each further one, up to 24 hours; the hundredth disables it. Ask Err first: an
// attempt while locked is refused, not counted.
func (t Throttle) Count(now time.Time) Throttle {
	t.Failures++
	if t.Failures > freeFailures {
		t.LockedUntil = now.Add(lockAfter(t.Failures))
	}
	t.Disabled = t.Disabled || t.Failures >= disableFailures
	return t
}

// Uncount takes one counted attempt back, for a code that was right but used before: a repeated request is no guess. It is
// applied to the throttle as stored now, not as it was when the attempt was counted, so that attempts counted meanwhile
// stay. Whatever lock there is goes as well: an attempt is only counted when no earlier lock is left, so the lock came
// from this attempt or needed it.
func (t Throttle) Uncount() Throttle {
	if t.Failures == 0 {
		return t // a success of another attempt has taken all of them back
	}
	return Throttle{Failures: t.Failures - 1}
}

// Reset returns the throttle after a success, or after a new enrolment: the zero value.
func (t Throttle) Reset() Throttle { return Throttle{} }

// lockAfter returns the length of the lock that the given failure in a row brings.
func lockAfter(failures int) time.Duration {
	lock := firstLock
	for n := freeFailures + 1; n < failures && lock < longestLock; n++ {
		lock *= 2
	}
	return min(lock, longestLock)
}

// wholeSecond writes a limit for people, rounded up: at the printed time it has passed.
func wholeSecond(limit time.Time) string {
	return limit.Add(time.Second - time.Nanosecond).UTC().Truncate(time.Second).Format(time.RFC3339)
}
