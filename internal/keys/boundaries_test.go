package keys_test

import (
	"fmt"
	"testing"
	"time"

	"keyctl/internal/fault"
	"keyctl/internal/keys"
	"keyctl/internal/keys/keystest"
)

// epochs are days on which arithmetic of times goes wrong where it can.
var epochs = map[string]time.Time{
	"an ordinary day":         keystest.Morning,
	"the eve of a leap day":   time.Date(2028, 2, 28, 23, 59, 59, 999999000, time.UTC),
	"no leap day in 2100":     time.Date(2100, 2, 28, 23, 0, 0, 0, time.UTC),
	"the end of 32-bit times": time.Date(2038, 1, 19, 3, 14, 7, 999999000, time.UTC),
	"past 64-bit nanoseconds": time.Date(2300, 1, 1, 0, 0, 0, 1000, time.UTC),
	"the year 9999":           time.Date(9999, 9, 9, 0, 0, 0, 0, time.UTC),
	"the beginning of time":   time.Date(1970, 1, 1, 0, 5, 0, 0, time.UTC),
}

// Every limit is half-open: valid a microsecond before it, over at it.
func TestR35_Boundaries(t *testing.T) {
	for epoch, start := range epochs {
		t.Run(epoch, func(t *testing.T) {
			p := newPlace(t)
			p.clock.Set(start)
			l := p.open(t)
			auth := keystest.Enroll(t, l, p.clock)
			around := func(what string, limit time.Time, check func() bool) {
				t.Helper()
				for _, c := range []struct {
					at   time.Time
					want bool
				}{{limit.Add(-time.Microsecond), true}, {limit, false}, {limit.Add(time.Microsecond), false}, {limit.Add(-time.Microsecond), true}} {
					p.clock.Set(c.at)
					if got := check(); got != c.want {
						t.Errorf("%s %v from its limit: valid %t, want %t", what, c.at.Sub(limit), got, c.want)
					}
				}
			}
			for i, life := range []time.Duration{time.Microsecond, 24 * time.Hour, 90 * 24 * time.Hour} {
				p.clock.Set(start)
				end := keys.Instant(start).Add(life)
				d := keystest.Draw(t)
				pending, err := l.CreateKey(t.Context(), keys.NewKey{Name: fmt.Sprintf("life-%d", i), Offer: d.Offer, ExpiresAt: end})
				if err == nil {
					_, err = l.Prove(t.Context(), d.AccessKeyID, d.Proof(pending))
				}
				if err != nil {
					t.Fatal(err)
				}
				around("a key's life of "+life.String(), end, func() bool {
					k, err := l.Key(t.Context(), pending.KeyID)
					if err != nil || (k.State == keys.KeyActive) != (k.State != keys.KeyExpired) {
						t.Errorf("Key() = %+v, %v", k, err)
					}
					return k.State == keys.KeyActive && reason(t, l, d) == keys.ReasonOK
				})
			}

			p.clock.Set(start)
			waiting := keystest.Draw(t)
			pending, err := l.CreateKey(t.Context(), keys.NewKey{Name: "waiting", Offer: waiting.Offer})
			if err != nil {
				t.Fatal(err)
			}
			around("a pending credential", pending.Until, func() bool {
				_, err := l.Pending(t.Context(), waiting.AccessKeyID)
				return err == nil
			})
			p.clock.Set(pending.Until)
			_, err = l.Prove(t.Context(), waiting.AccessKeyID, waiting.Proof(pending))
			keystest.WantCode(t, "a proof at the limit", err, fault.Superseded)
			p.clock.Set(pending.Until.Add(-time.Microsecond))
			_, err = l.Prove(t.Context(), waiting.AccessKeyID, waiting.Proof(pending))
			keystest.WantCode(t, "a proof just before the limit", err, "") // the refusal before left no trace

			for i, grace := range []time.Duration{time.Microsecond, time.Hour, keys.MaxGrace} {
				start = start.Add(2 * time.Minute) // codes are used once
				p.clock.Set(start)
				old, key := newKey(t, l, fmt.Sprintf("grace-%d", i))
				next, pending, err := roll(t, l, key.KeyID, auth.Next(), keys.RollTerms{Grace: keys.Grace{For: grace}})
				var proven keys.Proven
				if err == nil {
					proven, err = l.Prove(t.Context(), next.AccessKeyID, next.Proof(pending))
				}
				if err != nil {
					t.Fatal(err)
				}
				until := keys.Instant(p.clock.Now()).Add(grace)
				if !proven.Previous.Until.Equal(until) {
					t.Fatalf("the grace ends at %v, want %v", proven.Previous.Until, until)
				}
				around("a grace of "+grace.String(), until, func() bool { return reason(t, l, old) == keys.ReasonOK })
				around("a retirement", until.Add(keys.RetiredFor), func() bool { return reason(t, l, old) == keys.ReasonRetired })
			}

			for range 5 {
				_, _ = l.NewRecoveryCodes(t.Context(), auth.Wrong())
			}
			status, err := l.OTPStatus(t.Context())
			if err != nil || status.LockedUntil == nil {
				t.Fatalf("OTPStatus() = %+v, %v", status, err)
			}
			around("a lock", *status.LockedUntil, func() bool {
				now, err := l.OTPStatus(t.Context())
				return err == nil && now.LockedUntil != nil
			})
		})
	}
}

func TestR35_TimesBeyondTheYears(t *testing.T) {
	p := newPlace(t)
	l := p.open(t)
	newKey(t, l, "web-01")
	latest := time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	for _, c := range []struct {
		end  time.Time
		want fault.Code
	}{
		{latest, ""},
		{latest.Add(time.Second), fault.Invalid},
		{time.Date(292277026, 1, 1, 0, 0, 0, 0, time.UTC), fault.Invalid},
		{time.UnixMicro(1<<63 - 1), fault.Invalid},
		{time.Unix(1<<62, 0), fault.Invalid},
		{time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC), fault.Invalid},
	} {
		_, err := l.EditKey(t.Context(), "web-01", keys.KeyEdit{ExpiresAt: &c.end})
		keystest.WantCode(t, "EditKey with the end "+c.end.String(), err, c.want)
		_, err = l.CreateKey(t.Context(), keys.NewKey{Name: "new", Offer: keystest.Draw(t).Offer, ExpiresAt: c.end})
		keystest.WantCode(t, "CreateKey with the end "+c.end.String(), err, c.want)
		// Whatever was accepted can be read again.
		if _, err := l.Keys(t.Context(), keys.KeyFilter{}); err != nil {
			t.Fatalf("Keys() = %v", err)
		}
	}
	k, err := l.Key(t.Context(), "web-01")
	if err != nil || !k.ExpiresAt.Equal(latest) {
		t.Errorf("the key ends at %v, %v; want %v", k.ExpiresAt, err, latest)
	}
}
