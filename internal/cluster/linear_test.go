//go:build unix

package cluster

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keyctl/internal/access"
	"keyctl/internal/audit"
	"keyctl/internal/credential"
	"keyctl/internal/fault"
	"keyctl/internal/keys"
	"keyctl/internal/keys/keystest"
	"keyctl/internal/postgrestest"
)

// TestR31_Linearizable lets many workers do random things to few keys through all servers at once, and then looks for one
// order in which a sequential model would have given every answer that was given: between each question and its answer
// there is a moment at which all of it happened.
func TestR31_Linearizable(t *testing.T) {
	workers, each := 64, rounds(t, 30, 1000)
	t.Run("postgres, two servers", func(t *testing.T) {
		newHistory(t, newCluster(t, postgrestest.Database(t), 2), workers, each).check()
	})
	t.Run("sqlite, one server", func(t *testing.T) {
		newHistory(t, newSQLiteCluster(t), workers, each).check()
	})
}

// slots is how many names keys have. What happens to keys of one name is independent of the others, so each is looked at
// by itself.
const slots = 12

// history is everything that was asked and answered.
type history struct {
	t     *testing.T
	c     *cluster
	count atomic.Int64 // orders questions and answers

	mu      sync.Mutex
	issued  [slots][]*issue // what is known to all
	events  [slots][]*event
	byToken map[string][]*event
	answers map[string]int
	over    map[string]bool // keys that somebody knows to be deleted
}

// issue is a credential with the request that made it.
type issue struct {
	keystest.Drawn
	pending keys.Pending
	create  *keys.NewKey
	roll    *keys.RollRequest
}

// event is one question and its answer.
type event struct {
	kind, by    string
	slot        int
	key         string
	issue       *issue
	at          time.Time     // of an edit
	life        time.Duration // of an extension
	compromised bool
	dataset     string

	asked, answered int64
	early, late     time.Time // by the clock of the servers
	code            fault.Code
	view            *keys.KeyView
	pending         *keys.Pending
	previous        **credential.Previous
	reason          keys.Reason

	record int64     // of the change, in the audit log; 0: it changed nothing
	when   time.Time // by that record
}

func (e *event) String() string {
	id := ""
	if e.issue != nil {
		id = e.issue.AccessKeyID
	}
	return fmt.Sprintf("%s of key %q credential %q by %s, %d to %d, at %s to %s = %q %q (record %d)",
		e.kind, e.key, id, e.by, e.asked, e.answered, e.early.Format(time.TimeOnly), e.late.Format(time.TimeOnly), e.code, e.reason, e.record)
}

// newHistory makes it.
func newHistory(t *testing.T, c *cluster, workers, each int) *history {
	t.Helper()
	h := &history{t: t, c: c, byToken: map[string][]*event{}, answers: map[string]int{}, over: map[string]bool{}}
	for _, name := range []string{"a", "b"} {
		if _, _, err := c.nodes[0].local.CreateDataset(t.Context(), keys.NewDataset{Name: name, Type: keys.Unstructured}); err != nil {
			t.Fatal(err)
		}
	}
	var all []*player
	for i := range workers {
		p := &player{history: h, name: fmt.Sprintf("worker-%d", i), random: rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), uint64(i)))}
		c.operator(p.name, access.Admin)
		token := c.token(p.name)
		var err error
		if p.token, err = credential.OperatorTokenID(token); err != nil {
			t.Fatal(err)
		}
		p.services = c.clients(token)
		p.phone = c.enroll(p.services[0])
		all = append(all, p)
	}
	var playing sync.WaitGroup
	begun := time.Now()
	for _, p := range all {
		playing.Go(func() {
			for range each {
				p.play(p.random.IntN(slots))
			}
		})
	}
	playing.Wait()
	t.Logf("%d operations of %d workers in %v", workers*each, workers, time.Since(begun).Round(time.Millisecond))
	for slot := range slots {
		for _, i := range slices.Clone(h.issued[slot]) {
			all[0].verify(slot, i)
			all[0].show(slot, i.pending.KeyID)
		}
	}
	return h
}

// player is a worker of a history.
type player struct {
	*history
	name, token string
	services    []keys.Service
	phone       *phone
	random      *rand.Rand
}

// ask asks, and writes the answer down.
func (p *player) ask(e *event, do func(keys.Service) error) {
	e.by, e.early, e.asked = p.name, p.c.clock.Now(), p.count.Add(1)
	err := do(p.services[p.random.IntN(len(p.services))])
	e.answered, e.late, e.code = p.count.Add(1), p.c.clock.Now(), fault.CodeOf(err)
	if e.code == fault.Internal || err != nil && e.code == "" {
		p.t.Errorf("%s: %v", e, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answers[strings.TrimSpace(e.kind+" "+string(e.code))]++
	p.byToken[p.token] = append(p.byToken[p.token], e)
	p.events[e.slot] = append(p.events[e.slot], e)
	if e.code == fault.KeyDeleted || e.kind == "delete" && e.code == "" {
		p.over[e.key] = true
	}
	if e.code == "" && (e.kind == "create" || e.kind == "roll") {
		e.issue.pending = *e.pending
		p.issued[e.slot] = append(p.issued[e.slot], e.issue)
	}
}

// pick chooses a credential that somebody got, and rather a newer one of a key that lives.
func (p *player) pick(slot int) *issue {
	p.mu.Lock()
	defer p.mu.Unlock()
	some := p.issued[slot]
	if p.random.IntN(8) > 0 {
		some = slices.DeleteFunc(slices.Clone(some), func(i *issue) bool { return p.over[i.pending.KeyID] })
		some = some[max(0, len(some)-3):]
	}
	if len(some) == 0 {
		return nil
	}
	return some[p.random.IntN(len(some))]
}

func (p *player) verify(slot int, i *issue) {
	e := &event{kind: "verify", slot: slot, issue: i}
	p.ask(e, func(s keys.Service) error {
		v, err := s.Verify(p.t.Context(), i.Question())
		e.reason = v.Reason
		return err
	})
}

func (p *player) show(slot int, key string) {
	e := &event{kind: "show", slot: slot, key: key}
	p.viewing(e, func(s keys.Service) (keys.KeyView, error) { return s.Key(p.t.Context(), key) })
}

// viewing asks for something that is answered with the key.
func (p *player) viewing(e *event, do func(keys.Service) (keys.KeyView, error)) {
	p.ask(e, func(s keys.Service) error {
		v, err := do(s)
		if err == nil {
			e.view = &v
		}
		return err
	})
}

func (p *player) play(slot int) {
	ctx, i := p.t.Context(), p.pick(slot)
	n := p.random.IntN(100)
	if i == nil || n < 8 {
		d := keystest.Draw(p.t)
		r := &keys.NewKey{Name: fmt.Sprintf("web-%d", slot), Offer: d.Offer}
		e := &event{kind: "create", slot: slot, issue: &issue{Drawn: d, create: r}}
		p.ask(e, func(s keys.Service) error {
			pending, err := s.CreateKey(ctx, *r)
			e.pending = &pending
			return err
		})
		if e.code == "" && p.random.IntN(4) > 0 {
			p.prove(e.issue, slot)
		}
		return
	}
	key := i.pending.KeyID
	e := &event{slot: slot, key: key}
	switch {
	case n < 18:
		p.prove(i, slot)
	case n < 23:
		e.kind, e.issue = "withdraw", i
		p.ask(e, func(s keys.Service) error { return s.Withdraw(ctx, i.AccessKeyID) })
	case n < 27:
		e.kind, e.issue = "repeat", i
		p.ask(e, func(s keys.Service) (err error) {
			var pending keys.Pending
			if i.create != nil {
				pending, err = s.CreateKey(ctx, *i.create)
			} else {
				pending, err = s.Roll(ctx, *i.roll)
			}
			e.pending = &pending
			return err
		})
	case n < 37:
		p.roll(key, slot)
	case n < 40:
		e.kind = "finish"
		p.ask(e, func(s keys.Service) error { _, err := s.FinishRoll(ctx, key); return err })
	case n < 43:
		e.kind = "cancel"
		p.viewing(e, func(s keys.Service) (keys.KeyView, error) {
			code, release := p.phone.code()
			defer release()
			return s.CancelRoll(ctx, key, code)
		})
	case n < 46:
		e.kind, e.life = "extend", []time.Duration{time.Hour, 10 * 24 * time.Hour, 30 * 24 * time.Hour}[p.random.IntN(3)]
		p.ask(e, func(s keys.Service) error {
			code, release := p.phone.code()
			defer release()
			_, err := s.ExtendRoll(ctx, key, keys.Grace{For: e.life}, code)
			return err
		})
	case n < 53:
		e.kind, e.compromised = "disable", p.random.IntN(6) == 0
		p.viewing(e, func(s keys.Service) (keys.KeyView, error) { return s.DisableKey(ctx, key, e.compromised) })
	case n < 60:
		e.kind = "enable"
		p.viewing(e, func(s keys.Service) (keys.KeyView, error) { return s.EnableKey(ctx, key) })
	case n < 61:
		e.kind = "delete"
		p.viewing(e, func(s keys.Service) (keys.KeyView, error) { return s.DeleteKey(ctx, key) })
	case n < 66:
		e.kind = "edit"
		if p.random.IntN(2) == 0 {
			e.at = p.c.clock.Now().Add(time.Duration(1+p.random.IntN(40)) * time.Minute)
		}
		p.viewing(e, func(s keys.Service) (keys.KeyView, error) { return s.EditKey(ctx, key, keys.KeyEdit{ExpiresAt: &e.at}) })
	case n < 74:
		e.kind, e.dataset = "attach", []string{"a", "b"}[p.random.IntN(2)]
		p.ask(e, func(s keys.Service) error {
			_, err := s.AttachKeys(ctx, e.dataset, []string{key}, keys.FullGrant)
			return err
		})
	case n < 80:
		e.kind, e.dataset = "detach", []string{"a", "b"}[p.random.IntN(2)]
		p.ask(e, func(s keys.Service) error { _, err := s.DetachKeys(ctx, e.dataset, []string{key}); return err })
	case n < 90:
		p.show(slot, key)
	default:
		p.verify(slot, i)
	}
}

func (p *player) prove(i *issue, slot int) {
	e := &event{kind: "prove", slot: slot, key: i.pending.KeyID, issue: i}
	p.viewing(e, func(s keys.Service) (keys.KeyView, error) {
		proven, err := s.Prove(p.t.Context(), i.AccessKeyID, i.Proof(i.pending))
		e.previous = &proven.Previous
		return proven.Key, err
	})
}

func (p *player) roll(key string, slot int) {
	d := keystest.Draw(p.t)
	r := &keys.RollRequest{Key: key, Offer: d.Offer}
	r.Terms.Grace.For = []time.Duration{0, 10 * time.Minute, 30 * 24 * time.Hour}[p.random.IntN(3)]
	r.Terms.FinishPrevious = p.random.IntN(2) == 0
	e := &event{kind: "roll", slot: slot, key: key, issue: &issue{Drawn: d, roll: r}}
	p.ask(e, func(s keys.Service) error {
		code, release := p.phone.code()
		defer release()
		r.Code = code
		pending, err := s.Roll(p.t.Context(), *r)
		e.pending = &pending
		return err
	})
	if e.code == "" && p.random.IntN(4) > 0 {
		p.prove(e.issue, slot)
	}
}

// actions are what the changes are called in the audit log.
var actions = map[string]string{
	"create": "keys.create", "prove": "keys.activate", "withdraw": "keys.withdraw", "roll": "keys.roll", "finish": "rolls.finish",
	"cancel": "rolls.cancel", "extend": "rolls.extend", "disable": "keys.disable", "enable": "keys.enable", "delete": "keys.delete",
	"edit": "keys.edit", "attach": "datasets.attach", "detach": "datasets.detach",
}

// beside are records that a change leaves before its own: of what time ended, and of what gave way.
var beside = map[string]bool{"keys.purge": true, "keys.wipe": true, "keys.supersede": true}

// order finds the record of each change. The records of one worker are in the order in which it asked.
func (h *history) order() {
	h.t.Helper()
	s := h.c.nodes[0].local
	if report, err := s.VerifyAudit(h.t.Context(), ""); err != nil || !report.OK {
		h.t.Errorf("VerifyAudit() = %+v, %v", report, err)
	}
	records := map[string][]keys.AuditRecord{}
	for _, r := range keystest.Events(h.t, s, keys.AuditFilter{}) {
		token := r.Event.Detail["token"]
		if strings.HasPrefix(r.Event.Action, "otp.") || beside[r.Event.Action] || r.Event.Outcome == audit.Refused {
			continue
		}
		records[token] = append(records[token], r)
	}
	for token, events := range h.byToken {
		left := records[token]
		for _, e := range events {
			if e.code != "" || actions[e.kind] == "" {
				continue
			}
			i := 0
			if e.kind == "prove" && len(left) > 1 && left[0].Event.Action == "rolls.finish" {
				i = 1 // the earlier roll, which it finished
			}
			if i < len(left) && left[i].Event.Action == actions[e.kind] && e.isIn(left[i].Event) {
				e.record, e.when = left[i].Record.Seq, left[i].Event.At
				left = left[i+1:]
			} else if e.kind != "prove" { // a repeated proof changes nothing
				h.t.Errorf("%s is not in the audit log", e)
			}
		}
		if len(left) > 0 {
			h.t.Errorf("the audit log has %d changes that nobody asked for, such as %s of %s", len(left), left[0].Event.Action, left[0].Event.Object.Name)
		}
	}
}

// isIn reports whether a record is of the event.
func (e *event) isIn(r audit.Event) bool {
	switch e.kind {
	case "create", "prove", "withdraw", "roll":
		return r.Detail["access_key_id"] == e.issue.AccessKeyID
	case "attach", "detach":
		return r.Detail["key_id"] == e.key
	}
	return r.Object.ID == e.key
}

// check looks for the order.
func (h *history) check() {
	h.t.Helper()
	h.order()
	changes, others := 0, 0
	for slot := range slots {
		c, o := h.checkSlot(slot)
		changes, others = changes+c, others+o
	}
	h.t.Logf("%d changes in the order of the audit log, and a moment for each of %d other answers", changes, others)
	h.t.Logf("answers: %v", h.answers)
}

func (h *history) checkSlot(slot int) (changed, unchanged int) {
	t := h.t
	t.Helper()
	var changes, others []*event
	for _, e := range h.events[slot] {
		switch {
		case e.record > 0:
			changes = append(changes, e)
		case e.code != fault.StoreBusy && e.code != fault.Unavailable: // those were not heard
			others = append(others, e)
		}
	}
	slices.SortFunc(changes, func(a, b *event) int { return int(a.record - b.record) })
	slices.SortFunc(others, func(a, b *event) int { return int(a.asked - b.asked) })
	latest := int64(0) // when the latest of the changes so far was asked
	for i, e := range changes {
		if e.answered < latest {
			t.Errorf("%s happened after something that was asked after its answer", e)
		}
		latest = max(latest, e.asked)
		if e.when.Before(e.early) || e.when.After(e.late) || i > 0 && e.when.Before(changes[i-1].when) {
			t.Errorf("%s happened at %s", e, e.when)
		}
	}
	// How many changes came surely before each of the others, and how many may have.
	first, last := map[*event]int{}, map[*event]int{}
	for _, e := range others {
		last[e] = len(changes)
		for i, c := range changes {
			if c.answered < e.asked {
				first[e] = i + 1
			}
			if c.asked > e.answered {
				last[e] = min(last[e], i)
			}
		}
	}
	m := &keystest.Model{Now: keystest.Morning}
	next := 0 // the first of the others that was not looked at
	var open []*event
	// agrees reports whether the model would say what was answered, at an instant that the servers' clock showed meanwhile: a
	// change is stamped before it is there for others to see, so a later instant may still belong to the state before it.
	agrees := func(e *event) bool {
		for now := m.Now; !now.After(e.late); now = now.Add(access.Step) {
			if now.Before(e.early) {
				continue
			}
			clone := m.Clone()
			clone.Tick(now)
			if e.differs(clone) == "" {
				return true
			}
		}
		return false
	}
	for i := 0; i <= len(changes); i++ {
		for ; next < len(others) && first[others[next]] <= i; next++ {
			open = append(open, others[next])
		}
		for again := true; again; { // one that finds its moment lets those that were asked after it find theirs
			earliest := int64(1 << 62) // answer of those that have none yet
			for _, e := range open {
				earliest = min(earliest, e.answered)
			}
			before := len(open)
			open = slices.DeleteFunc(open, func(e *event) bool { return e.asked < earliest && agrees(e) })
			again = len(open) < before
		}
		for _, e := range open {
			if last[e] <= i {
				t.Errorf("no moment explains %s; at the last one: %s. The changes around it:", e, e.differs(m.Clone()))
				for j := max(0, first[e]-5); j < min(len(changes), last[e]+3); j++ {
					t.Logf("%d of %d to %d: %s", j, first[e], last[e], changes[j])
				}
				return
			}
		}
		if i < len(changes) {
			m.Tick(changes[i].when)
			if d := changes[i].differs(m); d != "" {
				t.Errorf("%s: %s", changes[i], d)
				return
			}
		}
	}
	return len(changes), len(others)
}

// differs carries the event out on a model, and says in what the model's answer is another.
func (e *event) differs(m *keystest.Model) string {
	k := m.Key(e.key)
	var c *keystest.ModelCredential
	if e.issue != nil {
		c = m.Credential(e.issue.AccessKeyID)
	}
	if e.key != "" && k == nil || e.issue != nil && c == nil && e.kind != "create" && e.kind != "roll" {
		return "the model has no such key yet"
	}
	var code fault.Code
	switch e.kind {
	case "create", "roll":
		c = &keystest.ModelCredential{Drawn: e.issue.Drawn, Pending: e.issue.pending, Create: e.issue.create, Roll: e.issue.roll}
		m.By = e.by
		if e.kind == "create" {
			code = m.Create(c)
		} else {
			code = m.Roll(k, c)
		}
		if code == "" && e.code == "" {
			if e.kind == "create" {
				c.Key.ID = e.pending.KeyID
			}
			if e.pending.Generation != c.Generation {
				return fmt.Sprintf("the model says generation %d, not %d", c.Generation, e.pending.Generation)
			}
		}
	case "repeat":
		code = m.Attempt(c)
		if code == "" && e.code == "" && (e.pending.KeyID != c.Key.ID || e.pending.Proven == c.Proven.IsZero() || e.pending.Generation != c.Generation) {
			return fmt.Sprintf("the model says proven at %s, generation %d, not %+v", c.Proven, c.Generation, e.pending)
		}
	case "prove":
		code = m.Prove(c)
		if code == "" && e.code == "" {
			if d := keystest.Difference(*e.previous, c.Previous); d != "" {
				return d
			}
		}
	case "withdraw":
		code = m.Withdraw(c)
	case "finish":
		code = m.Finish(k)
	case "cancel":
		code = m.Cancel(k)
	case "extend":
		code = m.Extend(k, e.life)
	case "disable":
		code = m.Disable(k, e.compromised)
	case "enable":
		code = m.Enable(k)
	case "delete":
		k.Delete()
	case "edit":
		code = m.SetExpiry(k, e.at)
		if code == "" && !e.at.IsZero() && !m.Now.Before(e.at) {
			code = fault.Invalid // it is past
		}
	case "attach":
		code = m.Attach(k, e.dataset)
	case "detach":
		code = m.Detach(k, e.dataset)
	case "verify":
		if reason := m.Reason(c); reason != e.reason {
			return fmt.Sprintf("the model says %q", reason)
		}
	}
	if code != e.code {
		return fmt.Sprintf("the model says %q", code)
	}
	if e.view != nil {
		if k == nil {
			k = c.Key
		}
		return keystest.Difference(*e.view, m.View(k))
	}
	return ""
}
