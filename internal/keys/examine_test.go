package keys_test

import (
	"slices"
	"testing"
	"time"

	"keyctl/internal/fault"
	"keyctl/internal/keys"
	"keyctl/internal/keys/keystest"
)

func TestLatestChange(t *testing.T) {
	p := newPlace(t)
	l := p.open(t)
	p.clock.Advance(time.Hour)
	at := p.clock.Now()
	newDataset(t, l, "payments")
	p.clock.Advance(-24 * time.Hour)
	if got, err := l.LatestChange(t.Context()); err != nil || !got.Equal(at) {
		t.Errorf("LatestChange = %v, %v, want %v", got, err, at)
	}
	p.exec(t, `DELETE FROM audit_log WHERE seq = (SELECT max(seq) FROM audit_log)`)
	if _, err := l.LatestChange(t.Context()); !fault.Is(err, fault.StoreDamaged) {
		t.Errorf("LatestChange without the newest record = %v, want store_damaged", err)
	}
}

// Untidy names what the next change will tidy up, when it will, and nothing afterwards. It changes nothing itself.
func TestUntidy(t *testing.T) {
	p := newPlace(t)
	l := p.open(t)
	auth := keystest.Enroll(t, l, p.clock)
	untidy := func(when string, unproven []string, unwiped int) {
		t.Helper()
		before := p.dump(t)
		got, err := l.Untidy(t.Context())
		if err != nil || !slices.Equal(got.Unproven, unproven) || got.Unwiped != unwiped {
			t.Errorf("%s: Untidy = %+v, %v, want %v and %d", when, got, err, unproven, unwiped)
		}
		if after := p.dump(t); after != before {
			t.Errorf("%s: Untidy changed the store", when)
		}
	}
	newKey(t, l, "web-01")
	next, pending, err := roll(t, l, "web-01", auth.Next(), keys.RollTerms{Grace: keys.Grace{For: time.Hour}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Prove(t.Context(), next.AccessKeyID, next.Proof(pending)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"web-03", "web-02"} {
		if _, err := l.CreateKey(t.Context(), keys.NewKey{Name: name, Offer: keystest.Draw(t).Offer}); err != nil {
			t.Fatal(err)
		}
	}
	untidy("at first", nil, 0)
	p.clock.Advance(keys.PendingFor)
	untidy("after the limit of proofs", []string{"web-02", "web-03"}, 0)
	p.clock.Advance(time.Hour)
	untidy("after the grace", []string{"web-02", "web-03"}, 0)
	p.clock.Advance(keys.RetiredFor)
	untidy("long after the grace", []string{"web-02", "web-03"}, 1)
	newDataset(t, l, "payments")
	untidy("after the next change", nil, 0)
}
