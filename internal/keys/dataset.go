package keys

import (
	"time"

	"keyctl/internal/fault"
)

// DatasetType says what kind of data a dataset holds.
type DatasetType string

// The dataset types. Unstructured data is files and blobs under AES-GCM; structured data is format-preserving fields,
// which arrive together with the data plane.
const (
	Unstructured DatasetType = "unstructured"
	Structured   DatasetType = "structured"
)

// ParseDatasetType compares exactly; anything else is fault.Invalid. Structured is known but not offered yet.
func ParseDatasetType(text string) (DatasetType, error) {
	switch DatasetType(text) {
	case Unstructured:
		return Unstructured, nil
	case Structured:
		return "", fault.New(fault.Invalid, "datasets of type %q are not offered by this version", text).
			WithHint("leave --type out, or say --type %s", Unstructured)
	}
	return "", fault.New(fault.Invalid, "no dataset type %q", text).WithHint("the type is %s", Unstructured)
}

// The algorithms of unstructured datasets, spelled as client libraries compare them.
const (
	AES256GCM = "AES-256-GCM"
	AES128GCM = "AES-128-GCM"
)

// ParseAlgorithm compares exactly, as client libraries do; anything else is fault.Invalid.
func ParseAlgorithm(text string) (string, error) {
	if text == AES256GCM || text == AES128GCM {
		return text, nil
	}
	return "", fault.New(fault.Invalid, "no algorithm %q", text).WithHint("use %s or %s", AES256GCM, AES128GCM)
}

// Dataset is a named set of data that keys may encrypt and decrypt, as stored.
type Dataset struct {
	ID           string // "ds_" and 22 base62 characters
	Name         string
	Description  string
	Type         DatasetType
	Algorithm    string
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
	return v
}
