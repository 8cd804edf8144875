package httpapi_test

import (
	"bytes"
	"crypto/sha512"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"keyctl/internal/access"
	"keyctl/internal/credential"
	"keyctl/internal/fault"
	"keyctl/internal/keys"
	"keyctl/internal/keys/keystest"
	"keyctl/internal/signature"
)

// asked is what is answered to a question.
type asked struct {
	Allowed  bool
	Reason   keys.Reason
	Key      *string
	Verdicts []asked
	Error    *struct{ Code, Message string }
}

// ask sends a question with a token.
func ask(t testing.TB, w *world, token credential.Secret, path string, body any) asked {
	t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodPost, path, bytes.NewReader(text))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+token.Reveal())
	recorder := httptest.NewRecorder()
	w.server.ServeHTTP(recorder, r)
	var out asked
	if err := json.Unmarshal(recorder.Body.Bytes(), &out); err != nil {
		t.Fatalf("%s: %v", recorder.Body, err)
	}
	return out
}

// gateway makes a server, a gateway's token and a key.
func gateway(t testing.TB, env keys.Env) (*world, credential.Secret, keystest.Drawn) {
	t.Helper()
	w := newWorld(t, env)
	if _, err := w.owner.CreateOperator(t.Context(), keys.NewOperator{Name: "gateway", Role: access.Verifier}); err != nil {
		t.Fatal(err)
	}
	d := keystest.Draw(t)
	p, err := w.owner.CreateKey(t.Context(), keys.NewKey{Name: "web-01", Offer: d.Offer})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.owner.Prove(t.Context(), d.AccessKeyID, d.Proof(p)); err != nil {
		t.Fatal(err)
	}
	return w, w.token(t, "gateway"), d
}

// TestVerifySignedRequest asks about requests as a gateway hands them over.
func TestVerifySignedRequest(t *testing.T) {
	t.Run("default", func(t *testing.T) { verifySignedRequest(t, 0, signature.Skew) })
	t.Run("a longer skew", func(t *testing.T) { verifySignedRequest(t, 15*time.Minute, 15*time.Minute) })
}

func verifySignedRequest(t *testing.T, configured, skew time.Duration) {
	clock := keystest.NewClock()
	env := clock.Env()
	env.Skew = configured
	w, token, d := gateway(t, env)
	body := []byte(`{"order":1}`)
	received := func(change func(object)) asked {
		r := httptest.NewRequest(http.MethodPost, "/orders?a=%2f&b=+", bytes.NewReader(body))
		r.Host = "api.example.com:8443"
		r.Header.Set("Content-Type", "application/json")
		signature.Sign(r, sha512.Sum512(body), d.AccessKeyID, d.SigningKey, signature.GoOrder, clock.Now())
		headers := map[string]string{}
		for name := range r.Header {
			headers[name] = r.Header.Get(name)
		}
		sum := sha512.Sum512(body)
		request := object{
			"method": "POST", "target": "/orders?a=%2f&b=+", "host": r.Host, "headers": headers, "content_length": len(body), "body_sha512": sum[:],
		}
		if change != nil {
			change(request)
		}
		return ask(t, w, token, "/v1/verify", object{"request": request, "address": "192.0.2.7"})
	}
	if got := received(nil); !got.Allowed || got.Key == nil || *got.Key != "web-01" {
		t.Errorf("a signed request = %+v, want it allowed", got)
	}
	other := sha512.Sum512([]byte("another body"))
	for what, change := range map[string]func(object){
		"another method":   func(r object) { r["method"] = "PUT" },
		"another target":   func(r object) { r["target"] = "/orders?a=%2F&b=+" },
		"another host":     func(r object) { r["host"] = "api.example.com" },
		"another body":     func(r object) { r["body_sha512"] = other[:] },
		"another length":   func(r object) { r["content_length"] = 12 },
		"another date":     func(r object) { r["headers"].(map[string]string)["Date"] = "Thu, 01 Jan 2026 00:00:00 GMT" },
		"an odd signature": func(r object) { r["headers"].(map[string]string)["Signature"] = `keyId="1"` },
		"no signature":     func(r object) { delete(r["headers"].(map[string]string), "Signature") },
		"a header less":    func(r object) { delete(r["headers"].(map[string]string), "Content-Type") },
	} {
		if got := received(change); got.Allowed || got.Reason != keys.ReasonUnknown {
			t.Errorf("%s = %+v, want unknown", what, got)
		}
	}
	for what, change := range map[string]func(object){
		"a short sum": func(r object) { r["body_sha512"] = other[:20] },
		"too many headers": func(r object) {
			for i := range 40 {
				r["headers"].(map[string]string)[fmt.Sprintf("X-%d", i)] = "1"
			}
		},
	} {
		if got := received(change); got.Error == nil || got.Error.Code != "invalid" {
			t.Errorf("%s = %+v, want invalid", what, got)
		}
	}
	for _, age := range []time.Duration{skew - time.Second, skew + time.Second} {
		late := clock.Now().Add(age)
		if got, want := received(func(object) { clock.Set(late) }), age < skew; got.Allowed != want {
			t.Errorf("of a request that is %s old = %+v, want allowed %v", age, got, want)
		}
	}
	if _, err := w.owner.DisableKey(t.Context(), "web-01", false); err != nil {
		t.Fatal(err)
	}
	if got := received(nil); got.Allowed || got.Reason != keys.ReasonDisabled {
		t.Errorf("of a disabled key = %+v, want disabled", got)
	}
}

func TestVerifyMany(t *testing.T) {
	w, token, d := gateway(t, keystest.NewClock().Env())
	questions := []object{
		{"access_key_id": d.AccessKeyID, "secret_signing_key": d.SigningKey.Reveal()},
		{"access_key_id": d.AccessKeyID, "secret_signing_key": "kcs_wrong"},
		{"key": "web-01"},
	}
	got := ask(t, w, token, "/v1/verify/many", object{"questions": questions})
	want := []keys.Reason{keys.ReasonOK, keys.ReasonUnknown, keys.ReasonOK}
	if len(got.Verdicts) != len(want) {
		t.Fatalf("%d verdicts, want %d: %+v", len(got.Verdicts), len(want), got)
	}
	for i, v := range got.Verdicts {
		if v.Reason != want[i] {
			t.Errorf("verdict %d = %s, want %s", i+1, v.Reason, want[i])
		}
	}
	verdicts, err := w.client(t, token).VerifyMany(t.Context(), []keys.Question{d.Question(), {Key: "web-01"}})
	if err != nil || len(verdicts) != 2 || !verdicts[0].Allowed || len(verdicts[0].PrivateKeyPEM) == 0 || verdicts[1].PrivateKeyPEM != nil {
		t.Errorf("VerifyMany() = %+v, %v", verdicts, err)
	}
	received := keys.Question{AccessKeyID: d.AccessKeyID, Signed: &keys.SignedRequest{}}
	_, err = w.client(t, token).Verify(t.Context(), received)
	keystest.WantCode(t, "Verify() of a signed request", err, fault.Unsupported)
	_, err = w.client(t, token).VerifyMany(t.Context(), []keys.Question{received})
	keystest.WantCode(t, "VerifyMany() of a signed request", err, fault.Unsupported)
	many := make([]object, 101)
	for i := range many {
		many[i] = questions[2]
	}
	if got := ask(t, w, token, "/v1/verify/many", object{"questions": many[:100]}); len(got.Verdicts) != 100 {
		t.Errorf("100 questions = %+v", got.Error)
	}
	if got := ask(t, w, token, "/v1/verify/many", object{"questions": many}); got.Error == nil || got.Error.Code != "invalid" {
		t.Errorf("101 questions = %d verdicts, want invalid", len(got.Verdicts))
	}
}
