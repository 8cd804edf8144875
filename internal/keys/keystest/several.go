package keystest

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"keyctl/internal/audit"
	"keyctl/internal/fault"
	"keyctl/internal/keys"
)

// Several holds Services that are open on one store at once to what they promise then. open makes a store in the given
// world, and returns what opens it once more, for the same caller.
func Several(t *testing.T, open func(t *testing.T, env keys.Env) (again func(testing.TB) keys.Service)) {
	for _, part := range []struct {
		name string
		test func(*testing.T, *several)
	}{
		{"R11_CodeWorksOnce", testCodeWorksOnce},
		{"R12_FailureCountSurvives", testFailureCountSurvives},
		{"R27_ParallelRepeats", testParallelRepeats},
		{"R31_OneWins", testOneWins},
		{"R31_TheLogExplainsEveryAnswer", testLogExplains},
		{"R33_ParallelRepeatsAreNoOps", testParallelNoOps},
	} {
		t.Run(part.name, func(t *testing.T) {
			clock := NewClock()
			s := &several{again: open(t, clock.Env())}
			s.services = [2]keys.Service{s.again(t), s.again(t)}
			s.world = &world{Service: s.services[0], clock: clock}
			part.test(t, s)
		})
	}
}

// several is two Services on one store; the first one is also the world's.
type several struct {
	*world
	services [2]keys.Service
	again    func(testing.TB) keys.Service
}

// AtOnce runs n calls at once and returns the code of each.
func AtOnce(n int, call func(i int) error) []fault.Code {
	codes := make([]fault.Code, n)
	var all sync.WaitGroup
	begin := make(chan struct{})
	for i := range n {
		all.Go(func() {
			<-begin
			codes[i] = fault.CodeOf(call(i))
		})
	}
	close(begin)
	all.Wait()
	return codes
}

// Count counts how often each code came.
func Count(codes []fault.Code) map[fault.Code]int {
	n := map[fault.Code]int{}
	for _, c := range codes {
		n[c]++
	}
	return n
}

func testCodeWorksOnce(t *testing.T, s *several) {
	auth := Enroll(t, s, s.clock)
	const n = 50
	offers := make([]keys.Offer, n)
	for i := range n {
		s.active(t, fmt.Sprintf("web-%02d", i))
		offers[i] = Draw(t).Offer
	}
	code := auth.Next()
	rollAll := func(some []keys.Service, spell func(i int) string) map[fault.Code]int {
		return Count(AtOnce(n, func(i int) error {
			_, err := some[i%len(some)].Roll(t.Context(), keys.RollRequest{Key: fmt.Sprintf("web-%02d", i), Offer: offers[i], Code: spell(i)})
			return err
		}))
	}
	spellings := []string{code, code[:3] + " " + code[3:], "\t" + code, code + " "}
	got := rollAll(s.services[:], func(i int) string { return spellings[i%len(spellings)] })
	if got[""] != 1 || got[fault.OTPUsed]+got[fault.OTPLocked]+got[fault.StoreBusy] != n-1 {
		t.Errorf("%d rolls with one code = %v, want one success", n, got)
	}
	status, err := s.OTPStatus(t.Context())
	if got[fault.StoreBusy] == 0 && (err != nil || status.Failures != 0 || status.LockedUntil != nil) {
		t.Errorf("a burst of the right code left %+v, %v; want no failure", status, err)
	}
	// Draw anew for the key that was rolled: its offer would be a repeat, which asks for no code.
	for i := range n {
		offers[i] = Draw(t).Offer
	}
	again := s.again(t) // another process, or this one after a restart
	for _, spelling := range spellings {
		if got := rollAll([]keys.Service{again}, func(int) string { return spelling }); got[""] != 0 || got[fault.OTPUsed] == 0 {
			t.Errorf("the same code after reopening = %v, want no success", got)
		}
	}
	if _, err := again.Roll(t.Context(), keys.RollRequest{Key: "web-00", Offer: Draw(t).Offer, Code: auth.Next()}); err != nil {
		t.Errorf("the next code = %v", err)
	}
}

func testFailureCountSurvives(t *testing.T, s *several) {
	auth := Enroll(t, s, s.clock)
	const n = 200
	for i := range 4 {
		s.active(t, fmt.Sprintf("web-%d", i))
	}
	s.dataset(t, "files")
	wrong := auth.Wrong()
	offer := Draw(t).Offer
	// Other keys, operations and servers give no fresh budget (R13).
	got := Count(AtOnce(n, func(i int) (err error) {
		on := s.services[i/4%2]
		switch i % 4 {
		case 0:
			_, err = on.NewRecoveryCodes(t.Context(), wrong)
		case 1:
			err = on.ResetOTP(t.Context(), keys.OTPAuthority{Code: wrong})
		case 2:
			_, err = on.DisablePrimaryKey(t.Context(), "files", 0, wrong)
		default:
			_, err = on.Roll(t.Context(), keys.RollRequest{Key: fmt.Sprintf("web-%d", i/4%4), Offer: offer, Code: wrong})
		}
		return err
	}))
	// Who found the store busy was not heard, or was counted and then compared with nothing.
	busy := got[fault.StoreBusy]
	if got[fault.OTPWrong] > 5 || got[fault.OTPWrong] < 5 && busy == 0 || got[fault.OTPWrong]+got[fault.OTPLocked]+busy != n {
		t.Errorf("%d wrong codes = %v, want 5 compared and the others locked out", n, got)
	}
	locked := func(when string, on keys.Service) {
		t.Helper()
		status, err := on.OTPStatus(t.Context())
		want := s.clock.Now().Add(15 * time.Minute)
		if err != nil || status.Failures != 5 || status.LockedUntil == nil || !status.LockedUntil.Equal(want) {
			t.Errorf("%s: OTPStatus() = %+v, %v; want 5 failures, locked for 15 minutes", when, status, err)
		}
		_, err = on.NewRecoveryCodes(t.Context(), auth.At(s.clock.Now()))
		WantCode(t, when+": the right code while locked", err, fault.OTPLocked)
	}
	locked("after the burst", s.services[0])
	locked("at the other server", s.services[1])
	locked("after reopening", s.again(t))
	refused := Events(t, s, keys.AuditFilter{Outcome: string(audit.Refused)})
	if want := got[fault.OTPWrong] + got[fault.OTPLocked] + 3; len(refused) != want {
		t.Errorf("%d refusals in the audit log, want %d", len(refused), want)
	}
}

// A caller who lost every answer repeats his request until he has one: one key, one code spent, one credential.
func testParallelRepeats(t *testing.T, s *several) {
	auth := Enroll(t, s, s.clock)
	const n = 20
	same := func(what string, n int, ask func(on keys.Service) (keys.Pending, error)) keys.Pending {
		t.Helper()
		answers := make([]keys.Pending, n)
		codes := Count(AtOnce(n, func(i int) (err error) {
			answers[i], err = ask(s.services[i%2])
			return err
		}))
		if codes[""] != n {
			t.Errorf("%d times the same %s = %v", n, what, codes)
		}
		for _, a := range answers {
			Diff(t, "the answer to the same "+what, a, answers[0])
		}
		return answers[0]
	}
	d := Draw(t)
	created := same("create", n, func(on keys.Service) (keys.Pending, error) {
		return on.CreateKey(t.Context(), request("web-01", d))
	})
	if made := Events(t, s, keys.AuditFilter{Action: "keys.create"}); len(made) != 1 {
		t.Errorf("%d keys were made, want 1", len(made))
	}
	prove := func(d Drawn, pending keys.Pending) {
		t.Helper()
		codes := Count(AtOnce(n, func(i int) error {
			_, err := s.services[i%2].Prove(t.Context(), d.AccessKeyID, d.Proof(pending))
			return err
		}))
		if codes[""] != n || s.reason(t, d) != keys.ReasonOK {
			t.Errorf("%d times the same proof = %v, and then %s", n, codes, s.reason(t, d))
		}
	}
	prove(d, created)

	first := Draw(t)
	pending := same("dataset", n, func(on keys.Service) (keys.Pending, error) {
		_, pending, err := on.CreateDataset(t.Context(), keys.NewDataset{Name: "files", Type: keys.Unstructured, FirstKey: &first.Offer})
		if err != nil {
			return keys.Pending{}, err
		}
		return *pending, nil
	})
	prove(first, pending)

	var next Drawn
	var rolled keys.Pending
	for range 5 {
		next = Draw(t)
		r := keys.RollRequest{Key: "web-01", Terms: grace(time.Hour), Offer: next.Offer, Code: auth.Next()}
		roll := func(on keys.Service) (keys.Pending, error) { return on.Roll(t.Context(), r) }
		rolled = same("roll", 2, roll) // more at once are more guesses than five
		same("repeated roll", n, roll)
		if status, err := s.OTPStatus(t.Context()); err != nil || status.Failures != 0 {
			t.Errorf("the same roll at once left %+v, %v; want no failure", status, err)
		}
	}
	prove(next, rolled)
	k := s.key(t, "web-01")
	if k.Generation != 2 || k.Grace == nil || !k.Grace.Until.Equal(s.clock.Now().Add(time.Hour)) {
		t.Errorf("after all that the key is %+v", k)
	}
	if proofs := Events(t, s, keys.AuditFilter{Action: "keys.activate", Object: created.KeyID}); len(proofs) != 2 {
		t.Errorf("%d activations in the audit log, want 2", len(proofs))
	}
}

// Of many creates and rolls at once that want the same thing, exactly one gets it; and nobody holds a live credential
// beside it.
func testOneWins(t *testing.T, s *several) {
	auth := Enroll(t, s, s.clock)
	const n = 16
	drawn := make([]Drawn, n)
	for i := range drawn {
		drawn[i] = Draw(t)
	}
	oneLives := func(what string, codes map[fault.Code]int) {
		t.Helper()
		lives := 0
		for _, d := range drawn {
			if s.reason(t, d) == keys.ReasonOK {
				lives++
			}
		}
		if codes[""] != 1 || lives != 1 {
			t.Errorf("%s: %v, and %d credentials live; want one", what, codes, lives)
		}
	}
	codes := Count(AtOnce(n, func(i int) error {
		on, d := s.services[i%2], drawn[i]
		pending, err := on.CreateKey(t.Context(), request("web-01", d))
		if err != nil {
			return err
		}
		_, err = on.Prove(t.Context(), d.AccessKeyID, d.Proof(pending))
		return err
	}))
	oneLives("creates of one name", codes)

	// Each roll takes place while no other is in grace; the proofs come at once.
	var pending []keys.Pending
	for i := range n {
		drawn[i] = Draw(t)
		p, err := s.services[i%2].Roll(t.Context(), keys.RollRequest{Key: "web-01", Terms: grace(time.Hour), Offer: drawn[i].Offer, Code: auth.Next()})
		if err != nil {
			t.Fatal(err)
		}
		pending = append(pending, p)
	}
	codes = Count(AtOnce(n, func(i int) error {
		_, err := s.services[i%2].Prove(t.Context(), drawn[i].AccessKeyID, drawn[i].Proof(pending[i]))
		return err
	}))
	oneLives("proofs of rolls", codes)
	if codes[fault.Superseded] != n-1 {
		t.Errorf("the losers' proofs = %v, want superseded", codes)
	}
}

// The audit log is the order in which changes happened. Replayed, it explains every answer that anybody got: each change
// saw what the one before it left.
func testLogExplains(t *testing.T, s *several) {
	const names, workers, each = 4, 8, 40
	for i := range names {
		s.active(t, fmt.Sprintf("web-%d", i))
	}
	s.dataset(t, "files")
	answers := make([]int, workers) // how many changes each worker was told of
	codes := AtOnce(workers, func(w int) error {
		random := rand.New(rand.NewPCG(uint64(w), 31))
		on := s.services[w%2]
		for range each {
			name := fmt.Sprintf("web-%d", random.IntN(names))
			var err error
			switch random.IntN(4) {
			case 0:
				_, err = on.DisableKey(t.Context(), name, false)
			case 1:
				_, err = on.EnableKey(t.Context(), name)
			case 2:
				_, err = on.AttachKeys(t.Context(), "files", []string{name}, keys.FullGrant)
			default:
				_, err = on.DetachKeys(t.Context(), "files", []string{name})
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
		if code != "" {
			t.Errorf("worker %d ended with %q", w, code)
		}
		acknowledged += answers[w]
	}
	disabled, attached := map[string]bool{}, map[string]bool{}
	recorded := 0
	for _, r := range Events(t, s, keys.AuditFilter{}) {
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
		k, err := s.services[1].Key(t.Context(), fmt.Sprintf("web-%d", i))
		if err != nil || (k.State == keys.KeyDisabled) != disabled[k.Name] || (len(k.Datasets) == 1) != attached[k.Name] {
			t.Errorf("at the end %s is %+v, %v; the log says disabled %t, attached %t", k.Name, k, err, disabled[k.Name], attached[k.Name])
		}
	}
	if report, err := s.VerifyAudit(t.Context(), ""); err != nil || !report.OK {
		t.Errorf("VerifyAudit() = %+v, %v", report, err)
	}
}

func testParallelNoOps(t *testing.T, s *several) {
	key := s.active(t, "web-01")
	const n = 12
	for _, op := range []struct {
		action string
		do     func(on keys.Service) (keys.KeyView, error)
	}{
		{"keys.disable", func(on keys.Service) (keys.KeyView, error) { return on.DisableKey(t.Context(), key.id, false) }},
		{"keys.enable", func(on keys.Service) (keys.KeyView, error) { return on.EnableKey(t.Context(), key.id) }},
		{"keys.delete", func(on keys.Service) (keys.KeyView, error) { return on.DeleteKey(t.Context(), key.id) }},
	} {
		codes := Count(AtOnce(n, func(i int) error { _, err := op.do(s.services[i%2]); return err }))
		outcomes := map[audit.Outcome]int{}
		for _, r := range Events(t, s, keys.AuditFilter{Action: op.action}) {
			outcomes[r.Event.Outcome]++
		}
		if codes[""] != n || outcomes[audit.OK] != 1 || outcomes[audit.NoOp] != n-1 {
			t.Errorf("%d times %s = %v, recorded as %v; want one change", n, op.action, codes, outcomes)
		}
	}
}
