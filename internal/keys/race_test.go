package keys_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"keyctl/internal/audit"
	"keyctl/internal/fault"
	"keyctl/internal/keys"
	"keyctl/internal/keys/keystest"
)

// A caller who lost every answer repeats his request until he has one: one key, one code spent, one credential.
func TestR27_ParallelRepeats(t *testing.T) {
	p := newPlace(t)
	l := p.open(t)
	auth := keystest.Enroll(t, l, p.clock)
	const n = 20
	same := func(what string, ask func(s keys.Service) (keys.Pending, error)) keys.Pending {
		t.Helper()
		answers := make([]keys.Pending, n)
		services := []keys.Service{l, p.open(t)} // two processes
		codes := count(together(n, func(i int) (err error) {
			answers[i], err = ask(services[i%2])
			return err
		}))
		if codes[""] != n {
			t.Errorf("%d times the same %s = %v", n, what, codes)
		}
		for _, a := range answers {
			keystest.Diff(t, "the answer to the same "+what, a, answers[0])
		}
		return answers[0]
	}
	d := keystest.Draw(t)
	created := same("create", func(s keys.Service) (keys.Pending, error) {
		return s.CreateKey(t.Context(), keys.NewKey{Name: "web-01", Offer: d.Offer})
	})
	if made := keystest.Events(t, l, keys.AuditFilter{Action: "keys.create"}); len(made) != 1 {
		t.Errorf("%d keys were made, want 1", len(made))
	}
	prove := func(d keystest.Drawn, pending keys.Pending) {
		t.Helper()
		codes := count(together(n, func(int) error {
			_, err := l.Prove(t.Context(), d.AccessKeyID, d.Proof(pending))
			return err
		}))
		if codes[""] != n || reason(t, l, d) != keys.ReasonOK {
			t.Errorf("%d times the same proof = %v, and then %s", n, codes, reason(t, l, d))
		}
	}
	prove(d, created)

	first := keystest.Draw(t)
	pending := same("dataset", func(s keys.Service) (keys.Pending, error) {
		_, pending, err := s.CreateDataset(t.Context(), keys.NewDataset{Name: "files", Type: keys.Unstructured, FirstKey: &first.Offer})
		if err != nil {
			return keys.Pending{}, err
		}
		return *pending, nil
	})
	prove(first, pending)

	next, code := keystest.Draw(t), auth.Next()
	r := keys.RollRequest{Key: "web-01", Terms: keys.RollTerms{Grace: keys.Grace{For: time.Hour}}, Offer: next.Offer, Code: code}
	if _, err := l.Roll(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	rolled := same("roll", func(s keys.Service) (keys.Pending, error) { return s.Roll(t.Context(), r) })
	prove(next, rolled)
	k, err := l.Key(t.Context(), "web-01")
	if err != nil || k.Generation != 2 || k.Grace == nil || !k.Grace.Until.Equal(p.clock.Now().Add(time.Hour)) {
		t.Errorf("after all that the key is %+v, %v", k, err)
	}
	if proofs := keystest.Events(t, l, keys.AuditFilter{Action: "keys.activate", Object: created.KeyID}); len(proofs) != 2 {
		t.Errorf("%d activations in the audit log, want 2", len(proofs))
	}
}

// Of many creates and rolls at once that want the same thing, exactly one gets it; and nobody holds a live credential
// beside it.
func TestR31_OneWins(t *testing.T) {
	p := newPlace(t)
	l, l2 := p.open(t), p.open(t)
	auth := keystest.Enroll(t, l, p.clock)
	services := []keys.Service{l, l2}
	const n = 16
	drawn := make([]keystest.Drawn, n)
	for i := range drawn {
		drawn[i] = keystest.Draw(t)
	}
	oneLives := func(what string, codes map[fault.Code]int) {
		t.Helper()
		lives := 0
		for _, d := range drawn {
			if reason(t, l, d) == keys.ReasonOK {
				lives++
			}
		}
		if codes[""] != 1 || lives != 1 {
			t.Errorf("%s: %v, and %d credentials live; want one", what, codes, lives)
		}
	}
	codes := count(together(n, func(i int) error {
		s, d := services[i%2], drawn[i]
		pending, err := s.CreateKey(t.Context(), keys.NewKey{Name: "web-01", Offer: d.Offer})
		if err != nil {
			return err
		}
		_, err = s.Prove(t.Context(), d.AccessKeyID, d.Proof(pending))
		return err
	}))
	oneLives("creates of one name", codes)

	// Each roll takes place while no other is in grace; the proofs come at once.
	keep := make([]keystest.Drawn, 0, n)
	var pending []keys.Pending
	for range n {
		d, p, err := roll(t, l, "web-01", auth.Next(), keys.RollTerms{Grace: keys.Grace{For: time.Hour}})
		if err != nil {
			t.Fatal(err)
		}
		keep, pending = append(keep, d), append(pending, p)
	}
	drawn = keep
	codes = count(together(n, func(i int) error {
		_, err := services[i%2].Prove(t.Context(), drawn[i].AccessKeyID, drawn[i].Proof(pending[i]))
		return err
	}))
	oneLives("proofs of rolls", codes)
	if codes[fault.Superseded] != n-1 {
		t.Errorf("the losers' proofs = %v, want superseded", codes)
	}
}

// The audit log is the order in which changes happened. Replayed, it explains every answer that anybody got: each change
// saw what the one before it left.
func TestR31_TheLogExplainsEveryAnswer(t *testing.T) {
	p := newPlace(t)
	services := []keys.Service{p.open(t), p.open(t)}
	const names, workers, each = 4, 8, 40
	for i := range names {
		newKey(t, services[0], fmt.Sprintf("web-%d", i))
	}
	newDataset(t, services[0], "files")
	answers := make([]int, workers) // how many changes each worker was told of
	codes := together(workers, func(w int) error {
		random := rand.New(rand.NewPCG(uint64(w), 31))
		s := services[w%2]
		for range each {
			name := fmt.Sprintf("web-%d", random.IntN(names))
			var err error
			switch random.IntN(4) {
			case 0:
				_, err = s.DisableKey(t.Context(), name, false)
			case 1:
				_, err = s.EnableKey(t.Context(), name)
			case 2:
				_, err = s.AttachKeys(t.Context(), "files", []string{name})
			default:
				_, err = s.DetachKeys(t.Context(), "files", []string{name})
			}
			if err == nil {
				answers[w]++
			} else if !fault.Is(err, fault.StoreBusy) {
				return err
			}
		}
		return nil
	})
	acknowledged := 0
	for w, code := range codes {
		keystest.WantCode(t, fmt.Sprintf("worker %d", w), errorOf(code), "")
		acknowledged += answers[w]
	}
	disabled, attached := map[string]bool{}, map[string]bool{}
	recorded := 0
	for _, r := range keystest.Events(t, services[0], keys.AuditFilter{}) {
		e := r.Event
		state, name, to := disabled, e.Object.Name, e.Action == "keys.disable" || e.Action == "datasets.attach"
		switch e.Action {
		case "keys.disable", "keys.enable":
		case "datasets.attach", "datasets.detach":
			state, name = attached, e.Detail["key"]
		default:
			continue
		}
		recorded++
		if changed := e.Outcome == audit.OK; changed != (state[name] != to) {
			t.Errorf("record %d: %s of %s was %q, but it was %t before", r.Record.Seq, e.Action, name, e.Outcome, state[name])
		}
		state[name] = to
	}
	if recorded != acknowledged {
		t.Errorf("%d changes were acknowledged and %d recorded", acknowledged, recorded)
	}
	for i := range names {
		k, err := services[1].Key(t.Context(), fmt.Sprintf("web-%d", i))
		if err != nil || (k.State == keys.KeyDisabled) != disabled[k.Name] || (len(k.Datasets) == 1) != attached[k.Name] {
			t.Errorf("at the end %s is %+v, %v; the log says disabled %t, attached %t", k.Name, k, err, disabled[k.Name], attached[k.Name])
		}
	}
	if report, err := services[0].VerifyAudit(t.Context(), ""); err != nil || !report.OK {
		t.Errorf("VerifyAudit() = %+v, %v", report, err)
	}
}

func errorOf(code fault.Code) error {
	if code == "" {
		return nil
	}
	return fault.New(code, "%s", code)
}

func TestR33_ParallelRepeatsAreNoOps(t *testing.T) {
	p := newPlace(t)
	l := p.open(t)
	_, key := newKey(t, l, "web-01")
	const n = 12
	for _, op := range []struct {
		action string
		do     func() (keys.KeyView, error)
	}{
		{"keys.disable", func() (keys.KeyView, error) { return l.DisableKey(t.Context(), key.KeyID, false) }},
		{"keys.enable", func() (keys.KeyView, error) { return l.EnableKey(t.Context(), key.KeyID) }},
		{"keys.delete", func() (keys.KeyView, error) { return l.DeleteKey(t.Context(), key.KeyID) }},
	} {
		codes := count(together(n, func(int) error { _, err := op.do(); return err }))
		outcomes := map[audit.Outcome]int{}
		for _, r := range keystest.Events(t, l, keys.AuditFilter{Action: op.action}) {
			outcomes[r.Event.Outcome]++
		}
		if codes[""] != n || outcomes[audit.OK] != 1 || outcomes[audit.NoOp] != n-1 {
			t.Errorf("%d times %s = %v, recorded as %v; want one change", n, op.action, codes, outcomes)
		}
	}
}
