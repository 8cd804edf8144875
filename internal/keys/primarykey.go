package keys

import "time"

// PrimaryKeyState is the condition of a Primary Key or of one of its versions.
type PrimaryKeyState string

// The Primary Key states. A disabled one releases no data key, for encryption or decryption, until it is enabled again.
const (
	PrimaryKeyEnabled  PrimaryKeyState = "enabled"
	PrimaryKeyDisabled PrimaryKeyState = "disabled"
)

// PrimaryKey is the root key of one or more datasets, as stored. Rotation adds a version; old versions stay, so that
// what was encrypted under them decrypts.
type PrimaryKey struct {
	ID          string // "pk_" and 22 base62 characters
	Name        string
	Description string
	CreatedAt   time.Time
	CreatedBy   string
	DisabledAt  time.Time
	Versions    []PrimaryKeyVersion // ascending; the last one encrypts
}

// PrimaryKeyVersion is one generation of a Primary Key's secret.
type PrimaryKeyVersion struct {
	Version    uint32 // 1, 2, …
	CreatedAt  time.Time
	DisabledAt time.Time
	Sealed     []byte // 32 random bytes under the store's keyring; never leaves the store in the clear
}

// State is the state of the Primary Key as a whole.
func (k PrimaryKey) State() PrimaryKeyState { return primaryKeyState(k.DisabledAt) }

// State is the state of one version; a disabled Primary Key overrides it.
func (v PrimaryKeyVersion) State() PrimaryKeyState { return primaryKeyState(v.DisabledAt) }

func primaryKeyState(disabledAt time.Time) PrimaryKeyState {
	if disabledAt.IsZero() {
		return PrimaryKeyEnabled
	}
	return PrimaryKeyDisabled
}

// PrimaryKeyRecord is a Primary Key with the names of the datasets under it, ordered.
type PrimaryKeyRecord struct {
	PrimaryKey
	Datasets []string
}

// PrimaryKeyView is what keyctl says about a Primary Key. Its JSON is a stable interface.
type PrimaryKeyView struct {
	ID             string                  `json:"id"`
	Name           string                  `json:"name"`
	Description    string                  `json:"description"`
	State          PrimaryKeyState         `json:"state"`
	CurrentVersion uint32                  `json:"current_version"`
	Versions       []PrimaryKeyVersionView `json:"versions"`
	Datasets       []string                `json:"datasets"`
	CreatedAt      time.Time               `json:"created_at"`
	CreatedBy      string                  `json:"created_by"`
}

// PrimaryKeyVersionView is what keyctl says about one version.
type PrimaryKeyVersionView struct {
	Version   uint32          `json:"version"`
	State     PrimaryKeyState `json:"state"`
	CreatedAt time.Time       `json:"created_at"`
}

// View is what keyctl says about the record.
func (r PrimaryKeyRecord) View() PrimaryKeyView {
	v := PrimaryKeyView{
		ID: r.ID, Name: r.Name, Description: r.Description, State: r.State(),
		Versions: make([]PrimaryKeyVersionView, 0, len(r.Versions)), Datasets: r.Datasets,
		CreatedAt: r.CreatedAt, CreatedBy: r.CreatedBy,
	}
	for _, version := range r.Versions {
		v.Versions = append(v.Versions, PrimaryKeyVersionView{version.Version, version.State(), version.CreatedAt})
		v.CurrentVersion = version.Version
	}
	if v.Datasets == nil {
		v.Datasets = []string{}
	}
	return v
}
