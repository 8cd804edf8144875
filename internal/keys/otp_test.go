package keys_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"keyctl/internal/credential"
	"keyctl/internal/fault"
	"keyctl/internal/keys"
	"keyctl/internal/keys/keystest"
)

func TestR12_RollbackDoesNotUndoTheCount(t *testing.T) {
	p := newPlace(t)
	db := p.openStore(t)
	auth := keystest.Enroll(t, p.on(t, db), p.clock)
	broken := p.on(t, noAudit{db})
	_, err := broken.NewRecoveryCodes(t.Context(), auth.Wrong())
	if !errors.Is(err, errNoAudit) {
		t.Fatalf("a wrong code whose refusal cannot be recorded = %v", err)
	}
	failures := func(want int) {
		t.Helper()
		if status, err := broken.OTPStatus(t.Context()); err != nil || status.Failures != want {
			t.Errorf("OTPStatus() = %+v, %v; want %d failures", status, err, want)
		}
	}
	failures(1)
	// A right code whose change fails is no failure, and stays good.
	code := auth.Next()
	if _, err := broken.NewRecoveryCodes(t.Context(), code); !errors.Is(err, errNoAudit) {
		t.Fatalf("a change that cannot be recorded = %v", err)
	}
	failures(1)
	if _, err := p.on(t, db).NewRecoveryCodes(t.Context(), code); err != nil {
		t.Errorf("the same code once the store works again = %v", err)
	}
	failures(0)
}

func TestR12_AHundredFailuresDisable(t *testing.T) {
	p := newPlace(t)
	l := p.open(t)
	auth := keystest.BeginEnrolment(t, l, p.clock)
	recovery, err := l.ConfirmOTP(t.Context(), auth.Next())
	if err != nil {
		t.Fatal(err)
	}
	lock := 15 * time.Minute
	for n := 1; n <= 100; n++ {
		_, err := l.NewRecoveryCodes(t.Context(), auth.Wrong())
		keystest.WantCode(t, fmt.Sprintf("wrong code %d", n), err, fault.OTPWrong)
		if n < 5 || n == 100 {
			continue
		}
		status, err := l.OTPStatus(t.Context())
		if want := p.clock.Now().Add(lock); err != nil || status.LockedUntil == nil || !status.LockedUntil.Equal(want) {
			t.Fatalf("after %d failures OTPStatus() = %+v, %v; want a lock of %v", n, status, err, lock)
		}
		p.clock.Set(*status.LockedUntil)
		lock = min(2*lock, 24*time.Hour)
	}
	p.clock.Advance(10 * 365 * 24 * time.Hour)
	_, err = p.open(t).NewRecoveryCodes(t.Context(), auth.Next())
	keystest.WantCode(t, "the right code ten years after 100 failures", err, fault.OTPLocked)
	if status, err := l.OTPStatus(t.Context()); err != nil || !status.Disabled {
		t.Errorf("OTPStatus() = %+v, %v; want disabled", status, err)
	}
	if err := l.ResetOTP(t.Context(), keys.OTPAuthority{RecoveryCode: recovery[0]}); err != nil {
		t.Fatalf("ResetOTP() = %v", err)
	}
	auth = keystest.Enroll(t, l, p.clock)
	if _, err := l.NewRecoveryCodes(t.Context(), auth.Next()); err != nil {
		t.Errorf("a code of the new enrolment = %v", err)
	}
}

// Beginning an enrolment again gives no fresh budget of guesses at it.
func TestR12_UnconfirmedEnrolment(t *testing.T) {
	p := newPlace(t)
	l := p.open(t)
	for range 5 {
		auth := keystest.BeginEnrolment(t, l, p.clock)
		_, err := l.ConfirmOTP(t.Context(), auth.Wrong())
		keystest.WantCode(t, "a wrong first code", err, fault.OTPWrong)
	}
	auth := keystest.BeginEnrolment(t, l, p.clock)
	_, err := l.ConfirmOTP(t.Context(), auth.Next())
	keystest.WantCode(t, "the right first code while locked", err, fault.OTPLocked)
	p.clock.Advance(15 * time.Minute)
	if _, err := l.ConfirmOTP(t.Context(), auth.Next()); err != nil {
		t.Errorf("the right first code after the lock = %v", err)
	}
}

// Whatever times a request carries, the code is judged by the service's clock.
func TestR14_TimeIsTheServices(t *testing.T) {
	p := newPlace(t)
	l := p.open(t)
	auth := keystest.Enroll(t, l, p.clock)
	newKey(t, l, "web-01")
	p.clock.Advance(time.Hour)
	now := p.clock.Now()
	for _, clientTime := range []time.Time{now.Add(-time.Hour), now.Add(-2 * time.Minute), now.Add(2 * time.Minute), now.Add(20 * 24 * time.Hour)} {
		code := auth.At(clientTime)
		if code == auth.At(now) || code == auth.At(now.Add(-30*time.Second)) || code == auth.At(now.Add(30*time.Second)) {
			continue // by chance the codes of two steps are the same
		}
		terms := keys.RollTerms{}
		if clientTime.After(now) {
			terms.Grace.At = clientTime
		}
		_, _, err := roll(t, l, "web-01", code, terms)
		keystest.WantCode(t, fmt.Sprintf("the code of %v at %v", clientTime, now), err, fault.OTPWrong)
	}
	_, _, err := roll(t, l, "web-01", auth.At(now), keys.RollTerms{Grace: keys.Grace{At: now.Add(20 * 24 * time.Hour)}})
	keystest.WantCode(t, "the service's code", err, "")
}

func TestBreakGlass(t *testing.T) {
	p := newPlace(t)
	l := p.open(t)
	glass := keys.OTPAuthority{BreakGlass: true}
	keystest.WantCode(t, "ResetOTP() of nothing", l.ResetOTP(t.Context(), glass), fault.NotFound)
	keystest.BeginEnrolment(t, l, p.clock)
	keystest.WantCode(t, "ResetOTP() of an unconfirmed one", l.ResetOTP(t.Context(), glass), "")
	auth := keystest.Enroll(t, l, p.clock)
	for range 6 {
		_, _ = l.NewRecoveryCodes(t.Context(), auth.Wrong())
	}
	keystest.WantCode(t, "ResetOTP() while locked", l.ResetOTP(t.Context(), glass), "")
	resets := keystest.Events(t, l, keys.AuditFilter{Action: "otp.reset"})
	if len(resets) != 2 || resets[1].Event.Detail["by"] != "break_glass" {
		t.Errorf("the audit log has %d resets", len(resets))
	}
	keystest.Enroll(t, l, p.clock)
}

// Each recovery code works once, also when two resets hold the same one.
func TestRecoveryCodeWorksOnce(t *testing.T) {
	p := newPlace(t)
	l := p.open(t)
	auth := keystest.BeginEnrolment(t, l, p.clock)
	codes, err := l.ConfirmOTP(t.Context(), auth.Next())
	if err != nil {
		t.Fatal(err)
	}
	got := keystest.Count(keystest.AtOnce(8, func(int) error {
		return l.ResetOTP(context.Background(), keys.OTPAuthority{RecoveryCode: codes[0]})
	}))
	if got[""] != 1 || got[fault.NotFound] != 7 {
		t.Errorf("eight resets with one recovery code = %v, want one success, and nothing to reset for the others", got)
	}
	seen := map[string]bool{}
	for _, c := range codes {
		seen[c.Reveal()] = true
		if c.String() != (credential.Secret{}).String() {
			t.Error("R2: a recovery code does not mask itself")
		}
	}
	if len(seen) != 8 {
		t.Errorf("%d different recovery codes, want 8", len(seen))
	}
}
