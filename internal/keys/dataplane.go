package keys

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"strconv"
	"strings"

	"keyctl/internal/audit"
	"keyctl/internal/credential"
	"keyctl/internal/envelope"
	"keyctl/internal/fault"
)

// DataPlane is what applications ask with their credentials: data keys to encrypt and decrypt with, and whether they may pass.
// Every method judges the claim anew, from the store alone (R20), and every data key it hands out is in the audit log,
// durably, before the method returns (R36).
//
// Methods fail with unauthenticated, which is the same for everybody who has not proven a credential; with forbidden once it
// was proven, and the message says why; with not_found for a dataset that is not there or that the key is not attached to,
// alike; with unavailable, store_busy and outcome_unknown when the store cannot decide or remember now.
type DataPlane struct{ local *Local }

// NewDataPlane makes the DataPlane of a store.
func NewDataPlane(l *Local) *DataPlane { return &DataPlane{l} }

// Claim is somebody's word that he has a credential.
type Claim struct {
	AccessKeyID string
	// Proves decides whether the claim was made by somebody who has this secret signing key. It is called once, also for an id
	// that is not there, and takes the same time whatever it answers.
	Proves func(signingKey credential.Secret) bool
	From   Origin
}

// Pass is who was let in.
type Pass struct {
	Key         string // its name
	AccessKeyID string
	Datasets    []string // names, ordered
}

// ReleasedKey is a data key for the holder of the calling credential.
type ReleasedKey struct {
	Algorithm     string
	PrivateKeyPEM []byte // opens Wrapped; encrypted under the secret crypto access key
	Fingerprint   string // of the credential's public key, hex
	Session       string // hex
	Wrapped       []byte // the data key, for the credential's public key (credential.Wrap)
	Encrypted     []byte // the data key under the Primary Key: what is stored beside the ciphertext
}

// Enter answers whether the claim holds, and who it is then. With a dataset, the key also has to be attached to that.
func (p *DataPlane) Enter(ctx context.Context, claim Claim, dataset string) (Pass, error) {
	var pass Pass
	var a Admission
	err := p.local.store.View(ctx, func(tx Tx) (err error) {
		if a, err = p.admit(tx, claim); err != nil {
			return err
		}
		names, err := tx.ReachedNames(a.Key.ID)
		pass = Pass{a.Key.Name, a.Credential.AccessKeyID, names}
		if err != nil || dataset == "" {
			return err
		}
		r, err := tx.Reach(a.Key.ID, dataset)
		switch {
		case fault.Is(err, fault.NotFound):
			return forbidden(a, "the key is not attached to the dataset")
		case err == nil && r.PrimaryKeyDisabled:
			return forbidden(a, whyPrimaryDisabled)
		}
		return err
	})
	if err != nil {
		return Pass{}, err
	}
	p.local.touchLater(a, claim.From)
	return pass, nil
}

// admit decides whether the claim holds.
func (p *DataPlane) admit(tx Tx, claim Claim) (Admission, error) {
	now := Instant(p.local.env.Now())
	tx.Leads()
	a, err := p.local.proven(tx, claim.AccessKeyID, claim.Proves, now)
	if err != nil {
		return a, err
	}
	address := claim.From.Address
	if !address.IsValid() && !a.Key.IPRanges.IsAny() {
		return a, forbidden(a, "the key is limited to addresses, and that of the request is not known")
	}
	switch reason := a.reason(address, now); reason {
	case ReasonOK:
		return a, nil
	case ReasonAddressNotAllowed:
		return a, forbidden(a, "the key may not be used from this address")
	case ReasonUnknown:
		return a, errNotProven
	case ReasonRetired:
		return a, forbidden(a, "the credential is retired: the key was rolled")
	default:
		return a, forbidden(a, "the key is "+string(reason))
	}
}

// refusal is why somebody who proved a credential was not let do what he asked.
type refusal struct {
	why *fault.Error
	key Key
}

func (r *refusal) Error() string { return r.why.Error() }

// Unwrap lets errors.As find the fault.
func (r *refusal) Unwrap() error { return r.why }

func forbidden(a Admission, why string) error {
	return &refusal{fault.New(fault.Forbidden, "%s", why), a.Key}
}

// NewDataKey draws a data key for the key's unstructured dataset. uses is how often the caller means to encrypt with it, which
// the audit log tells.
func (p *DataPlane) NewDataKey(ctx context.Context, claim Claim, uses int) (ReleasedKey, error) {
	defer p.local.journal.begin()()
	var a Admission
	var r Release
	err := p.local.store.View(ctx, func(tx Tx) (err error) {
		if a, err = p.admit(tx, claim); err != nil {
			return err
		}
		r, err = tx.NewRelease(a.Key.ID, a.Credential.AccessKeyID)
		switch {
		case fault.Is(err, fault.NotFound):
			return forbidden(a, "the key has no unstructured dataset")
		case err != nil:
			return err
		case !r.Reach.Encrypt:
			return forbidden(a, "the key may not encrypt in its unstructured dataset")
		}
		if r.Version.Version == 0 {
			return fault.New(fault.StoreDamaged, "a Primary Key has no version")
		}
		return r.open(a)
	})
	if err != nil {
		return ReleasedKey{}, err
	}
	plain := make([]byte, keyBytes(r.Reach.Algorithm))
	_, _ = rand.Read(plain) // documented never to return an error
	defer clear(plain)
	primary, err := p.local.openPrimary(r.Reach.PrimaryKeyID, r.Version)
	if err != nil {
		return ReleasedKey{}, err
	}
	sealed, err := primary.Seal(r.Version.Version, dataKeyBinding(r.Reach.ID), plain)
	if err != nil {
		return ReleasedKey{}, err
	}
	released, err := r.wrap(plain)
	if err != nil {
		return ReleasedKey{}, err
	}
	released.Encrypted = encodeDataKey(r.Reach.ID, sealed)
	return released, p.record(ctx, a, claim.From, "data-keys.encrypt", []Reach{r.Reach},
		"uses", strconv.Itoa(uses), "primary_key_version", formatUint(r.Version.Version))
}

// OpenDataKey gives back a data key that NewDataKey made, to any credential of any key that may decrypt in its dataset. invalid:
// it is no such thing, or damaged.
func (p *DataPlane) OpenDataKey(ctx context.Context, claim Claim, encrypted []byte) (ReleasedKey, error) {
	defer p.local.journal.begin()()
	var a Admission
	var r Release
	var sealed []byte
	err := p.local.store.View(ctx, func(tx Tx) (err error) {
		if a, err = p.admit(tx, claim); err != nil {
			return err
		}
		var datasetID string
		if datasetID, sealed, err = decodeDataKey(encrypted); err != nil {
			return err
		}
		number, err := envelope.PrimaryKeyVersion(sealed)
		if err != nil {
			return err
		}
		if r, err = tx.OldRelease(a.Key.ID, a.Credential.AccessKeyID, datasetID, number); err != nil {
			return notReached(err)
		}
		if !r.Reach.Decrypt {
			return forbidden(a, "the key may not decrypt in this dataset")
		}
		if err := r.open(a); err != nil {
			return err
		}
		if r.Version.Version == 0 { // one that never was
			return fault.New(fault.Invalid, "the encrypted data key cannot be opened")
		}
		return nil
	})
	if err != nil {
		return ReleasedKey{}, err
	}
	primary, err := p.local.openPrimary(r.Reach.PrimaryKeyID, r.Version)
	if err != nil {
		return ReleasedKey{}, err
	}
	plain, err := primary.Open(r.Version.Version, dataKeyBinding(r.Reach.ID), sealed)
	if err != nil {
		return ReleasedKey{}, err
	}
	defer clear(plain)
	released, err := r.wrap(plain)
	if err != nil {
		return ReleasedKey{}, err
	}
	released.Encrypted = encrypted
	return released, p.record(ctx, a, claim.From, "data-keys.decrypt", []Reach{r.Reach}, "primary_key_version", formatUint(r.Version.Version))
}

// open refuses what is switched off.
func (r Release) open(a Admission) error {
	switch {
	case r.Reach.PrimaryKeyDisabled:
		return forbidden(a, whyPrimaryDisabled)
	case r.Version.State() == PrimaryKeyDisabled:
		return forbidden(a, "this version of the dataset's Primary Key is disabled")
	}
	return nil
}

// openPrimary opens one version of a Primary Key.
func (l *Local) openPrimary(id string, version PrimaryKeyVersion) (envelope.PrimaryKey, error) {
	raw, err := l.keyring.Open(primaryKeySlot(id, version.Version), version.Sealed)
	if err != nil {
		return envelope.PrimaryKey{}, err
	}
	defer clear(raw)
	return envelope.PrimaryKeyFromBytes(raw)
}

// wrap wraps a data key for the caller.
func (r Release) wrap(plain []byte) (ReleasedKey, error) {
	wrapped, err := credential.Wrap(r.Material.PublicKey, plain)
	if err != nil {
		return ReleasedKey{}, err
	}
	session := make([]byte, 16)
	_, _ = rand.Read(session)
	fingerprint := sha256.Sum256(r.Material.PublicKey)
	return ReleasedKey{
		Algorithm: algorithmOf(plain), PrivateKeyPEM: r.Material.PrivateKeyPEM, Fingerprint: hex.EncodeToString(fingerprint[:]),
		Session: hex.EncodeToString(session), Wrapped: wrapped[0],
	}, nil
}

func keyBytes(algorithm string) int {
	if algorithm == AES128GCM {
		return 16
	}
	return 32
}

// algorithmOf is the algorithm that a data key is for: a dataset may have had another one when it was made.
func algorithmOf(dataKey []byte) string {
	if len(dataKey) == 16 {
		return AES128GCM
	}
	return AES256GCM
}

// The form of an encrypted data key, which stays beside ciphertexts for years:
//
//	format 1 ‖ the dataset's id without its prefix (22 bytes) ‖ what envelope.PrimaryKey.Seal made, bound to the dataset
//
// It names all that opening it takes, and nothing of the API key that asked for it. With a 32-byte data key it has 112 bytes.
const (
	dataKeyFormat   = 1
	datasetIDPrefix = "ds_"
	datasetIDBytes  = 22
	maxEncryptedKey = 512
)

func encodeDataKey(datasetID string, sealed []byte) []byte {
	return append(append([]byte{dataKeyFormat}, strings.TrimPrefix(datasetID, datasetIDPrefix)...), sealed...)
}

func decodeDataKey(b []byte) (datasetID string, sealed []byte, err error) {
	if len(b) <= 1+datasetIDBytes || len(b) > maxEncryptedKey || b[0] != dataKeyFormat {
		return "", nil, fault.New(fault.Invalid, "the encrypted data key cannot be opened").
			WithHint("send it back exactly as it was handed out")
	}
	return datasetIDPrefix + string(b[1:1+datasetIDBytes]), b[1+datasetIDBytes:], nil
}

// dataKeyBinding ties an encrypted data key to its dataset.
func dataKeyBinding(datasetID string) []byte { return []byte("unstructured\x00" + datasetID) }

// errNoneReached words a dataset that the key does not reach, whether it is there or not.
var errNoneReached = fault.New(fault.NotFound, "no such dataset, or the key is not attached to it")

func notReached(err error) error {
	if fault.Is(err, fault.NotFound) {
		return errNoneReached
	}
	return err
}

// record writes the release of data keys into the audit log and waits until it is durable.
func (p *DataPlane) record(ctx context.Context, a Admission, from Origin, action string, datasets []Reach, detail ...string) error {
	return p.local.journal.add(ctx, func(c *change) error {
		for _, d := range datasets {
			c.noteUse(a, from, action, datasetObject(d.Dataset), detail...)
		}
		return c.touch(a, from)
	})
}

// noteUse plans an audit record of what the holder of a credential did.
func (c *change) noteUse(a Admission, from Origin, action string, object audit.Object, detail ...string) {
	e := audit.Event{
		At: c.now, Actor: audit.Actor{ID: a.Key.ID, Name: a.Key.Name}, Action: action, Object: object, Outcome: audit.OK,
		Address: from.address(), RequestID: from.RequestID, Detail: map[string]string{"access_key_id": a.Credential.AccessKeyID},
	}
	for pair := range slices.Chunk(detail, 2) {
		e.Detail[pair[0]] = pair[1]
	}
	c.events = append(c.events, e)
}

// NoteRefusal is Refusals.Note for the data plane: of somebody who was not let in, or who proved a credential and was
// forbidden something.
func (p *DataPlane) NoteRefusal(ctx context.Context, r *Refusals, from Origin, action string, err error) error {
	var who *Local
	var refused *refusal
	if errors.As(err, &refused) {
		l := *p.local
		l.caller, l.token, l.origin = Operator{ID: refused.key.ID, Name: refused.key.Name}, nil, from
		l.env.OSUser = l.caller.Name // nobody of this machine asked
		who = &l
	}
	return r.Note(ctx, who, from, action, err)
}
