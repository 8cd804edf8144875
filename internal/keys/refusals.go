package keys

import (
	"context"
	"errors"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"keyctl/internal/audit"
	"keyctl/internal/fault"
	"keyctl/internal/iprange"
)

// How many refusals a minute are written down one by one; the rest of that minute is counted.
const (
	refusalsPerAddress = 10
	refusalsPerMinute  = 60
)

// Refusals writes into the audit log whom a server turned away. It writes few enough a minute that a flood neither fills
// the disk nor buries what matters, and then a record of how many it left out. What it counts is in memory: another server on
// the same store counts for itself, and a kill loses a minute's count at most.
type Refusals struct {
	local *Local

	mu         sync.Mutex
	since      time.Time // when the minute began
	written    int
	byAddress  map[netip.Prefix]int // written ones; at most refusalsPerMinute entries
	suppressed int
}

// NewRefusals makes the Refusals of a server that works on local's store.
func NewRefusals(local *Local) *Refusals {
	return &Refusals{local: local, byAddress: map[netip.Prefix]int{}}
}

// Note writes one refusal down: who is the Service that was refused something as forbidden, or nil for somebody who was not
// admitted, as unauthenticated or rate_limited; one whose token is over is named all the same. Other errors are passed over: a refused authenticator code is recorded where
// it is counted, and the rest is no refusal of a person. The error is that of the store.
func (r *Refusals) Note(ctx context.Context, who *Local, from Origin, action string, refused error) error {
	code := fault.CodeOf(refused)
	if code != fault.Forbidden && (who != nil || code != fault.Unauthenticated && code != fault.RateLimited) {
		return nil
	}
	var known *holderRefused
	switch {
	case who == nil && errors.As(refused, &known):
		who = known.holder
	case who == nil:
		who = r.nobody(from)
	}
	now := Instant(r.local.env.Now())
	write, left := r.count(now, from.Address)
	if !write {
		return nil
	}
	return r.append(ctx, who, left, func(c *change) {
		e := c.event(action, audit.Object{}, audit.Refused)
		e.Reason, e.Address, e.RequestID = string(code), from.address(), from.RequestID
		c.events = append(c.events, e)
	})
}

// Flush writes down how many refusals were left out so far, if any. A server calls it every minute and when it stops.
func (r *Refusals) Flush(ctx context.Context) error {
	r.mu.Lock()
	left := r.suppressed
	r.suppressed = 0
	r.mu.Unlock()
	if left == 0 {
		return nil
	}
	return r.append(ctx, r.nobody(Origin{}), left, func(*change) {})
}

// count decides whether one more refusal of an address is written, and returns what an earlier minute left out.
func (r *Refusals) count(now time.Time, address netip.Addr) (write bool, left int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if age := now.Sub(r.since); age >= time.Minute || age < 0 {
		left = r.suppressed
		r.since, r.written, r.suppressed = now, 0, 0
		clear(r.byAddress)
	}
	network := iprange.Client(address)
	if r.written >= refusalsPerMinute || r.byAddress[network] >= refusalsPerAddress {
		r.suppressed++
		return false, left
	}
	r.written++
	r.byAddress[network]++
	return true, left
}

// nobody is the Local that stands for who was not admitted.
func (r *Refusals) nobody(from Origin) *Local {
	l := *r.local
	l.caller, l.token, l.origin = Operator{}, nil, from
	return &l
}

// append writes what note notes, and before it how many refusals were left out.
func (r *Refusals) append(ctx context.Context, who *Local, left int, note func(*change)) error {
	err := r.local.store.Update(ctx, func(tx Tx) error {
		c := &change{Tx: tx, l: who, now: Instant(who.env.Now())}
		if left > 0 {
			c.noteOutcome("refusals.suppressed", audit.Object{}, audit.Refused, "count", strconv.Itoa(left))
		}
		note(c)
		return c.writeAudit()
	})
	if err != nil {
		r.mu.Lock()
		r.suppressed += left // for the next one to tell
		r.mu.Unlock()
	}
	return err
}
