package keys

import (
	"context"
	"time"

	"keyctl/internal/access"
	"keyctl/internal/audit"
	"keyctl/internal/credential"
	"keyctl/internal/fault"
)

// otpIssuer is what an authenticator app shows beside the operator's name.
const otpIssuer = "keyctl"

// guarded runs a change that asks for the caller's second factor, in the order of docs/states.md: check (state, and whether
// the request was carried out already), count the attempt and commit that, compare, change.
//
// check may say that there is nothing left to guard (done): what it wrote is then committed as it is. It runs again
// before apply, in apply's transaction, because the state may have changed since the attempt was counted: also by the same
// request, sent twice at once.
func (l *Local) guarded(ctx context.Context, action, code string, check func(c *change) (done bool, err error), apply func(c *change) error) error {
	var attempt access.Code
	var seed access.Seed
	var done bool
	var refused error
	err := l.update(ctx, func(c *change) (err error) {
		refused = nil
		if done, err = check(c); done || err != nil {
			return err
		}
		factor, err := l.confirmedFactor(c, c.now)
		if fault.Is(err, fault.OTPLocked) {
			refused = err
			return c.noteRefusal(action, err)
		}
		if err != nil {
			return err
		}
		if attempt, err = access.ParseCode(code); err != nil {
			return err
		}
		seed, err = c.countAttempt(factor)
		return err
	})
	if done || err != nil || refused != nil {
		return either(err, refused)
	}
	return l.spend(ctx, action, seed, attempt, check, apply)
}

// unchecked is the check of a change that needs no more than a code.
func unchecked(*change) (bool, error) { return false, nil }

// countAttempt writes the attempt down as a failure, before anything is compared, and opens the seed to compare with.
func (c *change) countAttempt(factor SecondFactor) (access.Seed, error) {
	factor.Throttle = factor.Throttle.Count(c.now)
	if err := c.PutSecondFactor(factor); err != nil {
		return access.Seed{}, err
	}
	raw, err := c.l.keyring.Open(seedSlot(factor.OperatorID), factor.Seed)
	if err != nil {
		return access.Seed{}, err
	}
	return access.SeedFromBytes(raw)
}

// spend compares a counted attempt and runs apply together with the mark that makes the code unusable. If check or apply
// fails, or nothing is left to be done, the code stays good and the attempt is no failure.
func (l *Local) spend(ctx context.Context, action string, seed access.Seed, attempt access.Code, check func(c *change) (done bool, err error), apply func(c *change) error) error {
	var refused error
	err := l.update(ctx, func(c *change) error {
		refused = nil
		step, right := access.Match(seed, attempt, c.now)
		if !right {
			refused = fault.New(fault.OTPWrong, "the authenticator code is wrong").
				WithHint("take the code shown now, and check the clock of the device that shows it")
			return c.noteRefusal(action, refused)
		}
		done, err := check(c)
		if err != nil {
			return err
		}
		if done {
			return c.uncountAttempt()
		}
		fresh, err := c.AdvanceOTP(l.caller.ID, step)
		if err != nil {
			return err
		}
		factor, err := c.SecondFactor(l.caller.ID)
		if err != nil {
			return err
		}
		if !fresh {
			refused = fault.New(fault.OTPUsed, "the authenticator code was used already").
				WithHint("wait for the next code: up to %d s", access.SecondsLeft(c.now))
			factor.Throttle = factor.Throttle.Uncount()
			if err := c.PutSecondFactor(factor); err != nil {
				return err
			}
			return c.noteRefusal(action, refused)
		}
		factor.Throttle = factor.Throttle.Reset()
		if err := c.PutSecondFactor(factor); err != nil {
			return err
		}
		return apply(c)
	})
	if err != nil {
		// The transaction took the reset back with everything else; the code was right all the same.
		if _, right := access.Match(seed, attempt, Instant(l.env.Now())); right {
			l.uncount(ctx)
		}
	}
	return either(err, refused)
}

// uncount takes back a counted attempt whose code was right and whose change failed for another reason. It is a
// courtesy: if it fails too, one failure too many stands until the next success.
func (l *Local) uncount(ctx context.Context) {
	_ = l.update(context.WithoutCancel(ctx), func(c *change) error { return c.uncountAttempt() })
}

func (c *change) uncountAttempt() error {
	factor, err := c.SecondFactor(c.l.caller.ID)
	if err != nil {
		return err
	}
	factor.Throttle = factor.Throttle.Uncount()
	return c.PutSecondFactor(factor)
}

// noteRefusal records that a second factor did not hold.
func (c *change) noteRefusal(action string, refusal error) error {
	e := c.event(action, operatorObject(c.l.caller), audit.Refused)
	e.Reason = string(fault.CodeOf(refusal))
	c.events = append(c.events, e)
	return nil
}

// confirmedFactor finds the caller's second factor, ready to be asked for a code.
func (l *Local) confirmedFactor(tx Tx, now time.Time) (SecondFactor, error) {
	factor, err := tx.SecondFactor(l.caller.ID)
	if fault.Is(err, fault.NotFound) || err == nil && factor.ConfirmedAt.IsZero() {
		return factor, fault.New(fault.OTPNotEnrolled, "%q has no second factor yet", l.caller.Name).
			WithHint("enrol one: `keyctl otp enroll`, then `keyctl otp confirm --otp CODE`")
	}
	if err != nil {
		return factor, err
	}
	return factor, factor.Throttle.Err(now)
}

// OTPStatus implements Service.
func (l *Local) OTPStatus(ctx context.Context) (OTPStatus, error) {
	status := OTPStatus{Operator: l.caller.Name}
	err := l.view(ctx, func(tx Tx, now time.Time) error {
		factor, err := tx.SecondFactor(l.caller.ID)
		if fault.Is(err, fault.NotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		status.Enrolled, status.Unconfirmed = !factor.ConfirmedAt.IsZero(), factor.ConfirmedAt.IsZero()
		status.EnrolledAt = optional(factor.ConfirmedAt)
		status.Failures, status.Disabled = factor.Throttle.Failures, factor.Throttle.Disabled
		if factor.Throttle.Locked(now) {
			status.LockedUntil = optional(factor.Throttle.LockedUntil)
		}
		status.RecoveryCodesLeft, err = tx.RecoveryCodesLeft(l.caller.ID)
		return err
	})
	return status, err
}

// EnrollOTP implements Service.
func (l *Local) EnrollOTP(ctx context.Context) (Enrollment, error) {
	seed, err := access.DrawSeed(l.env.Rand)
	if err != nil {
		return Enrollment{}, err
	}
	sealed, err := l.keyring.Seal(seedSlot(l.caller.ID), []byte(seed.Reveal()))
	if err != nil {
		return Enrollment{}, err
	}
	err = l.update(ctx, func(c *change) error {
		factor, err := c.SecondFactor(l.caller.ID)
		if err == nil && !factor.ConfirmedAt.IsZero() {
			return fault.New(fault.Exists, "%q has a second factor already", l.caller.Name).
				WithHint("to replace it, `keyctl otp reset` first")
		}
		if err != nil && !fault.Is(err, fault.NotFound) {
			return err
		}
		c.note("otp.enroll", operatorObject(l.caller))
		return c.PutSecondFactor(SecondFactor{OperatorID: l.caller.ID, Seed: sealed, CreatedAt: c.now, Throttle: factor.Throttle})
	})
	if err != nil {
		return Enrollment{}, err
	}
	return Enrollment{Secret: seed.Base32(), URI: seed.URI(otpIssuer, l.caller.Name)}, nil
}

// ConfirmOTP implements Service.
func (l *Local) ConfirmOTP(ctx context.Context, code string) ([]credential.Secret, error) {
	attempt, err := access.ParseCode(code)
	if err != nil {
		return nil, err
	}
	codes, macs, err := l.drawRecoveryCodes()
	if err != nil {
		return nil, err
	}
	var seed access.Seed
	var refused error
	err = l.update(ctx, func(c *change) error {
		factor, err := unconfirmedFactor(c, l.caller)
		if err != nil {
			return err
		}
		if refused = factor.Throttle.Err(c.now); refused != nil {
			return c.noteRefusal("otp.confirm", refused)
		}
		seed, err = c.countAttempt(factor)
		return err
	})
	if err != nil || refused != nil {
		return nil, either(err, refused)
	}
	err = l.spend(ctx, "otp.confirm", seed, attempt, unchecked, func(c *change) error {
		factor, err := unconfirmedFactor(c, l.caller)
		if err != nil {
			return err
		}
		factor.ConfirmedAt = c.now
		if err := c.PutSecondFactor(factor); err != nil {
			return err
		}
		c.note("otp.confirm", operatorObject(l.caller))
		return c.PutRecoveryCodes(l.caller.ID, macs)
	})
	if err != nil {
		return nil, err
	}
	return codes, nil
}

// unconfirmedFactor finds an enrolment that waits for its first code.
func unconfirmedFactor(tx Tx, operator Operator) (SecondFactor, error) {
	factor, err := tx.SecondFactor(operator.ID)
	if fault.Is(err, fault.NotFound) {
		return factor, fault.New(fault.NotFound, "%q has no enrolment to confirm", operator.Name).WithHint("begin one with `keyctl otp enroll`")
	}
	if err == nil && !factor.ConfirmedAt.IsZero() {
		return factor, fault.New(fault.Exists, "%q has confirmed a second factor already", operator.Name)
	}
	return factor, err
}

// drawRecoveryCodes draws a set of recovery codes and what is stored of them.
func (l *Local) drawRecoveryCodes() ([]credential.Secret, [][]byte, error) {
	codes, err := access.DrawRecoveryCodes(l.env.Rand)
	if err != nil {
		return nil, nil, err
	}
	macs := make([][]byte, len(codes))
	grouped := make([]credential.Secret, len(codes))
	for i, code := range codes {
		macs[i] = l.recoveryMAC(code)
		grouped[i] = access.GroupRecoveryCode(code)
	}
	return grouped, macs, nil
}

// recoveryMAC is the form in which a recovery code is stored and looked up.
func (l *Local) recoveryMAC(code credential.Secret) []byte {
	return l.keyring.MAC("recovery-code", []byte(l.caller.ID), []byte(code.Reveal()))
}

// ResetOTP implements Service.
func (l *Local) ResetOTP(ctx context.Context, authority OTPAuthority) error {
	target := l.caller
	check := func(c *change) (bool, error) {
		var err error
		if target, err = l.factorOwner(c, authority.Operator); err != nil {
			return false, err
		}
		_, err = c.SecondFactor(target.ID)
		if fault.Is(err, fault.NotFound) {
			err = fault.New(fault.NotFound, "%q has no second factor", target.Name).WithHint("`keyctl otp enroll` makes one")
		}
		return false, err
	}
	remove := func(c *change, by string) error {
		c.note("otp.reset", operatorObject(target), "by", by)
		return c.DeleteSecondFactor(target.ID)
	}
	switch {
	case authority.BreakGlass && l.token != nil:
		return fault.New(fault.Forbidden, "only who owns the store and its master key resets a second factor without a code").
			WithHint("give a recovery code, or run the command on the server's machine")
	case authority.BreakGlass:
		return l.update(ctx, func(c *change) error {
			if _, err := check(c); err != nil {
				return err
			}
			return remove(c, "break_glass")
		})
	case !authority.RecoveryCode.IsZero() && authority.Operator != "" && authority.Operator != l.caller.Name:
		return fault.New(fault.Invalid, "a recovery code resets one's own second factor only").
			WithHint("give an authenticator code of your own")
	case !authority.RecoveryCode.IsZero():
		return l.resetByRecoveryCode(ctx, authority.RecoveryCode, check, remove)
	}
	return l.guarded(ctx, "otp.reset", authority.Code, check, func(c *change) error { return remove(c, "code") })
}

// factorOwner finds the operator whose second factor is to go: the caller, or for an owner anybody.
func (l *Local) factorOwner(c *change, name string) (Operator, error) {
	if name == "" || name == l.caller.Name {
		return l.caller, nil
	}
	o, err := l.findOperator(c, name)
	if err != nil {
		return o, err
	}
	return o, l.ownersOnly()
}

// resetByRecoveryCode spends a recovery code. It is not throttled: a recovery code has 120 random bits, and it must
// work while guesses have locked the second factor.
func (l *Local) resetByRecoveryCode(ctx context.Context, text credential.Secret, check func(*change) (bool, error), remove func(*change, string) error) error {
	code, err := access.ParseRecoveryCode(text.Reveal())
	if err != nil {
		return err
	}
	var refused error
	err = l.update(ctx, func(c *change) error {
		refused = nil
		if _, err := check(c); err != nil {
			return err
		}
		used, err := c.UseRecoveryCode(l.caller.ID, l.recoveryMAC(code), c.now)
		if err != nil {
			return err
		}
		if !used {
			refused = fault.New(fault.OTPWrong, "no such recovery code, or it was used already").
				WithHint("take another one; who owns the store can also reset without: `keyctl otp reset` asks")
			return c.noteRefusal("otp.reset", refused)
		}
		return remove(c, "recovery_code")
	})
	return either(err, refused)
}

// NewRecoveryCodes implements Service.
func (l *Local) NewRecoveryCodes(ctx context.Context, code string) ([]credential.Secret, error) {
	codes, macs, err := l.drawRecoveryCodes()
	if err != nil {
		return nil, err
	}
	err = l.guarded(ctx, "otp.recovery-codes", code, unchecked, func(c *change) error {
		c.note("otp.recovery-codes", operatorObject(l.caller))
		return c.PutRecoveryCodes(l.caller.ID, macs)
	})
	if err != nil {
		return nil, err
	}
	return codes, nil
}
