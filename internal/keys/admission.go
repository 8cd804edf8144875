package keys

import "time"

// Admission is what decides whether a credential lets its holder in, and no more, for it is read at every request. Set are, of the
// credential: ids, the times of its states, the ending, the sealed signing key, and when it was used last; of the key: id, name,
// ranges and the times of its states.
type Admission struct {
	Credential Credential
	Key        Key
}

// Candidate is an Admission whose holder has not proven anything. Its key has no ranges yet: reading them takes the longer the more
// there are, which would tell who has not that the credential is there (R3).
type Candidate struct {
	Credential Credential
	Key        Key
	Ranges     string // of the key, in the form of iprange.List.Text
}

// Reach is a dataset as a key reaches it, with the state of its Primary Key.
type Reach struct {
	Attachment
	PrimaryKeyDisabled bool
}

// Release is what handing out a data key of a dataset takes. Of the dataset only id, name, type, algorithm, format and Primary Key are
// set. The version is zero when the Primary Key has no such version.
type Release struct {
	Reach    Reach
	Version  PrimaryKeyVersion
	Material Material // of the calling credential
}

// DataKey is one data key of a structured dataset, as stored. The highest number encrypts; all of them decrypt.
type DataKey struct {
	DatasetID string
	Number    int // 0, 1, …
	CreatedAt time.Time
	CreatedBy string
	Sealed    []byte // 32 random bytes under a version of the dataset's Primary Key
}

// Action is what an application did with a key.
type Action string

// The actions.
const (
	ActionEncrypt Action = "encrypt"
	ActionDecrypt Action = "decrypt"
)

// Usage is how often a key was used in a dataset on one day, as its client library told.
type Usage struct {
	KeyID     string
	DatasetID string
	Action    Action
	Product   string // the client library
	Version   string // its
	Day       time.Time
	Count     int64
	FirstAt   time.Time
	LastAt    time.Time
}

// UsageFilter selects Usage. Zero fields select all.
type UsageFilter struct {
	KeyID     string
	DatasetID string
	Since     time.Time // the day it is in, and later ones
}
