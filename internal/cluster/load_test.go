//go:build unix

package cluster

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keyctl/internal/access"
	"keyctl/internal/audit"
	"keyctl/internal/fault"
	"keyctl/internal/keys"
	"keyctl/internal/keys/keystest"
)

// outcome is what a journal knows about a change that was tried, in this order.
type outcome int

const (
	untried  outcome = iota
	refused          // it surely did not happen
	doubtful         // its answer is missing
	done             // it was acknowledged
)

// page is what the journal knows about one key. Only one worker changes a key, so the order of its changes is known.
type page struct {
	name, id       string
	held           []*held // every credential that was drawn for it
	current, grace *held
	edits, edited  int // how many were tried, and which one was acknowledged last
	disabling      outcome
	deleting       outcome
	settled        bool // an answer is missing, or it has ended: nothing more is done to it
}

// held is a credential in hand.
type held struct {
	keystest.Drawn
	page    *page
	rolls   bool // a roll made it
	made    outcome
	proven  outcome
	retired outcome
}

// mustWork and mustNot are what must be answered to its holder; neither holds while something is in doubt.
func (h *held) mustWork() bool {
	return h.proven == done && h.retired <= refused && h.page.disabling <= refused && h.page.deleting <= refused
}

func (h *held) mustNot() bool {
	return h.proven <= refused || h.retired == done || h.page.disabling == done || h.page.deleting == done
}

// kinds are the requests of a load.
var kinds = []string{"create", "prove", "roll", "finish", "edit", "disable", "delete", "rotate", "verify"}

// load is several workers' changes through all servers of a cluster, with a journal outside of the store.
type load struct {
	t       *testing.T
	c       *cluster
	workers []*worker
	all     sync.WaitGroup
	stopped atomic.Bool
	resting sync.RWMutex // held by who wants nothing to happen

	mu       sync.Mutex
	answers  map[fault.Code]int
	since    time.Time // when the database was back
	waited   map[string]time.Duration
	worst    map[string]time.Duration
	revived  int
	lost     int
	half     int
	twice    int
	happened int // although it was refused
}

// worker is one operator at one client a server.
type worker struct {
	*load
	name     string
	services []keys.Service
	phone    *phone
	random   *rand.Rand
	pages    []*page

	rotated, maybe int // how often its Primary Key surely got a new version, and how often it may have
}

// newLoad prepares workers, each an operator with a second factor and a token.
func newLoad(t *testing.T, c *cluster, workers int) *load {
	t.Helper()
	l := &load{t: t, c: c, answers: map[fault.Code]int{}, waited: map[string]time.Duration{}, worst: map[string]time.Duration{}}
	for i := range workers {
		w := &worker{load: l, name: fmt.Sprintf("worker-%d", i), random: rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), uint64(i)))}
		c.operator(w.name, access.Admin)
		w.services = c.clients(c.token(w.name))
		w.phone = c.enroll(w.services[0])
		if _, err := w.services[0].CreatePrimaryKey(t.Context(), w.name, ""); err != nil {
			t.Fatal(err)
		}
		l.workers = append(l.workers, w)
	}
	return l
}

// start sets the workers to work, until stop.
func (l *load) start() {
	for _, w := range l.workers {
		l.all.Go(func() {
			for !l.stopped.Load() {
				l.resting.RLock()
				w.work()
				l.resting.RUnlock()
			}
		})
	}
}

// stop ends the load and waits for its last answers.
func (l *load) stop() {
	l.stopped.Store(true)
	l.all.Wait()
}

// back says that the database can be reached again from now on.
func (l *load) back() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.since = time.Now()
	clear(l.waited)
}

// recovers waits until a request of each kind was served, and keeps the longest time that took.
func (l *load) recovers() {
	l.t.Helper()
	const patience = 30 * time.Second
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		l.mu.Lock()
		served := len(l.waited)
		if served == len(kinds) {
			for kind, waited := range l.waited {
				l.worst[kind] = max(l.worst[kind], waited)
			}
		}
		l.mu.Unlock()
		if served == len(kinds) {
			return
		}
		if time.Now().After(end) {
			l.t.Fatalf("%v after the database was back only these were served: %v", patience, slices.Collect(maps.Keys(l.waited)))
		}
	}
}

func (l *load) served(kind string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answers[""]++
	if _, ok := l.waited[kind]; !ok {
		l.waited[kind] = time.Since(l.since)
	}
}

func (l *load) failed(code fault.Code) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answers[code]++
}

// report counts one of the things that must not be.
func (l *load) report(n *int, format string, args ...any) {
	l.t.Helper()
	l.mu.Lock()
	*n++
	l.mu.Unlock()
	l.t.Errorf(format, args...)
}

// try asks for a change until it is acknowledged, as an operator would, or leaves it at the first answer. ended are the
// codes that say that there is nothing to change any more.
func (w *worker) try(kind string, do func(keys.Service) error, ended ...fault.Code) outcome {
	persistent := w.random.IntN(4) > 0
	result := refused
	for range 50 {
		err := do(w.services[w.random.IntN(len(w.services))])
		code := fault.CodeOf(err)
		switch {
		case code == "":
			w.served(kind)
			return done
		case code == fault.OutcomeUnknown:
			result = doubtful
		case slices.Contains(ended, code):
			w.failed(code)
			return result
		case code != fault.Unavailable && code != fault.StoreBusy:
			w.t.Errorf("%s = %v (%s)", kind, err, code)
			return doubtful
		}
		w.failed(code)
		if !persistent || w.stopped.Load() {
			return result
		}
		time.Sleep(time.Duration(w.random.IntN(50)) * time.Millisecond)
	}
	return result
}

// next chooses what to do: what was not served yet since the database is back, or anything.
func (w *worker) next() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	missing := slices.DeleteFunc(slices.Clone(kinds), func(kind string) bool { _, ok := w.waited[kind]; return ok })
	if len(missing) > 0 && w.random.IntN(2) == 0 {
		return missing[w.random.IntN(len(missing))]
	}
	return kinds[w.random.IntN(len(kinds))]
}

func (w *worker) work() {
	kind := w.next()
	p := w.pick(kind)
	switch {
	case kind == "verify":
		w.verify()
	case kind == "rotate":
		w.rotate()
	case p == nil || kind == "create" || kind == "prove":
		w.create()
	case kind == "edit":
		w.edit(p)
	case kind == "finish" && p.grace != nil:
		w.finish(p)
	case kind == "roll" || kind == "finish":
		w.roll(p)
	case kind == "disable":
		w.disable(p)
	case kind == "delete":
		w.remove(p)
	}
}

// pick chooses a key to which something can be done.
func (w *worker) pick(kind string) *page {
	open := slices.DeleteFunc(slices.Clone(w.pages[max(0, len(w.pages)-20):]), func(p *page) bool { return p.settled })
	if rolled := slices.DeleteFunc(slices.Clone(open), func(p *page) bool { return p.grace == nil }); kind == "finish" && len(rolled) > 0 {
		open = rolled
	}
	if len(open) == 0 {
		return nil
	}
	return open[w.random.IntN(len(open))]
}

func (w *worker) draw(p *page) *held {
	h := &held{Drawn: keystest.Draw(w.t), page: p}
	p.held = append(p.held, h)
	return h
}

func (w *worker) create() {
	p := &page{name: fmt.Sprintf("%s-key-%d", w.name, len(w.pages))}
	w.pages = append(w.pages, p)
	h := w.draw(p)
	var pending keys.Pending
	h.made = w.try("create", func(s keys.Service) (err error) {
		pending, err = s.CreateKey(w.t.Context(), keys.NewKey{Name: p.name, Offer: h.Offer})
		return err
	}, fault.Superseded)
	if h.made != done {
		p.settled = true
		return
	}
	p.id = pending.KeyID
	if h.proven = w.prove(h, pending); h.proven != done {
		p.settled = true
		return
	}
	p.current = h
}

func (w *worker) prove(h *held, pending keys.Pending) outcome {
	return w.try("prove", func(s keys.Service) error {
		_, err := s.Prove(w.t.Context(), h.AccessKeyID, h.Proof(pending))
		return err
	}, fault.Superseded, fault.KeyDeleted)
}

func (w *worker) roll(p *page) {
	h := w.draw(p)
	h.rolls = true
	terms := keys.RollTerms{FinishPrevious: true}
	if w.random.IntN(2) == 0 {
		terms.Grace.For = 30 * 24 * time.Hour
	}
	var pending keys.Pending
	h.made = w.try("roll", func(s keys.Service) (err error) {
		code, release := w.phone.code()
		defer release()
		pending, err = s.Roll(w.t.Context(), keys.RollRequest{Key: p.id, Terms: terms, Offer: h.Offer, Code: code})
		return err
	}, fault.Superseded, fault.OTPLocked)
	if h.made != done {
		return // what is pending is in nobody's way
	}
	h.proven = w.prove(h, pending)
	if h.proven <= refused {
		return
	}
	if p.grace != nil {
		p.grace.retired = h.proven
		p.grace = nil
	}
	if terms.Grace.For == 0 {
		p.current.retired = h.proven
	} else {
		p.grace = p.current
	}
	p.current = h
	p.settled = h.proven != done
}

func (w *worker) finish(p *page) {
	p.grace.retired = w.try("finish", func(s keys.Service) error {
		_, err := s.FinishRoll(w.t.Context(), p.id)
		return err
	})
	switch p.grace.retired {
	case done:
		p.grace = nil
	case doubtful:
		p.settled = true
	}
}

func (w *worker) edit(p *page) {
	number := p.edits + 1
	result := w.try("edit", func(s keys.Service) error {
		p.edits++
		text := fmt.Sprintf("edit %d", number)
		_, err := s.EditKey(w.t.Context(), p.id, keys.KeyEdit{Description: &text})
		return err
	})
	p.edits = max(p.edits, number)
	if result == done {
		p.edited = number
	}
}

func (w *worker) disable(p *page) {
	compromised := w.random.IntN(2) == 0
	p.disabling = w.try("disable", func(s keys.Service) error {
		_, err := s.DisableKey(w.t.Context(), p.id, compromised)
		return err
	})
	p.settled = p.disabling >= doubtful
	w.looks(p.held[len(p.held)-1])
}

func (w *worker) remove(p *page) {
	p.deleting = w.try("delete", func(s keys.Service) error {
		_, err := s.DeleteKey(w.t.Context(), p.id)
		return err
	})
	p.settled = p.deleting >= doubtful
	w.looks(p.held[len(p.held)-1])
}

// rotate does what is not the same when it is done twice, and therefore is asked for once.
func (w *worker) rotate() {
	_, err := w.services[w.random.IntN(len(w.services))].RotatePrimaryKey(w.t.Context(), w.name)
	switch code := fault.CodeOf(err); code {
	case "":
		w.rotated++
		w.served("rotate")
		return
	case fault.OutcomeUnknown:
		w.maybe++
	case fault.Unavailable, fault.StoreBusy:
	default:
		w.t.Errorf("rotate = %v (%s)", err, code)
	}
	w.failed(fault.CodeOf(err))
}

// verify asks about any credential there ever was, the newer ones rather.
func (w *worker) verify() {
	some := w.pages[max(0, len(w.pages)-40):]
	if w.random.IntN(4) == 0 {
		some = w.pages
	}
	if len(some) == 0 {
		return
	}
	p := some[w.random.IntN(len(some))]
	w.looks(p.held[w.random.IntN(len(p.held))])
}

// looks asks any server about a credential, and compares the verdict with the journal.
func (w *worker) looks(h *held) {
	v, err := w.services[w.random.IntN(len(w.services))].Verify(w.t.Context(), h.Question())
	if err != nil {
		if code := fault.CodeOf(err); code != fault.Unavailable && code != fault.StoreBusy {
			w.t.Errorf("verify = %v (%s)", err, code)
		}
		w.failed(fault.CodeOf(err))
		return
	}
	w.served("verify")
	w.judge(h, v)
}

func (l *load) judge(h *held, v keys.Verdict) {
	l.t.Helper()
	if v.Allowed && h.mustNot() {
		l.report(&l.revived, "%s of %s is let in; made %d, proven %d, retired %d, disabling %d, deleting %d",
			h.AccessKeyID, h.page.name, h.made, h.proven, h.retired, h.page.disabling, h.page.deleting)
	}
	if !v.Allowed && h.mustWork() {
		l.report(&l.lost, "%s of %s is not let in: %s", h.AccessKeyID, h.page.name, v.Reason)
	}
	if v.Allowed && len(v.PrivateKeyPEM) == 0 {
		l.report(&l.half, "%s of %s has no private key", h.AccessKeyID, h.page.name)
	}
}

// written is what the audit log says happened: how often, by action and credential or key.
type written struct {
	times map[[2]string]int
	keys  map[string]*writtenKey
}

// writtenKey is a key as the audit log tells it.
type writtenKey struct {
	name, current, pending               string
	active, disabled, compromised, ended bool
}

func (k *writtenKey) state() keys.KeyState {
	switch {
	case k.ended:
		return keys.KeyDeleted
	case k.compromised:
		return keys.KeyCompromised
	case k.disabled:
		return keys.KeyDisabled
	case !k.active:
		return keys.KeyPending
	}
	return keys.KeyActive
}

// read replays the audit log.
func (l *load) read(s keys.Service) written {
	l.t.Helper()
	w := written{map[[2]string]int{}, map[string]*writtenKey{}}
	requests := map[[4]string]int{}
	for _, r := range keystest.Events(l.t, s, keys.AuditFilter{}) {
		e := r.Event
		id := e.Detail["access_key_id"]
		if request := [4]string{e.RequestID, e.Action, e.Object.ID, id}; e.RequestID != "" && e.Outcome != audit.Refused {
			if requests[request]++; requests[request] == 2 {
				l.report(&l.twice, "the request %s did %s twice", e.RequestID, e.Action)
			}
		}
		if e.Outcome != audit.OK || e.Object.Type != "key" {
			continue
		}
		for _, object := range slices.Compact([]string{e.Object.ID, id}) {
			w.times[[2]string{e.Action, object}]++
		}
		k := w.keys[e.Object.ID]
		if k == nil {
			k = &writtenKey{name: e.Object.Name}
			w.keys[e.Object.ID] = k
		}
		switch e.Action {
		case "keys.create":
			k.pending = id
		case "keys.activate":
			k.active, k.current = true, id
		case "keys.disable":
			k.disabled, k.compromised = true, k.compromised || e.Detail["compromised"] != ""
		case "keys.delete":
			k.ended = true
		case "keys.purge", "keys.supersede", "keys.withdraw":
			k.ended = k.ended || !k.active
		}
	}
	return w
}

// check compares the store with the journal and with its own audit log, once the load has stopped.
func (l *load) check() {
	t := l.t
	t.Helper()
	n := l.c.serve() // as after a restart
	s := n.local
	if report, err := s.VerifyAudit(t.Context(), ""); err != nil || !report.OK {
		t.Errorf("VerifyAudit() = %+v, %v", report, err)
	}
	log := l.read(s)
	changes := 0
	acknowledged := func(state outcome, action, object string) {
		t.Helper()
		times := log.times[[2]string{action, object}]
		if state == done {
			changes++
		}
		switch {
		case state == done && times == 0:
			l.report(&l.lost, "%s of %s was acknowledged and is not in the audit log", action, object)
		case state <= refused && times > 0:
			l.report(&l.happened, "%s of %s happened, and was said not to have", action, object)
		case times > 1:
			l.report(&l.twice, "%s of %s happened %d times", action, object, times)
		}
	}
	listed := map[string]keys.KeyView{}
	for _, k := range keystest.All(t, func(cursor string) (keys.Page[keys.KeyView], error) {
		return s.Keys(t.Context(), keys.KeyFilter{States: keys.KeyStates(), Cursor: cursor})
	}) {
		listed[k.ID] = k
	}
	for _, w := range l.workers {
		changes += w.rotated
		switch k, err := s.PrimaryKey(t.Context(), w.name); {
		case err != nil:
			t.Error(err)
		case len(k.Versions)-1 < w.rotated:
			l.report(&l.lost, "the Primary Key %s has %d new versions; %d were acknowledged", w.name, len(k.Versions)-1, w.rotated)
		case len(k.Versions)-1 > w.rotated+w.maybe:
			l.report(&l.twice, "the Primary Key %s has %d new versions; %d were acknowledged, %d are in doubt", w.name, len(k.Versions)-1, w.rotated, w.maybe)
		}
		for _, p := range w.pages {
			for _, h := range p.held {
				action := "keys.create"
				if h.rolls {
					action = "keys.roll"
				}
				acknowledged(h.made, action, h.AccessKeyID)
				acknowledged(h.proven, "keys.activate", h.AccessKeyID)
				v, err := s.Verify(t.Context(), h.Question())
				if err != nil {
					t.Error(err)
					continue
				}
				l.judge(h, v)
			}
			if p.id == "" {
				continue
			}
			acknowledged(p.disabling, "keys.disable", p.id)
			acknowledged(p.deleting, "keys.delete", p.id)
			edits := log.times[[2]string{"keys.edit", p.id}]
			if edits > p.edits {
				l.report(&l.twice, "%s has %d edits in the audit log; %d were tried", p.name, edits, p.edits)
			}
			k, there := listed[p.id]
			if p.edited > 0 {
				changes++
				var number int
				if _, err := fmt.Sscanf(k.Description, "edit %d", &number); there && (err != nil || number < p.edited || number > p.edits) {
					l.report(&l.lost, "%s has the description %q; edit %d of %d was acknowledged last", p.name, k.Description, p.edited, p.edits)
				}
			}
			if p.current != nil && !there {
				l.report(&l.lost, "%s is gone", p.name)
			}
			if want := fmt.Sprintf("edit %d", p.edits); p.edits == 0 && k.Description != "" {
				l.report(&l.half, "%s has the description %q, want none or %s", p.name, k.Description, want)
			}
		}
	}
	for id, k := range listed {
		w := log.keys[id]
		if w == nil || w.state() != k.State || w.active && (k.State == keys.KeyActive || k.State == keys.KeyDisabled) && (k.AccessKeyID == nil || *k.AccessKeyID != w.current) {
			l.report(&l.half, "the key %s is %s with %v; the audit log says %+v", k.Name, k.State, k.AccessKeyID, w)
		}
	}
	for id, w := range log.keys {
		if _, there := listed[id]; !there && (w.active || !w.ended) && w.state() != keys.KeyPending {
			l.report(&l.half, "the key %s is not there; the audit log says %+v", w.name, *w)
		}
	}
	t.Logf("%d acknowledged changes: lost %d, revived credentials %d, half states %d, duplicates %d, refused and done %d",
		changes, l.lost, l.revived, l.half, l.twice, l.happened)
	t.Logf("answers: %v", l.answers)
}

// unavailable says how long each kind of request took to be served once the database was back, in the worst case.
func (l *load) unavailable() {
	l.t.Helper()
	worst := slices.Max(slices.Collect(maps.Values(l.worst)))
	l.t.Logf("worst unavailability %v: %v", worst, l.worst)
	if worst > 15*time.Second { // the promise is 5 s; no test depends on speed
		l.t.Errorf("nothing was served for %v", worst)
	}
}
