package keystest

import (
	"fmt"
	"testing"
	"time"

	"keyctl/internal/fault"
	"keyctl/internal/keys"
)

func testRollsSupersede(t *testing.T, w *world) {
	s := w.active(t, "web-01")
	var drawn []Drawn
	var pending []keys.Pending
	for range 3 {
		d, p := w.beginRoll(t, s.id, grace(day))
		if p.Generation != 2 {
			t.Errorf("a roll that follows unproven ones has generation %d, want 2", p.Generation)
		}
		drawn, pending = append(drawn, d), append(pending, p)
	}
	for i := range 2 {
		_, err := w.Prove(t.Context(), drawn[i].AccessKeyID, drawn[i].Proof(pending[i]))
		WantCode(t, "the proof of a roll that gave way", err, fault.Superseded)
	}
	w.prove(t, drawn[2], pending[2])
	_, err := w.Prove(t.Context(), drawn[0].AccessKeyID, drawn[0].Proof(pending[0]))
	WantCode(t, "the same proof after the winner's", err, fault.Superseded)
	if n := len(Events(t, w, keys.AuditFilter{Action: "keys.supersede", Object: s.id})); n != 2 {
		t.Errorf("%d supersessions in the audit log, want 2", n)
	}

	// Of two rolls made while nothing was in grace, the first proof decides.
	if _, err := w.FinishRoll(t.Context(), s.id); err != nil {
		t.Fatal(err)
	}
	d, p := w.beginRoll(t, s.id, grace(day))
	w.prove(t, d, p)
	w.wantReason(t, "the winner", d, keys.ReasonOK)
}

func testRollWithdrawn(t *testing.T, w *world) {
	s := w.active(t, "web-01")
	before := w.key(t, s.id)
	d, p := w.beginRoll(t, s.id, grace(0))
	WantCode(t, "Withdraw()", w.Withdraw(t.Context(), d.AccessKeyID), "")
	Diff(t, "the key after a withdrawn roll", w.key(t, s.id), before)
	w.wantReason(t, "the current credential", s.current, keys.ReasonOK)
	_, err := w.Prove(t.Context(), d.AccessKeyID, d.Proof(p))
	WantCode(t, "Prove after the withdrawal", err, fault.Superseded)
	// A new roll needs a new code, and its generation has no gap.
	if _, p := w.beginRoll(t, s.id, grace(0)); p.Generation != 2 {
		t.Errorf("the next roll has generation %d, want 2", p.Generation)
	}
}

func testGraceEnds(t *testing.T, w *world) {
	s, proven := w.roll(t, w.active(t, "web-01"), grace(24*time.Hour))
	until := proven.Previous.Until
	for _, c := range []struct {
		at    time.Time
		want  keys.Reason
		state keys.CredentialState
	}{
		{until.Add(-time.Microsecond), keys.ReasonOK, keys.CredentialGrace},
		{until, keys.ReasonRetired, keys.CredentialRetired},
		{until.Add(keys.RetiredFor - time.Microsecond), keys.ReasonRetired, keys.CredentialRetired},
		{until.Add(keys.RetiredFor), keys.ReasonUnknown, keys.CredentialGone},
	} {
		w.clock.Set(c.at)
		w.wantReason(t, fmt.Sprintf("at %v the old credential", c.at), s.previous, c.want)
		w.wantReason(t, fmt.Sprintf("at %v the new credential", c.at), s.current, keys.ReasonOK)
		if k := w.key(t, s.id); (k.Grace != nil) != (c.state == keys.CredentialGrace) {
			t.Errorf("at %v the key shows the grace %+v", c.at, k.Grace)
		}
		roll, err := w.RollOf(t.Context(), s.id)
		if err != nil || roll.Previous.State != c.state || !roll.Previous.Until.Equal(until) {
			t.Errorf("at %v RollOf() = %+v, %v; want %s until %v", c.at, roll.Previous, err, c.state, until)
		}
	}
	// The next change wipes what is over for long; the answers stay as they are.
	w.dataset(t, "any-change")
	w.wantReason(t, "the wiped credential", s.previous, keys.ReasonUnknown)
	if n := len(Events(t, w, keys.AuditFilter{Action: "keys.wipe", Object: s.id})); n != 1 {
		t.Errorf("%d wipes in the audit log, want 1", n)
	}
	w.dataset(t, "another-change")
	if n := len(Events(t, w, keys.AuditFilter{Action: "keys.wipe", Object: s.id})); n != 1 {
		t.Errorf("%d wipes in the audit log after another change, want 1", n)
	}
}

func testExtendRoll(t *testing.T, w *world) {
	s, _ := w.roll(t, w.active(t, "web-01"), grace(10*day))
	rolled := w.now()
	extend := func(to keys.Grace, code string) (keys.RollView, error) {
		return w.ExtendRoll(t.Context(), s.id, to, code)
	}
	wantUntil := func(what string, view keys.RollView, err error, want time.Time) {
		t.Helper()
		g := w.key(t, s.id).Grace
		if err != nil || !view.Previous.Until.Equal(want) || g == nil || !g.Until.Equal(want) {
			t.Errorf("%s = until %v, %v; the key shows %+v; want until %v", what, view.Previous.Until, err, g, want)
		}
	}
	// Earlier is free.
	w.clock.Advance(day)
	view, err := extend(keys.Grace{For: 5 * day}, "")
	wantUntil("a shorter grace", view, err, w.now().Add(5*day))
	at := w.now().Add(4*day + 789*time.Nanosecond).In(time.FixedZone("elsewhere", 3600))
	view, err = extend(keys.Grace{At: at}, "")
	wantUntil("an earlier date", view, err, keys.Instant(at))

	// Later asks for a code.
	w.unchanged(t, "a longer grace without a code", fault.OTPRequired, func() error { _, err := extend(keys.Grace{For: 6 * day}, ""); return err })
	_, err = extend(keys.Grace{For: 6 * day}, w.auth.Wrong())
	WantCode(t, "a longer grace with a wrong code", err, fault.OTPWrong)
	wantUntil("a refused extension", keys.RollView{Previous: keys.RollPrevious{Until: keys.Instant(at)}}, nil, keys.Instant(at))
	view, err = extend(keys.Grace{For: 6 * day}, w.code(t))
	wantUntil("a longer grace", view, err, w.now().Add(6*day))

	// It stays within 30 days of the roll.
	limit := rolled.Add(keys.MaxGrace)
	for what, c := range map[string]keys.Grace{
		"nothing":               {},
		"30 days from now":      {For: keys.MaxGrace},
		"just past the limit":   {At: limit.Add(time.Microsecond)},
		"31 days":               {For: 31 * day},
		"a date in the past":    {At: w.now().Add(-time.Microsecond)},
		"a duration and a date": {For: day, At: w.now().Add(day)},
		"a negative duration":   {For: -day},
	} {
		w.unchanged(t, "ExtendRoll by "+what, fault.Invalid, func() error { _, err := extend(c, w.auth.At(w.now())); return err })
	}
	view, err = extend(keys.Grace{At: limit}, w.code(t))
	wantUntil("an extension to the limit", view, err, limit)

	// It stays within the key's end as well.
	end := w.now().Add(3 * day)
	if _, err := w.EditKey(t.Context(), s.id, keys.KeyEdit{ExpiresAt: &end}); err != nil {
		t.Fatal(err)
	}
	view, err = extend(keys.Grace{For: 9 * day}, w.code(t))
	wantUntil("an extension past the key's end", view, err, end)

	if _, err := extend(keys.Grace{For: time.Hour}, ""); err != nil {
		t.Fatal(err)
	}
	w.clock.Advance(time.Hour)
	w.unchanged(t, "an extension after the grace", fault.NotFound, func() error {
		_, err := extend(keys.Grace{For: day}, w.auth.At(w.now()))
		return err
	})
	w.wantReason(t, "the old credential", s.previous, keys.ReasonRetired)
	_, err = w.ExtendRoll(t.Context(), w.active(t, "web-02").id, keys.Grace{For: day}, w.code(t))
	WantCode(t, "an extension of a key that was never rolled", err, fault.NotFound)
}

func testFinishRoll(t *testing.T, w *world) {
	s, _ := w.roll(t, w.active(t, "web-01"), grace(day))
	w.clock.Advance(time.Hour)
	view, err := w.FinishRoll(t.Context(), s.id)
	if err != nil || view.Previous.State != keys.CredentialRetired || !view.Previous.Until.Equal(w.now()) {
		t.Errorf("FinishRoll() = %+v, %v; want retired now", view.Previous, err)
	}
	w.wantReason(t, "the old credential", s.previous, keys.ReasonRetired)
	w.wantReason(t, "the new credential", s.current, keys.ReasonOK)
	if k := w.key(t, s.id); k.Grace != nil {
		t.Errorf("the key shows the grace %+v", k.Grace)
	}
	for range 2 { // also when the grace is long over
		before := w.head(t).Seq
		w.clock.Advance(time.Hour)
		again, err := w.FinishRoll(t.Context(), s.id)
		WantCode(t, "FinishRoll() again", err, "")
		Diff(t, "FinishRoll() again", again, view)
		wantNoOp(t, w, before, "rolls.finish")
	}
	_, err = w.FinishRoll(t.Context(), w.active(t, "web-02").id)
	WantCode(t, "FinishRoll() of a key that was never rolled", err, fault.NotFound)
}

func testCancelRoll(t *testing.T, w *world) {
	first := w.active(t, "web-01")
	s, _ := w.roll(t, first, grace(day))
	late, p := w.beginRoll(t, s.id, keys.RollTerms{FinishPrevious: true})
	w.unchanged(t, "CancelRoll() without a code", fault.OTPRequired, func() error { _, err := w.CancelRoll(t.Context(), s.id, ""); return err })
	k, err := w.CancelRoll(t.Context(), s.id, w.code(t))
	if err != nil || *k.AccessKeyID != first.current.AccessKeyID || k.Generation != 1 || k.Grace != nil {
		t.Errorf("CancelRoll() = %+v, %v; want generation 1 without a grace", k, err)
	}
	w.wantReason(t, "the old credential", first.current, keys.ReasonOK)
	w.wantReason(t, "the cancelled credential", s.current, keys.ReasonRetired)
	_, err = w.Prove(t.Context(), late.AccessKeyID, late.Proof(p))
	WantCode(t, "the proof of a roll that was pending", err, fault.Superseded)
	w.unchanged(t, "CancelRoll() again", fault.NotFound, func() error { _, err := w.CancelRoll(t.Context(), s.id, w.auth.Next()); return err })
	_, err = w.RollOf(t.Context(), s.id)
	WantCode(t, "RollOf() after the cancel", err, fault.NotFound)
	w.clock.Advance(31 * day) // the restored credential has no clock running
	w.wantReason(t, "the old credential a month later", first.current, keys.ReasonOK)

	// Generations are never used twice.
	again, proven := w.roll(t, first, grace(day))
	if proven.Key.Generation != 3 {
		t.Errorf("the roll after a cancelled one has generation %d, want 3", proven.Key.Generation)
	}
	w.wantReason(t, "the third credential", again.current, keys.ReasonOK)
	// A cancel after the grace has nothing to bring back.
	w.clock.Advance(day)
	_, err = w.CancelRoll(t.Context(), s.id, w.auth.Next())
	WantCode(t, "CancelRoll() after the grace", err, fault.NotFound)
}

func testRolls(t *testing.T, w *world) {
	rolls := func(limit int) (names []string) {
		for _, r := range All(t, func(cursor string) (keys.Page[keys.RollView], error) { return w.Rolls(t.Context(), cursor, limit) }) {
			names = append(names, r.Name)
		}
		return names
	}
	if got := rolls(0); len(got) != 0 {
		t.Errorf("Rolls() = %v before any", got)
	}
	hours := map[string]int{"d": 1, "b": 2, "a": 3, "c": 4, "e": 0}
	subjects := map[string]subject{}
	for name, n := range hours {
		subjects[name], _ = w.roll(t, w.active(t, name), grace(time.Duration(n)*time.Hour))
	}
	w.beginRoll(t, w.active(t, "f").id, grace(day)) // not proven
	for _, limit := range []int{0, 1, 2, 4} {
		Diff(t, fmt.Sprintf("Rolls() by %d", limit), rolls(limit), []string{"a", "b", "c", "d"})
	}
	if _, err := w.FinishRoll(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.CancelRoll(t.Context(), "b", w.code(t)); err != nil {
		t.Fatal(err)
	}
	w.clock.Advance(time.Hour)
	Diff(t, "Rolls() an hour later", rolls(0), []string{"c"})
	page, err := w.Rolls(t.Context(), "", 1)
	if err != nil || len(page.Items) != 1 {
		t.Fatalf("Rolls() = %+v, %v", page, err)
	}
	one, err := w.RollOf(t.Context(), "c")
	WantCode(t, "RollOf()", err, "")
	Diff(t, "the roll in the list", page.Items[0], one)
	if _, err := w.DeleteKey(t.Context(), subjects["c"].id); err != nil {
		t.Fatal(err)
	}
	if got := rolls(0); len(got) != 0 {
		t.Errorf("Rolls() = %v after the delete", got)
	}
}

func testLateProofs(t *testing.T, w *world) {
	// Each end of a key comes between a roll and its proof; nothing is revived, and the old credential's fate stays.
	for _, c := range []struct {
		what   string
		end    func(s subject) error
		want   fault.Code
		reason keys.Reason
	}{
		{"disabled", func(s subject) error { _, err := w.DisableKey(t.Context(), s.id, false); return err }, fault.KeyDisabled, keys.ReasonDisabled},
		{"compromised", func(s subject) error { _, err := w.DisableKey(t.Context(), s.id, true); return err }, fault.KeyDisabled, keys.ReasonCompromised},
		{"deleted", func(s subject) error { _, err := w.DeleteKey(t.Context(), s.id); return err }, fault.KeyDeleted, keys.ReasonUnknown},
		{"rolled otherwise", func(s subject) error { w.roll(t, s, grace(day)); return nil }, fault.Superseded, keys.ReasonOK},
	} {
		s := w.active(t, "web-01")
		d, p := w.beginRoll(t, s.id, grace(0))
		if err := c.end(s); err != nil {
			t.Fatal(err)
		}
		w.unchanged(t, "the proof of a roll of a key that was "+c.what, c.want, func() error {
			_, err := w.Prove(t.Context(), d.AccessKeyID, d.Proof(p))
			return err
		})
		w.wantReason(t, "the current credential of a key that was "+c.what, s.current, c.reason)
		if c.what == "disabled" { // enabled again in time, the proof counts
			if _, err := w.EnableKey(t.Context(), s.id); err != nil {
				t.Fatal(err)
			}
			w.prove(t, d, p)
			w.wantReason(t, "the credential that was rolled away", s.current, keys.ReasonRetired)
		}
		if _, err := w.DeleteKey(t.Context(), s.id); err != nil {
			t.Fatal(err)
		}
	}

	// A proof of the old credential, repeated, does not end the roll that came after it.
	d, p := w.create(t, "web-02")
	w.prove(t, d, p)
	s, proven := w.roll(t, subject{id: p.KeyID, current: d}, grace(day))
	again := w.prove(t, d, p)
	Diff(t, "the old proof again", again.Key, proven.Key)
	w.wantReason(t, "the new credential", s.current, keys.ReasonOK)

	// The time limit is the time of the proof's change: a roll proven at the last microsecond counts.
	d, p = w.beginRoll(t, s.id, keys.RollTerms{FinishPrevious: true})
	w.clock.Set(p.Until.Add(-time.Microsecond))
	w.prove(t, d, p)
	w.clock.Advance(time.Hour) // and may be repeated long after that limit
	w.prove(t, d, p)

	// An earlier roll that got in between refuses the proof, unless its terms finish it.
	s = w.active(t, "web-03")
	for _, finish := range []bool{false, true} {
		terms := grace(day)
		terms.FinishPrevious = finish
		if _, err := w.CheckRoll(t.Context(), s.id, &terms); err != nil {
			t.Fatal(err)
		}
		s, _ = w.roll(t, s, terms)
	}
	w.wantReason(t, "the credential before the last", s.previous, keys.ReasonOK)
}
