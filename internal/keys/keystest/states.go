package keystest

import (
	"testing"
	"time"

	"keyctl/internal/fault"
	"keyctl/internal/iprange"
	"keyctl/internal/keys"
)

// stateOps are the columns of the state table (docs/states.md): what can be asked of a key in any state.
var stateOps = []struct {
	name string
	do   func(t *testing.T, w *world, c cellSubject) error
}{
	{"edit words", func(t *testing.T, w *world, c cellSubject) error {
		_, err := w.EditKey(t.Context(), c.id, keys.KeyEdit{Description: ptr("edited"), SetLabels: map[string]string{"a": "1"}})
		return err
	}},
	{"rename", func(t *testing.T, w *world, c cellSubject) error {
		_, err := w.EditKey(t.Context(), c.id, keys.KeyEdit{Name: ptr(c.name + "-renamed")})
		return err
	}},
	{"edit ranges", func(t *testing.T, w *world, c cellSubject) error {
		_, err := w.EditKey(t.Context(), c.id, keys.KeyEdit{IPRanges: ptr(ranges(t, "10.0.0.0/8"))})
		return err
	}},
	{"edit end", func(t *testing.T, w *world, c cellSubject) error {
		_, err := w.EditKey(t.Context(), c.id, keys.KeyEdit{ExpiresAt: ptr(w.now().Add(day))})
		return err
	}},
	{"disable", func(t *testing.T, w *world, c cellSubject) error {
		_, err := w.DisableKey(t.Context(), c.id, false)
		return err
	}},
	{"compromise", func(t *testing.T, w *world, c cellSubject) error {
		_, err := w.DisableKey(t.Context(), c.id, true)
		return err
	}},
	{"enable", func(t *testing.T, w *world, c cellSubject) error {
		_, err := w.EnableKey(t.Context(), c.id)
		return err
	}},
	{"check roll", func(t *testing.T, w *world, c cellSubject) error {
		_, err := w.CheckRoll(t.Context(), c.id, nil)
		return err
	}},
	{"roll", func(t *testing.T, w *world, c cellSubject) error {
		terms := keys.RollTerms{FinishPrevious: true}
		_, err := w.Roll(t.Context(), keys.RollRequest{Key: c.id, Terms: terms, Offer: Draw(t).Offer, Code: c.code})
		return err
	}},
	{"prove a roll", func(t *testing.T, w *world, c cellSubject) error {
		_, err := w.Prove(t.Context(), c.rolling.AccessKeyID, c.rolling.Proof(c.pending))
		return err
	}},
	{"prove again", func(t *testing.T, w *world, c cellSubject) error {
		_, err := w.Prove(t.Context(), c.first.AccessKeyID, c.first.Proof(c.created))
		return err
	}},
	{"extend", func(t *testing.T, w *world, c cellSubject) error {
		_, err := w.ExtendRoll(t.Context(), c.id, keys.Grace{For: 2 * day}, c.code)
		return err
	}},
	{"finish", func(t *testing.T, w *world, c cellSubject) error {
		_, err := w.FinishRoll(t.Context(), c.id)
		return err
	}},
	{"cancel", func(t *testing.T, w *world, c cellSubject) error {
		_, err := w.CancelRoll(t.Context(), c.id, c.code)
		return err
	}},
	{"attach", func(t *testing.T, w *world, c cellSubject) error {
		_, err := w.AttachKeys(t.Context(), "files", []string{c.id}, keys.FullGrant)
		return err
	}},
	{"detach", func(t *testing.T, w *world, c cellSubject) error {
		_, err := w.DetachKeys(t.Context(), "files", []string{c.id})
		return err
	}},
	{"delete", func(t *testing.T, w *world, c cellSubject) error {
		_, err := w.DeleteKey(t.Context(), c.id)
		return err
	}},
}

// cellSubject is a key in some state, with a roll of it in grace and a further one pending, as far as that state allows.
type cellSubject struct {
	id, name string
	first    Drawn // made with the key, in grace since the roll
	created  keys.Pending
	current  Drawn
	rolling  Drawn
	pending  keys.Pending
	code     string
}

// inState makes a key and brings it into a state.
func (w *world) inState(t *testing.T, state keys.KeyState, name string) cellSubject {
	t.Helper()
	end := time.Time{}
	if state == keys.KeyExpired {
		end = w.now().Add(9 * time.Minute) // the roll is still pending then
	}
	c := cellSubject{name: name}
	c.first, c.created = w.create(t, name, withExpiry(end))
	c.id, c.current = c.created.KeyID, c.first
	if state == keys.KeyPending {
		c.rolling, c.pending, c.code = c.first, c.created, w.code(t)
		return c
	}
	w.prove(t, c.first, c.created)
	s, _ := w.roll(t, subject{c.id, c.first, Drawn{}}, grace(day))
	c.current = s.current
	terms := grace(day)
	terms.FinishPrevious = true
	c.rolling, c.pending = w.beginRoll(t, c.id, terms)
	c.code = w.code(t)
	var err error
	switch state {
	case keys.KeyDisabled, keys.KeyCompromised:
		_, err = w.DisableKey(t.Context(), c.id, state == keys.KeyCompromised)
	case keys.KeyExpired:
		w.clock.Set(end)
		c.code = w.auth.Next()
	case keys.KeyDeleted:
		_, err = w.DeleteKey(t.Context(), c.id)
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// row says what every operation answers in one state; an operation that is not named there answers the default.
type row struct {
	otherwise fault.Code
	codes     map[string]fault.Code
	becomes   map[string]keys.KeyState // states that an operation leads to; otherwise it stays
	reason    keys.Reason              // of the current credential
	first     keys.Reason              // of the one in grace
}

var keyTable = map[keys.KeyState]row{
	keys.KeyPending: {
		otherwise: fault.KeyPending,
		codes:     map[string]fault.Code{"prove a roll": "", "prove again": "", "finish": fault.NotFound, "detach": "", "delete": ""},
		becomes:   map[string]keys.KeyState{"prove a roll": keys.KeyActive, "prove again": keys.KeyActive, "delete": keys.KeyDeleted},
		reason:    keys.ReasonPending, first: keys.ReasonPending,
	},
	keys.KeyActive: {
		becomes: map[string]keys.KeyState{"disable": keys.KeyDisabled, "compromise": keys.KeyCompromised, "delete": keys.KeyDeleted},
		reason:  keys.ReasonOK, first: keys.ReasonOK,
	},
	keys.KeyDisabled: {
		codes: map[string]fault.Code{
			"check roll": fault.KeyDisabled, "roll": fault.KeyDisabled, "prove a roll": fault.KeyDisabled, "prove again": fault.KeyDisabled,
			"extend": fault.KeyDisabled, "cancel": fault.KeyDisabled,
		},
		becomes: map[string]keys.KeyState{"compromise": keys.KeyCompromised, "enable": keys.KeyActive, "delete": keys.KeyDeleted},
		reason:  keys.ReasonDisabled, first: keys.ReasonDisabled,
	},
	keys.KeyCompromised: {
		otherwise: fault.KeyDisabled,
		codes:     map[string]fault.Code{"disable": "", "compromise": "", "finish": "", "detach": "", "delete": ""},
		becomes:   map[string]keys.KeyState{"delete": keys.KeyDeleted},
		reason:    keys.ReasonCompromised, first: keys.ReasonCompromised,
	},
	keys.KeyExpired: {
		otherwise: fault.KeyExpired,
		codes: map[string]fault.Code{
			"edit words": "", "rename": "", "disable": "", "compromise": "", "finish": "", "detach": "", "delete": "",
			// The old credential ended with the key.
			"prove again": fault.Superseded,
		},
		becomes: map[string]keys.KeyState{"delete": keys.KeyDeleted},
		reason:  keys.ReasonExpired, first: keys.ReasonExpired,
	},
	keys.KeyDeleted: {
		otherwise: fault.KeyDeleted,
		codes:     map[string]fault.Code{"delete": ""},
		reason:    keys.ReasonUnknown, first: keys.ReasonUnknown,
	},
}

func testKeyStates(t *testing.T, w *world) {
	w.dataset(t, "files")
	for _, state := range keys.KeyStates() {
		want, ok := keyTable[state]
		if !ok {
			t.Fatalf("the state %s has no row", state)
		}
		for _, op := range stateOps {
			t.Run(string(state)+"/"+op.name, func(t *testing.T) {
				c := w.inState(t, state, "cell")
				defer func() { _, _ = w.DeleteKey(t.Context(), c.id) }()
				if got := w.key(t, c.id).State; got != state {
					t.Fatalf("the key is %s", got)
				}
				w.wantReason(t, "the current credential", c.current, want.reason)
				w.wantReason(t, "the credential in grace", c.first, want.first)

				code, named := want.codes[op.name]
				if !named {
					code = want.otherwise
				}
				before, head := w.key(t, c.id), w.head(t)
				WantCode(t, op.name, op.do(t, w, c), code)
				after := w.key(t, c.id)
				becomes, leads := want.becomes[op.name]
				if !leads {
					becomes = state
				}
				if after.State != becomes {
					t.Errorf("afterwards the key is %s, want %s", after.State, becomes)
				}
				if code != "" {
					Diff(t, "the key after a refusal", after, before)
					if w.head(t) != head {
						t.Error("a refusal for the key's state left an audit record")
					}
				}
			})
		}
	}
}

func testCredentialStates(t *testing.T, w *world) {
	// Each row: how a credential gets into the state, and what is answered about it then.
	for _, c := range []struct {
		state    string
		make     func(t *testing.T) (Drawn, keys.Pending)
		reason   keys.Reason
		prove    fault.Code
		pending  fault.Code
		withdraw fault.Code
	}{
		{"pending", func(t *testing.T) (Drawn, keys.Pending) {
			return w.beginRoll(t, w.active(t, "cell").id, grace(day))
		}, keys.ReasonPending, "", "", ""},
		{"current", func(t *testing.T) (Drawn, keys.Pending) {
			d, p := w.beginRoll(t, w.active(t, "cell").id, grace(day))
			w.prove(t, d, p)
			return d, p
		}, keys.ReasonOK, "", "", fault.Superseded},
		{"grace", func(t *testing.T) (Drawn, keys.Pending) {
			d, p := w.create(t, "cell")
			w.prove(t, d, p)
			w.roll(t, subject{id: p.KeyID, current: d}, grace(day))
			return d, p
		}, keys.ReasonOK, "", "", fault.Superseded},
		{"finished", func(t *testing.T) (Drawn, keys.Pending) {
			d, p := w.create(t, "cell")
			w.prove(t, d, p)
			w.roll(t, subject{id: p.KeyID, current: d}, grace(day))
			_, err := w.FinishRoll(t.Context(), p.KeyID)
			WantCode(t, "FinishRoll()", err, "")
			return d, p
		}, keys.ReasonRetired, fault.Superseded, fault.Superseded, fault.Superseded},
		{"retired by time", func(t *testing.T) (Drawn, keys.Pending) {
			d, p := w.create(t, "cell")
			w.prove(t, d, p)
			w.roll(t, subject{id: p.KeyID, current: d}, grace(time.Hour))
			w.clock.Advance(time.Hour)
			return d, p
		}, keys.ReasonRetired, fault.Superseded, fault.Superseded, fault.Superseded},
		{"cancelled", func(t *testing.T) (Drawn, keys.Pending) {
			s := w.active(t, "cell")
			d, p := w.beginRoll(t, s.id, grace(day))
			w.prove(t, d, p)
			_, err := w.CancelRoll(t.Context(), s.id, w.code(t))
			WantCode(t, "CancelRoll()", err, "")
			return d, p
		}, keys.ReasonRetired, fault.Superseded, fault.Superseded, fault.Superseded},
		{"retired for 30 days", func(t *testing.T) (Drawn, keys.Pending) {
			d, p := w.create(t, "cell")
			w.prove(t, d, p)
			w.roll(t, subject{id: p.KeyID, current: d}, grace(0))
			w.clock.Advance(keys.RetiredFor)
			return d, p
		}, keys.ReasonUnknown, fault.Superseded, fault.Superseded, fault.Superseded},
		{"superseded", func(t *testing.T) (Drawn, keys.Pending) {
			s := w.active(t, "cell")
			d, p := w.beginRoll(t, s.id, grace(day))
			w.beginRoll(t, s.id, grace(day))
			return d, p
		}, keys.ReasonUnknown, fault.Superseded, fault.Superseded, ""},
		{"withdrawn", func(t *testing.T) (Drawn, keys.Pending) {
			d, p := w.beginRoll(t, w.active(t, "cell").id, grace(day))
			WantCode(t, "Withdraw()", w.Withdraw(t.Context(), d.AccessKeyID), "")
			return d, p
		}, keys.ReasonUnknown, fault.Superseded, fault.Superseded, ""},
		{"lapsed", func(t *testing.T) (Drawn, keys.Pending) {
			d, p := w.beginRoll(t, w.active(t, "cell").id, grace(day))
			w.clock.Advance(keys.PendingFor)
			return d, p
		}, keys.ReasonUnknown, fault.Superseded, fault.Superseded, ""},
		{"purged", func(t *testing.T) (Drawn, keys.Pending) {
			d, p := w.beginRoll(t, w.active(t, "cell").id, grace(day))
			w.clock.Advance(keys.PendingFor)
			_, err := w.EnableKey(t.Context(), p.KeyID) // any change purges
			WantCode(t, "EnableKey()", err, "")
			return d, p
		}, keys.ReasonUnknown, fault.Superseded, fault.Superseded, ""},
		{"deleted", func(t *testing.T) (Drawn, keys.Pending) {
			d, p := w.create(t, "cell")
			w.prove(t, d, p)
			_, err := w.DeleteKey(t.Context(), p.KeyID)
			WantCode(t, "DeleteKey()", err, "")
			return d, p
		}, keys.ReasonUnknown, fault.KeyDeleted, fault.KeyDeleted, fault.Superseded},
		{"never made", func(t *testing.T) (Drawn, keys.Pending) {
			_, p := w.create(t, "cell")
			return Draw(t), p
		}, keys.ReasonUnknown, fault.NotFound, fault.NotFound, fault.NotFound},
	} {
		t.Run(c.state, func(t *testing.T) {
			cleanUp := func() { _, _ = w.DeleteKey(t.Context(), "cell") }
			defer cleanUp()
			for what, ask := range map[string]struct {
				want fault.Code
				do   func(Drawn, keys.Pending) error
			}{
				"Prove": {c.prove, func(d Drawn, p keys.Pending) error {
					_, err := w.Prove(t.Context(), d.AccessKeyID, d.Proof(p))
					return err
				}},
				"Pending": {c.pending, func(d Drawn, _ keys.Pending) error {
					_, err := w.Pending(t.Context(), d.AccessKeyID)
					return err
				}},
				"Withdraw": {c.withdraw, func(d Drawn, _ keys.Pending) error { return w.Withdraw(t.Context(), d.AccessKeyID) }},
			} {
				d, p := c.make(t)
				w.wantReason(t, "a credential that is "+c.state, d, c.reason)
				WantCode(t, what, ask.do(d, p), ask.want)
				if ask.want != "" {
					w.wantReason(t, "after a refused "+what+", it", d, c.reason)
				}
				cleanUp()
			}
		})
	}
}

func testKeyStateOrder(t *testing.T, w *world) {
	s := w.active(t, "web-01", withExpiry(w.now().Add(time.Hour)))
	wantState := func(when string, want keys.KeyState) {
		t.Helper()
		if got := w.key(t, s.id).State; got != want {
			t.Errorf("%s the key is %s, want %s", when, got, want)
		}
	}
	if _, err := w.DisableKey(t.Context(), s.id, false); err != nil {
		t.Fatal(err)
	}
	wantState("disabled before its end,", keys.KeyDisabled)
	w.clock.Advance(time.Hour)
	wantState("disabled and past its end,", keys.KeyExpired)
	w.clock.Advance(-time.Hour)
	if _, err := w.DisableKey(t.Context(), s.id, true); err != nil {
		t.Fatal(err)
	}
	w.clock.Advance(time.Hour)
	wantState("compromised and past its end,", keys.KeyCompromised)
	if _, err := w.EditKey(t.Context(), s.id, keys.KeyEdit{IPRanges: &iprange.List{}}); !fault.Is(err, fault.KeyDisabled) {
		t.Errorf("an edit of a compromised key = %v, want key_disabled before anything else", err)
	}
	if _, err := w.DeleteKey(t.Context(), s.id); err != nil {
		t.Fatal(err)
	}
	wantState("deleted after all that,", keys.KeyDeleted)
}
