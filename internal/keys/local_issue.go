package keys

import (
	"context"
	"crypto/hmac"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"keyctl/internal/credential"
	"keyctl/internal/fault"
)

// challengeBytes is the size of a proof's challenge.
const challengeBytes = 32

// CreateKey implements Service.
func (l *Local) CreateKey(ctx context.Context, request NewKey) (Pending, error) {
	request.ExpiresAt = Instant(request.ExpiresAt)
	if err := request.Validate(); err != nil {
		return Pending{}, err
	}
	if err := request.Offer.validate(); err != nil {
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
		datasets, yielding, err := request.check(c, c.now)
		if err != nil {
			return err
		}
		if yielding != nil {
			if err := c.dropUnproven(*yielding, EndSuperseded); err != nil {
				return err
			}
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

// Validate checks what needs neither store nor offer nor time, so that a caller can find a mistake before it opens or
// makes anything.
func (r NewKey) Validate() error {
	if err := ValidateName("key", r.Name); err != nil {
		return err
	}
	if err := validateText("description", r.Description, maxDescription); err != nil {
		return err
	}
	if err := validateLabels(r.Labels); err != nil {
		return err
	}
	if err := encodable(r.ExpiresAt); err != nil {
		return err
	}
	for i, name := range r.Datasets {
		for _, other := range r.Datasets[:i] {
			if name == other {
				return fault.New(fault.Invalid, "the dataset %q is named twice", name)
			}
		}
	}
	return nil
}

// CheckKeys implements Service.
func (l *Local) CheckKeys(ctx context.Context, requests []NewKey) ([]error, error) {
	refusals := make([]error, len(requests))
	err := l.view(ctx, func(tx Tx, now time.Time) error {
		for i, request := range requests {
			err := request.Validate()
			if err == nil {
				_, _, err = request.check(tx, now)
			}
			switch fault.CodeOf(err) {
			case "", fault.Invalid, fault.Exists, fault.NotFound:
				refusals[i] = err
			default:
				return err // the store's trouble, not the request's
			}
		}
		return nil
	})
	return refusals, err
}

// check tells whether a valid request can be carried out now, and finds what that needs: the datasets, and a pending key
// of the same name, which gives way.
func (r NewKey) check(tx Tx, now time.Time) (datasets []Dataset, yielding *KeyRecord, err error) {
	if reached(r.ExpiresAt, now) {
		return nil, nil, pastDate(r.ExpiresAt)
	}
	if yielding, err = nameYields(tx, r.Name); err != nil {
		return nil, nil, err
	}
	datasets, err = datasetsNamed(tx, r.Datasets)
	return datasets, yielding, err
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

// nameYields returns the key whose name a new key would take, if that is only pending; nil where the name is free. exists:
// the name is another key's for good.
func nameYields(tx Tx, name string) (*KeyRecord, error) {
	rec, err := tx.KeyByName(name)
	switch {
	case fault.Is(err, fault.NotFound):
		return nil, nil
	case err != nil:
		return nil, err
	case rec.ActivatedAt.IsZero():
		return &rec, nil
	}
	return nil, nameExists("key", name)
}

// datasetsNamed finds datasets by name and refuses a set that holds two unstructured ones: a client names no dataset
// when it encrypts unstructured data, so the key must tell which is meant.
func datasetsNamed(tx Tx, names []string) ([]Dataset, error) {
	datasets := make([]Dataset, 0, len(names))
	for _, name := range names {
		d, err := findDataset(tx, name)
		if err != nil {
			return nil, err
		}
		datasets = append(datasets, d)
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
	rec := KeyRecord{Key: Key{
		ID: d.keyID, Name: request.Name, Description: request.Description, Labels: request.Labels,
		IPRanges: request.IPRanges, CreatedAt: c.now, CreatedBy: c.l.caller.Name, ExpiresAt: request.ExpiresAt,
	}}
	if err := c.PutKey(rec.Key); err != nil {
		return rec, err
	}
	cred, err := c.addCredential(rec.Key, 1, d, nil)
	if err != nil {
		return rec, err
	}
	rec.Pending = &cred
	for _, dataset := range datasets {
		if _, err := c.Attach(dataset.ID, rec.ID, FullGrant, c.now); err != nil {
			return rec, err
		}
		rec.Datasets = append(rec.Datasets, Attachment{dataset, FullGrant})
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
