package httpapi_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keyctl/internal/credential"
	"keyctl/internal/fault"
	"keyctl/internal/httpapi"
	"keyctl/internal/keys"
	"keyctl/internal/keys/keystest"
)

// someToken is a token that no server knows.
func someToken(t testing.TB) credential.Secret {
	t.Helper()
	token, err := credential.DrawOperatorToken(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func newClient(t testing.TB, o httpapi.ClientOptions) *httpapi.Client {
	t.Helper()
	if o.Timeout == 0 {
		o.Timeout = 20 * time.Second
	}
	o.Version = "1.2.3"
	client, err := httpapi.NewClient(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// answers starts a server that answers everything in the same way, and counts.
func answers(t testing.TB, handler http.HandlerFunc) (url string, count *atomic.Int64) {
	t.Helper()
	count = new(atomic.Int64)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		count.Add(1)
		_, _ = io.Copy(io.Discard, r.Body)
		handler(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL, count
}

// saying answers with a status, a body and headers, as name and value by turns.
func saying(status int, body string, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// TestStrangeAnswers asks what is no keyctl server, or not the one that was meant: a question, a change that could be
// repeated, and a change that could not. What is unclear about a change is told as unclear, and the error names what the
// answer really was.
func TestStrangeAnswers(t *testing.T) {
	t.Parallel()
	const api, version, kind, json = "Keyctl-Api", "Keyctl-Version", "Content-Type", "application/json"
	var all sync.WaitGroup // most of the time a client rests between attempts
	defer all.Wait()
	for _, c := range []struct {
		name    string
		handler http.HandlerFunc
		asked   fault.Code // what a question comes to
		changed fault.Code // and a change
		text    string     // in the error and its hint
		tries   int64      // of a question and of a harmless change; any other is tried once
	}{
		{"captive portal", saying(200, "<html>Log in to the Wi-Fi</html>", kind, "text/html"), fault.Unavailable, fault.OutcomeUnknown, "not what a keyctl server answers", 1},
		{"JSON of something else", saying(200, `{"ok":true}`, kind, json), fault.Unavailable, fault.OutcomeUnknown, "not what a keyctl server answers", 1},
		{"not found elsewhere", saying(404, "no such page", kind, "text/plain"), fault.Unavailable, fault.Unavailable, "not what a keyctl server answers", 1},
		{"too large for the proxy", saying(413, "<html>", kind, "text/html"), fault.Unavailable, fault.Unavailable, "not what a keyctl server answers", 1},
		{"bad gateway", saying(502, "<html>", kind, "text/html"), fault.Unavailable, fault.OutcomeUnknown, "answered 502 Bad Gateway", 5},
		{"no backend", saying(503, "", kind, "text/html"), fault.Unavailable, fault.OutcomeUnknown, "answered 503 Service Unavailable", 5},
		{"gateway timeout", saying(504, "", kind, "text/html"), fault.Unavailable, fault.OutcomeUnknown, "answered 504 Gateway Timeout", 5},
		{"a proxy's own trouble", saying(520, "", kind, "text/html"), fault.Unavailable, fault.OutcomeUnknown, "answered 520", 5},
		{"moved", saying(301, "", "Location", "https://other.example.com/v1/x"), fault.Unavailable, fault.Unavailable, "log in there: https://other.example.com", 1},
		{"see other", saying(303, "", "Location", "/login"), fault.Unavailable, fault.Unavailable, "leads to another address", 1},
		{"temporarily elsewhere", saying(307, "", "Location", "http://169.254.169.254/"), fault.Unavailable, fault.Unavailable, "is not followed with a token", 1},
		{"newer API refuses", saying(404, "{}", api, "2", version, "9.0.0", kind, json), fault.Unsupported, fault.Unsupported, "runs keyctl 9.0.0, which does not understand", 1},
		{"newer API answers", saying(200, "{}", api, "2", version, "9.0.0", kind, json), fault.Unsupported, fault.OutcomeUnknown, "runs keyctl 9.0.0", 1},
		{"a version that is none", saying(404, "{}", api, "2", version, "kct_x <b>", kind, json), fault.Unsupported, fault.Unsupported, "of an unknown version", 1},
		{"older server without the route", saying(404, `{"error":{"code":"unsupported","message":"no such route"}}`, api, "1", version, "1.0.0", kind, json),
			fault.Unsupported, fault.Unsupported, "use the same version on both sides", 1},
		{"an answer in another form", saying(200, "[1,", api, "1", kind, json), fault.Unavailable, fault.OutcomeUnknown, "not what a keyctl server answers", 1},
		{"an answer that is no JSON", saying(200, "ok", api, "1", kind, "text/plain"), fault.Unavailable, fault.OutcomeUnknown, "not what a keyctl server answers", 1},
		{"a refusal without a code", saying(400, "{}", api, "1", kind, json), fault.Unavailable, fault.Unavailable, "an error with a code", 1},
		{"a failure that changed nothing", saying(503, `{"error":{"code":"unavailable","message":"the disk is full"}}`, api, "1", kind, json),
			fault.Unavailable, fault.Unavailable, "the disk is full", 5},
		{"a failure that may have", saying(503, `{"error":{"code":"outcome_unknown","message":"the database went away"}}`, api, "1", kind, json),
			fault.OutcomeUnknown, fault.OutcomeUnknown, "the database went away", 5},
		{"busy", saying(503, `{"error":{"code":"store_busy","message":"others write"}}`, api, "1", kind, json), fault.StoreBusy, fault.StoreBusy, "others write", 1},
		{"rate limited", saying(429, `{"error":{"code":"rate_limited","message":"slower"}}`, api, "1", kind, json), fault.RateLimited, fault.RateLimited, "slower", 1},
		{"a code of the future", saying(400, `{"error":{"code":"quantum","message":"entangled"}}`, api, "1", kind, json), "quantum", "quantum", "entangled", 1},
	} {
		all.Go(func() {
			t.Run(c.name, func(t *testing.T) {
				url, count := answers(t, c.handler)
				client := newClient(t, httpapi.ClientOptions{Server: url, Token: someToken(t)})
				check := func(what string, err error, want fault.Code, tries int64) {
					t.Helper()
					keystest.WantCode(t, what, err, want)
					if text := told(err); !strings.Contains(text, c.text) {
						t.Errorf("%s says %q, want %q", what, text, c.text)
					}
					if got := count.Swap(0); got != tries {
						t.Errorf("%s was tried %d times, want %d", what, got, tries)
					}
				}
				_, err := client.Key(t.Context(), "web-01")
				check("Key()", err, c.asked, c.tries)
				_, err = client.CheckKeys(t.Context(), []keys.NewKey{{Name: "web-01"}})
				check("CheckKeys()", err, c.asked, c.tries)
				_, err = client.Usage(t.Context(), keys.UsageQuery{})
				check("Usage()", err, c.asked, c.tries)
				_, err = client.DisableKey(t.Context(), "web-01", false)
				check("DisableKey()", err, c.changed, c.tries)
				_, err = client.EnableKey(t.Context(), "web-01")
				once := int64(1)
				if c.asked == c.changed && c.tries > 1 && c.changed == fault.Unavailable {
					once = c.tries // it surely did nothing
				}
				check("EnableKey()", err, c.changed, once)
			})
		})
	}
}

// told is what a user reads of an error.
func told(err error) string {
	f := fault.From(err)
	if f == nil {
		return ""
	}
	return f.Message + "\n" + f.Hint
}

// TestR24_RedirectsKeepTheToken counts what arrives at the address that a redirect leads to.
func TestR24_RedirectsKeepTheToken(t *testing.T) {
	elsewhere, count := answers(t, saying(200, "{}"))
	for _, status := range []int{301, 302, 303, 307, 308} {
		url, _ := answers(t, saying(status, "", "Location", elsewhere+"/v1/whoami"))
		_, err := newClient(t, httpapi.ClientOptions{Server: url, Token: someToken(t)}).Whoami(t.Context())
		keystest.WantCode(t, "Whoami()", err, fault.Unavailable)
	}
	if n := count.Load(); n != 0 {
		t.Errorf("%d redirects were followed", n)
	}
}

// TestTooLargeAnswer meets an answer without an end.
func TestTooLargeAnswer(t *testing.T) {
	url, _ := answers(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Keyctl-Api", "1")
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"items":["`)
		for block := strings.Repeat("x", 1<<20); ; {
			if _, err := io.WriteString(w, block); err != nil {
				return
			}
		}
	})
	client := newClient(t, httpapi.ClientOptions{Server: url, Token: someToken(t)})
	_, err := client.Keys(t.Context(), keys.KeyFilter{})
	keystest.WantCode(t, "Keys()", err, fault.Unavailable)
	_, err = client.EnableKey(t.Context(), "web-01")
	keystest.WantCode(t, "EnableKey()", err, fault.OutcomeUnknown)
}

// TestServerThatNeverAnswers is about the timeout: it holds for the call as a whole, with what is repeated in it.
func TestServerThatNeverAnswers(t *testing.T) {
	t.Parallel()
	var all sync.WaitGroup // most of the time a client rests between attempts
	defer all.Wait()
	for name, serve := range map[string]func(net.Conn){
		"accepts and is silent": func(c net.Conn) { _, _ = io.Copy(io.Discard, c) },
		"answers half": func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 9")
			_, _ = io.Copy(io.Discard, c)
		},
		"answers the headers": func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
			_, _ = io.Copy(io.Discard, c)
		},
		"hangs up after each request": func(c net.Conn) { _, _ = c.Read(make([]byte, 4096)) },
	} {
		all.Go(func() {
			t.Run(name, func(t *testing.T) {
				address := listen(t, serve)
				const timeout = time.Second
				client := newClient(t, httpapi.ClientOptions{Server: "http://" + address, Token: someToken(t), Timeout: timeout})
				begun := time.Now()
				_, err := client.Whoami(t.Context())
				keystest.WantCode(t, "Whoami()", err, fault.Unavailable)
				_, err = client.DisableKey(t.Context(), "web-01", false)
				keystest.WantCode(t, "DisableKey()", err, fault.OutcomeUnknown)
				_, err = client.EnableKey(t.Context(), "web-01")
				keystest.WantCode(t, "EnableKey()", err, fault.OutcomeUnknown)
				if took := time.Since(begun); took > time.Minute {
					t.Errorf("three calls took %v with a timeout of %v", took, timeout)
				}
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				if _, err = client.Whoami(ctx); err != context.Canceled {
					t.Errorf("an interrupted question = %v", err)
				}
			})
		})
	}
}

// listen serves raw connections, each by a function, and closes them after it.
func listen(t testing.TB, serve func(net.Conn)) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c)
			}()
		}
	}()
	return listener.Addr().String()
}

// TestServerThatIsNotThere asks a port that nobody listens on, and a host that there is not.
func TestServerThatIsNotThere(t *testing.T) {
	t.Parallel()
	for server, text := range map[string]string{
		"http://127.0.0.1:1":           "connection refused", // a port that no other test is given meanwhile
		"https://no-such-host.invalid": "no such host",
	} {
		client := newClient(t, httpapi.ClientOptions{Server: server, Token: someToken(t)})
		for what, call := range map[string]func() error{
			"Whoami()":    func() error { _, err := client.Whoami(t.Context()); return err },
			"EnableKey()": func() error { _, err := client.EnableKey(t.Context(), "web-01"); return err },
		} {
			err := call()
			keystest.WantCode(t, what+" at "+server, err, fault.Unavailable) // it surely did nothing
			if !strings.Contains(told(err), text) {
				t.Errorf("%s at %s says %q, want %q", what, server, told(err), text)
			}
		}
	}
}

// TestR32_DoubtOutlivesLaterAttempts loses the answer to a change, and then meets something that says nothing about it.
func TestR32_DoubtOutlivesLaterAttempts(t *testing.T) {
	t.Parallel()
	t.Run("the server goes away", func(t *testing.T) {
		var listener net.Listener
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			c, err := listener.Accept()
			if err == nil {
				_, _ = c.Read(make([]byte, 4096))
				_ = listener.Close()
				_ = c.Close()
			}
		}()
		client := newClient(t, httpapi.ClientOptions{Server: "http://" + listener.Addr().String(), Token: someToken(t)})
		_, err = client.DisableKey(t.Context(), "web-01", false)
		keystest.WantCode(t, "DisableKey()", err, fault.OutcomeUnknown)
	})
	var all sync.WaitGroup // most of the time a client rests between attempts
	defer all.Wait()
	for _, code := range []fault.Code{fault.StoreBusy, fault.Unavailable, fault.RateLimited, fault.Internal, fault.Forbidden, fault.Unauthenticated} {
		all.Go(func() {
			t.Run("then "+string(code), func(t *testing.T) {
				lost := new(atomic.Bool)
				url, _ := answers(t, func(w http.ResponseWriter, r *http.Request) {
					if !lost.Swap(true) {
						panic(http.ErrAbortHandler)
					}
					saying(503, `{"error":{"code":"`+string(code)+`","message":"no"}}`, "Keyctl-Api", "1", "Content-Type", "application/json")(w, r)
				})
				client := newClient(t, httpapi.ClientOptions{Server: url, Token: someToken(t)})
				_, err := client.DisableKey(t.Context(), "web-01", false)
				keystest.WantCode(t, "DisableKey()", err, fault.OutcomeUnknown)
			})
		})
	}
	t.Run("then an answer", func(t *testing.T) {
		lost := new(atomic.Bool)
		url, _ := answers(t, func(w http.ResponseWriter, r *http.Request) {
			if !lost.Swap(true) {
				panic(http.ErrAbortHandler)
			}
			saying(404, `{"error":{"code":"not_found","message":"no key"}}`, "Keyctl-Api", "1", "Content-Type", "application/json")(w, r)
		})
		_, err := newClient(t, httpapi.ClientOptions{Server: url, Token: someToken(t)}).DisableKey(t.Context(), "web-01", false)
		keystest.WantCode(t, "DisableKey()", err, fault.NotFound)
	})
	t.Run("one's own token", func(t *testing.T) {
		w := newWorld(t, keystest.NewClock().Env())
		token := w.token(t, "")
		id, err := credential.OperatorTokenID(token)
		if err != nil {
			t.Fatal(err)
		}
		proxy := newFaultProxy(t, strings.TrimPrefix(w.url, "http://"), cut{whole, 0})
		client := w.clientAt(t, proxy.url(), token)
		_, err = client.RevokeToken(t.Context(), id)
		keystest.WantCode(t, "RevokeToken()", err, fault.OutcomeUnknown)
		_, err = w.owner.Admit(t.Context(), token, here)
		keystest.WantCode(t, "Admit()", err, fault.Unauthenticated)
		client.Close()
		proxy.close()
	})
}

// authority issues certificates.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err == nil {
		var der []byte
		if der, err = x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key); err == nil {
			a.certificate, err = x509.ParseCertificate(der)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	return pool
}

// issue issues a certificate for 127.0.0.1 and keys.example.com, with what change makes of it.
func (a *authority) issue(t testing.TB, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"keys.example.com"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if change != nil {
		change(template)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// TestR24_Certificates asks servers whose certificates are not good. None of them gets to see the token.
func TestR24_Certificates(t *testing.T) {
	t.Parallel()
	ours, other := newAuthority(t), newAuthority(t)
	var all sync.WaitGroup // most of the time a client rests between attempts
	defer all.Wait()
	for _, c := range []struct {
		name        string
		certificate tls.Certificate
		roots       *x509.CertPool
		versions    uint16 // the newest that the server speaks
		want        string // empty: it is trusted
	}{
		{"good", ours.issue(t, nil), ours.pool(), 0, ""},
		{"good, TLS 1.2", ours.issue(t, nil), ours.pool(), tls.VersionTLS12, ""},
		{"old TLS", ours.issue(t, nil), ours.pool(), tls.VersionTLS11, "protocol version"},
		{"unknown authority", ours.issue(t, nil), nil, 0, "--ca-file"},
		{"another authority", other.issue(t, nil), ours.pool(), 0, "--ca-file"},
		{"expired", ours.issue(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }), ours.pool(), 0, "renew it"},
		{"not valid yet", ours.issue(t, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }), ours.pool(), 0, "clock of this machine"},
		{"another name", ours.issue(t, func(c *x509.Certificate) { c.IPAddresses = nil }), ours.pool(), 0, "use the name that the certificate is for"},
		{"another address", ours.issue(t, func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 2)} }), ours.pool(), 0, "use the name that the certificate is for"},
		{"for clients", ours.issue(t, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }), ours.pool(), 0, "is not trusted"},
	} {
		all.Go(func() {
			t.Run(c.name, func(t *testing.T) {
				var asked atomic.Int64
				s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					asked.Add(1)
					saying(200, `{"operator":"alex"}`, "Keyctl-Api", "1", "Content-Type", "application/json")(w, r)
				}))
				s.Config.ErrorLog = log.New(io.Discard, "", 0)
				s.TLS = &tls.Config{Certificates: []tls.Certificate{c.certificate}, MinVersion: tls.VersionTLS10, MaxVersion: c.versions}
				s.StartTLS()
				t.Cleanup(s.Close)
				client := newClient(t, httpapi.ClientOptions{Server: s.URL, Token: someToken(t), Roots: c.roots})
				_, err := client.Whoami(t.Context())
				if c.want == "" {
					keystest.WantCode(t, "Whoami()", err, "")
					return
				}
				keystest.WantCode(t, "Whoami()", err, fault.Unavailable)
				_, err = client.EnableKey(t.Context(), "web-01")
				keystest.WantCode(t, "EnableKey()", err, fault.Unavailable)
				if text := told(err); !strings.Contains(text, c.want) {
					t.Errorf("it says %q, want %q", text, c.want)
				}
				if n := asked.Load(); n != 0 {
					t.Errorf("%d requests arrived", n)
				}
			})
		})
	}
}

// TestSchemes mixes up http and https.
func TestSchemes(t *testing.T) {
	plain, count := answers(t, saying(200, "{}", "Keyctl-Api", "1", "Content-Type", "application/json"))
	_, err := newClient(t, httpapi.ClientOptions{Server: "https" + strings.TrimPrefix(plain, "http"), Token: someToken(t)}).EnableKey(t.Context(), "web-01")
	keystest.WantCode(t, "EnableKey() by https", err, fault.Unavailable)
	if !strings.Contains(told(err), "does not speak TLS") || count.Load() != 0 {
		t.Errorf("it says %q, after %d requests", told(err), count.Load())
	}
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	_, err = newClient(t, httpapi.ClientOptions{Server: "http" + strings.TrimPrefix(s.URL, "https"), Token: someToken(t)}).EnableKey(t.Context(), "web-01")
	keystest.WantCode(t, "EnableKey() by http", err, fault.Unavailable)
	if !strings.Contains(told(err), "https") {
		t.Errorf("it says %q", told(err))
	}
}
