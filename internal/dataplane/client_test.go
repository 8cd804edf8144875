package dataplane

import (
	"context"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"keyctl/internal/credential"
	"keyctl/internal/fault"
	"keyctl/internal/keys"
	"keyctl/internal/signature"
)

var clientClock = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// clientOf makes a client with a new credential; change may change the options.
func clientOf(t *testing.T, server string, change func(*ClientOptions)) (*Client, credential.Secret) {
	t.Helper()
	o := ClientOptions{
		Server: server, AccessKeyID: "KC0123456789012345678901", SigningKey: credential.EncodeToken(credential.SigningKey, [32]byte{1}),
		Timeout: 30 * time.Second, Version: "1.0", Now: func() time.Time { return clientClock },
	}
	if change != nil {
		change(&o)
	}
	c, err := NewClient(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, o.SigningKey
}

// answering is a server that gives one answer, and asks what it was asked.
func answering(t *testing.T, status int, header http.Header, body string, look func(r *http.Request, body []byte)) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if got, err := io.ReadAll(r.Body); err == nil && look != nil {
			look(r, got)
		}
		for name, values := range header {
			w.Header()[name] = values
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// Each request is signed, and is the one that a client library sends.
func TestClientSigns(t *testing.T) {
	answer, err := json.Marshal(encryptionAnswer{
		decryptionAnswer{"pem", "50", "f1", []byte("wrapped")}, []byte("encrypted"), 1, securityModel{Algorithm: "AES-256-GCM"},
	})
	if err != nil {
		t.Fatal(err)
	}
	var signingKey credential.Secret
	var path, sent string
	look := func(r *http.Request, body []byte) {
		path, sent = r.Method+" "+r.URL.Path, string(body)
		q, err := signature.Parse(r)
		if err == nil {
			err = q.Check(signingKey, sha512.Sum512(body), clientClock, signature.Skew)
		}
		if err != nil || q.KeyID != "KC0123456789012345678901" {
			t.Errorf("the request of %q: %v", q.KeyID, err)
		}
		if got := r.Header.Get("User-Agent"); got != "keyctl/1.0" {
			t.Errorf("User-Agent: %q", got)
		}
	}
	asked := func(status int, call func(*Client) error, wantPath, wantBody string) {
		t.Helper()
		var c *Client
		c, signingKey = clientOf(t, answering(t, status, nil, string(answer), look), nil)
		if err := call(c); err != nil {
			t.Error(err)
		}
		if path != wantPath || sent != wantBody {
			t.Errorf("sent %s %s, want %s %s", path, sent, wantPath, wantBody)
		}
	}
	check := func(k keys.ReleasedKey) {
		t.Helper()
		if string(k.PrivateKeyPEM) != "pem" || string(k.Wrapped) != "wrapped" || string(k.Encrypted) != "encrypted" || k.Session != "50" || k.Fingerprint != "f1" {
			t.Errorf("the key is %+v", k)
		}
	}
	asked(http.StatusCreated, func(c *Client) error {
		k, err := c.NewDataKey(t.Context(), 1)
		check(k)
		if k.Algorithm != "AES-256-GCM" {
			t.Errorf("the algorithm is %q", k.Algorithm)
		}
		return err
	}, "POST /api/v0/encryption/key", `{"uses":1}`)
	asked(http.StatusOK, func(c *Client) error {
		k, err := c.OpenDataKey(t.Context(), []byte("encrypted"))
		check(k)
		return err
	}, "POST /api/v0/decryption/key", `{"encrypted_data_key":"`+base64.StdEncoding.EncodeToString([]byte("encrypted"))+`"}`)
	asked(http.StatusOK, func(c *Client) error {
		return c.Track(t.Context(), []keys.UsageEvent{{Action: keys.ActionEncrypt, Count: 2, Product: "keyctl", Version: "1.0", FirstAt: clientClock, LastAt: clientClock}})
	}, "POST /api/v3/tracking/events", `{"usage":[{"datasets":"","api_key":"KC0123456789012345678901","count":2,"action":"encrypt","product":"keyctl",`+
		`"product_version":"1.0","user-agent":"keyctl/1.0","api_version":"V3","first_call_timestamp":"2026-03-01T12:00:00Z","last_call_timestamp":"2026-03-01T12:00:00Z"}]}`)
}

// What the server reads of an event is what the client wrote.
func TestClientReportsAsServerReads(t *testing.T) {
	var got []keys.UsageEvent
	c, _ := clientOf(t, answering(t, http.StatusOK, nil, "{}", func(_ *http.Request, body []byte) {
		var in struct{ Usage []event }
		if err := json.Unmarshal(body, &in); err != nil {
			t.Error(err)
		}
		for _, e := range in.Usage {
			got = append(got, e.read(maxEvents)...)
		}
	}), nil)
	want := keys.UsageEvent{
		Dataset: "files", Action: keys.ActionDecrypt, Count: 3, Product: "keyctl", Version: "1.0", FirstAt: clientClock, LastAt: clientClock.Add(time.Second),
	}
	if err := c.Track(t.Context(), []keys.UsageEvent{want}); err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || got[0] != want {
		t.Errorf("the server reads %+v, want %+v", got, want)
	}
}

// A refusal comes back with its code: as the server names it, else by its status. What no such server says is unavailable.
func TestClientRefused(t *testing.T) {
	for _, c := range []struct {
		status  int
		code    string
		body    string
		want    fault.Code
		message string
	}{
		{401, "unauthenticated", `{"status":401,"message":"the credential is not valid"}`, fault.Unauthenticated, "the credential is not valid"},
		{401, "not_found", `{"status":401,"message":"no such dataset"}`, fault.NotFound, "no such dataset"},
		{401, "", `{"status":401,"message":"no"}`, fault.Unauthenticated, "no"},
		{401, "nonsense", `{"status":401,"message":"no"}`, fault.Unauthenticated, "no"},
		{403, "forbidden", `{"status":403,"message":"the key is disabled"}`, fault.Forbidden, "the key is disabled"},
		{403, "", `{"status":403,"message":"no"}`, fault.Forbidden, "no"},
		{400, "invalid", `{"status":400,"message":"bad"}`, fault.Invalid, "bad"},
		{429, "", `{"status":429,"message":"wait"}`, fault.RateLimited, "wait"},
		{500, "internal", `{"status":500,"message":"internal error"}`, fault.Internal, "internal error"},
		{503, "store_busy", `{"status":503,"message":"try again"}`, fault.StoreBusy, "try again"},
		{503, "", `{"status":503,"message":"try again"}`, fault.Unavailable, "try again"},
		{502, "", "<html>", fault.Unavailable, "as no server for applications does"},
		{404, "", "not found", fault.Unavailable, "as no server for applications does"},
		{401, "", `{"status":200,"message":"x"}`, fault.Unavailable, "as no server for applications does"},
		{401, "", `{}`, fault.Unavailable, "as no server for applications does"},
		{200, "", `{}`, fault.Unavailable, "as no server for applications does"}, // a new key comes with 201
		{201, "", `[]`, fault.Unavailable, "as no server for applications does"},
		{201, "", strings.Repeat(" ", maxAnswer+1) + `{}`, fault.Unavailable, "as no server for applications does"},
		{302, "", "", fault.Unavailable, "302"},
	} {
		header := http.Header{"Location": {"http://127.0.0.1:1/"}}
		if c.code != "" {
			header.Set(headerCode, c.code)
		}
		client, _ := clientOf(t, answering(t, c.status, header, c.body, nil), nil)
		_, err := client.NewDataKey(t.Context(), 1)
		if !fault.Is(err, c.want) || !strings.Contains(err.Error(), c.message) {
			t.Errorf("%d %q %.40q: %v (%s), want %s with %q", c.status, c.code, c.body, err, fault.CodeOf(err), c.want, c.message)
		}
	}
}

// A server has to be trusted, to answer in time, and to be one that may be asked at all.
func TestR24_ClientReachesNoOther(t *testing.T) {
	for _, bad := range []string{"", "http://keys.example.com", "https://keys.example.com/keyctl", "ftp://keys.example.com", "keys.example.com/x"} {
		if _, err := NewClient(ClientOptions{Server: bad}); !fault.Is(err, fault.Invalid) {
			t.Errorf("NewClient(%q) = %v, want invalid", bad, err)
		}
	}
	secure := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusCreated)
		_, _ = w.Write([]byte("{}"))
	}))
	secure.Config.ErrorLog = nil
	defer secure.Close()
	host := strings.TrimPrefix(secure.URL, "https://") // alone it is reached by https
	client, _ := clientOf(t, host, nil)
	if _, err := client.NewDataKey(t.Context(), 1); !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "is not trusted") {
		t.Errorf("an unknown authority: %v", err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(secure.Certificate())
	client, _ = clientOf(t, host, func(o *ClientOptions) { o.Roots = roots })
	if _, err := client.NewDataKey(t.Context(), 1); err != nil {
		t.Errorf("a known authority: %v", err)
	}
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	client, _ = clientOf(t, gone.URL, nil)
	if _, err := client.NewDataKey(t.Context(), 1); !fault.Is(err, fault.Unavailable) {
		t.Errorf("nobody there: %v", err)
	}
	silent := make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-silent }))
	defer slow.Close()
	defer close(silent)
	client, _ = clientOf(t, slow.URL, func(o *ClientOptions) { o.Timeout = 10 * time.Millisecond })
	if _, err := client.NewDataKey(context.Background(), 1); !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "too long") {
		t.Errorf("no answer: %v", err)
	}
}
