package keys

import (
	"time"

	"keyctl/internal/fault"
	"keyctl/internal/structured"
)

// DatasetType says what kind of data a dataset holds.
type DatasetType string

// The dataset types. Unstructured data is files and blobs under AES-GCM, each under a data key of its own; structured data is
// fields whose ciphertext looks like them, under numbered data keys.
const (
	Unstructured DatasetType = "unstructured"
	Structured   DatasetType = "structured"
)

// ParseDatasetType compares exactly; anything else is fault.Invalid.
func ParseDatasetType(text string) (DatasetType, error) {
	if t := DatasetType(text); t == Unstructured || t == Structured {
		return t, nil
	}
	return "", fault.New(fault.Invalid, "no dataset type %q", text).WithHint("the type is %s or %s", Unstructured, Structured)
}

// The algorithms of unstructured datasets, spelled as client libraries compare them.
const (
	AES256GCM = "AES-256-GCM"
	AES128GCM = "AES-128-GCM"

	// FF1 is that of structured datasets (NIST SP 800-38G), the only one.
	FF1 = "FF1"
)

// ParseAlgorithm compares exactly, as client libraries do; anything else is fault.Invalid.
func ParseAlgorithm(text string) (string, error) {
	if text == AES256GCM || text == AES128GCM {
		return text, nil
	}
	return "", fault.New(fault.Invalid, "no algorithm %q", text).WithHint("use %s or %s", AES256GCM, AES128GCM)
}

// Grant is what a key may do in a dataset it is attached to. A key that may do nothing is not attached.
type Grant struct {
	Encrypt bool `json:"encrypt"`
	Decrypt bool `json:"decrypt"`
}

// FullGrant lets a key do both.
var FullGrant = Grant{Encrypt: true, Decrypt: true}

// Word is the grant in one word.
func (g Grant) Word() string {
	switch g {
	case FullGrant:
		return "full"
	case Grant{Encrypt: true}:
		return "encrypt-only"
	case Grant{Decrypt: true}:
		return "decrypt-only"
	}
	return "none"
}

// Attachment is a dataset as one key reaches it.
type Attachment struct {
	Dataset
	Grant
}

// Dataset is a named set of data that keys may encrypt and decrypt, as stored.
type Dataset struct {
	ID           string // "ds_" and 22 base62 characters
	Name         string
	Description  string
	Type         DatasetType
	Algorithm    string
	Format       *structured.Format // of a structured one; nil for the others
	PrimaryKeyID string
	CreatedAt    time.Time
	CreatedBy    string
	DeletedAt    time.Time

	// FirstKeyID is the key that was made together with the dataset, until that key's first proof. If the key ends
	// unproven, a dataset nothing else hangs on ends with it, so that the create can simply be repeated.
	FirstKeyID string
	// OwnPrimaryKey says that the Primary Key was made together with the dataset and would end with it too.
	OwnPrimaryKey bool
}

// DatasetRecord is a dataset with the names of what hangs on it.
type DatasetRecord struct {
	Dataset
	PrimaryKey string
	Keys       []string // names of attached keys that are not deleted, ordered
	DataKeys   int      // of a structured one: how many there are
}

// DatasetView is what keyctl says about a dataset. Its JSON is a stable interface.
type DatasetView struct {
	ID          string      `json:"id"`
	Name        string      `json:"name"`
	Type        DatasetType `json:"type"`
	Algorithm   string      `json:"algorithm"`
	Description string      `json:"description"`
	PrimaryKey  string      `json:"primary_key"`
	Keys        []string    `json:"keys"`
	CreatedAt   time.Time   `json:"created_at"`
	CreatedBy   string      `json:"created_by"`

	// Of a structured dataset; null for the others.
	Format           *structured.Format `json:"format"`
	CurrentKeyNumber *int               `json:"current_key_number"` // of the data key that encrypts
	RotationsLeft    *int               `json:"rotations_left"`     // how many more data keys its alphabet can carry
}

// View is what keyctl says about the record.
func (r DatasetRecord) View() DatasetView {
	v := DatasetView{
		ID: r.ID, Name: r.Name, Type: r.Type, Algorithm: r.Algorithm, Description: r.Description,
		PrimaryKey: r.PrimaryKey, Keys: r.Keys, CreatedAt: r.CreatedAt, CreatedBy: r.CreatedBy,
	}
	if v.Keys == nil {
		v.Keys = []string{}
	}
	if r.Format != nil {
		current := r.DataKeys - 1
		left := max(0, r.Format.HighestKeyNumber()-current)
		v.Format, v.CurrentKeyNumber, v.RotationsLeft = r.Format, &current, &left
	}
	return v
}
