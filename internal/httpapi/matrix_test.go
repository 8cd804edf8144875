package httpapi_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"keyctl/internal/access"
	"keyctl/internal/credential"
	"keyctl/internal/envelope"
	"keyctl/internal/fault"
	"keyctl/internal/httpapi"
	"keyctl/internal/keys"
	"keyctl/internal/keys/keystest"
	"keyctl/internal/structured"
)

// permitted says who may use each route: o owner, a admin, c ci, u auditor, v verifier. It is written by hand from the
// roles, not from the permissions that the routes name.
var permitted = map[string]string{
	"whoami": "oacuv",

	"keys.list": "oacu", "keys.show": "oacu", "keys.existing": "oacu", "rolls.list": "oacu", "rolls.show": "oacu",
	"keys.create": "oac", "keys.check": "oac",
	"credentials.pending": "oac", "credentials.prove": "oac", "credentials.withdraw": "oac",
	"keys.edit": "oa", "keys.check-edit": "oa", "keys.enable": "oa", "keys.disable": "oac", "keys.delete": "oa",
	"keys.check-roll": "oa", "keys.roll": "oa", "rolls.extend": "oa", "rolls.finish": "oa", "rolls.cancel": "oa",
	"verify": "oav", "verify.many": "oav",

	"datasets.list": "oau", "datasets.show": "oau",
	"datasets.create": "oa", "datasets.edit": "oa", "datasets.delete": "oa", "datasets.attach": "oa", "datasets.detach": "oa",
	"datasets.rotate": "oa", "usage": "oacu",
	"primary-keys.list": "oau", "primary-keys.show": "oau",
	"primary-keys.create": "oa", "primary-keys.rotate": "oa", "primary-keys.disable": "oa", "primary-keys.enable": "oa",

	"operators.list": "oau", "operators.show": "oau",
	"operators.create": "o", "operators.edit": "o", "operators.disable": "o", "operators.enable": "o", "operators.delete": "o",
	"operators.reset-otp": "o",
	"tokens.list":         "oau", "tokens.create": "oa", "tokens.revoke": "oacuv",

	"otp.status": "oa", "otp.enroll": "oa", "otp.confirm": "oa", "otp.reset": "oa", "otp.recovery-codes": "oa",
	"audit.head": "oau", "audit.list": "oau", "audit.verify": "oau",
}

// keyStates are the states a key is brought into, in the order of the columns of byState.
var keyStates = []string{"pending", "active", "rolling", "disabled", "compromised", "expired", "deleted"}

// byState says what each route that takes a key answers in each state.
var byState = map[string]string{
	//                      pending      active       rolling          disabled      compromised   expired      deleted
	"keys.show":       "ok           ok           ok               ok            ok            ok           ok",
	"keys.edit":       "key_pending  ok           ok               ok            key_disabled  key_expired  key_deleted",
	"keys.check-edit": "key_pending  ok           ok               ok            key_disabled  key_expired  key_deleted",
	"keys.enable":     "key_pending  ok           ok               ok            key_disabled  key_expired  key_deleted",
	"keys.disable":    "key_pending  ok           ok               ok            ok            ok           key_deleted",
	"keys.delete":     "ok           ok           ok               ok            ok            ok           ok",
	"keys.check-roll": "key_pending  ok           roll_in_progress key_disabled  key_disabled  key_expired  key_deleted",
	"keys.roll":       "key_pending  ok           roll_in_progress key_disabled  key_disabled  key_expired  key_deleted",
	"rolls.show":      "not_found    not_found    ok               not_found     not_found     not_found    not_found",
	"rolls.extend":    "key_pending  not_found    ok               key_disabled  key_disabled  key_expired  key_deleted",
	"rolls.finish":    "not_found    not_found    ok               not_found     not_found     not_found    key_deleted",
	"rolls.cancel":    "key_pending  not_found    ok               key_disabled  key_disabled  key_expired  key_deleted",
	"datasets.attach": "key_pending  ok           ok               ok            key_disabled  key_expired  key_deleted",
	"datasets.detach": "ok           ok           ok               ok            ok            ok           key_deleted",
	// What verify says of a key and of a credential in hand.
	"verify": "pending      ok           ok               disabled      compromised   expired      unknown",

	// By the key's newest credential.
	"credentials.pending":  "ok         ok         ok         key_disabled key_disabled key_expired key_deleted",
	"credentials.prove":    "ok         ok         ok         key_disabled key_disabled key_expired key_deleted",
	"credentials.withdraw": "ok         superseded superseded superseded   superseded   superseded  superseded",
}

// statuses are the HTTP statuses of the codes, from the table of failures.
var statuses = map[string]int{
	"ok": 200, "invalid": 400, "unauthenticated": 401, "forbidden": 403, "otp_required": 403, "otp_wrong": 403, "not_found": 404,
	"exists": 409, "key_pending": 409, "key_disabled": 409, "key_expired": 409, "key_deleted": 409, "roll_in_progress": 409,
	"superseded": 409, "id_conflict": 409, "still_attached": 409,
}

// people are the operators of the template, by the letter of their role.
var people = map[byte]string{'o': "alex", 'a': "ann", 'c': "robot", 'u': "audrey", 'v': "gateway"}

// strangers are what is sent by those whom no token lets in.
var strangers = []string{"no token", "a wrong token", "an API key's secret", "an expired token", "a revoked token", "a disabled operator's token"}

// subject is a key of the template.
type subject struct {
	keys.Pending // of its newest credential
	keystest.Drawn
}

// template is a store with a key in each state of each of two makers, and who may come. It is copied, never used itself.
type template struct {
	path    string
	master  envelope.MasterKey
	clock   *keystest.Clock
	at      time.Time
	tokens  map[string]credential.Secret // by operator, and by stranger
	ids     map[string]string            // of the operators' tokens
	factors map[byte]*keystest.Authenticator
	keys    map[string]map[string]subject // by maker and state
}

// oneByOne skips a test that sends thousands of requests one after the other: the race detector has nothing to find in it.
func oneByOne(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("it sends thousands of requests one after the other")
	}
}

// makers are who made the keys: for ci its own and somebody else's.
var makers = []string{"robot", "ann"}

func newTemplate(t *testing.T) *template {
	t.Helper()
	clock := keystest.NewClock()
	m := &template{
		clock: clock, tokens: map[string]credential.Secret{}, ids: map[string]string{}, factors: map[byte]*keystest.Authenticator{},
		keys: map[string]map[string]subject{},
	}
	m.path, m.master = newStore(t, clock.Env())
	w := openWorld(t, m.path, m.master, clock.Env(), func(context.Context) keys.Origin { return here })
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	format, err := structured.New(structured.Spec{InputCharacterSet: "0123456789", OutputCharacterSet: "0123456789abcdef"}, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.owner.CreateDataset(t.Context(), keys.NewDataset{Name: "fields", Type: keys.Structured, Format: &format}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"inside", "outside"} {
		_, _, err := w.owner.CreateDataset(t.Context(), keys.NewDataset{Name: name, Type: keys.Unstructured})
		must(err)
	}
	_, err = w.owner.CreatePrimaryKey(t.Context(), "spare", "")
	must(err)
	hire := func(name string, role access.Role) {
		if name != "alex" {
			_, err := w.owner.CreateOperator(t.Context(), keys.NewOperator{Name: name, Role: role})
			must(err)
		}
		request := keys.NewToken{Token: drawToken(t), Operator: name}
		if role == access.CI {
			request.Datasets = []string{"inside"}
		}
		view, err := w.owner.CreateToken(t.Context(), request)
		must(err)
		m.tokens[name], m.ids[name] = request.Token, view.ID
	}
	hire("alex", access.Owner)
	hire("ann", access.Admin)
	hire("bob", access.Admin)
	hire("robot", access.CI)
	hire("robot2", access.CI)
	hire("audrey", access.Auditor)
	hire("gateway", access.Verifier)
	hire("gone", access.Admin)
	m.tokens["a disabled operator's token"] = m.tokens["gone"]
	m.tokens["a wrong token"] = drawToken(t)
	for stranger, name := range map[string]string{"an expired token": "ann", "a revoked token": "ann"} {
		request := keys.NewToken{Token: drawToken(t), Operator: name}
		if stranger == "an expired token" {
			request.ExpiresAt = clock.Now().Add(time.Minute)
		}
		view, err := w.owner.CreateToken(t.Context(), request)
		must(err)
		if stranger == "a revoked token" {
			_, err := w.owner.RevokeToken(t.Context(), view.ID)
			must(err)
		}
		m.tokens[stranger] = request.Token
	}
	_, err = w.owner.DisableOperator(t.Context(), "gone")
	must(err)

	as := map[string]*keys.Local{}
	for _, name := range people {
		as[name], err = w.owner.Admit(t.Context(), m.tokens[name], here)
		must(err)
	}
	m.factors['o'] = keystest.Enroll(t, as["alex"], clock)
	m.factors['a'] = keystest.Enroll(t, as["ann"], clock)
	expiry := clock.Now().Add(time.Hour)
	for _, late := range []bool{false, true} {
		for _, maker := range makers {
			if m.keys[maker] == nil {
				m.keys[maker] = map[string]subject{}
			}
			for _, state := range keyStates {
				if late != (state == "pending") {
					continue // pending ones last only ten minutes, so they come last
				}
				drawn := keystest.Draw(t)
				request := keys.NewKey{Name: maker + "-" + state, Offer: drawn.Offer}
				if maker == "robot" {
					request.Datasets = []string{"inside"}
				}
				if state == "expired" {
					request.ExpiresAt = expiry
				}
				pending, err := as[maker].CreateKey(t.Context(), request)
				must(err)
				if state != "pending" {
					_, err = as[maker].Prove(t.Context(), drawn.AccessKeyID, drawn.Proof(pending))
					must(err)
				}
				switch state {
				case "rolling":
					drawn = keystest.Draw(t)
					pending, err = as["ann"].Roll(t.Context(), keys.RollRequest{
						Key: pending.KeyID, Terms: keys.RollTerms{Grace: keys.Grace{For: 24 * time.Hour}}, Offer: drawn.Offer, Code: m.factors['a'].Next(),
					})
					must(err)
					_, err = as["ann"].Prove(t.Context(), drawn.AccessKeyID, drawn.Proof(pending))
				case "disabled", "compromised":
					_, err = as["ann"].DisableKey(t.Context(), pending.KeyID, state == "compromised")
				case "deleted":
					_, err = as["ann"].DeleteKey(t.Context(), pending.KeyID)
				}
				must(err)
				m.keys[maker][state] = subject{pending, drawn}
			}
		}
		clock.Set(expiry)
	}
	m.tokens["an API key's secret"] = m.keys["ann"]["active"].SigningKey
	m.at = clock.Now()
	must(w.db.Close())
	return m
}

func drawToken(t testing.TB) credential.Secret {
	t.Helper()
	token, err := credential.DrawOperatorToken(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// copy serves a copy of the template as it was made.
func (m *template) copy(t *testing.T) *world {
	t.Helper()
	text, err := os.ReadFile(m.path)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "copy.db")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	m.clock.Set(m.at)
	// Each request comes from a client of its own, so that none is slowed down for the failures of another.
	var client atomic.Uint32
	return openWorld(t, path, m.master, m.clock.Env(), func(context.Context) keys.Origin {
		var raw [4]byte
		binary.BigEndian.PutUint32(raw[:], 10<<24+client.Add(1))
		return keys.Origin{Address: netip.AddrFrom4(raw), RequestID: "req_test"}
	})
}

// cell is one request of one caller, with what its makers of bodies may use.
type cell struct {
	*template
	t       *testing.T
	role    byte // 0: a stranger
	allowed bool // the role has the route
}

// code is a right code of the caller, if it gets that far; asking for it takes half a minute.
func (c cell) code() string {
	if f := c.factors[c.role]; f != nil && c.allowed {
		return f.Next()
	}
	return "000000"
}

// object is a JSON object.
type object = map[string]any

// offered is a fresh credential as a request offers it.
func (c cell) offered() object {
	d := keystest.Draw(c.t)
	return object{
		"access_key_id": d.AccessKeyID, "secret_signing_key": d.SigningKey.Reveal(), "public_key": d.Offer.PublicKey,
		"encrypted_private_key": d.Offer.PrivateKeyPEM,
	}
}

// situation is one way to use a route: what stands in its path, its query and its body, and what comes of it. want is the
// outcome for all whom the route is permitted, with exceptions: "ok c:not_found" is not_found for ci.
type situation struct {
	name, path, query string
	body              func(c cell) any
	want              string
}

// itself is the id of the caller's own token, in a path.
const itself = "ITSELF"

// outcome is what is wanted for a role.
func (s situation) outcome(role byte) string {
	general, rest, _ := strings.Cut(s.want, " ")
	for _, exception := range strings.Fields(rest) {
		if roles, code, _ := strings.Cut(exception, ":"); strings.IndexByte(roles, role) >= 0 {
			return code
		}
	}
	return general
}

func with(pairs ...any) func(cell) any {
	o := object{}
	for i := 0; i < len(pairs); i += 2 {
		o[pairs[i].(string)] = pairs[i+1]
	}
	return func(cell) any { return o }
}

func withCode(pairs ...any) func(cell) any {
	return func(c cell) any {
		o := maps.Clone(with(pairs...)(c).(object))
		o["code"] = c.code()
		return o
	}
}

func empty(cell) any { return object{} }

const absentKey, absentCredential = "key_0000000000000000000000", "KC0000000000000000000000"

// bodiesOfKeyRoutes are the bodies of the routes that take a key, by state; nil: none is taken.
var bodiesOfKeyRoutes = map[string]func(s subject) func(cell) any{
	"keys.show": nil, "keys.enable": nil, "keys.delete": nil, "rolls.show": nil, "rolls.finish": nil,
	"credentials.pending": nil, "credentials.withdraw": nil,
	"keys.edit":       func(subject) func(cell) any { return with("ip_ranges", []string{"10.0.0.0/8"}) },
	"keys.check-edit": func(subject) func(cell) any { return with("ip_ranges", []string{"10.0.0.0/8"}) },
	"keys.disable":    func(subject) func(cell) any { return empty },
	"keys.check-roll": func(subject) func(cell) any { return with("terms", object{"grace": object{"for": "1h"}}) },
	"keys.roll": func(subject) func(cell) any {
		return func(c cell) any {
			return object{"grace": object{"for": "1h"}, "credential": c.offered(), "code": c.code()}
		}
	},
	"rolls.extend":    func(subject) func(cell) any { return withCode("grace", object{"for": "48h"}) },
	"rolls.cancel":    func(subject) func(cell) any { return withCode() },
	"datasets.attach": func(s subject) func(cell) any { return with("keys", []string{s.KeyID}) },
	"datasets.detach": func(s subject) func(cell) any { return with("keys", []string{s.KeyID}) },
	"verify":          func(s subject) func(cell) any { return with("key", s.KeyID) },
	"credentials.prove": func(s subject) func(cell) any {
		return with("proof", credential.Proof(s.SigningKey, s.KeyID, s.Pending.AccessKeyID, s.Challenge))
	},
}

// aboutKeys makes the situations of a route that takes a key: each state, each maker.
func aboutKeys(m *template, r httpapi.Route) []situation {
	body, known := bodiesOfKeyRoutes[r.ID]
	if !known {
		return nil
	}
	wants := strings.Fields(byState[r.ID])
	var all []situation
	for i, state := range keyStates {
		for _, maker := range makers {
			k := m.keys[maker][state]
			s := situation{name: state + " of " + maker, want: wants[i]}
			if maker != "robot" {
				s.want += " c:not_found"
			}
			if body != nil {
				s.body = body(k)
			}
			switch {
			case strings.Contains(r.Path, "{key}"):
				s.path = k.KeyID
			case strings.Contains(r.Path, "{access_key_id}"):
				s.path = k.Pending.AccessKeyID
			case strings.Contains(r.Path, "{dataset}"):
				s.path = map[string]string{"robot": "inside", "ann": "outside"}[maker]
			}
			all = append(all, s)
		}
	}
	absent := subject{Pending: keys.Pending{KeyID: absentKey, AccessKeyID: absentCredential}}
	s := situation{name: "absent", want: "not_found", path: absentKey}
	if strings.Contains(r.Path, "{access_key_id}") {
		s.path = absentCredential
	} else if strings.Contains(r.Path, "{dataset}") {
		s.path = "outside"
	}
	if body != nil {
		s.body = body(absent)
	}
	return append(all, s)
}

// newKey is the body of a request for a key.
func newKey(name string, datasets ...string) func(cell) any {
	return func(c cell) any { return object{"name": name, "datasets": datasets, "credential": c.offered()} }
}

// otherSituations are those that do not come from states of keys.
func otherSituations(m *template) map[string][]situation {
	token := func(operator string, datasets ...string) func(cell) any {
		return func(c cell) any {
			o := object{"token": drawToken(c.t).Reveal(), "operator": operator}
			if len(datasets) > 0 {
				o["datasets"] = datasets
			}
			return o
		}
	}
	taken := m.keys["ann"]["active"].Pending.AccessKeyID
	return map[string][]situation{
		"whoami": {{want: "ok"}},

		"keys.list": {
			{name: "all", want: "ok"},
			{name: "in a state", query: "state=deleted", want: "ok"},
			{name: "of a dataset inside", query: "dataset=inside", want: "ok"},
			{name: "of a dataset outside", query: "dataset=outside", want: "ok c:not_found"},
			{name: "of no dataset", query: "dataset=nowhere", want: "not_found"},
		},
		"rolls.list": {{want: "ok"}},
		"keys.create": {
			{name: "without a dataset", body: newKey("new-1"), want: "ok"},
			{name: "for a dataset inside", body: newKey("new-2", "inside"), want: "ok"},
			{name: "for a dataset outside", body: newKey("new-3", "outside"), want: "ok c:not_found"},
			{name: "for both", body: newKey("new-4", "inside", "outside"), want: "invalid c:not_found"},
			{name: "for no dataset", body: newKey("new-5", "nowhere"), want: "not_found"},
			{name: "with its own name again", body: newKey("robot-active"), want: "exists"},
			{name: "with another's name", body: newKey("ann-active"), want: "exists"},
			{name: "with the name of another's pending one", body: newKey("ann-pending"), want: "ok c:exists"},
			{name: "with another's access key id", body: func(c cell) any {
				offered := c.offered()
				offered["access_key_id"] = taken
				return object{"name": "new-6", "credential": offered}
			}, want: "id_conflict"},
		},
		"keys.check": {
			{name: "for a dataset inside", body: with("requests", []object{{"name": "new-1", "datasets": []string{"inside"}}}), want: "ok"},
			{name: "for a dataset outside", body: with("requests", []object{{"name": "new-1", "datasets": []string{"outside"}}}), want: "ok c:not_found"},
			{name: "for no dataset", body: with("requests", []object{{"name": "new-1", "datasets": []string{"nowhere"}}}), want: "not_found"},
		},
		"keys.existing": {
			{name: "its own", body: with("name", "robot-active"), want: "ok"},
			{name: "another's", body: with("name", "ann-active"), want: "ok c:not_found"},
			{name: "another's disabled one", body: with("name", "ann-disabled"), want: "key_disabled c:not_found"},
			{name: "nobody's", body: with("name", "nothing"), want: "not_found"},
		},
		"verify": {
			{name: "a credential", body: with("access_key_id", taken, "secret_signing_key", m.keys["ann"]["active"].SigningKey.Reveal()), want: "ok"},
			{name: "a wrong secret", body: with("access_key_id", taken, "secret_signing_key", m.keys["robot"]["active"].SigningKey.Reveal()), want: "unknown"},
			{name: "a deleted credential", body: with("access_key_id", m.keys["ann"]["deleted"].Pending.AccessKeyID,
				"secret_signing_key", m.keys["ann"]["deleted"].SigningKey.Reveal()), want: "unknown"},
			{name: "no credential", body: with("access_key_id", absentCredential, "secret_signing_key", m.keys["ann"]["active"].SigningKey.Reveal()), want: "unknown"},
		},

		"verify.many": {
			{name: "two", body: with("questions", []object{{"key": "ann-active"}, {"key": "robot-active"}}), want: "ok"},
			{name: "none", body: with("questions", []object{}), want: "invalid"},
			{name: "one of no key", body: with("questions", []object{{"key": "ann-active"}, {"key": "nothing"}}), want: "not_found"},
		},

		"datasets.list": {{want: "ok"}},
		"datasets.show": {{name: "inside", path: "inside", want: "ok"}, {name: "outside", path: "outside", want: "ok"}, {name: "absent", path: "nowhere", want: "not_found"}},
		"datasets.create": {
			{name: "a new one", body: with("name", "fresh", "type", "unstructured"), want: "ok"},
			{name: "one that is there", body: with("name", "inside", "type", "unstructured"), want: "exists"},
			{name: "with a first key", body: func(c cell) any {
				return object{"name": "fresher", "type": "unstructured", "first_key": c.offered()}
			}, want: "ok"},
			{name: "of no Primary Key", body: with("name", "freshest", "type", "unstructured", "primary_key", "nothing"), want: "not_found"},
		},
		"datasets.edit": {
			{name: "inside", path: "inside", body: with("description", "changed"), want: "ok"},
			{name: "outside", path: "outside", body: with("description", "changed"), want: "ok"},
			{name: "absent", path: "nowhere", body: with("description", "changed"), want: "not_found"},
		},
		"datasets.delete": {
			{name: "with keys on it", path: "inside", want: "still_attached"},
			{name: "with its keys", path: "inside", query: "detach=true", want: "ok"},
			{name: "outside", path: "outside", want: "ok"},
			{name: "absent", path: "nowhere", want: "not_found"},
		},
		"datasets.rotate": {
			{name: "a structured one", path: "fields", want: "ok"},
			{name: "an unstructured one", path: "inside", want: "invalid"},
			{name: "absent", path: "nowhere", want: "not_found"},
		},
		"usage": {
			{name: "all", want: "ok"},
			{name: "of its own key", query: "key=robot-active", want: "ok"},
			{name: "of another's key", query: "key=ann-active", want: "ok c:not_found"},
			{name: "of no key", query: "key=nothing", want: "not_found"},
			{name: "in a dataset inside", query: "dataset=inside", want: "ok"},
			{name: "in a dataset outside", query: "dataset=outside", want: "ok c:not_found"},
		},
		"datasets.attach": {{name: "absent", path: "nowhere", body: with("keys", []string{"ann-active"}), want: "not_found"}},
		"datasets.detach": {{name: "absent", path: "nowhere", body: with("keys", []string{"ann-active"}), want: "not_found"}},

		"primary-keys.list":   {{want: "ok"}},
		"primary-keys.show":   {{name: "there", path: "spare", want: "ok"}, {name: "absent", path: "nothing", want: "not_found"}},
		"primary-keys.create": {{name: "a new one", body: with("name", "fresh"), want: "ok"}, {name: "one that is there", body: with("name", "spare"), want: "exists"}},
		"primary-keys.rotate": {{name: "there", path: "spare", want: "ok"}, {name: "absent", path: "nothing", want: "not_found"}},
		"primary-keys.disable": {
			{name: "without a code", path: "spare", body: empty, want: "otp_required"},
			{name: "with a code", path: "spare", body: withCode(), want: "ok"},
			{name: "absent", path: "nothing", body: withCode(), want: "not_found"},
		},
		"primary-keys.enable": {{name: "there", path: "spare", body: empty, want: "ok"}, {name: "absent", path: "nothing", body: empty, want: "not_found"}},

		"operators.list": {{want: "ok"}},
		"operators.show": {{name: "the owner", path: "alex", want: "ok"}, {name: "another", path: "bob", want: "ok"}, {name: "absent", path: "nobody", want: "not_found"}},
		"operators.create": {
			{name: "an admin", body: with("name", "new-1", "role", "admin"), want: "ok"},
			{name: "an owner, without a code", body: with("name", "new-2", "role", "owner"), want: "otp_required"},
			{name: "an owner, with a code", body: withCode("name", "new-3", "role", "owner"), want: "ok"},
			{name: "one that is there", body: with("name", "bob", "role", "ci"), want: "exists"},
		},
		"operators.edit": {
			{name: "the last owner", path: "alex", body: with("role", "admin"), want: "forbidden"},
			{name: "another, down", path: "bob", body: with("role", "verifier"), want: "ok"},
			{name: "another, up without a code", path: "bob", body: with("role", "owner"), want: "otp_required"},
			{name: "another, up", path: "bob", body: withCode("role", "owner"), want: "ok"},
			{name: "absent", path: "nobody", body: with("role", "ci"), want: "not_found"},
		},
		"operators.disable":   {{name: "the last owner", path: "alex", want: "forbidden"}, {name: "another", path: "bob", want: "ok"}, {name: "absent", path: "nobody", want: "not_found"}},
		"operators.enable":    {{name: "the owner", path: "alex", want: "ok"}, {name: "a disabled one", path: "gone", want: "ok"}, {name: "absent", path: "nobody", want: "not_found"}},
		"operators.delete":    {{name: "the last owner", path: "alex", want: "forbidden"}, {name: "another", path: "bob", want: "ok"}, {name: "absent", path: "nobody", want: "not_found"}},
		"operators.reset-otp": {{name: "one that has none", path: "bob", body: withCode(), want: "not_found"}, {name: "an admin's", path: "ann", body: withCode(), want: "ok"}, {name: "absent", path: "nobody", body: withCode(), want: "not_found"}},

		"tokens.list": {{name: "valid ones", want: "ok"}, {name: "all", query: "all=true", want: "ok"}},
		"tokens.create": {
			{name: "for an owner", body: token("alex"), want: "ok a:forbidden"},
			{name: "for an admin", body: token("bob"), want: "ok a:forbidden"},
			{name: "for oneself", body: token(""), want: "ok"},
			{name: "for a ci", body: token("robot2", "outside"), want: "ok"},
			{name: "for an auditor", body: token("audrey"), want: "ok"},
			{name: "for an auditor, limited", body: token("audrey", "outside"), want: "invalid"},
			{name: "for a disabled one", body: token("gone"), want: "forbidden"},
			{name: "for nobody", body: token("nobody"), want: "not_found"},
		},
		"tokens.revoke": {
			{name: "an admin's", path: m.ids["bob"], want: "forbidden o:ok cv:not_found"},
			{name: "a ci's", path: m.ids["robot2"], want: "ok u:forbidden cv:not_found"},
			{name: "absent", path: "000000000000", want: "not_found"},
			{name: "an owner's", path: m.ids["alex"], want: "forbidden o:ok cv:not_found"},
			{name: "its own", path: itself, want: "ok o:unauthenticated"}, // the owner has just revoked it
		},

		"otp.status":         {{want: "ok"}},
		"otp.enroll":         {{want: "exists"}},
		"otp.confirm":        {{body: withCode(), want: "exists"}},
		"otp.recovery-codes": {{name: "without a code", body: empty, want: "otp_required"}, {name: "with a code", body: withCode(), want: "ok"}},
		"otp.reset": {
			{name: "with somebody else's recovery code", body: with("recovery_code", strings.Repeat("A", 24)), want: "otp_wrong"},
			{name: "with a code", body: withCode(), want: "ok"},
		},
		"audit.head":   {{want: "ok"}},
		"audit.list":   {{name: "all", want: "ok"}, {name: "some", query: "action=keys.", want: "ok"}},
		"audit.verify": {{body: empty, want: "ok"}},
	}
}

// reply is an answer as it is compared.
type reply struct {
	status int
	header http.Header
	body   string
}

// send makes a request of a route.
func send(t *testing.T, w *world, r httpapi.Route, s situation, body []byte, token string) reply {
	t.Helper()
	path := r.Path
	if begin, end := strings.Index(path, "{"), strings.Index(path, "}"); begin >= 0 {
		path = path[:begin] + s.path + path[end+1:]
	}
	if s.query != "" {
		path += "?" + s.query
	}
	request := httptest.NewRequest(r.Method, path, bytes.NewReader(body))
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	recorder := httptest.NewRecorder()
	w.server.ServeHTTP(recorder, request)
	return reply{recorder.Code, recorder.Header(), recorder.Body.String()}
}

// outcomeOf is "ok" or the code of a failure; for verify the reason, and for keys.check what its first answer is.
func (a reply) outcomeOf(t *testing.T, r httpapi.Route) string {
	t.Helper()
	var body struct {
		Error  *struct{ Code string }
		Errors []*struct{ Code string }
		Reason string
	}
	if err := json.Unmarshal([]byte(a.body), &body); err != nil {
		t.Fatalf("%s: the answer %q is no JSON: %v", r.ID, a.body, err)
	}
	switch {
	case body.Error != nil:
		return body.Error.Code
	case r.ID == "verify":
		return body.Reason
	case r.ID == "keys.check" && body.Errors[0] != nil:
		return body.Errors[0].Code
	}
	return "ok"
}

// TestR15_Matrix asks for every route as everybody, of keys in every state and of every object inside and outside of what
// the caller may know, and expects what the tables above say, which know nothing of the code's own.
func TestR15_Matrix(t *testing.T) {
	oneByOne(t)
	m := newTemplate(t)
	others := otherSituations(m)
	routes := httpapi.Routes()
	known := map[string]bool{}
	cells := map[string]int{}
	refused := m.copy(t) // takes the requests that must change nothing
	before := lastRecord(t, refused)
	for _, r := range routes {
		known[r.ID] = true
		roles, listed := permitted[r.ID]
		situations := append(aboutKeys(m, r), others[r.ID]...)
		if !listed || len(situations) == 0 {
			t.Errorf("the route %s is not in the matrix: say who may use it, and what comes of it", r.ID)
			continue
		}
		for _, letter := range []byte("oacuv") {
			allowed := strings.IndexByte(roles, letter) >= 0
			w := refused
			if allowed {
				w = m.copy(t)
			}
			for _, s := range situations {
				want := "forbidden"
				if allowed {
					want = s.outcome(letter)
				}
				m.check(t, w, r, s, cell{m, t, letter, allowed}, m.tokens[people[letter]].Reveal(), want)
				cells[people[letter]]++
			}
		}
		for _, stranger := range strangers {
			for _, s := range situations {
				m.check(t, refused, r, s, cell{m, t, 0, false}, m.tokens[stranger].Reveal(), "unauthenticated")
				cells["strangers"]++
			}
		}
	}
	for id := range permitted {
		if !known[id] {
			t.Errorf("there is no route %s any more", id)
		}
	}
	if after := lastRecord(t, refused); after != before {
		t.Errorf("refused requests left the audit records %d to %d, of more than refusals", before+1, after)
	}
	total := 0
	for _, n := range cells {
		total += n
	}
	t.Logf("%d cells of %d routes, by caller: %v", total, len(routes), cells)
}

// lastRecord is the number of the last record of something that was done.
func lastRecord(t *testing.T, w *world) int64 {
	t.Helper()
	last := int64(0)
	for _, outcome := range []string{"ok", "noop"} {
		for _, r := range keystest.Events(t, w.owner, keys.AuditFilter{Outcome: outcome}) {
			last = max(last, r.Record.Seq)
		}
	}
	return last
}

// check asks once and compares. A ci is answered for what is not its own byte by byte as for what is not there, and no
// answer it gets says anything of that.
func (m *template) check(t *testing.T, w *world, r httpapi.Route, s situation, c cell, token, want string) {
	t.Helper()
	if s.path == itself {
		s.path = m.ids[cmp.Or(people[c.role], "ann")]
	}
	var body []byte
	if s.body != nil {
		body, _ = json.Marshal(s.body(c))
	}
	got := send(t, w, r, s, body, token)
	who := "a stranger"
	if c.role != 0 {
		who = people[c.role]
	}
	if outcome := got.outcomeOf(t, r); outcome != want {
		t.Errorf("%s %s: %s gets %s, want %s: %s", r.ID, s.name, who, outcome, want, got.body)
		return
	}
	status, isCode := statuses[want]
	if !isCode || r.ID == "keys.check" && c.allowed { // a verdict; answers about each of several requests
		status = http.StatusOK
	}
	if got.status != status {
		t.Errorf("%s %s: %s gets the status %d for %s, want %d", r.ID, s.name, who, got.status, want, status)
	}
	if got.header.Get("Www-Authenticate") != "" != (want == "unauthenticated") {
		t.Errorf("%s %s: %s gets WWW-Authenticate %q", r.ID, s.name, who, got.header.Get("Www-Authenticate"))
	}
	if c.role != 'c' || !c.allowed {
		return
	}
	m.checkNothingForeign(t, r, s, string(body), got)
	if want == "not_found" {
		twin, twinBody := m.absentTwin(s, string(body))
		absent := send(t, w, r, twin, []byte(twinBody), token)
		if s.body == nil {
			absent = send(t, w, r, twin, nil, token)
		}
		if m.replaced(got.body) != absent.body || got.status != absent.status || !sameHeaders(got.header, absent.header) {
			t.Errorf("%s %s: for ci it differs from what is not there:\n%d %v %s\n%d %v %s", r.ID, s.name,
				got.status, got.header, got.body, absent.status, absent.header, absent.body)
		}
	}
}

// foreign are the words by which ci could know of what is not its own.
func (m *template) foreign() []string {
	words := []string{"outside", "bob", "robot2", "audrey", "ann"}
	for _, k := range m.keys["ann"] {
		words = append(words, k.Name, k.KeyID, k.Pending.AccessKeyID)
	}
	return words
}

// checkNothingForeign looks for them in an answer, other than those that the caller wrote himself.
func (m *template) checkNothingForeign(t *testing.T, r httpapi.Route, s situation, body string, got reply) {
	t.Helper()
	sent := s.path + " " + s.query + " " + body
	for _, word := range m.foreign() {
		if !strings.Contains(sent, word) && strings.Contains(got.body, word) {
			t.Errorf("%s %s: the answer tells ci of %q: %s", r.ID, s.name, word, got.body)
		}
	}
}

// absentTwin is a situation with names and ids that nothing has in place of those that are somebody's.
func (m *template) absentTwin(s situation, body string) (situation, string) {
	s.path, s.query = m.replaced(s.path), m.replaced(s.query)
	return s, m.replaced(body)
}

func (m *template) replaced(text string) string {
	return strings.NewReplacer(m.twins()...).Replace(text)
}

// twins are pairs of what is there and something like it that is not. Longer words come first.
func (m *template) twins() []string {
	pairs := []string{"outside", "nowhere", "robot2", "robot9"}
	for id := range maps.Values(m.ids) {
		pairs = append(pairs, id, "000000000000")
	}
	for _, state := range keyStates {
		k := m.keys["ann"][state]
		pairs = append(pairs, k.KeyID, absentKey, k.Pending.AccessKeyID, absentCredential, k.KeyID[:9], absentKey[:9], k.Pending.AccessKeyID[:9],
			absentCredential[:9], "ann-"+state, "nothing")
	}
	return pairs
}

func sameHeaders(a, b http.Header) bool {
	a, b = a.Clone(), b.Clone()
	for _, h := range []http.Header{a, b} {
		h.Del("Date")
		h.Del("Content-Length") // the names differ in length
	}
	return maps.EqualFunc(a, b, slices.Equal)
}

// TestR15_OtherKeysAreAbsent names somebody else's key to ci in every form a key can be named in.
func TestR15_OtherKeysAreAbsent(t *testing.T) {
	m := newTemplate(t)
	w := m.copy(t)
	n := 0
	for _, r := range httpapi.Routes() {
		if !strings.Contains(r.Path, "{key}") || !strings.Contains(permitted[r.ID], "c") {
			continue
		}
		for _, state := range keyStates {
			k := m.keys["ann"][state]
			for _, ref := range []string{k.KeyID, k.Pending.AccessKeyID, k.Name, k.KeyID[:9], k.Pending.AccessKeyID[:9]} {
				s := situation{name: state + " as " + ref, path: ref}
				if body := bodiesOfKeyRoutes[r.ID]; body != nil {
					s.body = body(k)
				}
				m.check(t, w, r, s, cell{m, t, 'c', true}, m.tokens["robot"].Reveal(), string(fault.NotFound))
				n++
			}
		}
	}
	if n == 0 {
		t.Error("no route was asked")
	}
}
