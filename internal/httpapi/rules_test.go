package httpapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keyctl/internal/access"
	"keyctl/internal/credential"
	"keyctl/internal/fault"
	"keyctl/internal/httpapi"
	"keyctl/internal/iprange"
	"keyctl/internal/keys"
	"keyctl/internal/keys/keystest"
)

// request asks a server without a network in between.
func request(t testing.TB, w *world, method, path, token string, body any, headers ...string) reply {
	t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(method, path, bytes.NewReader(text))
	if body == nil {
		r = httptest.NewRequest(method, path, nil)
	} else {
		r.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	recorder := httptest.NewRecorder()
	w.server.ServeHTTP(recorder, r)
	return reply{recorder.Code, recorder.Header(), recorder.Body.String()}
}

// code is the code of a failure; empty for any other answer.
func (a reply) code() fault.Code {
	var f httpapi.Failure
	_ = json.Unmarshal([]byte(a.body), &f)
	return f.Detail.Code
}

// TestR13_OneBudgetForAllTokens spreads wrong codes over tokens of one operator, over keys, routes and credentials: the
// fifth locks, whatever it is sent with, and another operator is not touched.
func TestR13_OneBudgetForAllTokens(t *testing.T) {
	m := newTemplate(t)
	w := m.copy(t)
	tokens := []string{m.tokens["ann"].Reveal(), w.token(t, "ann").Reveal(), w.token(t, "ann").Reveal()}
	wrong := m.factors['a'].Wrong()
	c := cell{m, t, 'a', true}
	roll := func(key, code string) object {
		return object{"grace": object{"for": "1h"}, "credential": c.offered(), "code": code}
	}
	guesses := []func(token string) reply{
		func(token string) reply {
			return request(t, w, "POST", "/v1/keys/ann-active/roll", token, roll("ann-active", wrong))
		},
		func(token string) reply {
			return request(t, w, "POST", "/v1/keys/robot-active/roll", token, roll("robot-active", wrong))
		},
		func(token string) reply {
			return request(t, w, "POST", "/v1/keys/"+m.keys["ann"]["rolling"].KeyID+"/roll/cancel", token, object{"code": wrong})
		},
		func(token string) reply {
			return request(t, w, "POST", "/v1/primary-keys/spare/disable", token, object{"code": wrong})
		},
		func(token string) reply {
			return request(t, w, "POST", "/v1/otp/recovery-codes", token, object{"code": wrong}, "X-Forwarded-For: 192.0.2.77")
		},
	}
	for i, guess := range guesses {
		if got := guess(tokens[i%len(tokens)]); got.code() != fault.OTPWrong {
			t.Fatalf("guess %d: %d %s", i, got.status, got.body)
		}
	}
	right := m.factors['a'].Next()
	for i, token := range append(tokens, w.token(t, "ann").Reveal()) {
		if got := request(t, w, "POST", "/v1/keys/ann-active/roll", token, roll("ann-active", right)); got.code() != fault.OTPLocked || got.status != http.StatusLocked {
			t.Errorf("with token %d the right code is answered %d %s, want %q", i, got.status, got.body, fault.OTPLocked)
		}
	}
	if got := request(t, w, "POST", "/v1/keys/ann-active/roll", m.tokens["alex"].Reveal(), roll("ann-active", m.factors['o'].Next())); got.status != 200 {
		t.Errorf("another operator's code is answered %d %s", got.status, got.body)
	}
	if got := request(t, w, "POST", "/v1/keys/ann-active/disable", tokens[0], object{}); got.status != 200 {
		t.Errorf("the brake wants a code: %d %s", got.status, got.body)
	}
}

// TestR14_TheServersTime sends codes of other times together with claims that it is that time.
func TestR14_TheServersTime(t *testing.T) {
	m := newTemplate(t)
	w := m.copy(t)
	token := m.tokens["ann"].Reveal()
	for _, away := range []time.Duration{-time.Hour, -2 * time.Minute, 2 * time.Minute, 24 * time.Hour} {
		then := m.clock.Now().Add(away)
		headers := []string{"Date: " + then.UTC().Format(http.TimeFormat), "Created: " + then.Format(time.RFC3339), "Keyctl-Time: " + then.Format(time.RFC3339)}
		code := m.factors['a'].At(then)
		got := request(t, w, "POST", "/v1/otp/recovery-codes", token, object{"code": code}, headers...)
		if got.code() != fault.OTPWrong {
			t.Errorf("the code of %v away is answered %d %s, want %q", away, got.status, got.body, fault.OTPWrong)
		}
		if got := request(t, w, "POST", "/v1/otp/recovery-codes", token, object{"code": code, "created": then}, headers...); got.code() != fault.Invalid {
			t.Errorf("a field that says the time is answered %d %s", got.status, got.body)
		}
	}
	if got := request(t, w, "POST", "/v1/otp/recovery-codes", token, object{"code": m.factors['a'].Next()}, "Date: Thu, 01 Jan 1970 00:00:00 GMT"); got.status != 200 {
		t.Errorf("the code of now, with another date, is answered %d %s", got.status, got.body)
	}
}

// TestR16_ExactWords sends what looks like a role, a name or an id and is none.
func TestR16_ExactWords(t *testing.T) {
	m := newTemplate(t)
	w := m.copy(t)
	token := m.tokens["alex"].Reveal()
	for _, role := range []string{"Owner", "OWNER", "owner ", " owner", "owner\n", "owner\u0000", "ｏｗｎｅｒ", "οwner", "owner\u200b", "ow\u00adner", "Admin", "cı", "", "root", "owner,admin"} {
		for _, code := range []object{{}, {"code": m.factors['o'].At(m.clock.Now())}} {
			code["role"] = role
			if got := request(t, w, "PATCH", "/v1/operators/bob", token, code); got.status != 400 {
				t.Errorf("the role %q is answered %d %s", role, got.status, got.body)
			}
			code["name"] = "new"
			if got := request(t, w, "POST", "/v1/operators", token, code); got.status != 400 {
				t.Errorf("an operator with the role %q is answered %d %s", role, got.status, got.body)
			}
		}
	}
	if got := request(t, w, "GET", "/v1/operators/bob", token, nil); !strings.Contains(got.body, `"role":"admin"`) {
		t.Errorf("bob is now %s", got.body)
	}
	ids := m.keys["ann"]["active"]
	for path, word := range map[string]string{
		"/v1/operators/": "bob", "/v1/keys/": "ann-active", "/v1/datasets/": "inside", "/v1/primary-keys/": "spare", "/v1/keys/" + ids.KeyID[:4]: ids.KeyID[4:],
		"/v1/keys/" + ids.Pending.AccessKeyID[:2]: ids.Pending.AccessKeyID[2:],
	} {
		if got := request(t, w, "GET", path+word, token, nil); got.status != 200 {
			t.Fatalf("%s%s is answered %d", path, word, got.status)
		}
		wide := strings.Map(func(r rune) rune {
			if r > ' ' && r < 0x7f {
				return r + 0xfee0
			}
			return r
		}, word)
		for _, like := range []string{flipCase(word), word + "%20", "%20" + word, word + "%00", word + "%0A", wide, word + "%E2%80%8B", word + "%CC%81"} {
			if got := request(t, w, "GET", path+like, token, nil); got.status != 404 && got.status != 400 {
				t.Errorf("%s%s is answered %d %s", path, like, got.status, got.body)
			}
		}
	}
	// What is made beside an existing one under a name in other letters is something else.
	for path, body := range map[string]object{"/v1/operators": {"name": "Bob", "role": "ci"}, "/v1/datasets": {"name": "Inside", "type": "unstructured"}} {
		if got := request(t, w, "POST", path, token, body); got.status != 200 {
			t.Errorf("%s in other letters is answered %d %s", path, got.status, got.body)
		}
	}
}

func flipCase(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		}
		return r
	}, text)
}

// TestR20_NextRequest ends something on one server while many ask on two, which share nothing but the store: what begins
// after the answer is refused everywhere.
func TestR20_NextRequest(t *testing.T) {
	clock := keystest.NewClock()
	path, master := newStore(t, clock.Env())
	servers := []*served{serve(t, path, master, clock.Env(), nil), serve(t, path, master, clock.Env(), nil)}
	owner := servers[0].owner
	token := servers[0].token(t, "").Reveal()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	list := func(texts ...string) iprange.List {
		l, err := iprange.ParseList(texts)
		must(err)
		return l
	}
	for i, c := range []struct {
		what string
		end  func(name, tokenID string) error
		// How many ask: whether a credential is let in, or with the operator's token.
		asksWithToken bool
	}{
		{"keys disable", func(name, _ string) error { _, err := owner.DisableKey(context.Background(), name, false); return err }, false},
		{"keys delete", func(name, _ string) error { _, err := owner.DeleteKey(context.Background(), name); return err }, false},
		{"keys edit of the ranges", func(name, _ string) error {
			ranges := list("198.51.100.0/24")
			_, err := owner.EditKey(context.Background(), name, keys.KeyEdit{IPRanges: &ranges})
			return err
		}, false},
		{"datasets detach", func(name, _ string) error {
			_, err := owner.DetachKeys(context.Background(), "files", []string{name})
			return err
		}, false},
		{"tokens revoke", func(_, id string) error { _, err := owner.RevokeToken(context.Background(), id); return err }, true},
		{"operators disable", func(name, _ string) error { _, err := owner.DisableOperator(context.Background(), name); return err }, true},
		{"operators delete", func(name, _ string) error { _, err := owner.DeleteOperator(context.Background(), name); return err }, true},
		{"operators edit of the role", func(name, _ string) error {
			_, err := owner.SetRole(context.Background(), name, access.Verifier, "")
			return err
		}, true},
	} {
		if i == 0 {
			_, _, err := owner.CreateDataset(t.Context(), keys.NewDataset{Name: "files", Type: keys.Unstructured})
			must(err)
		}
		name := fmt.Sprintf("case-%d", i)
		drawn := keystest.Draw(t)
		pending, err := owner.CreateKey(t.Context(), keys.NewKey{Name: name, Offer: drawn.Offer, Datasets: []string{"files"}, IPRanges: list("192.0.2.0/24")})
		must(err)
		_, err = owner.Prove(t.Context(), drawn.AccessKeyID, drawn.Proof(pending))
		must(err)
		_, err = owner.CreateOperator(t.Context(), keys.NewOperator{Name: name, Role: access.Auditor})
		must(err)
		hers := servers[0].token(t, name)
		question := object{"access_key_id": drawn.AccessKeyID, "secret_signing_key": drawn.SigningKey.Reveal(), "address": "192.0.2.1", "dataset": "files"}
		accepted := func(s *served) bool {
			if c.asksWithToken {
				return request(t, s.world, "GET", "/v1/keys", hers.Reveal(), nil).status == http.StatusOK
			}
			return strings.Contains(request(t, s.world, "POST", "/v1/verify", token, question).body, `"allowed":true`)
		}
		var over atomic.Bool
		var before, after, wrong atomic.Int64
		stop := make(chan bool)
		var asking sync.WaitGroup
		for _, s := range servers {
			for range 4 {
				asking.Add(1)
				go func() {
					defer asking.Done()
					for {
						select {
						case <-stop:
							return
						default:
						}
						begunAfter := over.Load()
						in := accepted(s)
						switch {
						case begunAfter && in:
							wrong.Add(1)
						case begunAfter:
							after.Add(1)
						case in:
							before.Add(1)
						}
					}
				}()
			}
		}
		wait := func(n *atomic.Int64) {
			for deadline := time.Now().Add(patience); n.Load() < 20 && wrong.Load() == 0; time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Errorf("%s: nothing is asked any more", c.what)
					return
				}
			}
		}
		wait(&before)
		id, err := credential.OperatorTokenID(hers)
		must(err)
		must(c.end(name, id))
		over.Store(true)
		wait(&after)
		close(stop)
		asking.Wait()
		if wrong.Load() > 0 || before.Load() == 0 || after.Load() == 0 {
			t.Errorf("%s: %d were let in before, %d afterwards, %d refused", c.what, before.Load(), wrong.Load(), after.Load())
		}
	}
}

// TestR23_FailedAuthentication lets clients fail: 20 at once, one more every three seconds, 429 beyond, told when to come
// back. Who has a valid token passes all the same, other clients are not touched, and no key is locked.
func TestR23_FailedAuthentication(t *testing.T) {
	clock := keystest.NewClock()
	path, master := newStore(t, clock.Env())
	var address atomic.Pointer[netip.Addr]
	from := func(text string) {
		a := netip.MustParseAddr(text)
		address.Store(&a)
	}
	from("192.0.2.1")
	w := openWorld(t, path, master, clock.Env(), func(context.Context) keys.Origin {
		return keys.Origin{Address: *address.Load(), RequestID: "req_test"}
	})
	valid, wrong := w.token(t, "").Reveal(), drawToken(t).Reveal()
	fail := func(times int) (limited int) {
		t.Helper()
		for range times {
			got := request(t, w, "GET", "/v1/whoami", wrong, nil)
			switch got.status {
			case http.StatusTooManyRequests:
				limited++
				if got.header.Get("Retry-After") != "3" || got.code() != fault.RateLimited {
					t.Errorf("429 with Retry-After %q: %s", got.header.Get("Retry-After"), got.body)
				}
			case http.StatusUnauthorized:
			default:
				t.Errorf("a wrong token is answered %d", got.status)
			}
		}
		return limited
	}
	pass := func(when string) {
		t.Helper()
		if got := request(t, w, "GET", "/v1/whoami", valid, nil); got.status != 200 {
			t.Errorf("%s a valid token is answered %d", when, got.status)
		}
	}
	if n := fail(20); n != 0 {
		t.Errorf("%d of the first 20 failures were too many", n)
	}
	pass("after 20 failures")
	if n := fail(30); n != 30 {
		t.Errorf("%d of 30 more failures were too many", n)
	}
	pass("while its neighbours are refused")
	from("192.0.2.2")
	if n := fail(5); n != 0 {
		t.Errorf("another client was refused %d times", n)
	}
	from("192.0.2.1")
	clock.Advance(3 * time.Second)
	if n := fail(2); n != 1 {
		t.Errorf("three seconds later %d of 2 failures were too many, want 1", n)
	}
	from("2001:db8::1")
	fail(20)
	from("2001:db8::ffff:1")
	if n := fail(1); n != 1 {
		t.Error("another address of the same /64 has a budget of its own")
	}
	from("2001:db8:0:1::1")
	if n := fail(1); n != 0 {
		t.Error("the next /64 has no budget of its own")
	}
	clock.Advance(time.Minute)
	from("192.0.2.1")
	if n := fail(21); n != 1 {
		t.Errorf("a minute later %d of 21 failures were too many, want 1", n)
	}

	// Wrong secrets of API keys are answers of verify, and lock nothing.
	drawn := keystest.Draw(t)
	pending, err := w.owner.CreateKey(t.Context(), keys.NewKey{Name: "web-01", Offer: drawn.Offer})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.owner.Prove(t.Context(), drawn.AccessKeyID, drawn.Proof(pending)); err != nil {
		t.Fatal(err)
	}
	ask := func(secret credential.Secret) string {
		return request(t, w, "POST", "/v1/verify", valid, object{"access_key_id": drawn.AccessKeyID, "secret_signing_key": secret.Reveal()}).body
	}
	for range 200 {
		if got := ask(keystest.Draw(t).SigningKey); !strings.Contains(got, `"reason":"unknown"`) {
			t.Fatalf("a wrong secret is answered %s", got)
		}
	}
	if got := ask(drawn.SigningKey); !strings.Contains(got, `"allowed":true`) {
		t.Errorf("after 200 wrong secrets the right one is answered %s", got)
	}
}

// TestR25_NoDefaultToken looks for a way into a store that was just made: there is no token and no operator but the first.
func TestR25_NoDefaultToken(t *testing.T) {
	w := newWorld(t, keystest.NewClock().Env())
	tokens, err := w.owner.Tokens(t.Context(), true)
	if err != nil || len(tokens) != 0 {
		t.Errorf("a new store has the tokens %v, %v", tokens, err)
	}
	operators, err := w.owner.Operators(t.Context())
	if err != nil || len(operators) != 1 || operators[0].Tokens != 0 {
		t.Errorf("a new store has the operators %+v, %v", operators, err)
	}
	for _, token := range []string{"", "admin", "root", "alex", "kct_", "kct_" + strings.Repeat("0", 61), operators[0].ID} {
		for _, r := range httpapi.Routes() {
			got := request(t, w, r.Method, strings.NewReplacer("{", "", "}", "").Replace(r.Path), token, nil)
			if got.status != http.StatusUnauthorized && got.status != http.StatusTooManyRequests {
				t.Errorf("%s with the token %q is answered %d", r.ID, token, got.status)
			}
		}
	}
}
