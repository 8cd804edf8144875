package httpapi_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
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

// TestUsualQuestion asks what gateways ask, once as they do and once so that the router answers: nothing tells the two apart.
func TestUsualQuestion(t *testing.T) {
	clock := keystest.NewClock()
	w, token, d := gateway(t, clock.Env())
	if _, err := w.owner.CreateOperator(t.Context(), keys.NewOperator{Name: "auditor", Role: access.Auditor}); err != nil {
		t.Fatal(err)
	}
	issued := map[string]keystest.Drawn{}
	narrow, err := iprange.ParseText("192.0.2.0/24")
	if err != nil {
		t.Fatal(err)
	}
	for _, request := range []keys.NewKey{{Name: "narrow", IPRanges: narrow}, {Name: "disabled"}, {Name: "short", ExpiresAt: clock.Now().Add(time.Hour)}} {
		d := keystest.Draw(t)
		request.Offer = d.Offer
		p, err := w.owner.CreateKey(t.Context(), request)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.owner.Prove(t.Context(), d.AccessKeyID, d.Proof(p)); err != nil {
			t.Fatal(err)
		}
		issued[request.Name] = d
	}
	if _, err := w.owner.DisableKey(t.Context(), "disabled", false); err != nil {
		t.Fatal(err)
	}
	clock.Set(clock.Now().Add(2 * time.Hour))
	revoked := w.token(t, "gateway")
	id, err := credential.OperatorTokenID(revoked)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.owner.RevokeToken(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	other, err := credential.DrawOperatorToken(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	unknown := keystest.Draw(t)
	question := func(id, secret, address string) string {
		if address != "" {
			address = `,"address":"` + address + `"`
		}
		return `{"access_key_id":"` + id + `","secret_signing_key":"` + secret + `"` + address + `}`
	}
	of := func(d keystest.Drawn, address string) string {
		return question(d.AccessKeyID, d.SigningKey.Reveal(), address)
	}
	for _, c := range []struct {
		what   string
		token  string
		body   string
		status int
		says   string
	}{
		{"a credential", token.Reveal(), of(d, ""), 200, `"reason":"ok"`},
		{"from an address", token.Reveal(), of(d, "192.0.2.7"), 200, `"reason":"ok"`},
		{"from an allowed address", token.Reveal(), of(issued["narrow"], "192.0.2.7"), 200, `"reason":"ok"`},
		{"from another address", token.Reveal(), of(issued["narrow"], "198.51.100.7"), 200, `"reason":"address_not_allowed"`},
		{"from nowhere", token.Reveal(), of(d, "192.0.2.777"), 400, `"code":"invalid"`},
		{"disabled", token.Reveal(), of(issued["disabled"], ""), 200, `"reason":"disabled"`},
		{"expired", token.Reveal(), of(issued["short"], ""), 200, `"reason":"expired"`},
		{"a wrong secret", token.Reveal(), question(d.AccessKeyID, unknown.SigningKey.Reveal(), ""), 200, `"reason":"unknown"`},
		{"an unknown id", token.Reveal(), of(unknown, ""), 200, `"reason":"unknown"`},
		{"what comes before all ids", token.Reveal(), question("KC", d.SigningKey.Reveal(), ""), 200, `"reason":"unknown"`},
		{"the first id of all", token.Reveal(), question("KC0000000000000000000000", d.SigningKey.Reveal(), ""), 200, `"reason":"unknown"`},
		{"no id", token.Reveal(), question("nobody", d.SigningKey.Reveal(), ""), 200, `"reason":"unknown"`},
		{"no token", "", of(d, ""), 401, `"code":"unauthenticated"`},
		{"another token", other.Reveal(), of(d, ""), 401, `"code":"unauthenticated"`},
		{"a revoked token", revoked.Reveal(), of(d, ""), 401, "was revoked"},
		{"a role that does not verify", w.token(t, "auditor").Reveal(), of(d, ""), 403, `"code":"forbidden"`},
		{"the owner", w.token(t, "").Reveal(), of(d, ""), 200, `"reason":"ok"`},
	} {
		post := func(body string) *httptest.ResponseRecorder {
			r := httptest.NewRequest(http.MethodPost, "/v1/verify", strings.NewReader(body))
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("Authorization", "Bearer "+c.token)
			out := httptest.NewRecorder()
			w.server.ServeHTTP(out, r)
			return out
		}
		usual, routed := post(c.body), post(strings.Replace(c.body, "access_key_id", `access_key_\u0069d`, 1))
		if usual.Code != c.status || !strings.Contains(usual.Body.String(), c.says) {
			t.Errorf("%s: %d %s, want %d and %s", c.what, usual.Code, usual.Body, c.status, c.says)
		}
		if usual.Code != routed.Code || usual.Body.String() != routed.Body.String() {
			t.Errorf("%s: %d %s, and by the router %d %s", c.what, usual.Code, usual.Body, routed.Code, routed.Body)
		}
		for _, header := range []string{"Content-Type", "Keyctl-Api", "Keyctl-Version", "Retry-After", "WWW-Authenticate"} {
			if a, b := usual.Header().Get(header), routed.Header().Get(header); a != b {
				t.Errorf("%s: %s is %q, and by the router %q", c.what, header, a, b)
			}
		}
	}
}

// lookAlone is a door that answers the usual question with an error, and knows whether it was asked anything else.
type lookAlone struct {
	httpapi.Door
	err             error
	asked, admitted int
}

func (d *lookAlone) VerifyFor(context.Context, credential.Secret, keys.Origin, keys.Question) (httpapi.Admission, keys.Verdict, error) {
	d.asked++
	return httpapi.Admission{}, keys.Verdict{}, d.err
}

func (d *lookAlone) Admit(ctx context.Context, token credential.Secret, from keys.Origin) (httpapi.Admission, error) {
	d.admitted++
	return d.Door.Admit(ctx, token, from)
}

// TestUsualQuestionOnce sees that a store that cannot be read is not asked a second time, which would take as long again, and that
// what the router is left with is the whole body.
func TestUsualQuestionOnce(t *testing.T) {
	w, token, d := gateway(t, keystest.NewClock().Env())
	door := &lookAlone{Door: w.server.Door}
	options := w.server.ServerOptions
	options.Door = door
	server := httpapi.NewServer(options)
	post := func(body io.Reader, length int64, target string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodPost, target, body)
		r.ContentLength = length
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Authorization", "Bearer "+token.Reveal())
		out := httptest.NewRecorder()
		server.ServeHTTP(out, r)
		return out
	}
	text := `{"access_key_id":"` + d.AccessKeyID + `","secret_signing_key":"` + d.SigningKey.Reveal() + `"}`
	n := int64(len(text))
	padded := text + strings.Repeat(" ", 2000)
	for _, c := range []struct {
		what            string
		err             error
		body            io.Reader
		length          int64
		target          string
		status          int
		asked, admitted int
	}{
		{"a store that is away", fault.New(fault.Unavailable, "away"), strings.NewReader(text), n, "/v1/verify", 503, 1, 0},
		{"a store that is damaged", fault.New(fault.StoreDamaged, "damaged"), strings.NewReader(text), n, "/v1/verify", 503, 1, 0},
		{"something to say", fault.New(fault.Unsupported, "one by one"), strings.NewReader(text), n, "/v1/verify", 200, 1, 1},
		{"no length", errors.New("not asked"), strings.NewReader(text), -1, "/v1/verify", 200, 0, 1},
		{"a long body", errors.New("not asked"), strings.NewReader(padded), int64(len(padded)), "/v1/verify", 200, 0, 1},
		{"a query", errors.New("not asked"), strings.NewReader(text), n, "/v1/verify?x=1", 400, 0, 1},
		{"a body that ends early", errors.New("not asked"), strings.NewReader(text), n + 1, "/v1/verify", 200, 0, 1},
		{"a body that breaks off", errors.New("not asked"), io.MultiReader(strings.NewReader(text[:20]), broken{}), n, "/v1/verify", 400, 0, 1},
		{"another question", errors.New("not asked"), bytes.NewReader([]byte(`{"key":"web-01"}`)), 16, "/v1/verify", 200, 0, 1},
	} {
		*door = lookAlone{Door: door.Door, err: c.err}
		out := post(c.body, c.length, c.target)
		if out.Code != c.status || door.asked != c.asked || door.admitted != c.admitted {
			t.Errorf("%s: %d %s; %d looks, %d admissions; want %d, %d and %d", c.what, out.Code, out.Body, door.asked, door.admitted, c.status, c.asked, c.admitted)
		}
	}
}

// TestUsualQuestionBreaksOff sends questions that end early, over a connection whose end net/http notices: who asks is told first.
func TestUsualQuestionBreaksOff(t *testing.T) {
	s := newServed(t, keystest.NewClock().Env(), nil)
	other, err := credential.DrawOperatorToken(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for token, want := range map[string]int{s.token(t, "").Reveal(): 400, other.Reveal(): 401, "kct_no": 401} {
		conn, err := net.Dial("tcp", s.address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(patience))
		_, err = io.WriteString(conn, "POST /v1/verify HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: 200\r\nAuthorization: Bearer "+token+"\r\n\r\n{\"access_key_id\":")
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.(*net.TCPConn).CloseWrite()
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("a question that ends early = %d, want %d", response.StatusCode, want)
		}
	}
}

// broken is a body whose connection broke off.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
