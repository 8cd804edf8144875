// Package keystest holds a keys.Service to its word. Suite asks for nothing but the Service and a clock that the test
// sets, so the same promises are checked over keys.Local and over a client with a server behind it; what only a store
// can show is tested beside Local. The drawing and proving of credentials is here too, for every test that needs one.
package keystest

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"keyctl/internal/access"
	"keyctl/internal/credential"
	"keyctl/internal/fault"
	"keyctl/internal/iprange"
	"keyctl/internal/keys"
)

// Morning is when tests begin, unless they say otherwise.
var Morning = time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)

// Clock is a clock that only the test moves. Many goroutines may read it.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// NewClock returns a clock that shows Morning.
func NewClock() *Clock { return &Clock{now: Morning} }

// Now is what the clock shows.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Set moves the clock to an instant, back too.
func (c *Clock) Set(to time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = to
}

// Advance moves the clock on.
func (c *Clock) Advance(d time.Duration) { c.Set(c.Now().Add(d)) }

// Env is a world with this clock, real randomness and an operator named alex.
func (c *Clock) Env() keys.Env { return keys.Env{Now: c.Now, Rand: rand.Reader, OSUser: "alex"} }

// Drawn is a credential as its caller has it, secrets and all.
type Drawn struct {
	credential.Credential
	Offer keys.Offer
}

// sealedPair is a key pair with the one secret crypto access key that opens it.
type sealedPair struct {
	crypto credential.Secret
	pair   credential.KeyPair
}

// pairs are made once, for an RSA key takes longer than most tests. Ids and signing keys are always fresh.
var pairs = sync.OnceValues(func() ([3]sealedPair, error) {
	var made [3]sealedPair
	for i := range made {
		crypto, err := credential.DrawToken(rand.Reader, credential.CryptoAccessKey)
		if err != nil {
			return made, err
		}
		pair, err := credential.GenerateKeyPair(crypto)
		if err != nil {
			return made, err
		}
		made[i] = sealedPair{crypto, pair}
	}
	return made, nil
})

var nextPair atomic.Uint32

// Draw draws a credential.
func Draw(t testing.TB) Drawn {
	t.Helper()
	pool, err := pairs()
	if err != nil {
		t.Fatal(err)
	}
	drawn, err := credential.Draw(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := pool[int(nextPair.Add(1))%len(pool)]
	drawn.CryptoAccessKey = p.crypto
	return Drawn{drawn, keys.NewOffer(drawn, p.pair)}
}

// NewKey makes an active key and returns its credential.
func NewKey(t testing.TB, s keys.Service, name string) Drawn {
	t.Helper()
	return (&world{Service: s}).active(t, name).current
}

// Proof proves possession of the credential.
func (d Drawn) Proof(p keys.Pending) []byte {
	return credential.Proof(d.SigningKey, p.KeyID, p.AccessKeyID, p.Challenge)
}

// Question asks whether the credential would be let in.
func (d Drawn) Question() keys.Question {
	return keys.Question{AccessKeyID: d.AccessKeyID, SigningKey: d.SigningKey, PrivateKey: true}
}

// Authenticator shows the codes of an operator's second factor.
type Authenticator struct {
	clock *Clock
	seed  access.Seed
}

// Enroll gives the service's caller a second factor.
func Enroll(t testing.TB, s keys.Service, clock *Clock) *Authenticator {
	t.Helper()
	a := BeginEnrolment(t, s, clock)
	if _, err := s.ConfirmOTP(t.Context(), a.Next()); err != nil {
		t.Fatalf("ConfirmOTP() = %v", err)
	}
	return a
}

// BeginEnrolment is Enroll without the first code.
func BeginEnrolment(t testing.TB, s keys.Service, clock *Clock) *Authenticator {
	t.Helper()
	enrollment, err := s.EnrollOTP(t.Context())
	if err != nil {
		t.Fatalf("EnrollOTP() = %v", err)
	}
	raw, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(enrollment.Secret.Reveal())
	if err != nil {
		t.Fatalf("the enrolment's secret is not base 32: %v", err)
	}
	seed, err := access.SeedFromBytes(raw)
	if err != nil {
		t.Fatal(err)
	}
	return &Authenticator{clock, seed}
}

// Next waits for the next code, which nobody has used yet, by moving the clock one step on.
func (a *Authenticator) Next() string {
	a.clock.Advance(access.Step)
	return a.At(a.clock.Now())
}

// At is the code of an instant.
func (a *Authenticator) At(t time.Time) string {
	return access.CodeAt(a.seed, access.StepAt(t)).Reveal()
}

// Base32 is the seed as it was shown.
func (a *Authenticator) Base32() string { return a.seed.Base32().Reveal() }

// Wrong is a code that is right at no time near the clock's.
func (a *Authenticator) Wrong() string {
	now := a.clock.Now()
	right := map[string]bool{}
	for step := range 5 {
		right[a.At(now.Add(time.Duration(step-2)*access.Step))] = true
	}
	for _, code := range []string{"000000", "111111", "222222", "333333", "444444", "555555"} {
		if !right[code] {
			return code
		}
	}
	panic("keystest: five steps have six codes")
}

// WantCode checks how a call failed; an empty code means that it did not.
func WantCode(t testing.TB, what string, err error, want fault.Code) {
	t.Helper()
	if got := fault.CodeOf(err); got != want {
		t.Errorf("%s = %q (%v), want %q", what, got, err, want)
	}
}

// Diff compares values as they travel: an empty list and none are the same.
func Diff(t testing.TB, what string, got, want any) {
	t.Helper()
	if d := Difference(got, want); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

// Difference is what Diff would show; empty if there is none.
func Difference(got, want any) string {
	lists := cmp.Comparer(func(a, b iprange.List) bool { return a.Equal(b) })
	return cmp.Diff(want, got, cmpopts.EquateEmpty(), lists)
}

// All reads a list to its end, page by page.
func All[V any](t testing.TB, page func(cursor string) (keys.Page[V], error)) []V {
	t.Helper()
	var all []V
	cursor := ""
	for range 10_000 {
		p, err := page(cursor)
		if err != nil {
			t.Fatalf("reading a page: %v", err)
		}
		all = append(all, p.Items...)
		if p.NextCursor == nil {
			return all
		}
		cursor = *p.NextCursor
	}
	t.Fatal("a list has no end")
	return nil
}

// Events reads the whole audit log.
func Events(t testing.TB, s keys.Service, filter keys.AuditFilter) []keys.AuditRecord {
	t.Helper()
	return All(t, func(cursor string) (keys.Page[keys.AuditRecord], error) {
		filter.Cursor = cursor
		return s.AuditRecords(context.WithoutCancel(t.Context()), filter)
	})
}
