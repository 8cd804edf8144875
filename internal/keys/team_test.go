package keys_test

import (
	"crypto/rand"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"keyctl/internal/access"
	"keyctl/internal/credential"
	"keyctl/internal/fault"
	"keyctl/internal/keys"
	"keyctl/internal/keys/keystest"
)

// team is a store with an owner who opened it, and what it takes to admit others.
type team struct {
	*place
	owner *keys.Local
}

func newTeam(t *testing.T) *team {
	t.Helper()
	p := newPlace(t)
	return &team{p, p.open(t)}
}

var office = keys.Origin{Address: netip.MustParseAddr("192.0.2.7"), RequestID: "req_1"}

// hire makes an operator with a role and a token, and returns the token.
func (c *team) hire(t *testing.T, name string, role access.Role, changes ...func(*keys.NewToken)) credential.Secret {
	t.Helper()
	if _, err := c.owner.CreateOperator(t.Context(), keys.NewOperator{Name: name, Role: role}); err != nil {
		t.Fatal(err)
	}
	request := keys.NewToken{Token: drawToken(t), Operator: name}
	for _, change := range changes {
		change(&request)
	}
	if _, err := c.owner.CreateToken(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	return request.Token
}

func drawToken(t *testing.T) credential.Secret {
	t.Helper()
	token, err := credential.DrawOperatorToken(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func (c *team) admit(t *testing.T, token credential.Secret) *keys.Local {
	t.Helper()
	l, err := c.owner.Admit(t.Context(), token, office)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func (c *team) create(t *testing.T, as *keys.Local, name string, datasets ...string) (keystest.Drawn, keys.Pending, error) {
	t.Helper()
	drawn := keystest.Draw(t)
	pending, err := as.CreateKey(t.Context(), keys.NewKey{Name: name, Datasets: datasets, Offer: drawn.Offer})
	return drawn, pending, err
}

func TestAdmit(t *testing.T) {
	c := newTeam(t)
	token := c.hire(t, "gateway", access.Verifier, func(r *keys.NewToken) { r.ExpiresAt = c.clock.Now().Add(time.Hour) })
	who, err := c.admit(t, token).Whoami(t.Context())
	keystest.WantCode(t, "Whoami()", err, "")
	if who.Operator != "gateway" || who.Role != access.Verifier || who.Token == nil || who.Token.State != keys.TokenActive {
		t.Errorf("Whoami() = %+v", who)
	}
	tokens, err := c.owner.Tokens(t.Context(), false)
	keystest.WantCode(t, "Tokens()", err, "")
	if len(tokens) != 1 || tokens[0].LastUsedAt == nil || *tokens[0].LastUsedFrom != "192.0.2.7" {
		t.Errorf("the use of the token is not known: %+v", tokens)
	}

	text := token.Reveal()
	unknown := []string{"", "kct_", text[:len(text)-1], text + "0", drawToken(t).Reveal(), drawToken(t).Reveal()[:16] + text[16:]}
	first := ""
	for _, wrong := range unknown {
		_, err := c.owner.Admit(t.Context(), credential.NewSecret(wrong), office)
		keystest.WantCode(t, "Admit() with a wrong token", err, fault.Unauthenticated)
		if first == "" {
			first = err.Error()
		}
		if err.Error() != first {
			t.Errorf("wrong tokens are told apart: %q and %q", first, err)
		}
	}
	c.clock.Advance(time.Hour - time.Microsecond)
	c.admit(t, token)
	c.clock.Advance(time.Microsecond)
	_, err = c.owner.Admit(t.Context(), token, office)
	keystest.WantCode(t, "Admit() at the token's end", err, fault.Unauthenticated)
}

// TestR20_TokensEndAtOnce lets each way of ending a token be obeyed by the next request.
func TestR20_TokensEndAtOnce(t *testing.T) {
	for what, end := range map[string]func(c *team, id string) error{
		"revoked":  func(c *team, id string) error { _, err := c.owner.RevokeToken(t.Context(), id); return err },
		"disabled": func(c *team, _ string) error { _, err := c.owner.DisableOperator(t.Context(), "ops"); return err },
		"deleted":  func(c *team, _ string) error { _, err := c.owner.DeleteOperator(t.Context(), "ops"); return err },
	} {
		c := newTeam(t)
		token := c.hire(t, "ops", access.Admin)
		admitted := c.admit(t, token)
		who, err := admitted.Whoami(t.Context())
		keystest.WantCode(t, "Whoami()", err, "")
		for range 2 { // the second time is a no-op
			keystest.WantCode(t, what, end(c, who.Token.ID), "")
		}
		_, err = c.owner.Admit(t.Context(), token, office)
		keystest.WantCode(t, "Admit() once "+what, err, fault.Unauthenticated)
	}
}

// TestR27_CreateTokenAgain repeats a request whose answer was lost.
func TestR27_CreateTokenAgain(t *testing.T) {
	c := newTeam(t)
	request := keys.NewToken{Token: drawToken(t), Description: "laptop"}
	first, err := c.owner.CreateToken(t.Context(), request)
	keystest.WantCode(t, "CreateToken()", err, "")
	again, err := c.owner.CreateToken(t.Context(), request)
	keystest.WantCode(t, "CreateToken() again", err, "")
	keystest.Diff(t, "CreateToken() again", again, first)
	request.Description = "other"
	_, err = c.owner.CreateToken(t.Context(), request)
	keystest.WantCode(t, "CreateToken() with the same token and another text", err, fault.IDConflict)
	tokens, err := c.owner.Tokens(t.Context(), true)
	if err != nil || len(tokens) != 1 {
		t.Errorf("Tokens() = %d tokens, %v, want 1", len(tokens), err)
	}
}

// TestLastOwner keeps one active owner at all times.
func TestLastOwner(t *testing.T) {
	c := newTeam(t)
	o := c.owner
	auth := keystest.Enroll(t, o, c.clock)
	attempts := map[string]func(name string) error{
		"SetRole":         func(n string) error { _, err := o.SetRole(t.Context(), n, access.Admin, ""); return err },
		"DisableOperator": func(n string) error { _, err := o.DisableOperator(t.Context(), n); return err },
		"DeleteOperator":  func(n string) error { _, err := o.DeleteOperator(t.Context(), n); return err },
	}
	for what, attempt := range attempts {
		keystest.WantCode(t, what+" of the last owner", attempt("alex"), fault.Forbidden)
	}
	_, err := o.CreateOperator(t.Context(), keys.NewOperator{Name: "second", Role: access.Owner})
	keystest.WantCode(t, "CreateOperator() of an owner without a code", err, fault.OTPRequired)
	_, err = o.CreateOperator(t.Context(), keys.NewOperator{Name: "second", Role: access.Owner, Code: auth.Next()})
	keystest.WantCode(t, "CreateOperator() of an owner", err, "")
	_, err = o.DisableOperator(t.Context(), "second")
	keystest.WantCode(t, "DisableOperator()", err, "")
	keystest.WantCode(t, "DeleteOperator() while the other owner is disabled", attempts["DeleteOperator"]("alex"), fault.Forbidden)
	_, err = o.EnableOperator(t.Context(), "second")
	keystest.WantCode(t, "EnableOperator()", err, "")
	keystest.WantCode(t, "SetRole() while there is another owner", attempts["SetRole"]("alex"), "")
	_, err = o.CreateOperator(t.Context(), keys.NewOperator{Name: "alex", Role: access.Auditor})
	keystest.WantCode(t, "CreateOperator() of a taken name", err, fault.Exists)
	_, err = o.DeleteOperator(t.Context(), "alex")
	keystest.WantCode(t, "DeleteOperator()", err, "")
	_, err = o.CreateOperator(t.Context(), keys.NewOperator{Name: "alex", Role: access.Auditor})
	keystest.WantCode(t, "CreateOperator() of a name that was given", err, fault.Exists)
}

// TestAdminHandsOutNoMoreThanItHas checks what tokens an admin can make and revoke.
func TestAdminHandsOutNoMoreThanItHas(t *testing.T) {
	c := newTeam(t)
	admin := c.admit(t, c.hire(t, "ann", access.Admin))
	c.hire(t, "other-admin", access.Admin)
	c.hire(t, "build", access.CI)
	for name, want := range map[string]fault.Code{"alex": fault.Forbidden, "other-admin": fault.Forbidden, "ann": "", "": "", "build": ""} {
		_, err := admin.CreateToken(t.Context(), keys.NewToken{Token: drawToken(t), Operator: name})
		keystest.WantCode(t, "CreateToken() for "+name, err, want)
	}
	all, err := c.owner.Tokens(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range all {
		want := fault.Code("")
		if k.Operator == "other-admin" {
			want = fault.Forbidden
		}
		_, err := admin.RevokeToken(t.Context(), k.ID)
		keystest.WantCode(t, "RevokeToken() of "+k.Operator, err, want)
	}
	_, err = admin.CreateOperator(t.Context(), keys.NewOperator{Name: "new", Role: access.Auditor})
	keystest.WantCode(t, "CreateOperator() by an admin", err, fault.Forbidden)
	_, err = admin.SetRole(t.Context(), "ann", access.Owner, "")
	keystest.WantCode(t, "SetRole() by an admin", err, fault.Forbidden)
	keystest.WantCode(t, "ResetOTP() by breaking a glass far away",
		admin.ResetOTP(t.Context(), keys.OTPAuthority{BreakGlass: true}), fault.Forbidden)
}

// TestScopeOfCI shows a ci operator its own keys and its token's datasets, and nothing else.
func TestScopeOfCI(t *testing.T) {
	c := newTeam(t)
	for _, name := range []string{"payments", "secret-plans"} {
		if _, _, err := c.owner.CreateDataset(t.Context(), keys.NewDataset{Name: name, Type: keys.Unstructured}); err != nil {
			t.Fatal(err)
		}
	}
	ci := c.admit(t, c.hire(t, "build", access.CI, func(r *keys.NewToken) { r.Datasets = []string{"payments"} }))
	for i := range 30 {
		if i%10 == 0 {
			if _, _, err := c.create(t, ci, "build-"+string(rune('a'+i/10))); err != nil {
				t.Fatal(err)
			}
		}
		if _, _, err := c.create(t, c.owner, "alex-"+strings.Repeat("x", i+1)); err != nil {
			t.Fatal(err)
		}
	}
	drawn, pending, err := c.create(t, ci, "web-01", "payments")
	keystest.WantCode(t, "CreateKey() with its dataset", err, "")
	_, err = ci.Prove(t.Context(), drawn.AccessKeyID, drawn.Proof(pending))
	keystest.WantCode(t, "Prove()", err, "")
	_, _, err = c.create(t, ci, "web-02", "secret-plans")
	keystest.WantCode(t, "CreateKey() with another dataset", err, fault.NotFound)

	theirs, theirPending, err := c.create(t, c.owner, "theirs")
	keystest.WantCode(t, "CreateKey()", err, "")
	for what, call := range map[string]func() error{
		"Key() by name":       func() error { _, err := ci.Key(t.Context(), "theirs"); return err },
		"Key() by id":         func() error { _, err := ci.Key(t.Context(), theirPending.KeyID); return err },
		"Key() by access id":  func() error { _, err := ci.Key(t.Context(), theirs.AccessKeyID); return err },
		"Key() by a prefix":   func() error { _, err := ci.Key(t.Context(), theirs.AccessKeyID[:8]); return err },
		"DisableKey()":        func() error { _, err := ci.DisableKey(t.Context(), "theirs", false); return err },
		"Pending()":           func() error { _, err := ci.Pending(t.Context(), theirs.AccessKeyID); return err },
		"Withdraw()":          func() error { return ci.Withdraw(t.Context(), theirs.AccessKeyID) },
		"Prove()":             func() error { _, err := ci.Prove(t.Context(), theirs.AccessKeyID, nil); return err },
		"Dataset()":           func() error { _, err := ci.Dataset(t.Context(), "secret-plans"); return err },
		"a list of a dataset": func() error { _, err := ci.Keys(t.Context(), keys.KeyFilter{Dataset: "secret-plans"}); return err },
	} {
		keystest.WantCode(t, what+" of somebody else's", call(), fault.NotFound)
	}
	_, _, err = c.create(t, ci, "theirs")
	keystest.WantCode(t, "CreateKey() of a name somebody else waits with", err, fault.Exists)

	var names []string
	filter := keys.KeyFilter{Limit: 2, States: keys.KeyStates()}
	for {
		page, err := ci.Keys(t.Context(), filter)
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range page.Items {
			names = append(names, k.Name)
		}
		if page.NextCursor == nil {
			break
		}
		filter.Cursor = *page.NextCursor
	}
	if want := []string{"build-a", "build-b", "build-c", "web-01"}; !slices.Equal(names, want) {
		t.Errorf("Keys() = %q, want %q", names, want)
	}
	_, err = ci.DisableKey(t.Context(), "web-01", false)
	keystest.WantCode(t, "DisableKey() of its own", err, "")

	page, err := c.owner.AuditRecords(t.Context(), keys.AuditFilter{Actor: "build", Action: "keys.disable"})
	if err != nil || len(page.Items) != 1 {
		t.Fatalf("AuditRecords() = %v, %v", page, err)
	}
	e := page.Items[0].Event
	if e.Address != "192.0.2.7" || e.RequestID != "req_1" || len(e.Detail["token"]) != 12 {
		t.Errorf("the audit record lacks where the request came from: %+v", e)
	}
}

// TestTokensOfOthers hides tokens and operators from roles that do not look after them.
func TestTokensOfOthers(t *testing.T) {
	c := newTeam(t)
	c.hire(t, "ann", access.Admin)
	token := c.hire(t, "gateway", access.Verifier)
	gateway := c.admit(t, token)
	all, err := c.owner.Tokens(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range all {
		want := fault.NotFound
		if k.Operator == "gateway" {
			want = ""
		}
		_, err := gateway.RevokeToken(t.Context(), k.ID)
		keystest.WantCode(t, "RevokeToken() of "+k.Operator, err, want)
	}
	operators, err := gateway.Operators(t.Context())
	if err != nil || len(operators) != 1 || operators[0].Name != "gateway" {
		t.Errorf("Operators() = %+v, %v", operators, err)
	}
	_, err = gateway.Operator(t.Context(), "ann")
	keystest.WantCode(t, "Operator() of somebody else", err, fault.NotFound)
	_, err = c.owner.CreateToken(t.Context(), keys.NewToken{Token: drawToken(t), Operator: "ann", Datasets: []string{"x"}})
	keystest.WantCode(t, "CreateToken() of an admin with datasets", err, fault.Invalid)
	_, err = c.owner.CreateToken(t.Context(), keys.NewToken{Token: drawToken(t), Operator: "nobody"})
	keystest.WantCode(t, "CreateToken() for nobody", err, fault.NotFound)
}

// TestVerifyFor asks for a gateway in one look what Admit and Verify answer in two.
func TestVerifyFor(t *testing.T) {
	c := newTeam(t)
	other, token := sameID(t)
	c.hire(t, "gateway", access.Verifier, func(r *keys.NewToken) { r.Token = token })
	auditor, ended := c.hire(t, "auditor", access.Auditor), c.hire(t, "former", access.Verifier)
	if _, err := c.owner.DisableOperator(t.Context(), "former"); err != nil {
		t.Fatal(err)
	}
	d, _ := newKey(t, c.owner, "web-01")
	wrong := d.Question()
	wrong.PrivateKey, wrong.SigningKey = false, keystest.Draw(t).SigningKey
	usual := wrong
	usual.SigningKey = d.SigningKey
	used := func() *time.Time {
		t.Helper()
		views, err := c.owner.Tokens(t.Context(), false)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range views {
			if v.Operator == "gateway" {
				return v.LastUsedAt
			}
		}
		t.Fatal("the token is gone")
		return nil
	}
	withDataset, named, signed := usual, usual, usual
	withDataset.Dataset, named.Key, signed.Signed = "files", "web-01", &keys.SignedRequest{}
	withKey, odd := usual, usual
	withKey.PrivateKey, odd.AccessKeyID = true, "nobody"
	for what, ask := range map[string]struct {
		token credential.Secret
		q     keys.Question
	}{
		"a dataset": {token, withDataset}, "a key": {token, named}, "a request": {token, signed}, "a private key": {token, withKey},
		"no id": {token, odd}, "no token": {credential.Secret{}, usual}, "another token": {drawToken(t), usual},
		"another token of this id": {other, usual}, "an auditor": {auditor, usual}, "a disabled operator": {ended, usual},
	} {
		_, _, err := c.owner.VerifyFor(t.Context(), ask.token, office, ask.q)
		keystest.WantCode(t, "VerifyFor() with "+what, err, fault.Unsupported)
	}
	if at := used(); at != nil {
		t.Errorf("a question that was not answered used the token at %s", at)
	}
	admitted, verdict, err := c.owner.VerifyFor(t.Context(), token, office, usual)
	if err != nil || !verdict.Allowed || admitted.Caller().Name != "gateway" || admitted.TokenID() == "" {
		t.Errorf("VerifyFor() = %+v, %v, want it allowed, by the gateway", verdict, err)
	}
	if at := used(); at == nil || !at.Equal(c.clock.Now()) {
		t.Errorf("the token was used at %v, want %s", at, c.clock.Now())
	}
	if _, verdict, err = c.owner.VerifyFor(t.Context(), token, office, wrong); err != nil || verdict.Allowed || verdict.Reason != keys.ReasonUnknown {
		t.Errorf("VerifyFor() with a wrong secret = %+v, %v, want unknown", verdict, err)
	}
}

// A gateway that lets somebody in used the credential, and nobody else who asks did. It is remembered once a minute.
func TestR40_GatewaysUseCredentials(t *testing.T) {
	c := newTeam(t)
	gateway, admin := c.hire(t, "gateway", access.Verifier), c.hire(t, "ann", access.Admin)
	d, _ := newKey(t, c.owner, "web-01")
	from := netip.MustParseAddr("198.51.100.7")
	q := keys.Question{AccessKeyID: d.AccessKeyID, SigningKey: d.SigningKey, Address: from}
	wrong, named := q, keys.Question{Key: "web-01", Address: from}
	wrong.SigningKey = keystest.Draw(t).SigningKey
	used := func() keys.KeyView {
		t.Helper()
		view, err := c.owner.Key(t.Context(), "web-01")
		if err != nil {
			t.Fatal(err)
		}
		return view
	}
	for what, ask := range map[string]func() (keys.Verdict, error){
		"who opened the store":          func() (keys.Verdict, error) { return c.owner.Verify(t.Context(), q) },
		"an admin":                      func() (keys.Verdict, error) { return c.admit(t, admin).Verify(t.Context(), q) },
		"a gateway about a key":         func() (keys.Verdict, error) { return c.admit(t, gateway).Verify(t.Context(), named) },
		"a gateway that lets nobody in": func() (keys.Verdict, error) { return c.admit(t, gateway).Verify(t.Context(), wrong) },
	} {
		if _, err := ask(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	time.Sleep(20 * time.Millisecond) // in which a use that is not to be remembered would be
	if at := used().LastUsedAt; at != nil {
		t.Fatalf("the credential was used at %s, and nobody did", at)
	}
	for what, ask := range map[string]func() (keys.Verdict, error){
		"Verify": func() (keys.Verdict, error) { return c.admit(t, gateway).Verify(t.Context(), q) },
		"VerifyFor": func() (keys.Verdict, error) {
			_, v, err := c.owner.VerifyFor(t.Context(), gateway, office, q)
			return v, err
		},
	} {
		c.clock.Advance(time.Minute)
		now := c.clock.Now()
		if v, err := ask(); err != nil || !v.Allowed {
			t.Fatalf("%s = %+v, %v", what, v, err)
		}
		remembered := func() bool {
			view := used()
			return view.LastUsedAt != nil && view.LastUsedAt.Equal(now) && view.LastUsedFrom != nil && *view.LastUsedFrom == from.String()
		}
		for end := time.Now().Add(10 * time.Second); !remembered(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s: used %v from %v, want %s from %s", what, used().LastUsedAt, used().LastUsedFrom, now, from)
			}
		}
		c.clock.Advance(time.Second)
		if _, err := ask(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
		if view := used(); !view.LastUsedAt.Equal(now) {
			t.Errorf("%s: a use within a minute was remembered, too", what)
		}
	}
}

// What a gateway says of where somebody came from is written down as an address, and nothing else of it.
func TestR40_AddressesAreAddresses(t *testing.T) {
	c := newTeam(t)
	gateway := c.hire(t, "gateway", access.Verifier)
	d, _ := newKey(t, c.owner, "web-01")
	for given, want := range map[string]string{"fe80::1%\x1b[31m\x00kcs_x": "fe80::1", "::ffff:192.0.2.9": "192.0.2.9"} {
		c.clock.Advance(time.Minute)
		q := keys.Question{AccessKeyID: d.AccessKeyID, SigningKey: d.SigningKey, Address: netip.MustParseAddr(given)}
		if v, err := c.admit(t, gateway).Verify(t.Context(), q); err != nil || !v.Allowed {
			t.Fatalf("Verify() from %q = %+v, %v", given, v, err)
		}
		for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
			view, err := c.owner.Key(t.Context(), "web-01")
			if err != nil {
				t.Fatal(err)
			}
			if view.LastUsedFrom != nil && *view.LastUsedFrom == want {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("from %q: last used from %v, want %s", given, view.LastUsedFrom, want)
			}
		}
	}
}

// sameID draws two tokens that have one id.
func sameID(t *testing.T) (a, b credential.Secret) {
	t.Helper()
	draw := func() credential.Secret {
		token, err := credential.DrawOperatorToken(io.MultiReader(strings.NewReader(strings.Repeat("t", 12)), rand.Reader))
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	a, b = draw(), draw()
	if x, y := a.Reveal(), b.Reveal(); x[:16] != y[:16] || x == y {
		t.Fatal("the ids are not equal, or the tokens are")
	}
	return a, b
}
