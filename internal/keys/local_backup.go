package keys

import (
	"context"
	"slices"
	"time"

	"keyctl/internal/access"
	"keyctl/internal/audit"
	"keyctl/internal/fault"
)

// This file is about the store as a whole, which only its owner handles, beside it: none of it is part of Service.

// StoreID is the identity that Init gave the store.
func (l *Local) StoreID() string { return l.storeID }

// BackupMAC authenticates the manifest of a backup with a key of the store.
func (l *Local) BackupMAC(content []byte) []byte { return l.keyring.MAC("backup-manifest", content) }

// NoteBackup records that a copy of the store is about to be made.
func (l *Local) NoteBackup(ctx context.Context) error {
	return l.update(ctx, func(c *change) error {
		c.note("backup", audit.Object{Type: "store", ID: l.storeID})
		return nil
	})
}

// NoteMove records that the store came to where it is now. from is the end of the audit log that came with it.
func (l *Local) NoteMove(ctx context.Context, from audit.Head) error {
	return l.update(ctx, func(c *change) error {
		c.note("migrate", audit.Object{Type: "store", ID: l.storeID}, "head", from.Value())
		return nil
	})
}

// Restored makes a restored store safe to work on: authenticator codes shown up to now are spent, for they may have been
// used after the backup was made; pending credentials are purged; and the audit log tells where the past ends.
func (l *Local) Restored(ctx context.Context, backup AuditHeadView) error {
	return l.update(ctx, func(c *change) error {
		operators, err := c.Operators()
		if err != nil {
			return err
		}
		for _, o := range operators {
			if _, err := c.AdvanceOTP(o.ID, access.StepAt(c.now)); err != nil && !fault.Is(err, fault.NotFound) {
				return err
			}
		}
		if err := c.purgePending(); err != nil {
			return err
		}
		c.note("restore", audit.Object{Type: "store", ID: l.storeID}, "head", backup.Value)
		return nil
	})
}

// purgePending ends every pending credential, as time would.
func (c *change) purgePending() error {
	for {
		// Seen from the end of all time, pending credentials are stale like any other left behind. From now it would not
		// do: the backup may come from a machine whose clock was ahead.
		stale, err := c.Stale(latest, c.now.Add(-RetiredFor), sweepLimit)
		if err != nil {
			return err
		}
		stale = slices.DeleteFunc(stale, func(cred Credential) bool { return !cred.ProvenAt.IsZero() })
		if len(stale) == 0 {
			return nil
		}
		for _, cred := range stale {
			rec, err := c.Key(cred.KeyID)
			if err != nil {
				return err
			}
			c.note("keys.purge", keyObject(rec.Key), "access_key_id", cred.AccessKeyID)
			if err := c.dropPending(rec, cred, EndPurged, c.now); err != nil {
				return err
			}
		}
	}
}

// revoking are the actions that take something away from somebody, and that a restore to an earlier state undoes.
var revoking = []string{
	"keys.disable", "keys.delete", "keys.edit", "keys.activate", "rolls.finish", "rolls.cancel", "rolls.extend",
	"datasets.detach", "datasets.delete", "primary-keys.disable", "otp.confirm", "otp.reset", "otp.recovery-codes",
}

// Undone reads an audit log that goes on after a backup was made, its own store's or an export of it, and returns the
// events that took something away and are undone by going back. The chain is checked on the way: *audit.Broken.
func (l *Local) Undone(records []audit.Record, backup AuditHeadView) ([]audit.Event, error) {
	verifier := l.chain.Verifier()
	seq, hash, err := audit.ParseHeadValue(backup.Value)
	if err != nil {
		return nil, err
	}
	verifier.Expect(seq, hash)
	var undone []audit.Event
	for _, r := range records {
		if err := verifier.Next(r); err != nil {
			return undone, err
		}
		if r.Seq <= seq {
			continue
		}
		event, err := r.Event()
		if err != nil {
			return undone, err
		}
		if event.Outcome == audit.OK && slices.Contains(revoking, event.Action) {
			undone = append(undone, event)
		}
	}
	return undone, nil
}

// AllAuditRecords reads the whole audit log.
func (l *Local) AllAuditRecords(ctx context.Context) ([]audit.Record, error) {
	var records []audit.Record
	err := l.view(ctx, func(tx Tx, _ time.Time) error {
		records = nil
		return eachAuditRecord(tx, 0, func(r audit.Record) (bool, error) {
			records = append(records, r)
			return true, nil
		})
	})
	return records, err
}
