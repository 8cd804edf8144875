// Package keys is keyctl's domain: API keys, their credentials and rolls, datasets, Primary Keys, and the operators who
// administer them.
//
// Service says what keyctl does; commands and servers call it. Store says what it needs remembered. Local stands between
// the two and holds every rule, once. The package knows no SQL, no HTTP and no terminal; time and randomness come in from
// outside.
package keys

import (
	"context"
	"crypto/sha512"
	"net/netip"
	"time"

	"keyctl/internal/audit"
	"keyctl/internal/credential"
	"keyctl/internal/iprange"
	"keyctl/internal/signature"
	"keyctl/internal/structured"
)

// Service is everything keyctl can do.
//
// Every method acts for one caller and fails with a fault code. Besides the codes named with each method, any may fail
// with invalid (the input can never be right), forbidden (this caller may not), store_busy, unavailable or internal.
// A failed method changed nothing, with one exception: a wrong, spent or refused authenticator code is counted and
// audited. Every change is in the audit log before the method returns.
//
// KEY arguments ("ref") are a name, an access key id, a key's id, or the beginning of either id (at least 6 characters,
// and of one key only: invalid lists the candidates). not_found: no such key. A deleted key is found by its whole id or
// access key id alone, and answers key_deleted to every change but another delete.
//
// Methods that take a code ask for the caller's second factor. They check everything else first; with an empty code they
// stop there with otp_required (or otp_not_enrolled), so a caller may try without a code and ask for one only when told.
// otp_wrong: counted. otp_used: the code was right but is spent, not counted. otp_locked: too many wrong ones.
type Service interface {
	Team

	// Key returns one key.
	Key(ctx context.Context, ref string) (KeyView, error)
	// Keys returns one page of the keys a filter lets through.
	Keys(ctx context.Context, filter KeyFilter) (Page[KeyView], error)

	// CreateKey makes a key whose first credential is pending; Prove makes it active. A pending key of the same name
	// gives way (its late proof is superseded). Repeating the request with the same offer returns the first answer;
	// the same access key id with anything else is id_conflict. exists: the name is taken. not_found: a dataset is not
	// there.
	CreateKey(ctx context.Context, request NewKey) (Pending, error)
	// CheckKeys tells of each request whether CreateKey would take it now: nil, or the error it would fail with. It changes
	// nothing, wants no offers, and sees each request by itself: two of one name are both nil.
	CheckKeys(ctx context.Context, requests []NewKey) ([]error, error)
	// ExistingKey serves provisioning that runs again: it returns the active key of that name and in what it differs
	// from the request. not_found: there is none yet, or only a pending one. key_disabled, key_expired: there is one, and
	// it is not usable.
	ExistingKey(ctx context.Context, request NewKey) (KeyView, []string, error)
	// Pending returns what must be proven for a credential that was delivered, also after its proof. superseded: it
	// gave way or ended. not_found: no such credential.
	Pending(ctx context.Context, accessKeyID string) (Pending, error)
	// Prove makes a pending credential current: credential.Proof over the challenge shows that its holder has the secret
	// signing key. For a roll the old credential's grace begins now. A repeated proof gets the first answer and restarts
	// no clock. unauthenticated: the proof is wrong. superseded: the credential gave way or ended. roll_in_progress: an
	// earlier roll is in grace. key_disabled, key_expired, key_deleted: the key is not to be revived.
	Prove(ctx context.Context, accessKeyID string, proof []byte) (Proven, error)
	// Withdraw ends a pending credential that could not be delivered; a key that was made with it goes too. Repeating it
	// is a no-op. superseded: it was proven already.
	Withdraw(ctx context.Context, accessKeyID string) error

	// EditKey changes what the edit names and leaves the rest. key_pending, key_disabled (compromised), key_expired: the
	// state table of docs/states.md. exists: the new name is taken. no_restriction: the last range would go.
	EditKey(ctx context.Context, ref string, edit KeyEdit) (KeyView, error)
	// CheckEdit checks like EditKey, changes nothing, and returns the addresses that used the key in the last 7 days and
	// would be shut out.
	CheckEdit(ctx context.Context, ref string, edit KeyEdit) ([]netip.Addr, error)
	// EnableKey makes a disabled key active; an active one stays so. key_disabled: it is compromised. key_expired.
	EnableKey(ctx context.Context, ref string) (KeyView, error)
	// DisableKey switches a key off at once; compromised makes it final. Repeating it is a no-op.
	DisableKey(ctx context.Context, ref string, compromised bool) (KeyView, error)
	// DeleteKey ends a key for good: its secrets are wiped, its name is free again. By id it can be repeated as a no-op.
	DeleteKey(ctx context.Context, ref string) (KeyView, error)

	// CheckRoll checks a roll up to, but not including, the code. Terms may be nil: they are then not checked.
	CheckRoll(ctx context.Context, ref string, terms *RollTerms) (KeyView, error)
	// Roll makes a pending successor to the key's current credential; Prove puts it in force. An earlier pending roll gives
	// way. Repeats as in CreateKey, without a second code. key_pending, key_disabled, key_expired; roll_in_progress: an
	// earlier roll is in grace and the terms do not finish it. Asks for a code.
	Roll(ctx context.Context, request RollRequest) (Pending, error)
	// Rolls returns one page of the rolls whose old credential still works, ordered by the key's name.
	Rolls(ctx context.Context, cursor string, limit int) (Page[RollView], error)
	// RollOf returns the key's last roll, also when its grace is over. not_found: the key was never rolled.
	RollOf(ctx context.Context, ref string) (RollView, error)
	// ExtendRoll gives the old credential a new end. Earlier is free; later asks for a code and stays within 30 days of
	// the roll and the key's end. not_found: no credential in grace.
	ExtendRoll(ctx context.Context, ref string, grace Grace, code string) (RollView, error)
	// FinishRoll ends the grace now. Repeating it is a no-op. It never asks for a code: it is a brake.
	FinishRoll(ctx context.Context, ref string) (RollView, error)
	// CancelRoll ends the new credential and makes the old one current again. not_found: no credential in grace. Asks for
	// a code.
	CancelRoll(ctx context.Context, ref string, code string) (KeyView, error)

	// Dataset returns one dataset by name.
	Dataset(ctx context.Context, name string) (DatasetView, error)
	// Datasets returns one page, ordered by name.
	Datasets(ctx context.Context, cursor string, limit int) (Page[DatasetView], error)
	// CreateDataset makes a dataset, a Primary Key for it unless one is named, and, when the request offers a credential,
	// a first key. The Pending is nil without one. exists: the name is taken. not_found: no such Primary Key.
	CreateDataset(ctx context.Context, request NewDataset) (DatasetView, *Pending, error)
	// RotateDataset adds a data key to a structured dataset, which encrypts from now on; older ones stay for decryption.
	// invalid: it is not structured, or its alphabet carries no more data keys.
	RotateDataset(ctx context.Context, name string) (DatasetView, error)
	// EditDataset changes what the edit names. exists: the new name is taken. invalid: a structured dataset's algorithm.
	EditDataset(ctx context.Context, name string, edit DatasetEdit) (DatasetView, error)
	// DeleteDataset ends a dataset. Its Primary Key stays. still_attached: keys hang on it and detach is false.
	DeleteDataset(ctx context.Context, name string, detach bool) (DatasetView, error)
	// AttachKeys lets keys reach a dataset with a grant, all or none. Attached ones get that grant; with the same one it is a
	// no-op. invalid: the grant allows nothing; a key has an unstructured
	// dataset already. key_pending, key_disabled (compromised), key_expired.
	AttachKeys(ctx context.Context, dataset string, refs []string, grant Grant) (DatasetView, error)
	// DetachKeys undoes it, all or none. Detaching twice is a no-op.
	DetachKeys(ctx context.Context, dataset string, refs []string) (DatasetView, error)

	// PrimaryKey returns one Primary Key by name.
	PrimaryKey(ctx context.Context, name string) (PrimaryKeyView, error)
	// PrimaryKeys returns one page, ordered by name.
	PrimaryKeys(ctx context.Context, cursor string, limit int) (Page[PrimaryKeyView], error)
	// CreatePrimaryKey makes a Primary Key that datasets can share. exists: the name is taken.
	CreatePrimaryKey(ctx context.Context, name, description string) (PrimaryKeyView, error)
	// RotatePrimaryKey adds a version, which encrypts from now on; older ones stay for decryption. key_disabled: it is
	// disabled.
	RotatePrimaryKey(ctx context.Context, name string) (PrimaryKeyView, error)
	// DisablePrimaryKey stops every release under the Primary Key, or under one older version of it (0: all of it).
	// not_found: no such version. invalid: the version is the newest one. Asks for a code. Repeating it is a no-op.
	DisablePrimaryKey(ctx context.Context, name string, version uint32, code string) (PrimaryKeyView, error)
	// EnablePrimaryKey undoes it.
	EnablePrimaryKey(ctx context.Context, name string, version uint32) (PrimaryKeyView, error)

	// OTPStatus tells about the caller's second factor.
	OTPStatus(ctx context.Context) (OTPStatus, error)
	// EnrollOTP begins an enrolment and returns its seed, once. An unconfirmed one is replaced. exists: enrolled already.
	EnrollOTP(ctx context.Context) (Enrollment, error)
	// ConfirmOTP completes the enrolment with a first code and returns the recovery codes, once. not_found: nothing to
	// confirm. exists: confirmed already.
	ConfirmOTP(ctx context.Context, code string) ([]credential.Secret, error)
	// ResetOTP removes the caller's second factor, authorised by one of: a code, a recovery code, or, on a local store,
	// breaking the glass; or as an owner another operator's, by the owner's own code or breaking the glass. not_found: there
	// is none. otp_wrong: no such recovery code.
	ResetOTP(ctx context.Context, authority OTPAuthority) error
	// NewRecoveryCodes replaces the caller's recovery codes and returns the new ones, once. Asks for a code.
	NewRecoveryCodes(ctx context.Context, code string) ([]credential.Secret, error)

	// Verify answers whether a key or credential would be let in, and why. A refusal is an answer, not an error.
	Verify(ctx context.Context, question Question) (Verdict, error)

	// Usage returns what client libraries told of their use, a row for each key, dataset, action, library and day, ordered so.
	// not_found: no such key or dataset.
	Usage(ctx context.Context, query UsageQuery) ([]UsageView, error)

	// AuditHead returns the newest record's number and hash as one value to keep elsewhere.
	AuditHead(ctx context.Context) (AuditHeadView, error)
	// AuditRecords returns one page of the records a filter lets through, oldest first.
	AuditRecords(ctx context.Context, filter AuditFilter) (Page[AuditRecord], error)
	// VerifyAudit checks the whole chain, and that it continues the one an earlier AuditHead value was taken from when
	// expect is not empty. A broken chain is an answer, not an error.
	VerifyAudit(ctx context.Context, expect string) (AuditReport, error)
}

// Page is one page of a list.
type Page[T any] struct {
	Items      []T     `json:"items"`
	NextCursor *string `json:"next_cursor"` // null on the last page
}

// NewKey asks for a key. Fields that are their zero value: no description, any address, no dataset, no end.
type NewKey struct {
	Name        string
	Description string
	Labels      map[string]string
	IPRanges    iprange.List
	Datasets    []string // names; at most one unstructured
	ExpiresAt   time.Time
	Offer       Offer
}

// KeyFilter selects and orders keys. The zero value selects all but deleted ones, ordered by name.
type KeyFilter struct {
	States        []KeyState        // any of these; empty: all but deleted
	Dataset       string            // attached to this one
	Labels        map[string]string // all of these
	NameGlob      string            // shell pattern of path.Match
	UnusedFor     time.Duration     // last use, or else creation, at least this long ago
	NeverUsed     bool
	ExpiresWithin time.Duration
	OlderThan     time.Duration
	InGrace       bool

	Order      KeyOrder // empty: OrderName
	Descending bool
	Cursor     string
	Limit      int // 1 to MaxPage; 0: MaxPage
}

// MaxPage is the largest page any list answers.
const MaxPage = 1000

// KeyEdit changes a key; nil fields stay as they are. Ranges are given whole (IPRanges), or as AddRanges and RemoveRanges,
// or lifted (AnyAddress), not mixed.
type KeyEdit struct {
	Name         *string
	Description  *string
	ExpiresAt    *time.Time // zero: never
	IPRanges     *iprange.List
	AddRanges    []netip.Prefix
	RemoveRanges []netip.Prefix
	AnyAddress   bool
	SetLabels    map[string]string
	RemoveLabels []string
}

// RollRequest asks for a roll.
type RollRequest struct {
	Key   string
	Terms RollTerms
	Offer Offer
	Code  string
}

// NewDataset asks for a dataset.
type NewDataset struct {
	Name        string
	Description string
	Type        DatasetType
	Algorithm   string             // of an unstructured one; empty: AES-256-GCM
	Format      *structured.Format // of a structured one, which needs it; the caller completes it (structured.New)
	PrimaryKey  string             // name of an existing one; empty: make one
	FirstKey    *Offer             // nil: no key
}

// DatasetEdit changes a dataset; nil fields stay as they are.
type DatasetEdit struct {
	Name        *string
	Description *string
	Algorithm   *string
}

// Enrollment is the seed of a new second factor, shown once.
type Enrollment struct {
	Secret credential.Secret // base32
	URI    credential.Secret // otpauth://
}

// OTPAuthority is what a reset of a second factor rests on: exactly one of a code, a recovery code or breaking the glass.
type OTPAuthority struct {
	Operator     string // whose second factor; empty: the caller's
	Code         string
	RecoveryCode credential.Secret
	BreakGlass   bool // the caller owns the store's file and master key, and said so in so many words
}

// Question asks whether somebody would be let in: with a key named by Key, or with a credential in hand. Zero fields are
// not asked about.
type Question struct {
	Key         string
	AccessKeyID string
	SigningKey  credential.Secret
	Signed      *SignedRequest // in the place of SigningKey: the holder has signed this
	Address     netip.Addr
	Dataset     string
	PrivateKey  bool // answer the encrypted private key of a credential that is proven, too
}

// SignedRequest is a request that somebody received and that is to prove the credential it names, with the SHA-512 of its body.
type SignedRequest struct {
	signature.Request
	Body [sha512.Size]byte
}

// Reason says why a verdict is as it is.
type Reason string

// The reasons. Unknown stands alike for an unknown id, a wrong secret and a deleted key.
const (
	ReasonOK                 Reason = "ok"
	ReasonUnknown            Reason = "unknown"
	ReasonPending            Reason = "pending"
	ReasonDisabled           Reason = "disabled"
	ReasonCompromised        Reason = "compromised"
	ReasonExpired            Reason = "expired"
	ReasonRetired            Reason = "retired"
	ReasonAddressNotAllowed  Reason = "address_not_allowed"
	ReasonDatasetNotAttached Reason = "dataset_not_attached"
	ReasonPrimaryKeyDisabled Reason = "primary_key_disabled"
)

// Verdict is the answer to a Question.
type Verdict struct {
	Allowed     bool    `json:"allowed"`
	Reason      Reason  `json:"reason"`
	Key         *string `json:"key"` // its name, when the question proved or named it
	AccessKeyID *string `json:"access_key_id"`
	Credential  *string `json:"credential"` // its state: current or grace
	// AddressChecked is false when the key is limited to addresses and the question named none.
	AddressChecked bool `json:"address_checked"`

	// PrivateKeyPEM is the encrypted private key of a credential whose signing key the question proved: the caller, who
	// alone has the secret crypto access key, can check that too.
	PrivateKeyPEM []byte `json:"-"`
}

// AuditHeadView is the end of the audit log.
type AuditHeadView struct {
	Seq   int64  `json:"seq"`
	Value string `json:"value"` // SEQ:HASH
}

// AuditFilter selects audit records. Zero fields select all.
type AuditFilter struct {
	Since, Until time.Time // half-open
	Action       string    // exact, or a prefix that ends in a dot
	Object       string    // an object's name or id
	Actor        string    // an actor's name or id
	Outcome      string
	Cursor       string
	Limit        int // 1 to MaxPage; 0: MaxPage
}

// AuditRecord is one record of the audit log: what it says, and the bytes and MAC it was stored with.
type AuditRecord struct {
	Event  audit.Event
	Record audit.Record
}

// AuditReport is the result of checking the audit log.
type AuditReport struct {
	OK       bool    `json:"ok"`
	Records  int64   `json:"records"`   // that were checked and are good
	FirstBad *int64  `json:"first_bad"` // number of the first bad or missing record
	Why      *string `json:"why"`
	Head     string  `json:"head"` // of the good part
}
