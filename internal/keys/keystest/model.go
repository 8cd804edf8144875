package keystest

import (
	"maps"
	"slices"
	"time"

	"keyctl/internal/credential"
	"keyctl/internal/fault"
	"keyctl/internal/keys"
)

// Model is what docs/states.md says about keys and their credentials, in memory. It keeps no rows and knows no transactions;
// what time ends, Tick ends at once. A method that is called like one of the Service says what the Service must answer, and
// changes the model if it is nothing.
type Model struct {
	Now  time.Time
	By   string // who calls
	Keys []*ModelKey
}

// ModelKey is a key in a Model.
type ModelKey struct {
	ID, Name    string
	Credentials []*ModelCredential
	Datasets    map[string]bool
	CreatedAt   time.Time
	CreatedBy   string
	Expires     time.Time
	Active      bool // once proven
	Disabled    bool
	Compromised bool
	Deleted     bool
}

// ModelCredential is a credential in a Model.
type ModelCredential struct {
	Drawn
	Key        *ModelKey
	Pending    keys.Pending
	Create     *keys.NewKey      // the request that made it,
	Roll       *keys.RollRequest // one of the two
	Generation int
	Proven     time.Time
	Grace      time.Time // its end, once rolled
	Retired    time.Time
	Gone       bool                 // withdrawn, superseded, purged or deleted
	Previous   *credential.Previous // the first answer to its proof
}

// Clone is a model of its own that says the same.
func (m *Model) Clone() *Model {
	clone := *m
	clone.Keys = nil
	for _, k := range m.Keys {
		key := *k
		key.Datasets, key.Credentials = maps.Clone(k.Datasets), nil
		for _, c := range k.Credentials {
			credential := *c
			credential.Key = &key
			key.Credentials = append(key.Credentials, &credential)
		}
		clone.Keys = append(clone.Keys, &key)
	}
	return &clone
}

// Key finds a key by its id; nil if there never was one.
func (m *Model) Key(id string) *ModelKey {
	for _, k := range m.Keys {
		if k.ID == id {
			return k
		}
	}
	return nil
}

// Credential finds a credential by its id.
func (m *Model) Credential(accessKeyID string) *ModelCredential {
	for _, k := range m.Keys {
		for _, c := range k.Credentials {
			if c.AccessKeyID == accessKeyID {
				return c
			}
		}
	}
	return nil
}

// Tick moves the model's time.
func (m *Model) Tick(now time.Time) {
	m.Now = now
	for _, k := range m.Keys {
		for _, c := range k.Credentials {
			switch {
			case c.over():
			case c.Proven.IsZero() && !now.Before(c.Pending.Until):
				c.drop()
			case !c.Grace.IsZero() && !now.Before(c.Grace):
				c.Retired = c.Grace
			}
		}
	}
}

func (c *ModelCredential) over() bool { return c.Gone || !c.Retired.IsZero() }

// drop ends a pending credential, and the key that was made with it.
func (c *ModelCredential) drop() {
	c.Gone = true
	if !c.Key.Active {
		c.Key.Delete()
	}
}

func (k *ModelKey) Delete() {
	k.Deleted, k.Datasets = true, nil
	for _, c := range k.Credentials {
		c.Gone = true
	}
}

// open finds the key's one credential in a state, or nil.
func (k *ModelKey) open(state keys.CredentialState) *ModelCredential {
	for _, c := range k.Credentials {
		if c.over() {
			continue
		}
		is := keys.CredentialCurrent
		switch {
		case c.Proven.IsZero():
			is = keys.CredentialPending
		case !c.Grace.IsZero():
			is = keys.CredentialGrace
		}
		if is == state {
			return c
		}
	}
	return nil
}

func (m *Model) expired(k *ModelKey) bool { return !k.Expires.IsZero() && !m.Now.Before(k.Expires) }

func (m *Model) state(k *ModelKey) keys.KeyState {
	switch {
	case k.Deleted:
		return keys.KeyDeleted
	case k.Compromised:
		return keys.KeyCompromised
	case m.expired(k):
		return keys.KeyExpired
	case k.Disabled:
		return keys.KeyDisabled
	case !k.Active:
		return keys.KeyPending
	}
	return keys.KeyActive
}

// refusal is the code with which a key in a state that is not among those allowed refuses.
func (m *Model) refusal(k *ModelKey, allowed ...keys.KeyState) fault.Code {
	state := m.state(k)
	if slices.Contains(allowed, state) {
		return ""
	}
	return map[keys.KeyState]fault.Code{
		keys.KeyPending: fault.KeyPending, keys.KeyDisabled: fault.KeyDisabled, keys.KeyCompromised: fault.KeyDisabled,
		keys.KeyExpired: fault.KeyExpired, keys.KeyDeleted: fault.KeyDeleted,
	}[state]
}

// named finds the key that has a name now.
func (m *Model) named(name string) *ModelKey {
	for _, k := range m.Keys {
		if k.Name == name && !k.Deleted {
			return k
		}
	}
	return nil
}

func (m *Model) Create(c *ModelCredential) fault.Code {
	if k := m.named(c.Create.Name); k != nil {
		if k.Active {
			return fault.Exists
		}
		k.Delete()
	}
	k := &ModelKey{Name: c.Create.Name, CreatedAt: m.Now, CreatedBy: m.By, Expires: c.Create.ExpiresAt, Datasets: map[string]bool{}}
	for _, name := range c.Create.Datasets {
		k.Datasets[name] = true
	}
	c.Key, c.Generation, k.Credentials = k, 1, []*ModelCredential{c}
	m.Keys = append(m.Keys, k)
	return ""
}

// Attempt is the answer to whoever comes with a credential: to prove it, or to repeat what made it.
func (m *Model) Attempt(c *ModelCredential) fault.Code {
	switch {
	case !c.over():
		return m.refusal(c.Key, keys.KeyPending, keys.KeyActive)
	case c.Key.Deleted && c.Key.Active:
		return fault.KeyDeleted
	}
	return fault.Superseded
}

func (m *Model) Prove(c *ModelCredential) fault.Code {
	if code := m.Attempt(c); code != "" || !c.Proven.IsZero() {
		return code
	}
	k := c.Key
	if c.Roll == nil {
		k.Active, c.Proven = true, m.Now
		return ""
	}
	if g := k.open(keys.CredentialGrace); g != nil {
		if !c.Roll.Terms.FinishPrevious {
			return fault.RollInProgress
		}
		g.Grace, g.Retired = m.Now, m.Now
	}
	old := k.open(keys.CredentialCurrent)
	until := m.Now.Add(c.Roll.Terms.Grace.For)
	clamped := !k.Expires.IsZero() && k.Expires.Before(until)
	if clamped {
		until = k.Expires
	}
	if old.Grace = until; !until.After(m.Now) {
		old.Retired = until
	}
	c.Proven, c.Previous = m.Now, &credential.Previous{AccessKeyID: old.AccessKeyID, Until: until, Clamped: clamped}
	return ""
}

func (m *Model) Withdraw(c *ModelCredential) fault.Code {
	if !c.Proven.IsZero() {
		return fault.Superseded
	}
	if !c.Gone {
		c.drop()
	}
	return ""
}

func (m *Model) Roll(k *ModelKey, c *ModelCredential) fault.Code {
	if code := m.refusal(k, keys.KeyActive); code != "" {
		return code
	}
	if k.open(keys.CredentialGrace) != nil && !c.Roll.Terms.FinishPrevious {
		return fault.RollInProgress
	}
	for _, other := range k.Credentials {
		if !other.Proven.IsZero() {
			c.Generation = max(c.Generation, other.Generation+1)
		}
	}
	if pending := k.open(keys.CredentialPending); pending != nil {
		pending.Gone = true
	}
	c.Key, k.Credentials = k, append(k.Credentials, c)
	return ""
}

func (m *Model) Extend(k *ModelKey, d time.Duration) fault.Code {
	if code := m.refusal(k, keys.KeyActive); code != "" {
		return code
	}
	g := k.open(keys.CredentialGrace)
	if g == nil {
		return fault.NotFound
	}
	until := m.Now.Add(d)
	if !k.Expires.IsZero() && k.Expires.Before(until) {
		until = k.Expires
	}
	if until.After(k.open(keys.CredentialCurrent).Proven.Add(keys.MaxGrace)) {
		return fault.Invalid
	}
	g.Grace = until
	return ""
}

func (m *Model) Finish(k *ModelKey) fault.Code {
	if k.Deleted {
		return fault.KeyDeleted
	}
	if current := k.open(keys.CredentialCurrent); current == nil || current.Previous == nil {
		return fault.NotFound
	}
	if g := k.open(keys.CredentialGrace); g != nil {
		g.Grace, g.Retired = m.Now, m.Now
	}
	return ""
}

func (m *Model) Cancel(k *ModelKey) fault.Code {
	if code := m.refusal(k, keys.KeyActive); code != "" {
		return code
	}
	g := k.open(keys.CredentialGrace)
	if g == nil {
		return fault.NotFound
	}
	if pending := k.open(keys.CredentialPending); pending != nil {
		pending.Gone = true
	}
	k.open(keys.CredentialCurrent).Retired = m.Now
	g.Grace = time.Time{}
	return ""
}

func (m *Model) Disable(k *ModelKey, compromised bool) fault.Code {
	code := m.refusal(k, keys.KeyActive, keys.KeyDisabled, keys.KeyCompromised, keys.KeyExpired)
	if state := m.state(k); code == "" && (state == keys.KeyActive || state == keys.KeyDisabled) {
		k.Disabled, k.Compromised = true, compromised
	}
	return code
}

func (m *Model) Enable(k *ModelKey) fault.Code {
	code := m.refusal(k, keys.KeyActive, keys.KeyDisabled)
	if code == "" {
		k.Disabled = false
	}
	return code
}

func (m *Model) SetExpiry(k *ModelKey, at time.Time) fault.Code {
	code := m.refusal(k, keys.KeyActive, keys.KeyDisabled)
	if code == "" {
		k.Expires = at
	}
	return code
}

func (m *Model) Attach(k *ModelKey, dataset string) fault.Code {
	code := m.refusal(k, keys.KeyActive, keys.KeyDisabled)
	if code == "" && len(k.Datasets) > 0 && !k.Datasets[dataset] {
		return fault.Invalid // one unstructured dataset at most
	}
	if code == "" {
		k.Datasets[dataset] = true
	}
	return code
}

func (m *Model) Detach(k *ModelKey, dataset string) fault.Code {
	if k.Deleted {
		return fault.KeyDeleted
	}
	delete(k.Datasets, dataset)
	return ""
}

// View is what the Service must say about a key.
func (m *Model) View(k *ModelKey) keys.KeyView {
	v := keys.KeyView{
		ID: k.ID, Name: k.Name, State: m.state(k), Generation: 1, Datasets: slices.Collect(maps.Keys(k.Datasets)),
		CreatedAt: k.CreatedAt, CreatedBy: k.CreatedBy, Grants: map[string]keys.Grant{},
	}
	for _, name := range v.Datasets {
		v.Grants[name] = keys.FullGrant
	}
	if !k.Expires.IsZero() {
		v.ExpiresAt = &k.Expires
	}
	if c := k.open(keys.CredentialCurrent); c != nil {
		v.AccessKeyID, v.Generation = &c.AccessKeyID, c.Generation
	}
	if g := k.open(keys.CredentialGrace); g != nil && !m.expired(k) {
		v.Grace = &keys.GraceView{AccessKeyID: g.AccessKeyID, Until: g.Grace}
		if !k.Expires.IsZero() && k.Expires.Before(g.Grace) {
			v.Grace.Until = k.Expires
		}
	}
	return v
}

// Listed are the keys that lists show: all but those that ended before they were ever active.
func (m *Model) Listed() []keys.KeyView {
	var views []keys.KeyView
	for _, k := range m.Keys {
		if !k.Deleted || k.Active {
			views = append(views, m.View(k))
		}
	}
	return views
}

// Reason is the answer to a holder of the credential.
func (m *Model) Reason(c *ModelCredential) keys.Reason {
	if c.Gone || !c.Retired.IsZero() && !m.Now.Before(c.Retired.Add(keys.RetiredFor)) {
		return keys.ReasonUnknown
	}
	switch state := m.state(c.Key); {
	case state == keys.KeyPending:
		return keys.ReasonPending
	case state != keys.KeyActive:
		return keys.Reason(state) // disabled, compromised, expired
	case !c.Retired.IsZero():
		return keys.ReasonRetired
	case c.Proven.IsZero():
		return keys.ReasonPending
	}
	return keys.ReasonOK
}
