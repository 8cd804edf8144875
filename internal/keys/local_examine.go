package keys

import (
	"context"
	"slices"
	"time"

	"keyctl/internal/fault"
)

// This file is for whoever looks whether all is well, beside Service: what the store itself remembers.

// LatestChange is the time of the newest audit record, and each change leaves one. It is not checked.
func (l *Local) LatestChange(ctx context.Context) (time.Time, error) {
	var latest time.Time
	err := l.view(ctx, func(tx Tx, _ time.Time) error {
		head, err := tx.AuditHead()
		if err != nil {
			return err
		}
		records, err := tx.AuditRecords(head.Seq-1, 1)
		if err != nil {
			return err
		}
		if len(records) == 0 {
			return fault.New(fault.StoreDamaged, "audit record %d is missing", head.Seq).
				WithHint("run `keyctl audit verify`, then restore the store from a backup")
		}
		event, err := records[0].Event()
		latest = event.At
		return err
	})
	return latest, err
}

// maxUntidy bounds what is counted of what waits: ten times what one change tidies.
const maxUntidy = 10 * sweepLimit

// Untidy is what time has ended and the next changes will tidy. Up to a thousand credentials are counted.
type Untidy struct {
	Unproven []string // names of the keys whose credential was made and never proven, in the order of the alphabet
	Unwiped  int      // credentials retired for longer than RetiredFor whose secrets are still here
}

// Untidy looks for what waits for the next change. A grace that is merely over is nothing to wait for.
func (l *Local) Untidy(ctx context.Context) (Untidy, error) {
	var untidy Untidy
	err := l.view(ctx, func(tx Tx, now time.Time) error {
		untidy = Untidy{}
		stale, err := tx.Stale(now, now.Add(-RetiredFor), maxUntidy)
		if err != nil {
			return err
		}
		for _, cred := range stale {
			if cred.ProvenAt.IsZero() {
				rec, err := tx.Key(cred.KeyID)
				if err != nil {
					return err
				}
				untidy.Unproven = append(untidy.Unproven, rec.Name)
			} else if cred.State(now) == CredentialGone {
				untidy.Unwiped++
			}
		}
		slices.Sort(untidy.Unproven)
		return nil
	})
	return untidy, err
}
