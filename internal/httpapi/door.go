package httpapi

import (
	"context"
	"log/slog"
	"time"

	"keyctl/internal/access"
	"keyctl/internal/credential"
	"keyctl/internal/fault"
	"keyctl/internal/iprange"
	"keyctl/internal/keys"
)

// refusalWait bounds how long a request waits for its refusal to be written down.
const refusalWait = 2 * time.Second

// StoreDoor is the Door of a server on a store: it admits by the store's tokens, slows down who fails (R23), and has
// refusals written into the audit log.
type StoreDoor struct {
	local    *keys.Local
	refusals *keys.Refusals
	failures *access.Failures
	now      func() time.Time
	log      *slog.Logger
}

// NewStoreDoor makes a StoreDoor.
func NewStoreDoor(local *keys.Local, now func() time.Time, log *slog.Logger) *StoreDoor {
	return &StoreDoor{local, keys.NewRefusals(local), access.NewFailures(), now, log}
}

// Admit implements Door.
func (d *StoreDoor) Admit(ctx context.Context, token credential.Secret, from keys.Origin) (Admission, error) {
	admitted, err := d.local.Admit(ctx, token, from)
	if err == nil {
		return admission(admitted), nil
	}
	if fault.Is(err, fault.Unauthenticated) && d.failures.Count(iprange.Client(from.Address), d.now()) {
		err = fault.New(fault.RateLimited, "too many requests of this client were not authenticated").
			WithHint("wait %v; a valid token is let in meanwhile", access.FailureEvery).WithCause(err)
	}
	return Admission{}, err
}

// VerifyFor implements Door.
func (d *StoreDoor) VerifyFor(ctx context.Context, token credential.Secret, from keys.Origin, q keys.Question) (Admission, keys.Verdict, error) {
	admitted, verdict, err := d.local.VerifyFor(ctx, token, from, q)
	if admitted == nil {
		return Admission{}, verdict, err
	}
	return admission(admitted), verdict, err
}

func admission(admitted *keys.Local) Admission {
	return Admission{admitted, admitted.Caller().Role, admitted.Caller().Name, admitted.TokenID()}
}

// Refused implements Door. That a refusal cannot be written down changes nothing about it; the log tells.
func (d *StoreDoor) Refused(ctx context.Context, who keys.Service, from keys.Origin, action string, refused error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), refusalWait)
	defer cancel()
	admitted, _ := who.(*keys.Local)
	if err := d.refusals.Note(ctx, admitted, from, action, refused); err != nil {
		d.log.Error("a refusal is not in the audit log", "request_id", from.RequestID, "error", err.Error())
	}
}

// Run writes down every minute how many refusals were left out, until ctx ends, and then once more.
func (d *StoreDoor) Run(ctx context.Context) {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for running := true; running; {
		select {
		case <-ctx.Done():
			running = false
		case <-tick.C:
		}
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), refusalWait)
		if err := d.refusals.Flush(last); err != nil {
			d.log.Error("the count of refusals is not in the audit log", "error", err.Error())
		}
		cancel()
	}
}
