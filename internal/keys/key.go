package keys

import (
	"time"

	"keyctl/internal/iprange"
)

// KeyState is a key's condition at one instant, as one word. It is never stored: Key.State computes it.
type KeyState string

// The key states, in the order in which they win when several apply. NIST SP 800-57 part 1 names in parentheses.
const (
	KeyDeleted     KeyState = "deleted"     // a tombstone: secrets wiped, name free again (destroyed)
	KeyCompromised KeyState = "compromised" // disabled for good (compromised)
	KeyExpired     KeyState = "expired"     // its end has passed (deactivated)
	KeyDisabled    KeyState = "disabled"    // switched off, can be enabled again (suspended)
	KeyPending     KeyState = "pending"     // no credential was ever proven (pre-activation)
	KeyActive      KeyState = "active"      // lets its credentials in (active)
)

// KeyStates returns every key state.
func KeyStates() []KeyState {
	return []KeyState{KeyPending, KeyActive, KeyDisabled, KeyCompromised, KeyExpired, KeyDeleted}
}

// Key is an API key as stored: what stays the same when its credential is rolled. A zero time means "never" or "not
// yet". All times are UTC with microsecond precision.
type Key struct {
	ID          string // "key_" and 22 base62 characters
	Name        string
	Description string
	Labels      map[string]string
	IPRanges    iprange.List
	CreatedAt   time.Time
	CreatedBy   string // the operator's name

	ActivatedAt   time.Time // first proof of possession
	ExpiresAt     time.Time
	DisabledAt    time.Time
	CompromisedAt time.Time // set together with DisabledAt, never unset
	DeletedAt     time.Time
	LastUsedAt    time.Time // newest use of any of its credentials
}

// State computes the key's state. Limits are half-open: at ExpiresAt the key is expired.
func (k Key) State(now time.Time) KeyState {
	switch {
	case !k.DeletedAt.IsZero():
		return KeyDeleted
	case !k.CompromisedAt.IsZero():
		return KeyCompromised
	case reached(k.ExpiresAt, now):
		return KeyExpired
	case !k.DisabledAt.IsZero():
		return KeyDisabled
	case k.ActivatedAt.IsZero():
		return KeyPending
	}
	return KeyActive
}

// reached reports whether a limit is set and has come: valid means now < limit.
func reached(limit, now time.Time) bool {
	return !limit.IsZero() && !now.Before(limit)
}

// KeyRecord is a key with what hangs on it: its open credentials (not ended, though a time limit may have passed since)
// and the datasets it is attached to, ordered by name.
type KeyRecord struct {
	Key
	Current  *Credential
	Grace    *Credential
	Pending  *Credential
	Datasets []Attachment
}

// lapsed reports whether the key was never active and no proof can come any more: reads then treat it as absent.
func (r KeyRecord) lapsed(now time.Time) bool {
	waiting := r.Pending != nil && r.Pending.State(now) == CredentialPending
	return r.ActivatedAt.IsZero() && r.DeletedAt.IsZero() && !waiting
}

// KeyView is what keyctl says about a key. Its JSON is a stable interface: fields are added, never renamed or removed.
// Nothing in it is secret.
type KeyView struct {
	ID          string            `json:"id"`
	Name        string            `json:"name"`
	Description string            `json:"description"`
	State       KeyState          `json:"state"`
	AccessKeyID *string           `json:"access_key_id"` // of the current credential; null while pending
	Generation  int               `json:"generation"`    // of the current credential; 1 while pending
	Datasets    []string          `json:"datasets"`
	IPRanges    iprange.List      `json:"ip_ranges"` // empty: any address
	Labels      map[string]string `json:"labels"`
	CreatedAt   time.Time         `json:"created_at"`
	CreatedBy   string            `json:"created_by"`
	ExpiresAt   *time.Time        `json:"expires_at"`
	LastUsedAt  *time.Time        `json:"last_used_at"`
	Grace       *GraceView        `json:"grace"`  // null unless a rolled credential still works
	Grants      map[string]Grant  `json:"grants"` // what the key may do in each of its datasets

	LastUsedFrom *string `json:"last_used_from"` // null also where it is not known
}

// GraceView is a rolled credential that still works.
type GraceView struct {
	AccessKeyID string     `json:"access_key_id"`
	Until       time.Time  `json:"until"`
	LastUsedAt  *time.Time `json:"last_used_at"`

	LastUsedFrom *string `json:"last_used_from"`
}

// View computes what keyctl says about the record at an instant.
func (r KeyRecord) View(now time.Time) KeyView {
	v := KeyView{
		ID: r.ID, Name: r.Name, Description: r.Description, State: r.State(now),
		Generation: 1, Datasets: make([]string, 0, len(r.Datasets)), Grants: map[string]Grant{}, IPRanges: r.IPRanges, Labels: r.Labels,
		CreatedAt: r.CreatedAt, CreatedBy: r.CreatedBy, ExpiresAt: optional(r.ExpiresAt), LastUsedAt: optional(r.LastUsedAt),
	}
	for _, d := range r.Datasets {
		v.Datasets = append(v.Datasets, d.Name)
		v.Grants[d.Name] = d.Grant
	}
	if v.Labels == nil {
		v.Labels = map[string]string{}
	}
	if r.Current != nil {
		v.AccessKeyID, v.Generation = &r.Current.AccessKeyID, r.Current.Generation
	}
	if g := r.Grace; g != nil && g.State(now) == CredentialGrace && !reached(r.ExpiresAt, now) && r.DeletedAt.IsZero() {
		v.Grace = &GraceView{
			AccessKeyID: g.AccessKeyID, Until: earliest(g.GraceUntil, r.ExpiresAt), LastUsedAt: optional(g.LastUsedAt), LastUsedFrom: g.usedFrom(),
		}
	}
	for _, c := range []*Credential{r.Current, r.Grace} {
		if c != nil && c.LastUsedAt.Equal(r.LastUsedAt) {
			v.LastUsedFrom = c.usedFrom()
		}
	}
	return v
}

// optional turns the zero time into JSON's null.
func optional(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// earliest returns the earlier of a limit and an optional one (zero: none).
func earliest(limit, other time.Time) time.Time {
	if !other.IsZero() && other.Before(limit) {
		return other
	}
	return limit
}
