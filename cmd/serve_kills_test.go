//go:build unix

package cmd

import (
	"context"
	"crypto/rand"
	"fmt"
	mathrand "math/rand/v2"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"keyctl/internal/access"
	"keyctl/internal/credential"
	"keyctl/internal/httpapi"
	"keyctl/internal/keys"
	"keyctl/internal/keys/keystest"
)

// servedTorture kills a server under load, and keeps a journal of what it acknowledged before, outside of the store.
type servedTorture struct {
	t       *testing.T
	w       *world
	address string   // of every server, one after the other
	words   *watcher // of the one that runs

	mu      sync.Mutex
	journal map[string]*page
	acked   map[string]int // changes, by what they do
	unclear int            // changes of which the client said that it does not know, or that it could not make
}

// page is the journal's page for one key. A change is written down as tried before it is, and as done once that was
// acknowledged.
type page struct {
	first, second       keystest.Drawn // of the create, and of the roll
	created             bool
	rolling, rolled     bool
	oldEnds             bool // with the roll, at once
	disabling, disabled bool

	over   bool // nobody works on it any more
	judged bool // since then
}

// servedWorkers is how many clients change something at once. Each rolls as often as its phone shows another code.
const servedWorkers = 16

// TestR41_KilledServer kills keyctl serve at random moments under a load of creates, rolls and disables, and starts it again.
// Every change that a client saw acknowledged is there, what was ended lets nobody in again, and nothing is half done.
//
// There are 20 kills, or as many as KEYCTL_TORTURE says.
func TestR41_KilledServer(t *testing.T) {
	t.Parallel()
	kills := killsOf(t, 20)
	seed := uint64(time.Now().UnixNano())
	random := mathrand.New(mathrand.NewPCG(seed, 0))
	s := &servedTorture{t: t, w: newWorld(t), journal: map[string]*page{}, acked: map[string]int{"creates": 0, "rolls": 0, "disables": 0}}
	s.w.ok("init")
	team := s.hire()
	c := s.start("127.0.0.1:0")
	ctx, leave := context.WithCancel(t.Context())
	var load sync.WaitGroup
	for i, m := range team {
		load.Go(func() { s.work(ctx, i, m) })
	}
	var worst time.Duration
	for range kills {
		time.Sleep(time.Duration(random.Int64N(int64(400 * time.Millisecond))))
		_ = c.Process.Kill()
		_ = c.Wait()
		if status, ok := c.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
			t.Errorf("the server ended by itself: %v\n%s", c.ProcessState, s.words)
		}
		s.judge(false)
		begun := time.Now()
		c = s.start(s.address)
		worst = max(worst, time.Since(begun))
	}
	leave()
	load.Wait()
	if err := c.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	if err := c.Wait(); err != nil {
		t.Errorf("after SIGTERM the server = %v\n%s", err, s.words)
	}
	s.judge(true)
	for what, n := range s.acked {
		if n == 0 {
			t.Errorf("no %s was acknowledged", what)
		}
	}
	t.Logf("seed %d: %d kills, acknowledged %v, unclear %d; %d keys; ready again after %v at worst", seed, kills, s.acked, s.unclear, len(s.journal), worst.Round(time.Millisecond))
}

// member is an operator with a phone and a token.
type member struct {
	phone authenticator
	token credential.Secret
}

// hire makes the operators whose clients are the load.
func (s *servedTorture) hire() []*member {
	t := s.t
	past := time.Now().Add(-time.Hour)
	owner, done := s.w.openAs(past, osUser())
	defer done()
	team := make([]*member, servedWorkers)
	for i := range team {
		name := fmt.Sprintf("worker-%d", i)
		if _, err := owner.CreateOperator(t.Context(), keys.NewOperator{Name: name, Role: access.Admin}); err != nil {
			t.Fatal(err)
		}
		token, err := credential.DrawOperatorToken(rand.Reader)
		if err == nil {
			_, err = owner.CreateToken(t.Context(), keys.NewToken{Token: token, Operator: name})
		}
		if err != nil {
			t.Fatal(err)
		}
		team[i] = &member{token: token}
		own, ownDone := s.w.openAs(past, name)
		enrolled, err := own.EnrollOTP(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		team[i].phone.seed = seedFromText(t, enrolled.Secret.Reveal())
		_, err = own.ConfirmOTP(t.Context(), access.CodeAt(team[i].phone.seed, access.StepAt(past)).Reveal())
		ownDone()
		if err != nil {
			t.Fatal(err)
		}
	}
	return team
}

// start starts a server and returns once it is ready.
func (s *servedTorture) start(address string) *exec.Cmd {
	t := s.t
	t.Helper()
	words := newWatcher(`"msg":"serving"`)
	c := s.w.command("serve", "--listen", address)
	c.Stderr, s.words = words, words
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill() })
	select {
	case <-words.seen:
	case <-time.After(time.Minute):
		_ = c.Process.Kill()
		t.Fatalf("the server does not begin:\n%s", words)
	}
	if s.address == "" {
		_, after, _ := strings.Cut(words.String(), `"address":"http://`)
		s.address, _, _ = strings.Cut(after, `"`)
	}
	answer, err := http.Get("http://" + s.address + "/readyz")
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("GET /readyz = %v, %v\n%s", answer, err, words)
	}
	_ = answer.Body.Close()
	return c
}

// work makes keys and ends or rolls them, until ctx ends.
func (s *servedTorture) work(ctx context.Context, worker int, m *member) {
	client, err := httpapi.NewClient(httpapi.ClientOptions{Server: "http://" + s.address, Token: m.token, Timeout: 5 * time.Second, Version: "test"})
	if err != nil {
		s.t.Error(err)
		return
	}
	defer client.Close()
	for n := 0; ctx.Err() == nil; n++ {
		name := fmt.Sprintf("key-%d-%d", worker, n)
		p := &page{first: keystest.Draw(s.t)}
		s.write(func() { s.journal[name] = p })
		s.change(ctx, client, m, name, p, n)
		s.write(func() { p.over = true })
	}
}

// change creates a key, rolls it if there is a code, and disables every second one.
func (s *servedTorture) change(ctx context.Context, client keys.Service, m *member, name string, p *page, n int) {
	pending, err := client.CreateKey(ctx, keys.NewKey{Name: name, Offer: p.first.Offer})
	if err == nil {
		_, err = client.Prove(ctx, p.first.AccessKeyID, p.first.Proof(pending))
	}
	if !s.acknowledge(err, "creates", func() { p.created = true }) {
		return
	}
	if code, ok := m.nextCode(); ok && !s.roll(ctx, client, name, p, code, n%2 == 0) {
		return
	}
	if n%2 == 0 {
		s.write(func() { p.disabling = true })
		_, err = client.DisableKey(ctx, name, n%4 == 0)
		s.acknowledge(err, "disables", func() { p.disabled = true })
	}
}

// roll gives a key its second credential; whether the first one ends at once or has a day left goes by turns.
func (s *servedTorture) roll(ctx context.Context, client keys.Service, name string, p *page, code string, atOnce bool) bool {
	drawn := keystest.Draw(s.t)
	s.write(func() { p.second, p.rolling, p.oldEnds = drawn, true, atOnce })
	grace := keys.Grace{For: 24 * time.Hour}
	if atOnce {
		grace = keys.Grace{}
	}
	pending, err := client.Roll(ctx, keys.RollRequest{Key: name, Terms: keys.RollTerms{Grace: grace}, Offer: drawn.Offer, Code: code})
	if err == nil {
		_, err = client.Prove(ctx, drawn.AccessKeyID, drawn.Proof(pending))
	}
	return s.acknowledge(err, "rolls", func() { p.rolled = true })
}

// nextCode is a code that was not given before, if the phone shows one by now.
func (m *member) nextCode() (string, bool) {
	next := max(access.StepAt(time.Now()), m.phone.last+1)
	if next > access.StepAt(time.Now())+1 {
		return "", false
	}
	m.phone.last = next
	return access.CodeAt(m.phone.seed, next).Reveal(), true
}

func (s *servedTorture) write(entry func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	entry()
}

// acknowledge writes down that a change was done.
func (s *servedTorture) acknowledge(err error, what string, entry func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.unclear++
		return false
	}
	s.acked[what]++
	entry()
	return true
}

// judge looks at a store that no server has open: at SQLite's own opinion, at the audit chain, and at each key with the
// journal's eyes; those that nobody worked on since the last look are looked at with the last one.
func (s *servedTorture) judge(last bool) {
	t := s.t
	t.Helper()
	(&torture{t: t}).integrity(s.w)
	local, done := s.w.openAs(time.Now(), osUser())
	defer done()
	if report, err := local.VerifyAudit(t.Context(), ""); err != nil || !report.OK {
		t.Errorf("VerifyAudit() = %+v, %v", report, err)
	}
	there := map[string]keys.KeyView{}
	for _, k := range keystest.All(t, func(cursor string) (keys.Page[keys.KeyView], error) {
		return local.Keys(t.Context(), keys.KeyFilter{Cursor: cursor})
	}) {
		there[k.Name] = k
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range there {
		if s.journal[name] == nil {
			t.Errorf("half done: nobody asked for the key %s", name)
		}
	}
	for name, p := range s.journal {
		if p.judged && !last {
			continue
		}
		if k, ok := there[name]; ok {
			s.judgeKey(local, p, k)
		} else if p.created {
			t.Errorf("lost: the key %s", name)
		}
		p.judged = p.over
	}
}

// judgeKey compares a key with its page.
func (s *servedTorture) judgeKey(local *keys.Local, p *page, k keys.KeyView) {
	t := s.t
	t.Helper()
	letsIn := func(d keystest.Drawn) bool {
		verdict, err := local.Verify(t.Context(), d.Question())
		if err != nil {
			t.Errorf("Verify(%s) = %v", k.Name, err)
		}
		return verdict.Allowed
	}
	current := ""
	if k.AccessKeyID != nil {
		current = *k.AccessKeyID
	}
	switch {
	case k.State == keys.KeyPending:
		if p.created {
			t.Errorf("lost: the key %s is pending", k.Name)
		}
		return
	case current != p.first.AccessKeyID && (!p.rolling || current != p.second.AccessKeyID):
		t.Errorf("half done: nobody holds %s, the credential of %s", current, k.Name)
		return
	case p.rolled && current != p.second.AccessKeyID:
		t.Errorf("lost: the roll of %s", k.Name)
	case p.disabled && k.State == keys.KeyActive:
		t.Errorf("lost: %s is active again", k.Name)
	case !p.disabling && k.State != keys.KeyActive:
		t.Errorf("half done: %s is %s, and nobody asked for that", k.Name, k.State)
	}
	active := k.State == keys.KeyActive
	now, old := p.first, keystest.Drawn{}
	if current != p.first.AccessKeyID {
		now, old = p.second, p.first
	}
	if letsIn(now) != active {
		t.Errorf("half done: %s is %s, and its credential lets in: %v", k.Name, k.State, !active)
	}
	if old.AccessKeyID != "" && letsIn(old) != (active && !p.oldEnds) {
		t.Errorf("revived or cut off: the old credential of %s, which is %s; it was to end at once: %v", k.Name, k.State, p.oldEnds)
	}
}
