package keys_test

import (
	"maps"
	"slices"
	"time"

	"keyctl/internal/credential"
	"keyctl/internal/fault"
	"keyctl/internal/keys"
	"keyctl/internal/keys/keystest"
)

// model is what docs/states.md says about keys and their credentials, for one caller and in memory. It keeps no rows and
// knows no transactions; what time ends, tick ends at once. Each method says what the Service must answer and changes
// the model if it is nothing.
type model struct {
	now  time.Time
	keys []*modelKey
}

type modelKey struct {
	id, name    string
	credentials []*modelCredential
	datasets    map[string]bool
	createdAt   time.Time
	expires     time.Time
	active      bool // once proven
	disabled    bool
	compromised bool
	deleted     bool
}

type modelCredential struct {
	keystest.Drawn
	key        *modelKey
	pending    keys.Pending
	create     *keys.NewKey      // the request that made it,
	roll       *keys.RollRequest // one of the two
	generation int
	proven     time.Time
	grace      time.Time // its end, once rolled
	retired    time.Time
	gone       bool                 // withdrawn, superseded, purged or deleted
	previous   *credential.Previous // the first answer to its proof
}

// tick moves the model's time.
func (m *model) tick(now time.Time) {
	m.now = now
	for _, k := range m.keys {
		for _, c := range k.credentials {
			switch {
			case c.over():
			case c.proven.IsZero() && !now.Before(c.pending.Until):
				c.drop()
			case !c.grace.IsZero() && !now.Before(c.grace):
				c.retired = c.grace
			}
		}
	}
}

func (c *modelCredential) over() bool { return c.gone || !c.retired.IsZero() }

// drop ends a pending credential, and the key that was made with it.
func (c *modelCredential) drop() {
	c.gone = true
	if !c.key.active {
		c.key.delete()
	}
}

func (k *modelKey) delete() {
	k.deleted, k.datasets = true, nil
	for _, c := range k.credentials {
		c.gone = true
	}
}

// open finds the key's one credential in a state, or nil.
func (k *modelKey) open(state keys.CredentialState) *modelCredential {
	for _, c := range k.credentials {
		if c.over() {
			continue
		}
		is := keys.CredentialCurrent
		switch {
		case c.proven.IsZero():
			is = keys.CredentialPending
		case !c.grace.IsZero():
			is = keys.CredentialGrace
		}
		if is == state {
			return c
		}
	}
	return nil
}

func (m *model) expired(k *modelKey) bool { return !k.expires.IsZero() && !m.now.Before(k.expires) }

func (m *model) state(k *modelKey) keys.KeyState {
	switch {
	case k.deleted:
		return keys.KeyDeleted
	case k.compromised:
		return keys.KeyCompromised
	case m.expired(k):
		return keys.KeyExpired
	case k.disabled:
		return keys.KeyDisabled
	case !k.active:
		return keys.KeyPending
	}
	return keys.KeyActive
}

// refusal is the code with which a key in a state that is not among those allowed refuses.
func (m *model) refusal(k *modelKey, allowed ...keys.KeyState) fault.Code {
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
func (m *model) named(name string) *modelKey {
	for _, k := range m.keys {
		if k.name == name && !k.deleted {
			return k
		}
	}
	return nil
}

func (m *model) create(c *modelCredential) fault.Code {
	if k := m.named(c.create.Name); k != nil {
		if k.active {
			return fault.Exists
		}
		k.delete()
	}
	k := &modelKey{name: c.create.Name, createdAt: m.now, expires: c.create.ExpiresAt, datasets: map[string]bool{}}
	for _, name := range c.create.Datasets {
		k.datasets[name] = true
	}
	c.key, c.generation, k.credentials = k, 1, []*modelCredential{c}
	m.keys = append(m.keys, k)
	return ""
}

// attempt is the answer to whoever comes with a credential: to prove it, or to repeat what made it.
func (m *model) attempt(c *modelCredential) fault.Code {
	switch {
	case !c.over():
		return m.refusal(c.key, keys.KeyPending, keys.KeyActive)
	case c.key.deleted && c.key.active:
		return fault.KeyDeleted
	}
	return fault.Superseded
}

func (m *model) prove(c *modelCredential) fault.Code {
	if code := m.attempt(c); code != "" || !c.proven.IsZero() {
		return code
	}
	k := c.key
	if c.roll == nil {
		k.active, c.proven = true, m.now
		return ""
	}
	if g := k.open(keys.CredentialGrace); g != nil {
		if !c.roll.Terms.FinishPrevious {
			return fault.RollInProgress
		}
		g.grace, g.retired = m.now, m.now
	}
	old := k.open(keys.CredentialCurrent)
	until := m.now.Add(c.roll.Terms.Grace.For)
	clamped := !k.expires.IsZero() && k.expires.Before(until)
	if clamped {
		until = k.expires
	}
	if old.grace = until; !until.After(m.now) {
		old.retired = until
	}
	c.proven, c.previous = m.now, &credential.Previous{AccessKeyID: old.AccessKeyID, Until: until, Clamped: clamped}
	return ""
}

func (m *model) withdraw(c *modelCredential) fault.Code {
	if !c.proven.IsZero() {
		return fault.Superseded
	}
	if !c.gone {
		c.drop()
	}
	return ""
}

func (m *model) rollKey(k *modelKey, c *modelCredential) fault.Code {
	if code := m.refusal(k, keys.KeyActive); code != "" {
		return code
	}
	if k.open(keys.CredentialGrace) != nil && !c.roll.Terms.FinishPrevious {
		return fault.RollInProgress
	}
	for _, other := range k.credentials {
		if !other.proven.IsZero() {
			c.generation = max(c.generation, other.generation+1)
		}
	}
	if pending := k.open(keys.CredentialPending); pending != nil {
		pending.gone = true
	}
	c.key, k.credentials = k, append(k.credentials, c)
	return ""
}

func (m *model) extend(k *modelKey, d time.Duration) fault.Code {
	if code := m.refusal(k, keys.KeyActive); code != "" {
		return code
	}
	g := k.open(keys.CredentialGrace)
	if g == nil {
		return fault.NotFound
	}
	until := m.now.Add(d)
	if !k.expires.IsZero() && k.expires.Before(until) {
		until = k.expires
	}
	if until.After(k.open(keys.CredentialCurrent).proven.Add(keys.MaxGrace)) {
		return fault.Invalid
	}
	g.grace = until
	return ""
}

func (m *model) finish(k *modelKey) fault.Code {
	if k.deleted {
		return fault.KeyDeleted
	}
	if current := k.open(keys.CredentialCurrent); current == nil || current.previous == nil {
		return fault.NotFound
	}
	if g := k.open(keys.CredentialGrace); g != nil {
		g.grace, g.retired = m.now, m.now
	}
	return ""
}

func (m *model) cancel(k *modelKey) fault.Code {
	if code := m.refusal(k, keys.KeyActive); code != "" {
		return code
	}
	g := k.open(keys.CredentialGrace)
	if g == nil {
		return fault.NotFound
	}
	if pending := k.open(keys.CredentialPending); pending != nil {
		pending.gone = true
	}
	k.open(keys.CredentialCurrent).retired = m.now
	g.grace = time.Time{}
	return ""
}

func (m *model) disable(k *modelKey, compromised bool) fault.Code {
	code := m.refusal(k, keys.KeyActive, keys.KeyDisabled, keys.KeyCompromised, keys.KeyExpired)
	if state := m.state(k); code == "" && (state == keys.KeyActive || state == keys.KeyDisabled) {
		k.disabled, k.compromised = true, compromised
	}
	return code
}

func (m *model) enable(k *modelKey) fault.Code {
	code := m.refusal(k, keys.KeyActive, keys.KeyDisabled)
	if code == "" {
		k.disabled = false
	}
	return code
}

func (m *model) setExpiry(k *modelKey, at time.Time) fault.Code {
	code := m.refusal(k, keys.KeyActive, keys.KeyDisabled)
	if code == "" {
		k.expires = at
	}
	return code
}

func (m *model) attach(k *modelKey, dataset string) fault.Code {
	code := m.refusal(k, keys.KeyActive, keys.KeyDisabled)
	if code == "" && len(k.datasets) > 0 && !k.datasets[dataset] {
		return fault.Invalid // one unstructured dataset at most
	}
	if code == "" {
		k.datasets[dataset] = true
	}
	return code
}

func (m *model) detach(k *modelKey, dataset string) fault.Code {
	if k.deleted {
		return fault.KeyDeleted
	}
	delete(k.datasets, dataset)
	return ""
}

// view is what the Service must say about a key.
func (m *model) view(k *modelKey) keys.KeyView {
	v := keys.KeyView{
		ID: k.id, Name: k.name, State: m.state(k), Generation: 1, Datasets: slices.Collect(maps.Keys(k.datasets)),
		CreatedAt: k.createdAt, CreatedBy: "alex",
	}
	if !k.expires.IsZero() {
		v.ExpiresAt = &k.expires
	}
	if c := k.open(keys.CredentialCurrent); c != nil {
		v.AccessKeyID, v.Generation = &c.AccessKeyID, c.generation
	}
	if g := k.open(keys.CredentialGrace); g != nil && !m.expired(k) {
		v.Grace = &keys.GraceView{AccessKeyID: g.AccessKeyID, Until: g.grace}
		if !k.expires.IsZero() && k.expires.Before(g.grace) {
			v.Grace.Until = k.expires
		}
	}
	return v
}

// listed are the keys that lists show: all but those that ended before they were ever active.
func (m *model) listed() []keys.KeyView {
	var views []keys.KeyView
	for _, k := range m.keys {
		if !k.deleted || k.active {
			views = append(views, m.view(k))
		}
	}
	return views
}

// reason is the answer to a holder of the credential.
func (m *model) reason(c *modelCredential) keys.Reason {
	if c.gone || !c.retired.IsZero() && !m.now.Before(c.retired.Add(keys.RetiredFor)) {
		return keys.ReasonUnknown
	}
	switch state := m.state(c.key); {
	case state == keys.KeyPending:
		return keys.ReasonPending
	case state != keys.KeyActive:
		return keys.Reason(state) // disabled, compromised, expired
	case !c.retired.IsZero():
		return keys.ReasonRetired
	case c.proven.IsZero():
		return keys.ReasonPending
	}
	return keys.ReasonOK
}
