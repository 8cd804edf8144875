package keys

import (
	"slices"
	"time"

	"keyctl/internal/fault"
)

// sweepLimit bounds what one change tidies on its way, so that no change waits long for the leftovers of others.
const sweepLimit = 100

// sweep records what time has ended since the last change: pending credentials that were never proven, graces that are
// over, secrets of credentials retired for long. Reads compute the same from the times and never write.
func (c *change) sweep() error {
	stale, err := c.Stale(c.now, c.now.Add(-RetiredFor), sweepLimit)
	if err != nil {
		return err
	}
	for _, cred := range stale {
		rec, err := c.Key(cred.KeyID)
		if err != nil {
			return err
		}
		if cred.ProvenAt.IsZero() {
			c.note("keys.purge", keyObject(rec.Key), "access_key_id", cred.AccessKeyID)
			if err := c.dropPending(rec, cred, EndPurged, cred.PendingUntil); err != nil {
				return err
			}
			continue
		}
		if cred.EndedAt.IsZero() {
			if err := c.retire(cred, cred.GraceUntil); err != nil {
				return err
			}
		}
		if cred.State(c.now) == CredentialGone {
			c.note("keys.wipe", keyObject(rec.Key), "access_key_id", cred.AccessKeyID)
			if err := c.WipeCredential(cred.AccessKeyID); err != nil {
				return err
			}
		}
	}
	return nil
}

// dropPending ends a pending credential, and the key with it if this was to be its first one.
func (c *change) dropPending(rec KeyRecord, cred Credential, as Ending, at time.Time) error {
	if rec.ActivatedAt.IsZero() {
		return c.tombstone(rec, as)
	}
	cred.EndedAt, cred.EndedAs = at, as
	if err := c.PutCredential(cred); err != nil {
		return err
	}
	return c.WipeCredential(cred.AccessKeyID)
}

// dropUnproven ends a key that was never active. Superseding is noted here; other endings are noted where they are
// asked for.
func (c *change) dropUnproven(rec KeyRecord, as Ending) error {
	if as == EndSuperseded && rec.Pending != nil {
		c.note("keys.supersede", keyObject(rec.Key), "access_key_id", rec.Pending.AccessKeyID)
	}
	return c.tombstone(rec, as)
}

// tombstone ends a key: its credentials end, their secrets are wiped, its datasets are detached, its name is free. The row
// stays, because access key ids are never used again. A dataset that was made together with a key that never became
// active goes too, if nothing else hangs on it.
func (c *change) tombstone(rec KeyRecord, as Ending) error {
	credentials, err := c.Credentials(rec.ID)
	if err != nil {
		return err
	}
	for _, cred := range credentials {
		if cred.EndedAt.IsZero() {
			cred.EndedAt, cred.EndedAs = c.now, as
			if err := c.PutCredential(cred); err != nil {
				return err
			}
		}
		if err := c.WipeCredential(cred.AccessKeyID); err != nil {
			return err
		}
	}
	for _, d := range rec.Datasets {
		if _, err := c.Detach(d.ID, rec.ID); err != nil {
			return err
		}
		if d.FirstKeyID == rec.ID {
			if err := c.dropFirstDataset(d.ID); err != nil {
				return err
			}
		}
	}
	rec.DeletedAt = c.now
	return c.PutKey(rec.Key)
}

// dropFirstDataset removes a dataset whose first key ended unproven, unless another key was attached meanwhile.
func (c *change) dropFirstDataset(id string) error {
	d, err := c.Dataset(id)
	if err != nil {
		return err
	}
	if len(d.Keys) > 0 {
		d.FirstKeyID = ""
		return c.PutDataset(d.Dataset)
	}
	c.note("datasets.withdraw", datasetObject(d.Dataset))
	if err := c.RemoveDataset(id); err != nil {
		return err
	}
	if !d.OwnPrimaryKey {
		return nil
	}
	primary, err := c.Tx.PrimaryKey(d.PrimaryKeyID)
	if err != nil || len(primary.Datasets) > 0 {
		return err
	}
	return c.RemovePrimaryKey(d.PrimaryKeyID)
}

// settleDatasets makes the datasets that were made together with a key independent of it: it has become active.
func (c *change) settleDatasets(rec KeyRecord) error {
	for _, d := range rec.Datasets {
		if d.FirstKeyID != rec.ID {
			continue
		}
		d.FirstKeyID = ""
		if err := c.PutDataset(d.Dataset); err != nil {
			return err
		}
	}
	return nil
}

// supersedePending ends a key's pending credential because a newer roll, or the end of the roll it would follow, takes
// its place. A key without one is left alone.
func (c *change) supersedePending(rec KeyRecord) error {
	if rec.Pending == nil {
		return nil
	}
	c.note("keys.supersede", keyObject(rec.Key), "access_key_id", rec.Pending.AccessKeyID)
	return c.dropPending(rec, *rec.Pending, EndSuperseded, c.now)
}

// requireNoGrace refuses a roll while the old credential of an earlier one still works, unless the terms end it.
func requireNoGrace(rec KeyRecord, terms RollTerms, now time.Time) error {
	if rec.Grace == nil || rec.Grace.State(now) != CredentialGrace || terms.FinishPrevious {
		return nil
	}
	return fault.New(fault.RollInProgress, "the key %q was rolled before, and %s still works until %s",
		rec.Name, rec.Grace.AccessKeyID, rec.Grace.GraceUntil.Format(time.RFC3339)).
		WithHint("add --finish-previous, or end that grace with `keyctl rolls finish %s`", rec.Name)
}

// nextGeneration is one more than the highest generation that was ever in force.
func (c *change) nextGeneration(keyID string) (int, error) {
	credentials, err := c.Credentials(keyID)
	if err != nil {
		return 0, err
	}
	generations := []int{0}
	for _, cred := range credentials {
		if !cred.ProvenAt.IsZero() {
			generations = append(generations, cred.Generation)
		}
	}
	return slices.Max(generations) + 1, nil
}
