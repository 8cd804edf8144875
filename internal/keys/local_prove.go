package keys

import (
	"context"
	"time"

	"keyctl/internal/audit"
	"keyctl/internal/credential"
	"keyctl/internal/fault"
)

// Pending implements Service.
func (l *Local) Pending(ctx context.Context, accessKeyID string) (Pending, error) {
	if _, err := credential.ParseAccessKeyID(accessKeyID); err != nil {
		return Pending{}, err
	}
	var pending Pending
	err := l.view(ctx, func(tx Tx, now time.Time) error {
		cred, rec, err := findCredential(tx, accessKeyID)
		if err != nil {
			return err
		}
		pending = rec.pendingOf(cred)
		return requireOpen(rec.Key, cred, now)
	})
	return pending, err
}

func findCredential(tx Tx, accessKeyID string) (Credential, KeyRecord, error) {
	rec, err := tx.KeyOf(accessKeyID)
	if fault.Is(err, fault.NotFound) {
		return Credential{}, rec, fault.New(fault.NotFound, "no credential %s", accessKeyID).
			WithHint("it was never committed to this store, or it belongs to another one")
	}
	if err != nil {
		return Credential{}, rec, err
	}
	for _, open := range []*Credential{rec.Pending, rec.Current, rec.Grace} {
		if open != nil && open.AccessKeyID == accessKeyID {
			return *open, rec, nil
		}
	}
	cred, err := tx.Credential(accessKeyID)
	return cred, rec, err
}

func (c *change) requireOpen(k Key, cred Credential) error { return requireOpen(k, cred, c.now) }

// requireOpen refuses a credential that has ended, and one of a key that must not be revived.
func requireOpen(k Key, cred Credential, now time.Time) error {
	switch cred.State(now) {
	case CredentialPending, CredentialCurrent, CredentialGrace:
		return requireState(k, now, KeyPending, KeyActive)
	}
	if k.State(now) == KeyDeleted && !k.ActivatedAt.IsZero() {
		return stateError(k, KeyDeleted)
	}
	return fault.New(fault.Superseded, "the credential %s of key %q %s", cred.AccessKeyID, k.Name, cred.endedHow(now)).
		WithHint("it stays unusable; see `keyctl keys show %s`", k.Name)
}

// endedHow says in words how the credential ended.
func (c Credential) endedHow(now time.Time) string {
	switch {
	case c.EndedAs == EndSuperseded:
		return "gave way to a newer one before it was proven"
	case c.EndedAs == EndWithdrawn:
		return "was withdrawn before it was proven"
	case c.EndedAs == EndCancelled:
		return "was ended by cancelling its roll"
	case c.EndedAs == EndRetired, c.retiredBy(now):
		return "is retired"
	}
	return "was not proven within " + formatMinutes(PendingFor)
}

// Prove implements Service.
func (l *Local) Prove(ctx context.Context, accessKeyID string, proof []byte) (Proven, error) {
	if _, err := credential.ParseAccessKeyID(accessKeyID); err != nil {
		return Proven{}, err
	}
	var proven Proven
	err := l.update(ctx, func(c *change) error {
		cred, rec, err := findCredential(c, accessKeyID)
		if err != nil {
			return err
		}
		if err := c.requireOpen(rec.Key, cred); err != nil {
			return err
		}
		signing, err := l.keyring.Open(signingKeySlot(accessKeyID), cred.SigningKey)
		if err != nil {
			return err
		}
		if !credential.CheckProof(credential.NewSecret(string(signing)), rec.ID, accessKeyID, cred.Challenge, proof) {
			return fault.New(fault.Unauthenticated, "the proof of possession of %s is wrong", accessKeyID)
		}
		if cred.ProvenAt.IsZero() {
			if err := c.putInForce(&rec, &cred); err != nil {
				return err
			}
		}
		proven = Proven{Key: rec.View(c.now), Previous: cred.Previous}
		return nil
	})
	return proven, err
}

// putInForce makes a proven credential the current one. For a roll it begins the old credential's grace; the order of the
// writes keeps each of current and grace single.
func (c *change) putInForce(rec *KeyRecord, cred *Credential) error {
	cred.ProvenAt = c.now
	if cred.Terms == nil {
		rec.ActivatedAt, rec.Pending, rec.Current = c.now, nil, cred
		c.note("keys.activate", keyObject(rec.Key), "access_key_id", cred.AccessKeyID)
		if err := c.PutKey(rec.Key); err != nil {
			return err
		}
		if err := c.settleDatasets(*rec); err != nil {
			return err
		}
		return c.PutCredential(*cred)
	}
	if err := requireCurrent(*rec); err != nil {
		return err
	}
	if err := c.finishEarlier(*rec, *cred.Terms); err != nil {
		return err
	}
	old := *rec.Current
	until, clamped := cred.Terms.Grace.end(c.now, rec.ExpiresAt)
	cred.Previous = &credential.Previous{AccessKeyID: old.AccessKeyID, Until: until, Clamped: clamped}
	old.GraceUntil = until
	rec.Pending, rec.Current, rec.Grace = nil, cred, &old
	if reached(until, c.now) {
		old.EndedAt, old.EndedAs = until, EndRetired
		rec.Grace = nil
	}
	if err := c.PutCredential(old); err != nil {
		return err
	}
	c.note("keys.activate", keyObject(rec.Key), "access_key_id", cred.AccessKeyID,
		"previous", old.AccessKeyID, "until", until.Format(time.RFC3339Nano))
	return c.PutCredential(*cred)
}

// finishEarlier makes room for a new grace: an earlier roll's must be over, or the terms end it.
func (c *change) finishEarlier(rec KeyRecord, terms RollTerms) error {
	if rec.Grace == nil {
		return nil
	}
	if err := requireNoGrace(rec, terms, c.now); err != nil {
		return err
	}
	c.note("rolls.finish", keyObject(rec.Key), "access_key_id", rec.Grace.AccessKeyID)
	return c.retire(*rec.Grace, c.now)
}

// retire records the end of a credential in grace.
func (c *change) retire(cred Credential, at time.Time) error {
	if cred.GraceUntil.After(at) {
		cred.GraceUntil = at
	}
	cred.EndedAt, cred.EndedAs = cred.GraceUntil, EndRetired
	return c.PutCredential(cred)
}

// Withdraw implements Service.
func (l *Local) Withdraw(ctx context.Context, accessKeyID string) error {
	return l.update(ctx, func(c *change) error {
		cred, rec, err := findCredential(c, accessKeyID)
		if err != nil {
			return err
		}
		if !cred.ProvenAt.IsZero() {
			return fault.New(fault.Superseded, "the credential %s was proven already and stays", accessKeyID)
		}
		if !cred.EndedAt.IsZero() {
			c.noteOutcome("keys.withdraw", keyObject(rec.Key), audit.NoOp, "access_key_id", accessKeyID)
			return nil
		}
		c.note("keys.withdraw", keyObject(rec.Key), "access_key_id", accessKeyID)
		return c.dropPending(rec, cred, EndWithdrawn, c.now)
	})
}
