package keys

import (
	"context"
	"crypto/hmac"
	"encoding/json"
	"fmt"
	"io"
	"keyctl/internal/audit"
	"time"

	"keyctl/internal/credential"
	"keyctl/internal/fault"
)

// challengeBytes is the size of a proof's challenge.
const challengeBytes = 32

// CreateKey implements Service.
func (l *Local) CreateKey(ctx context.Context, request NewKey) (Pending, error) {
	if err := request.validate(Instant(l.env.Now())); err != nil {
		return Pending{}, err
	}
	draw, err := l.drawFor(request, request.Offer)
	if err != nil {
		return Pending{}, err
	}
	var pending Pending
	err = l.update(ctx, func(c *change) error {
		repeated, err := c.repeat(draw)
		if err != nil || repeated != nil {
			pending = value(repeated)
			return err
		}
		if err := c.freeKeyName(request.Name); err != nil {
			return err
		}
		datasets, err := c.datasetsNamed(request.Datasets)
		if err != nil {
			return err
		}
		rec, err := c.addKey(request, draw, datasets)
		if err != nil {
			return err
		}
		pending = rec.pending()
		c.note("keys.create", keyObject(rec.Key), "access_key_id", request.Offer.AccessKeyID)
		return nil
	})
	return pending, err
}

// validate checks what needs no store.
func (r NewKey) validate(now time.Time) error {
	if err := ValidateName("key", r.Name); err != nil {
		return err
	}
	if err := validateText("description", r.Description, maxDescription); err != nil {
		return err
	}
	if err := validateLabels(r.Labels); err != nil {
		return err
	}
	if reached(r.ExpiresAt, now) {
		return pastDate(r.ExpiresAt)
	}
	for i, name := range r.Datasets {
		for _, other := range r.Datasets[:i] {
			if name == other {
				return fault.New(fault.Invalid, "the dataset %q is named twice", name)
			}
		}
	}
	return r.Offer.validate()
}

// validate refuses material that client libraries could not use.
func (o Offer) validate() error {
	if _, err := credential.ParseAccessKeyID(o.AccessKeyID); err != nil {
		return err
	}
	if _, err := credential.DecodeToken(credential.SigningKey, o.SigningKey); err != nil {
		return err
	}
	return credential.KeyPair{PublicKey: o.PublicKey, PrivateKeyPEM: o.PrivateKeyPEM}.Validate()
}

// drawn is what the making of a credential needs besides its request: drawn or sealed outside the transaction, so that
// running it twice makes the same thing.
type drawn struct {
	offer       Offer
	keyID       string
	challenge   []byte
	sealed      []byte // signing key
	fingerprint []byte // of the whole request
}

// drawFor prepares the making of a credential. request is anything that encodes what was asked for; the offer's secret
// signing key is masked in that encoding and therefore goes into the fingerprint by itself.
func (l *Local) drawFor(request any, offer Offer) (drawn, error) {
	d := drawn{offer: offer, challenge: make([]byte, challengeBytes)}
	if _, err := io.ReadFull(l.env.Rand, d.challenge); err != nil {
		return d, fmt.Errorf("drawing a challenge: %w", err)
	}
	var err error
	if d.keyID, err = drawID("key_", l.env.Rand); err != nil {
		return d, err
	}
	if d.sealed, err = l.keyring.Seal(signingKeySlot(offer.AccessKeyID), []byte(offer.SigningKey.Reveal())); err != nil {
		return d, err
	}
	encoded, err := json.Marshal(request)
	if err != nil {
		return d, fmt.Errorf("encoding a request: %w", err)
	}
	d.fingerprint = l.keyring.MAC("request", fmt.Appendf(nil, "%T", request), encoded, []byte(offer.SigningKey.Reveal()))
	return d, nil
}

// repeat answers a request that was carried out already, told by the access key id that its caller drew (R27): nil if
// it is new. id_conflict: the id was used for something else. superseded: what it made has ended.
func (c *change) repeat(d drawn) (*Pending, error) {
	made, err := c.Credential(d.offer.AccessKeyID)
	if fault.Is(err, fault.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !hmac.Equal(made.Fingerprint, d.fingerprint) {
		return nil, fault.New(fault.IDConflict, "the access key id %s was used for another request", d.offer.AccessKeyID).
			WithHint("draw a new credential")
	}
	rec, err := c.Key(made.KeyID)
	if err != nil {
		return nil, err
	}
	if err := c.requireOpen(rec.Key, made); err != nil {
		return nil, err
	}
	pending := rec.pendingOf(made)
	return &pending, nil
}

func value(p *Pending) Pending {
	if p == nil {
		return Pending{}
	}
	return *p
}

// freeKeyName makes way for a new key: a pending key of that name gives way, any other keeps its name.
func (c *change) freeKeyName(name string) error {
	rec, err := c.KeyByName(name)
	switch {
	case fault.Is(err, fault.NotFound):
		return nil
	case err != nil:
		return err
	case rec.ActivatedAt.IsZero():
		return c.dropUnproven(rec, EndSuperseded)
	}
	return nameExists("key", name)
}

// datasetsNamed finds datasets by name and refuses a set that holds two unstructured ones: a client names no dataset
// when it encrypts unstructured data, so the key must tell which is meant.
func (c *change) datasetsNamed(names []string) ([]Dataset, error) {
	datasets := make([]Dataset, 0, len(names))
	for _, name := range names {
		d, err := findDataset(c, name)
		if err != nil {
			return nil, err
		}
		datasets = append(datasets, d.Dataset)
	}
	return datasets, oneUnstructured(datasets)
}

func oneUnstructured(datasets []Dataset) error {
	var first string
	for _, d := range datasets {
		if d.Type != Unstructured {
			continue
		}
		if first != "" {
			return fault.New(fault.Invalid, "a key has at most one unstructured dataset, not both %q and %q", first, d.Name).
				WithHint("create a key for each of them")
		}
		first = d.Name
	}
	return nil
}

// addKey stores a pending key, its first credential and its attachments.
func (c *change) addKey(request NewKey, d drawn, datasets []Dataset) (KeyRecord, error) {
	rec := KeyRecord{Datasets: datasets, Key: Key{
		ID: d.keyID, Name: request.Name, Description: request.Description, Labels: request.Labels,
		IPRanges: request.IPRanges, CreatedAt: c.now, CreatedBy: c.l.caller.Name, ExpiresAt: request.ExpiresAt,
	}}
	if err := c.PutKey(rec.Key); err != nil {
		return rec, nameTaken(err, "key", request.Name)
	}
	cred, err := c.addCredential(rec.Key, 1, d, nil)
	if err != nil {
		return rec, err
	}
	rec.Pending = &cred
	for _, dataset := range datasets {
		if _, err := c.Attach(dataset.ID, rec.ID, c.now); err != nil {
			return rec, err
		}
	}
	return rec, nil
}

// addCredential stores a pending credential.
func (c *change) addCredential(k Key, generation int, d drawn, terms *RollTerms) (Credential, error) {
	cred := Credential{
		AccessKeyID: d.offer.AccessKeyID, KeyID: k.ID, Generation: generation,
		CreatedAt: c.now, PendingUntil: c.now.Add(PendingFor),
		SigningKey: d.sealed, Challenge: d.challenge, Fingerprint: d.fingerprint, Terms: terms,
	}
	if err := c.PutCredential(cred); err != nil {
		return cred, err
	}
	return cred, c.PutMaterial(cred.AccessKeyID, d.offer.Material)
}

// pending describes the record's pending credential.
func (r KeyRecord) pending() Pending { return r.pendingOf(*r.Pending) }

func (r KeyRecord) pendingOf(cred Credential) Pending {
	p := Pending{
		KeyID: r.ID, Name: r.Name, AccessKeyID: cred.AccessKeyID, Generation: cred.Generation,
		Challenge: cred.Challenge, Until: cred.PendingUntil, Proven: !cred.ProvenAt.IsZero(),
		Datasets: []string{}, Previous: cred.Previous,
	}
	for _, d := range r.Datasets {
		p.Datasets = append(p.Datasets, d.Name)
	}
	if cred.Previous == nil && cred.Terms != nil && r.Current != nil {
		until, clamped := cred.Terms.Grace.end(cred.CreatedAt, r.ExpiresAt)
		p.Previous = &credential.Previous{AccessKeyID: r.Current.AccessKeyID, Until: until, Clamped: clamped}
	}
	return p
}

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
	cred, err := tx.Credential(accessKeyID)
	if fault.Is(err, fault.NotFound) {
		return cred, KeyRecord{}, fault.New(fault.NotFound, "no credential %s", accessKeyID).
			WithHint("it was never committed to this store, or it belongs to another one")
	}
	if err != nil {
		return cred, KeyRecord{}, err
	}
	rec, err := tx.Key(cred.KeyID)
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
			if err := c.putInForce(rec, &cred); err != nil {
				return err
			}
		}
		rec, err = c.Key(rec.ID)
		proven = Proven{Key: rec.View(c.now), Previous: cred.Previous}
		return err
	})
	return proven, err
}

// putInForce makes a proven credential the current one. For a roll it begins the old credential's grace; the order of the
// writes keeps each of current and grace single.
func (c *change) putInForce(rec KeyRecord, cred *Credential) error {
	cred.ProvenAt = c.now
	if cred.Terms == nil {
		rec.ActivatedAt = c.now
		c.note("keys.activate", keyObject(rec.Key), "access_key_id", cred.AccessKeyID)
		if err := c.PutKey(rec.Key); err != nil {
			return err
		}
		if err := c.settleDatasets(rec); err != nil {
			return err
		}
		return c.PutCredential(*cred)
	}
	if rec.Current == nil {
		return fault.New(fault.StoreDamaged, "the key %q is active and has no current credential", rec.Name)
	}
	if err := c.finishEarlier(rec, *cred.Terms); err != nil {
		return err
	}
	old := *rec.Current
	until, clamped := cred.Terms.Grace.end(c.now, rec.ExpiresAt)
	cred.Previous = &credential.Previous{AccessKeyID: old.AccessKeyID, Until: until, Clamped: clamped}
	old.GraceUntil = until
	if reached(until, c.now) {
		old.EndedAt, old.EndedAs = until, EndRetired
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
