package keys

import (
	"context"
	"time"

	"keyctl/internal/audit"
	"keyctl/internal/fault"
)

// CheckRoll implements Service.
func (l *Local) CheckRoll(ctx context.Context, ref string, terms *RollTerms) (KeyView, error) {
	var view KeyView
	err := l.view(ctx, func(tx Tx, now time.Time) error {
		rec, err := rollable(tx, ref, terms, now)
		if err != nil {
			return err
		}
		view = rec.View(now)
		_, err = l.confirmedFactor(tx, now)
		return err
	})
	return view, err
}

// rollable finds a key and checks that it may be rolled on these terms (nil: any).
func rollable(tx Tx, ref string, terms *RollTerms, now time.Time) (KeyRecord, error) {
	rec, err := findKey(tx, ref, now)
	if err != nil {
		return rec, err
	}
	if err := requireState(rec.Key, now, KeyActive); err != nil {
		return rec, err
	}
	if terms == nil {
		return rec, nil
	}
	if err := terms.Grace.validate(now); err != nil {
		return rec, err
	}
	return rec, requireNoGrace(rec, *terms, now)
}

// Roll implements Service.
func (l *Local) Roll(ctx context.Context, request RollRequest) (Pending, error) {
	if err := request.Offer.validate(); err != nil {
		return Pending{}, err
	}
	request.Terms.Grace.At = Instant(request.Terms.Grace.At)
	if err := encodable(request.Terms.Grace.At); err != nil {
		return Pending{}, err
	}
	code := request.Code
	request.Code = "" // a repeat may come with another code: it is no part of what is asked for
	draw, err := l.drawFor(request, request.Offer)
	if err != nil {
		return Pending{}, err
	}
	var pending Pending
	check := func(c *change) (bool, error) {
		repeated, err := c.repeat(draw)
		pending = value(repeated)
		if err != nil || repeated != nil {
			return repeated != nil, err
		}
		_, err = rollable(c, request.Key, &request.Terms, c.now)
		return false, err
	}
	err = l.guarded(ctx, "keys.roll", code, check, func(c *change) error {
		rec, err := rollable(c, request.Key, &request.Terms, c.now)
		if err != nil {
			return err
		}
		if err := c.supersedePending(rec); err != nil {
			return err
		}
		generation, err := c.nextGeneration(rec.ID)
		if err != nil {
			return err
		}
		cred, err := c.addCredential(rec.Key, generation, draw, &request.Terms)
		if err != nil {
			return err
		}
		pending = rec.pendingOf(cred)
		c.note("keys.roll", keyObject(rec.Key), "access_key_id", cred.AccessKeyID)
		return nil
	})
	return pending, err
}

// Rolls implements Service.
func (l *Local) Rolls(ctx context.Context, cursor string, limit int) (Page[RollView], error) {
	var page Page[RollView]
	err := l.view(ctx, func(tx Tx, now time.Time) error {
		records, next, err := selectKeys(tx, KeyFilter{InGrace: true, Cursor: cursor, Limit: limit}, now)
		if err != nil {
			return err
		}
		page = Page[RollView]{Items: make([]RollView, 0, len(records)), NextCursor: next}
		for _, rec := range records {
			if err := requireCurrent(rec); err != nil {
				return err
			}
			page.Items = append(page.Items, rec.roll(*rec.Grace, now))
		}
		return nil
	})
	return page, err
}

// RollOf implements Service.
func (l *Local) RollOf(ctx context.Context, ref string) (RollView, error) {
	var view RollView
	err := l.view(ctx, func(tx Tx, now time.Time) (err error) {
		_, view, err = lastRoll(tx, ref, now)
		return err
	})
	return view, err
}

// lastRoll finds a key and describes its last roll.
func lastRoll(tx Tx, ref string, now time.Time) (KeyRecord, RollView, error) {
	rec, err := findKey(tx, ref, now)
	if err != nil {
		return rec, RollView{}, err
	}
	if rec.Current == nil || rec.Current.Previous == nil {
		return rec, RollView{}, fault.New(fault.NotFound, "the key %q has no roll to speak of", rec.Name).
			WithHint("roll it with `keyctl roll %s`", rec.Name)
	}
	old, err := tx.Credential(rec.Current.Previous.AccessKeyID)
	if err != nil {
		return rec, RollView{}, err
	}
	return rec, rec.roll(old, now), nil
}

// roll describes the roll from an old credential to the current one.
func (r KeyRecord) roll(old Credential, now time.Time) RollView {
	view := RollView{
		Name: r.Name, ID: r.ID, AccessKeyID: r.Current.AccessKeyID, Generation: r.Current.Generation,
		RolledAt: r.Current.ProvenAt, LastUsedAt: optional(r.Current.LastUsedAt),
		Previous: RollPrevious{
			AccessKeyID: old.AccessKeyID, State: old.State(now), Until: earliest(old.retiredAt(), r.ExpiresAt),
			LastUsedAt: optional(old.LastUsedAt), LastUsedFrom: old.usedFrom(),
		},
		LastUsedFrom: r.Current.usedFrom(),
	}
	return view
}

// inGrace finds an active key whose old credential still works.
func inGrace(tx Tx, ref string, now time.Time) (KeyRecord, error) {
	rec, err := findKey(tx, ref, now)
	if err != nil {
		return rec, err
	}
	if err := requireState(rec.Key, now, KeyActive); err != nil {
		return rec, err
	}
	if rec.Grace == nil || rec.Grace.State(now) != CredentialGrace {
		return rec, fault.New(fault.NotFound, "the key %q has no old credential that still works", rec.Name).
			WithHint("`keyctl rolls list` shows the keys that have one")
	}
	return rec, requireCurrent(rec)
}

// requireCurrent refuses a rolled key without a current credential, which no change leaves behind.
func requireCurrent(rec KeyRecord) error {
	if rec.Current == nil {
		return fault.New(fault.StoreDamaged, "the key %q is active and has no current credential", rec.Name).
			WithHint("restore the store from a backup")
	}
	return nil
}

// ExtendRoll implements Service.
func (l *Local) ExtendRoll(ctx context.Context, ref string, grace Grace, code string) (RollView, error) {
	var view RollView
	grace.At = Instant(grace.At)
	if grace.For == 0 && grace.At.IsZero() {
		return view, fault.New(fault.Invalid, "an extension needs a time to come").WithHint("to end the grace now, use `keyctl rolls finish`")
	}
	apply := func(c *change) error {
		rec, until, err := extended(c, ref, grace, c.now)
		if err != nil {
			return err
		}
		rec.Grace.GraceUntil = until
		view = rec.roll(*rec.Grace, c.now)
		c.note("rolls.extend", keyObject(rec.Key), "access_key_id", rec.Grace.AccessKeyID, "until", until.Format(time.RFC3339Nano))
		return c.PutCredential(*rec.Grace)
	}
	shortens := false
	check := func(c *change) (bool, error) {
		rec, until, err := extended(c, ref, grace, c.now)
		if err != nil {
			return false, err
		}
		if shortens = !until.After(rec.Grace.GraceUntil); shortens {
			return true, apply(c)
		}
		return false, nil
	}
	err := l.guarded(ctx, "rolls.extend", code, check, apply)
	return view, err
}

// extended computes the new end of a grace: within MaxGrace of the roll, and of the key's end.
func extended(tx Tx, ref string, grace Grace, now time.Time) (KeyRecord, time.Time, error) {
	rec, err := inGrace(tx, ref, now)
	if err != nil {
		return rec, time.Time{}, err
	}
	if err := grace.validate(now); err != nil {
		return rec, time.Time{}, err
	}
	until, _ := grace.end(now, rec.ExpiresAt)
	if limit := rec.Current.ProvenAt.Add(MaxGrace); until.After(limit) {
		return rec, until, fault.New(fault.Invalid, "a rolled credential works for 30 days after the roll at most").
			WithHint("the latest end for %q is %s", rec.Name, limit.Format(time.RFC3339))
	}
	return rec, until, nil
}

// FinishRoll implements Service.
func (l *Local) FinishRoll(ctx context.Context, ref string) (RollView, error) {
	var view RollView
	err := l.update(ctx, func(c *change) error {
		rec, before, err := lastRoll(c, ref, c.now)
		if rec.State(c.now) == KeyDeleted && rec.ID != "" {
			return stateError(rec.Key, KeyDeleted)
		}
		if err != nil {
			return err
		}
		if rec.Grace == nil || rec.Grace.State(c.now) != CredentialGrace {
			view = before
			c.noteOutcome("rolls.finish", keyObject(rec.Key), audit.NoOp)
			return nil
		}
		if err := c.retire(*rec.Grace, c.now); err != nil {
			return err
		}
		c.note("rolls.finish", keyObject(rec.Key), "access_key_id", rec.Grace.AccessKeyID)
		_, view, err = lastRoll(c, ref, c.now)
		return err
	})
	return view, err
}

// CancelRoll implements Service.
func (l *Local) CancelRoll(ctx context.Context, ref string, code string) (KeyView, error) {
	var view KeyView
	check := func(c *change) (bool, error) {
		_, err := inGrace(c, ref, c.now)
		return false, err
	}
	err := l.guarded(ctx, "rolls.cancel", code, check, func(c *change) error {
		rec, err := inGrace(c, ref, c.now)
		if err != nil {
			return err
		}
		if err := c.supersedePending(rec); err != nil {
			return err
		}
		cancelled, restored := *rec.Current, *rec.Grace
		cancelled.EndedAt, cancelled.EndedAs = c.now, EndCancelled
		if err := c.PutCredential(cancelled); err != nil {
			return err
		}
		restored.GraceUntil = time.Time{}
		if err := c.PutCredential(restored); err != nil {
			return err
		}
		c.note("rolls.cancel", keyObject(rec.Key), "access_key_id", restored.AccessKeyID, "cancelled", cancelled.AccessKeyID)
		rec, err = c.Key(rec.ID)
		view = rec.View(c.now)
		return err
	})
	return view, err
}
