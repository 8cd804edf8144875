package keys

import (
	"context"
	"time"

	"keyctl/internal/audit"
)

// Store keeps what keyctl administers. It knows nothing of rules: Local decides, the Store remembers.
//
// Both methods hand a Tx to a function and see one consistent state of the whole store. The function must touch nothing
// outside its Tx, for it may run again when the store asks for a retry. A Tx must not be used after its function
// returned, nor by two goroutines. What the function's error was, it is returned unchanged.
type Store interface {
	// View runs fn on a state that no writer changes meanwhile. It never writes and never waits for a writer.
	View(ctx context.Context, fn func(Tx) error) error

	// Update runs fn as the only writer. When fn returns nil everything it wrote is durable before Update returns, and
	// survives a kill or a power loss; when it returns an error, or the process dies, nothing it wrote is there.
	// Waiting for other writers is bounded: store_busy. A full disk or a read-only file system: unavailable, nothing
	// changed.
	Update(ctx context.Context, fn func(Tx) error) error
}

// Tx is one transaction on a Store.
//
// Single objects are answered with not_found when they are not there. Put methods insert the object or replace the one
// with the same id as a whole; exists means that a unique name or id is taken. A Put method may leave it to Update to return
// what it fails with. Writes in a View, and content that contradicts itself, are store_damaged or internal. Times go in and
// come out as UTC microseconds.
type Tx interface {
	// Meta answers no_store when Init never completed.
	Meta() (Meta, error)
	PutMeta(Meta) error

	// Key finds a key by id, tombstones included.
	Key(id string) (KeyRecord, error)
	// KeyByName finds a key by its exact name, tombstones excluded.
	KeyByName(name string) (KeyRecord, error)
	// KeyOf finds the key of a credential by access key id, tombstones and credentials that have ended included.
	KeyOf(accessKeyID string) (KeyRecord, error)
	// KeysByIDPrefix finds up to limit keys whose id, or the access key id of one of whose open credentials, begins with
	// prefix, tombstones excluded, ordered by id.
	KeysByIDPrefix(prefix string, limit int) ([]KeyRecord, error)
	// Keys reads one page in the order it asks for.
	Keys(KeyPage) ([]KeyRecord, error)
	// PutKey stores the key itself; credentials and attachments are put on their own. exists: the name is taken.
	PutKey(Key) error

	// Credential finds a credential by access key id, ended ones included.
	Credential(accessKeyID string) (Credential, error)
	// Credentials returns all of a key's credentials, ended ones included, in the order they were made.
	Credentials(keyID string) ([]Credential, error)
	// PutCredential stores a credential. At most one per key is pending, one current and one in grace among those that
	// have not ended: exists otherwise. An access key id never moves to another key: id_conflict.
	PutCredential(Credential) error
	// Material answers not_found once it was wiped.
	Material(accessKeyID string) (Material, error)
	PutMaterial(accessKeyID string, m Material) error
	// WipeCredential removes the sealed signing key, the challenge and the material; a second time is a no-op.
	WipeCredential(accessKeyID string) error
	// Stale returns up to limit credentials that time has ended but no write has noticed: pending ones past their
	// limit, ones in grace past their limit, and retired ones still holding a secret after wipeBefore.
	Stale(now, wipeBefore time.Time, limit int) ([]Credential, error)

	// Dataset finds a dataset by id, tombstones included.
	Dataset(id string) (DatasetRecord, error)
	// DatasetByName finds a dataset by its exact name, tombstones excluded.
	DatasetByName(name string) (DatasetRecord, error)
	// DatasetAlone is DatasetByName without what hangs on the dataset, which may be any number of keys.
	DatasetAlone(name string) (Dataset, error)
	// Datasets reads one page ordered by name, tombstones excluded.
	Datasets(after string, limit int) ([]DatasetRecord, error)
	PutDataset(Dataset) error
	// RemoveDataset removes a dataset that nothing was ever encrypted in, without a tombstone.
	RemoveDataset(id string) error
	// Attach lets a key reach a dataset, or gives it another grant there; with the same grant it is a no-op. Detach undoes
	// it. Both report whether they changed anything.
	Attach(datasetID, keyID string, grant Grant, at time.Time) (bool, error)
	Detach(datasetID, keyID string) (bool, error)

	// Candidate finds what decides about the holder of a credential, and nothing else: of the credential and its key only the
	// fields that Admission names. For an id that is not there, and a credential that was wiped, it is that of the credential whose
	// id comes before, byte by byte, and how long it takes does not tell (R3). not_found: none comes before.
	Candidate(accessKeyID string) (Candidate, error)
	// StandsAlone says in a View that nothing but the next statement is asked, a Candidate, a Bearer or both in one, so that it needs no
	// transaction around it. When something is asked after all, the View's function runs again.
	StandsAlone()
	// Leads says in a View that the next statement, a Candidate, comes before all others, which see the state that it saw: SQLite needs
	// no transaction around them then. Where others follow and it found nothing, or is one of them, the View's function may run again.
	Leads()
	// Reach finds one dataset of a key by name, tombstones excluded; Reached all of them, ordered by name, and ReachedNames their names
	// alone.
	// A dataset that is not there and one the key is not attached to are not_found alike.
	Reach(keyID, name string) (Reach, error)
	Reached(keyID string) ([]Reach, error)
	ReachedNames(keyID string) ([]string, error)
	// NewRelease finds what a new data key of a key's unstructured dataset takes, under the newest version of its Primary Key;
	// OldRelease what one that was handed out takes, by its dataset and version. not_found: the key does not reach the dataset.
	// store_damaged: the credential has no key pair.
	NewRelease(keyID, accessKeyID string) (Release, error)
	OldRelease(keyID, accessKeyID, datasetID string, version uint32) (Release, error)
	// StructuredReleases finds what data keys of a key's structured datasets take beside themselves, of the one with a name, or with
	// an empty one of all, ordered by name; the versions are the newest ones of their Primary Keys. store_damaged: as above.
	StructuredReleases(keyID, accessKeyID, name string) ([]Release, error)
	// Touch remembers a use of a credential and of its key, unless a later one is known.
	Touch(accessKeyID string, at time.Time, from string) error

	// DataKeys returns a structured dataset's data keys in the order of their numbers, which has no gaps. When and by whom they were
	// made is not set.
	DataKeys(datasetID string) ([]DataKey, error)
	// PutDataKey adds one. exists: the number is taken.
	PutDataKey(DataKey) error
	// AddUsage adds a count to what is known of the same key, dataset, action, library and day.
	AddUsage(Usage) error
	// Usage reads what a filter lets through, ordered by key, dataset, action, library, version and day.
	Usage(UsageFilter) ([]Usage, error)

	// PrimaryKeyVersion finds one version of a Primary Key, 0: the newest, also when it or the whole Primary Key is disabled.
	PrimaryKeyVersion(id string, version uint32) (PrimaryKeyVersion, error)
	PrimaryKey(id string) (PrimaryKeyRecord, error)
	PrimaryKeyByName(name string) (PrimaryKeyRecord, error)
	// PrimaryKeys reads one page ordered by name.
	PrimaryKeys(after string, limit int) ([]PrimaryKeyRecord, error)
	// PutPrimaryKey stores the Primary Key with all its versions. Versions are added, never removed.
	PutPrimaryKey(PrimaryKey) error
	// RemovePrimaryKey removes a Primary Key that never released a data key, versions included.
	RemovePrimaryKey(id string) error

	// Operator finds an operator by exact name, tombstones included: a name is given once.
	Operator(name string) (Operator, error)
	OperatorByID(id string) (Operator, error)
	// Operators returns all operators in the order they were made, tombstones included.
	Operators() ([]Operator, error)
	PutOperator(Operator) error

	// Token finds a token by id, revoked ones included.
	Token(id string) (Token, error)
	// Bearer finds a token by id, as Token does, together with the operator whom it lets in. It is read at every request: set are,
	// of the token, ids, MAC, datasets, when it was used last, and the times of its states; of the operator id, name, role, and the
	// times of its states.
	Bearer(tokenID string) (Token, Operator, error)
	// BearerAndCandidate is Bearer and Candidate in one, at the cost of the same work for a token that is not there: its id is empty
	// then. not_found: there is no such candidate.
	BearerAndCandidate(tokenID, accessKeyID string) (Token, Operator, Candidate, error)
	// Tokens returns all tokens in the order they were made, revoked ones included.
	Tokens() ([]Token, error)
	PutToken(Token) error
	// TouchToken remembers a use of the token, unless a later one is known.
	TouchToken(id string, at time.Time, from string) error

	// SecondFactor finds an operator's second factor, confirmed or not.
	SecondFactor(operatorID string) (SecondFactor, error)
	PutSecondFactor(SecondFactor) error
	// DeleteSecondFactor removes it together with its recovery codes; a second time is a no-op.
	DeleteSecondFactor(operatorID string) error
	// AdvanceOTP sets LastStep to step if it is lower, and reports whether it was. One statement: of two transactions
	// with the same step, one is told false.
	AdvanceOTP(operatorID string, step int64) (bool, error)
	// PutRecoveryCodes replaces the operator's recovery codes by these MACs.
	PutRecoveryCodes(operatorID string, macs [][]byte) error
	// UseRecoveryCode spends the recovery code with this MAC and reports whether there was one to spend.
	UseRecoveryCode(operatorID string, mac []byte, at time.Time) (bool, error)
	// RecoveryCodesLeft counts the unspent ones.
	RecoveryCodesLeft(operatorID string) (int, error)

	// AuditHead answers not_found before the first record.
	AuditHead() (audit.Head, error)
	// AppendAudit stores records and the head that follows from them. Its error, too, may be Update's.
	AppendAudit(head audit.Head, records ...audit.Record) error
	// AuditRecords reads up to limit records after a sequence number, oldest first, as stored.
	AuditRecords(after int64, limit int) ([]audit.Record, error)
}

// Meta is what a store knows of itself.
type Meta struct {
	StoreID    string // "st_" and 22 base62 characters; binds sealed values, check value and audit log to this store
	CreatedAt  time.Time
	CheckValue []byte // tells the right master key from a wrong one
	Keyring    []byte // the keyring, wrapped by the master key
	Decoy      string // access key id of a credential that nobody has, which comes before all others (in a store that an earlier version made it may not)
}

// KeyOrder is an order in which keys can be listed. Each has an index.
type KeyOrder string

// The orders. Keys without the time in question come last under OrderExpires and first under OrderLastUsed.
const (
	OrderName     KeyOrder = "name"
	OrderCreated  KeyOrder = "created"
	OrderExpires  KeyOrder = "expires"
	OrderLastUsed KeyOrder = "last-used"
)

// KeyPage asks for one page of keys.
type KeyPage struct {
	Order      KeyOrder
	Descending bool
	After      *KeyPosition // nil: from the beginning
	Limit      int
	NamePrefix string // only keys whose name begins with it
	Off        bool   // only keys that are switched off, for good or not
	Deleted    bool   // tombstones of keys that were active once, too
	DatasetID  string // only keys attached to it; empty: all
	Rolled     bool   // only keys with a rolled credential whose end no write has noticed yet
}

// KeyPosition is a place in an order: behind the key with these values. Only the one the order needs is used, and the id.
type KeyPosition struct {
	Name string
	Time time.Time // zero: the key has none
	ID   string
}

// Position is the key's own place in an order.
func (o KeyOrder) Position(k Key) KeyPosition {
	p := KeyPosition{ID: k.ID}
	switch o {
	case OrderCreated:
		p.Time = k.CreatedAt
	case OrderExpires:
		p.Time = k.ExpiresAt
	case OrderLastUsed:
		p.Time = k.LastUsedAt
	default:
		p.Name = k.Name
	}
	return p
}
