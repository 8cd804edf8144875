package keystest

import (
	"testing"
	"time"

	"keyctl/internal/credential"
	"keyctl/internal/fault"
	"keyctl/internal/keys"
)

func testRoll(t *testing.T, w *world) {
	w.dataset(t, "files")
	s := w.active(t, "web-01", withDatasets("files"), withRanges(t, "10.0.0.0/8"))
	_, err := w.RollOf(t.Context(), s.id)
	WantCode(t, "RollOf() before any", err, fault.NotFound)
	before := w.key(t, s.id)

	d, p := w.beginRoll(t, "web-01", grace(day))
	Diff(t, "Roll()", p, keys.Pending{
		KeyID: s.id, Name: "web-01", AccessKeyID: d.AccessKeyID, Generation: 2, Challenge: p.Challenge,
		Until: w.now().Add(keys.PendingFor), Datasets: []string{"files"},
		Previous: &credential.Previous{AccessKeyID: s.current.AccessKeyID, Until: w.now().Add(day)},
	})
	// Until the proof nothing is different.
	Diff(t, "the key with a pending roll", w.key(t, s.id), before)
	w.wantReason(t, "the current credential", s.current, keys.ReasonOK)
	w.wantReason(t, "the pending credential", d, keys.ReasonPending)

	w.clock.Advance(3 * time.Minute) // the grace begins with the proof, not with the roll
	until := w.now().Add(day)
	proven := w.prove(t, d, p)
	after := before
	after.AccessKeyID, after.Generation = &d.AccessKeyID, 2
	after.Grace = &keys.GraceView{AccessKeyID: s.current.AccessKeyID, Until: until}
	want := keys.Proven{Key: after, Previous: &credential.Previous{AccessKeyID: s.current.AccessKeyID, Until: until}}
	Diff(t, "Prove()", proven, want)
	Diff(t, "the rolled key", w.key(t, "web-01"), after)
	w.wantReason(t, "the new credential", d, keys.ReasonOK)
	w.wantReason(t, "the old credential", s.current, keys.ReasonOK)
	roll, err := w.RollOf(t.Context(), "web-01")
	WantCode(t, "RollOf()", err, "")
	Diff(t, "RollOf()", roll, keys.RollView{
		Name: "web-01", ID: s.id, AccessKeyID: d.AccessKeyID, Generation: 2, RolledAt: w.now(),
		Previous: keys.RollPrevious{AccessKeyID: s.current.AccessKeyID, State: keys.CredentialGrace, Until: until},
	})

	// A repeated proof gets the first answer, and no clock starts again.
	w.clock.Advance(5 * time.Hour)
	w.unchanged(t, "Prove again", "", func() error {
		again, err := w.Prove(t.Context(), d.AccessKeyID, d.Proof(p))
		Diff(t, "the second answer", again, want)
		return err
	})
}

func testRollTerms(t *testing.T, w *world) {
	s := w.active(t, "web-01")
	w.code(t)
	for what, c := range map[string]struct {
		grace keys.Grace
		want  fault.Code
	}{
		"30 days":                 {keys.Grace{For: keys.MaxGrace}, ""},
		"a little more":           {keys.Grace{For: keys.MaxGrace + time.Microsecond}, fault.Invalid},
		"a date in 30 days":       {keys.Grace{At: w.now().Add(keys.MaxGrace)}, ""},
		"a later date":            {keys.Grace{At: w.now().Add(keys.MaxGrace + time.Microsecond)}, fault.Invalid},
		"a date in the past":      {keys.Grace{At: w.now().Add(-time.Microsecond)}, fault.Invalid},
		"the present":             {keys.Grace{At: w.now()}, fault.Invalid},
		"the next microsecond":    {keys.Grace{At: w.now().Add(time.Microsecond)}, ""},
		"a negative time":         {keys.Grace{For: -1}, fault.Invalid},
		"a duration and a date":   {keys.Grace{For: day, At: w.now().Add(day)}, fault.Invalid},
		"an overflow":             {keys.Grace{For: 1<<63 - 1}, fault.Invalid},
		"the least duration":      {keys.Grace{For: -1 << 63}, fault.Invalid},
		"a date out of the years": {keys.Grace{At: time.Date(292277, 1, 1, 0, 0, 0, 0, time.UTC)}, fault.Invalid},
	} {
		w.unchanged(t, "CheckRoll with "+what, c.want, func() error {
			_, err := w.CheckRoll(t.Context(), s.id, &keys.RollTerms{Grace: c.grace})
			return err
		})
		if c.want != "" {
			w.unchanged(t, "Roll with "+what, c.want, func() error {
				terms := keys.RollTerms{Grace: c.grace}
				_, err := w.Roll(t.Context(), keys.RollRequest{Key: s.id, Terms: terms, Offer: Draw(t).Offer, Code: w.auth.At(w.now())})
				return err
			})
		}
	}
	// A date holds whenever the proof comes, as long as it is to come; after it the roll takes effect at once.
	at := w.now().Add(5*time.Minute + 789*time.Nanosecond).In(time.FixedZone("elsewhere", 3600))
	d, p := w.beginRoll(t, s.id, keys.RollTerms{Grace: keys.Grace{At: at}})
	w.clock.Advance(time.Minute)
	previous := w.prove(t, d, p).Previous
	if want := keys.Instant(at); previous == nil || previous.Until != want || previous.Clamped {
		t.Errorf("the old credential works until %+v, want %v", previous, want)
	}
	if got := w.key(t, s.id).Grace; got == nil || got.Until != keys.Instant(at) {
		t.Errorf("the grace is %+v, want until %v", got, keys.Instant(at))
	}
	w.clock.Advance(5 * time.Minute)
	at = w.now().Add(2 * time.Minute)
	old := d
	d, p = w.beginRoll(t, s.id, keys.RollTerms{Grace: keys.Grace{At: at}})
	w.clock.Set(at.Add(time.Minute))
	if previous = w.prove(t, d, p).Previous; previous == nil || !previous.Until.Equal(w.now()) {
		t.Errorf("a proof after the date ends the old credential at %+v, want now, %v", previous, w.now())
	}
	w.wantReason(t, "the old credential", old, keys.ReasonRetired)
}

func testRollAsksForACode(t *testing.T, w *world) {
	s := w.active(t, "web-01")
	roll := func(code string) error {
		_, err := w.Roll(t.Context(), keys.RollRequest{Key: s.id, Terms: grace(day), Offer: Draw(t).Offer, Code: code})
		return err
	}
	checkRoll := func() error { _, err := w.CheckRoll(t.Context(), s.id, nil); return err }
	w.unchanged(t, "Roll before the enrolment", fault.OTPNotEnrolled, func() error { return roll("") })
	w.unchanged(t, "CheckRoll before the enrolment", fault.OTPNotEnrolled, checkRoll)
	w.auth = BeginEnrolment(t, w, w.clock)
	w.unchanged(t, "Roll before the confirmation", fault.OTPNotEnrolled, func() error { return roll(w.auth.At(w.now())) })
	w.auth = Enroll(t, w, w.clock)
	w.unchanged(t, "Roll without a code", fault.OTPRequired, func() error { return roll("") })
	w.unchanged(t, "Roll with blanks for a code", fault.OTPRequired, func() error { return roll(" \t ") })
	w.unchanged(t, "CheckRoll", "", checkRoll)
	for _, malformed := range []string{"12345", "1234567", "12345a", "-12345", "１２３４５６", "123456\n", "123456 or 1"} {
		w.unchanged(t, "Roll with a malformed code", fault.OTPWrong, func() error { return roll(malformed) })
	}
	before := w.head(t).Seq
	WantCode(t, "Roll with a wrong code", roll(w.auth.Wrong()), fault.OTPWrong)
	last := Events(t, w, keys.AuditFilter{Outcome: "refused"})
	if w.head(t).Seq != before+1 || len(last) != 1 || last[0].Event.Action != "keys.roll" || last[0].Event.Reason != "otp_wrong" {
		t.Errorf("a wrong code left %+v, want one refused keys.roll", last)
	}
	if status, err := w.OTPStatus(t.Context()); err != nil || status.Failures != 1 {
		t.Errorf("OTPStatus() = %+v, %v; want one failure", status, err)
	}
	WantCode(t, "Roll with the enrolment's code", roll(w.auth.At(w.now())), fault.OTPUsed)
	code := w.auth.Next()
	WantCode(t, "Roll with a code grouped by blanks", roll(" "+code[:3]+" "+code[3:]+"\t"), "")
	WantCode(t, "Roll with the same code", roll(code), fault.OTPUsed)
	if status, _ := w.OTPStatus(t.Context()); status.Failures != 0 {
		t.Errorf("%d failures after a success and a replay, want none", status.Failures)
	}
	WantCode(t, "Roll with the code of the next step", roll(w.auth.At(w.now().Add(30*time.Second))), "")
	WantCode(t, "Roll with the code of this step after the next one's", roll(w.auth.At(w.now())), fault.OTPUsed)
	w.clock.Advance(90 * time.Second)
	WantCode(t, "Roll with the code of the step before", roll(w.auth.At(w.now().Add(-30*time.Second))), "")
	WantCode(t, "Roll with a code two steps old", roll(w.auth.At(w.now().Add(-60*time.Second))), fault.OTPWrong)

	// Everything else is checked first: a refused roll says nothing about the code, and costs no attempt.
	status, _ := w.OTPStatus(t.Context())
	for _, refused := range []struct {
		what string
		r    keys.RollRequest
		want fault.Code
	}{
		{"an unknown key", keys.RollRequest{Key: "nope", Offer: Draw(t).Offer}, fault.NotFound},
		{"no credential", keys.RollRequest{Key: s.id}, fault.Invalid},
		{"a long grace", keys.RollRequest{Key: s.id, Offer: Draw(t).Offer, Terms: grace(31 * day)}, fault.Invalid},
	} {
		for _, code := range []string{"", w.auth.Wrong(), w.auth.Next()} {
			refused.r.Code = code
			w.unchanged(t, "Roll of "+refused.what, refused.want, func() error { _, err := w.Roll(t.Context(), refused.r); return err })
		}
	}
	if after, _ := w.OTPStatus(t.Context()); after.Failures != status.Failures {
		t.Errorf("refused rolls cost %d attempts", after.Failures-status.Failures)
	}
}

func testRollAgain(t *testing.T, w *world) {
	s := w.active(t, "web-01")
	d := Draw(t)
	r := keys.RollRequest{Key: "web-01", Terms: grace(day), Offer: d.Offer, Code: w.code(t)}
	first, err := w.Roll(t.Context(), r)
	WantCode(t, "Roll()", err, "")
	for what, code := range map[string]string{"the same code": r.Code, "no code": "", "a wrong code": w.auth.Wrong(), "a new code": w.auth.Next()} {
		again := r
		again.Code = code
		w.unchanged(t, "Roll again with "+what, "", func() error {
			got, err := w.Roll(t.Context(), again)
			Diff(t, "Roll again with "+what, got, first)
			return err
		})
	}
	if status, _ := w.OTPStatus(t.Context()); status.Failures != 0 {
		t.Errorf("repeats cost %d attempts", status.Failures)
	}
	for what, change := range map[string]func(*keys.RollRequest){
		"grace":       func(r *keys.RollRequest) { r.Terms.Grace.For = time.Hour },
		"terms":       func(r *keys.RollRequest) { r.Terms.FinishPrevious = true },
		"key":         func(r *keys.RollRequest) { r.Key = "nope" },
		"signing key": func(r *keys.RollRequest) { r.Offer.SigningKey = Draw(t).SigningKey },
	} {
		other := r
		change(&other)
		w.unchanged(t, "Roll again with another "+what, fault.IDConflict, func() error {
			_, err := w.Roll(t.Context(), other)
			return err
		})
	}
	w.unchanged(t, "CreateKey with a roll's id", fault.IDConflict, func() error {
		_, err := w.CreateKey(t.Context(), request("web-02", d))
		return err
	})
	w.prove(t, d, first)
	proven, err := w.Roll(t.Context(), r)
	WantCode(t, "Roll again after the proof", err, "")
	if !proven.Proven || proven.AccessKeyID != d.AccessKeyID || proven.Previous == nil || proven.Previous.AccessKeyID != s.current.AccessKeyID {
		t.Errorf("Roll again after the proof = %+v", proven)
	}
	if k := w.key(t, "web-01"); k.Generation != 2 || *k.AccessKeyID != d.AccessKeyID {
		t.Errorf("the key has generation %d, want 2", k.Generation)
	}
}

func testRollClamped(t *testing.T, w *world) {
	end := w.now().Add(2 * day)
	s := w.active(t, "web-01", withExpiry(end))
	d, p := w.beginRoll(t, s.id, grace(7*day))
	want := credential.Previous{AccessKeyID: s.current.AccessKeyID, Until: end, Clamped: true}
	Diff(t, "what the roll foretells", p.Previous, &want)
	Diff(t, "what the proof does", w.prove(t, d, p).Previous, &want)
	if g := w.key(t, s.id).Grace; g == nil || !g.Until.Equal(end) {
		t.Errorf("the grace is %+v, want until %v", g, end)
	}
	// A later end of the key does not give the old credential more time, an earlier one takes some.
	for _, c := range []struct{ keyEnd, grace time.Time }{
		{end.Add(day), end}, {time.Time{}, end}, {end.Add(-day), end.Add(-day)},
	} {
		k, err := w.EditKey(t.Context(), s.id, keys.KeyEdit{ExpiresAt: &c.keyEnd})
		if err != nil || k.Grace == nil || !k.Grace.Until.Equal(c.grace) {
			t.Errorf("with the key's end at %v the grace is %+v (%v), want until %v", c.keyEnd, k.Grace, err, c.grace)
		}
	}
	w.clock.Set(end.Add(-day))
	w.wantReason(t, "the old credential at the key's end", s.current, keys.ReasonExpired)
	w.wantReason(t, "the new credential at the key's end", d, keys.ReasonExpired)
	if k := w.key(t, s.id); k.Grace != nil {
		t.Errorf("an expired key shows the grace %+v", k.Grace)
	}
}

func testRollNow(t *testing.T, w *world) {
	s := w.active(t, "web-01")
	next, proven := w.roll(t, s, grace(0))
	if proven.Previous == nil || !proven.Previous.Until.Equal(w.now()) || proven.Key.Grace != nil {
		t.Errorf("a roll without grace = %+v, grace %+v", proven.Previous, proven.Key.Grace)
	}
	w.wantReason(t, "the old credential", s.current, keys.ReasonRetired)
	w.wantReason(t, "the new credential", next.current, keys.ReasonOK)
	w.roll(t, next, grace(day)) // nothing is in progress
}

func testRollInProgress(t *testing.T, w *world) {
	s, _ := w.roll(t, w.active(t, "web-01"), grace(day))
	again := keys.RollRequest{Key: s.id, Terms: grace(day), Offer: Draw(t).Offer, Code: w.code(t)}
	w.unchanged(t, "Roll during a grace", fault.RollInProgress, func() error { _, err := w.Roll(t.Context(), again); return err })
	w.unchanged(t, "CheckRoll during a grace", fault.RollInProgress, func() error {
		_, err := w.CheckRoll(t.Context(), s.id, &again.Terms)
		return err
	})
	w.unchanged(t, "CheckRoll without terms", "", func() error { _, err := w.CheckRoll(t.Context(), s.id, nil); return err })
	again.Terms.FinishPrevious = true
	w.unchanged(t, "CheckRoll that finishes", "", func() error {
		_, err := w.CheckRoll(t.Context(), s.id, &again.Terms)
		return err
	})

	// The earlier grace ends with the proof, not before.
	d, p := w.beginRoll(t, s.id, again.Terms)
	w.wantReason(t, "the credential in grace", s.previous, keys.ReasonOK)
	proven := w.prove(t, d, p)
	w.wantReason(t, "the credential that was in grace", s.previous, keys.ReasonRetired)
	w.wantReason(t, "the one before", s.current, keys.ReasonOK)
	if k := proven.Key; k.Generation != 3 || k.Grace == nil || k.Grace.AccessKeyID != s.current.AccessKeyID {
		t.Errorf("the key has generation %d and the grace %+v", k.Generation, k.Grace)
	}
}
