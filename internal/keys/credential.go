package keys

import (
	"time"

	"keyctl/internal/credential"
)

// Limits of a credential's life.
const (
	// PendingFor is how long a made credential waits for its proof of possession.
	PendingFor = 10 * time.Minute
	// MaxGrace is the longest time a rolled credential keeps working.
	MaxGrace = 30 * 24 * time.Hour
	// RetiredFor is how long a retired credential is refused as "retired"; after that its secret is wiped and it answers
	// like an unknown one.
	RetiredFor = 30 * 24 * time.Hour
)

// CredentialState is a credential's condition at one instant. It is never stored: Credential.State computes it.
type CredentialState string

// The credential states, in the order in which they win.
const (
	CredentialGone    CredentialState = "gone"    // never proven and over, or retired for longer than RetiredFor
	CredentialRetired CredentialState = "retired" // worked once, no longer lets in
	CredentialGrace   CredentialState = "grace"   // rolled, lets in until GraceUntil
	CredentialCurrent CredentialState = "current" // lets in as long as its key does
	CredentialPending CredentialState = "pending" // made, possession not yet proven
)

// Ending says how a credential ended. It is recorded once, when a write notices the end, and never undone.
type Ending string

// The endings. Only EndRetired and EndCancelled follow a life in which the credential let its holder in.
const (
	EndRetired    Ending = "retired"    // its grace ended, by time or by rolls finish
	EndCancelled  Ending = "cancelled"  // rolls cancel brought its predecessor back
	EndDeleted    Ending = "deleted"    // its key was deleted
	EndWithdrawn  Ending = "withdrawn"  // its maker could not deliver it
	EndSuperseded Ending = "superseded" // a newer create or roll took its place before the proof
	EndPurged     Ending = "purged"     // its proof did not come in time
)

// Credential is one generation of a key's secrets as stored. The secret crypto access key is not here: it never leaves
// the machine that drew it. The public key and the encrypted private key are kept apart, as Material.
type Credential struct {
	AccessKeyID string
	KeyID       string
	Generation  int // 1, 2, …: one more than the highest proven one when this was made

	CreatedAt    time.Time
	PendingUntil time.Time
	ProvenAt     time.Time
	GraceUntil   time.Time // zero while it is not rolled
	EndedAt      time.Time
	EndedAs      Ending

	SigningKey  []byte // the secret signing key, sealed; nil once wiped
	Challenge   []byte // what the proof of possession answers
	Fingerprint []byte // MAC of the request that made it: tells a repeat from an id conflict

	Terms    *RollTerms           // how a roll wants the predecessor to end; nil when the key was created with it
	Previous *credential.Previous // the predecessor, as the first proof of a roll answered it

	LastUsedAt   time.Time
	LastUsedFrom string
}

// usedFrom is where the credential was last used, for JSON; nil if that is not known.
func (c *Credential) usedFrom() *string {
	if c.LastUsedFrom == "" {
		return nil
	}
	return &c.LastUsedFrom
}

// State computes the credential's state from its own times; whether its key lets anybody in is Key.State's matter.
func (c Credential) State(now time.Time) CredentialState {
	switch {
	case !c.EndedAt.IsZero() && c.EndedAs != EndRetired && c.EndedAs != EndCancelled:
		return CredentialGone
	case c.retiredBy(now):
		if reached(c.retiredAt().Add(RetiredFor), now) {
			return CredentialGone
		}
		return CredentialRetired
	case !c.GraceUntil.IsZero():
		return CredentialGrace
	case !c.ProvenAt.IsZero():
		return CredentialCurrent
	case now.Before(c.PendingUntil):
		return CredentialPending
	}
	return CredentialGone
}

// retiredAt is the instant at which a proven credential stops working: zero for the current one.
func (c Credential) retiredAt() time.Time {
	if !c.EndedAt.IsZero() {
		return c.EndedAt
	}
	return c.GraceUntil
}

func (c Credential) retiredBy(now time.Time) bool {
	return !c.ProvenAt.IsZero() && reached(c.retiredAt(), now)
}

// Lives reports whether the credential lets its holder in as far as it alone decides: current, or in grace.
func (s CredentialState) Lives() bool { return s == CredentialCurrent || s == CredentialGrace }

// Material is a credential's key pair: the public key data keys are wrapped for (PKIX DER), and the private key under
// the secret crypto access key (PKCS#8 PEM). It is read only when a data key is released or a credential is checked.
type Material struct {
	PublicKey     []byte
	PrivateKeyPEM []byte
}

// Offer is the part of a freshly drawn credential that the store may know. The caller draws it, so a request repeated
// after a lost answer carries the same id and material and gets the same answer.
type Offer struct {
	AccessKeyID string
	SigningKey  credential.Secret
	Material
}

// NewOffer takes from a drawn credential what the store may know: all but the secret crypto access key.
func NewOffer(c credential.Credential, pair credential.KeyPair) Offer {
	return Offer{
		AccessKeyID: c.AccessKeyID, SigningKey: c.SigningKey,
		Material: Material{PublicKey: pair.PublicKey, PrivateKeyPEM: pair.PrivateKeyPEM},
	}
}

// Pending is a credential that was committed and waits for its proof.
type Pending struct {
	KeyID       string
	Name        string // the key's
	AccessKeyID string
	Generation  int
	Challenge   []byte
	Until       time.Time // the proof must come before this
	Proven      bool      // it came already
	Datasets    []string
	Previous    *credential.Previous // for a roll: what becomes of the old credential if the proof comes at once
}

// Proven is the answer to a proof of possession.
type Proven struct {
	Key      KeyView
	Previous *credential.Previous // for a roll: what became of the old credential
}

// RollTerms are the conditions of a roll, kept with the pending credential until its proof applies them.
type RollTerms struct {
	Grace          Grace `json:"grace"`
	FinishPrevious bool  `json:"finish_previous"` // an earlier roll still in grace ends with the proof of this one
}

// Grace says when a rolled credential stops working: a time after the proof, or, when At is set, at an instant.
type Grace struct {
	For time.Duration `json:"for"`
	At  time.Time     `json:"at"`
}

// end computes the end of a grace that begins at from, for a key that itself ends at keyEnd (zero: never).
func (g Grace) end(from, keyEnd time.Time) (until time.Time, clamped bool) {
	until = from.Add(g.For)
	if !g.At.IsZero() {
		until = g.At
	}
	if latest := from.Add(MaxGrace); until.After(latest) {
		until = latest
	}
	if until.Before(from) {
		until = from
	}
	if !keyEnd.IsZero() && keyEnd.Before(until) {
		return keyEnd, true
	}
	return until, false
}

// RollView is what keyctl says about a roll: is the old credential still used, when last, from where.
type RollView struct {
	Name        string       `json:"name"`
	ID          string       `json:"id"` // the key's
	AccessKeyID string       `json:"access_key_id"`
	Generation  int          `json:"generation"`
	RolledAt    time.Time    `json:"rolled_at"`
	LastUsedAt  *time.Time   `json:"last_used_at"` // of the new credential
	Previous    RollPrevious `json:"previous"`

	LastUsedFrom *string `json:"last_used_from"` // of the new credential
}

// RollPrevious is the old credential of a roll.
type RollPrevious struct {
	AccessKeyID  string          `json:"access_key_id"`
	State        CredentialState `json:"state"` // grace, retired or gone
	Until        time.Time       `json:"until"` // when it stops, or stopped, working
	LastUsedAt   *time.Time      `json:"last_used_at"`
	LastUsedFrom *string         `json:"last_used_from"`
}
