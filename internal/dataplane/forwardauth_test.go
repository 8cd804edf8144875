package dataplane_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"keyctl/internal/fault"
	"keyctl/internal/iprange"
	"keyctl/internal/keys"
	"keyctl/internal/keys/keystest"
	"keyctl/internal/server"
)

func (a application) basic() string { return basic(a.AccessKeyID, a.SigningKey.Reveal()) }

// wantNobody checks an answer that lets nobody in.
func wantNobody(t testing.TB, what string, got received, status int) {
	t.Helper()
	wantStatus(t, what, got, status)
	for name := range got.header {
		if strings.HasPrefix(name, "Keyctl-") {
			t.Errorf("%s: the answer has the header %s", what, name)
		}
	}
	if got.body != "" || got.header.Get("Cache-Control") != "no-store" {
		t.Errorf("%s: it answers %q, Cache-Control %q", what, got.body, got.header.Get("Cache-Control"))
	}
	if challenge := got.header.Get("Www-Authenticate"); (challenge != "") != (status == http.StatusUnauthorized) {
		t.Errorf("%s: %d with the challenge %q", what, got.status, challenge)
	}
}

func TestForwardAuth(t *testing.T) {
	var store *losing
	p := serve(t, func(s keys.Store) keys.Store { store = &losing{Store: s}; return store }, func(o *server.Options) {
		o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	})
	p.dataset(t, "files")
	p.structuredDataset(t, "ssn", "ssn")
	p.dataset(t, "others")
	app := p.key(t, goLibrary, "web-01", "files", "ssn")
	none := p.key(t, goLibrary, "web-02")

	for query, want := range map[string]string{"": "files,ssn", "?": "files,ssn", "?dataset=files": "files,ssn", "?dataset=%66iles": "files,ssn"} {
		got := p.forward(t, app.basic(), query)
		wantStatus(t, query, got, http.StatusOK)
		keystest.Diff(t, query, []string{got.header.Get("Keyctl-Key"), got.header.Get("Keyctl-Access-Key-Id"), got.header.Get("Keyctl-Datasets"), got.header.Get("Cache-Control"), got.body},
			[]string{"web-01", app.AccessKeyID, want, "no-store", ""})
	}
	if got := p.forward(t, none.basic(), ""); got.status != http.StatusOK || got.header.Get("Keyctl-Datasets") != "" {
		t.Errorf("a key without datasets: %d, %q", got.status, got.header.Get("Keyctl-Datasets"))
	}
	for _, query := range []string{
		"?dataset=others", "?dataset=nope", "?dataset=", "?dataset", "?dataset=files&dataset=ssn", "?dataset=files&dataset=files", "?dataset=files;x", "?dataset=%zz",
		"?Dataset=others", "?datasets=others", "?dataset=files&x", "?x", "?dataset=FILES", "?dataset=files%20", "?dataset=files,ssn", "?dataset=%66iles%00",
	} {
		wantNobody(t, query, p.forward(t, app.basic(), query), http.StatusForbidden)
	}

	unknown := keystest.Draw(t)
	all := []received{}
	for what, header := range map[string]string{
		"nothing": "", "another scheme": "Bearer " + app.SigningKey.Reveal(), "no base64": "Basic %%%", "no colon": "Basic " + "YWJj", "empty": basic("", ""),
		"an unknown id": basic(unknown.AccessKeyID, unknown.SigningKey.Reveal()), "a wrong secret": basic(app.AccessKeyID, unknown.SigningKey.Reveal()),
		"no secret": basic(app.AccessKeyID, ""), "the other secret": basic(app.AccessKeyID, app.CryptoAccessKey.Reveal()), "a longer secret": basic(app.AccessKeyID, app.SigningKey.Reveal()+"x"),
		"the id in small": basic(strings.ToLower(app.AccessKeyID), app.SigningKey.Reveal()), "a huge one": "Basic " + strings.Repeat("A", 8000),
	} {
		got := p.forward(t, header, "?dataset=files")
		wantNobody(t, what, got, http.StatusUnauthorized)
		got.header.Del("Request-Id")
		got.header.Del("Date")
		all = append(all, got)
	}
	for _, got := range all {
		keystest.Diff(t, "the 401", got.header, all[0].header)
	}
	request := func(method string, body io.Reader, change func(http.Header)) received {
		r, err := http.NewRequestWithContext(t.Context(), method, p.url+"/v1/forward-auth", body)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", app.basic())
		if change != nil {
			change(r.Header)
		}
		response, err := (&http.Client{Timeout: patience}).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		text, _ := io.ReadAll(response.Body)
		return received{response.StatusCode, response.Proto, response.Header, string(text)}
	}
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"} {
		wantStatus(t, method, request(method, nil, nil), http.StatusOK)
		wantStatus(t, method+" with a body", request(method, bytes.NewReader(make([]byte, 10_000)), nil), http.StatusOK)
	}
	wantNobody(t, "two credentials", request("GET", nil, func(h http.Header) { h.Add("Authorization", none.basic()) }), http.StatusUnauthorized)

	// What the server refuses before the handler sees it.
	forwarded := func(line string) received {
		return request("GET", nil, func(h http.Header) { h.Set("X-Forwarded-For", line) })
	}
	for _, line := range []string{"garbage", "10.1.2.3,", "fe80::1%eth0", strings.Repeat("127.0.0.1, ", 40) + "10.1.2.3"} {
		wantNobody(t, line, forwarded(line), http.StatusForbidden)
	}
	for _, path := range []string{"/v1/forward-auth/", "/v1/forward-auth/..", "/v1/forward-auth//x"} {
		got := p.raw(t, "GET "+path+" HTTP/1.1\r\nHost: h\r\nAuthorization: "+app.basic()+"\r\n\r\n")
		wantNobody(t, path, got, http.StatusForbidden)
	}

	// The address is the caller's, and what is changed counts at the next request.
	ranges, err := iprange.ParseList([]string{"10.0.0.0/8"})
	if err != nil {
		t.Fatal(err)
	}
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(p.EditKey(t.Context(), "web-01", keys.KeyEdit{IPRanges: &ranges}))
	wantStatus(t, "inside", forwarded("192.0.2.1, 10.1.2.3"), http.StatusOK)
	wantNobody(t, "outside", forwarded("10.1.2.3, 192.0.2.1"), http.StatusForbidden)
	must(p.EditKey(t.Context(), "web-01", keys.KeyEdit{AnyAddress: true}))
	must(p.DetachKeys(t.Context(), "files", []string{"web-01"}))
	wantNobody(t, "detached", p.forward(t, app.basic(), "?dataset=files"), http.StatusForbidden)
	wantStatus(t, "detached, and not asked for", p.forward(t, app.basic(), ""), http.StatusOK)
	must(p.DisableKey(t.Context(), "web-01", false))
	wantNobody(t, "disabled", p.forward(t, app.basic(), ""), http.StatusForbidden)
	must(p.EnableKey(t.Context(), "web-01"))
	rolled := p.roll(t, app, "web-01", time.Hour)
	for what, a := range map[string]application{"the new credential": rolled, "the old one in grace": app} {
		wantStatus(t, what, p.forward(t, a.basic(), ""), http.StatusOK)
	}
	p.clock.Advance(time.Hour)
	wantNobody(t, "the old one after its grace", p.forward(t, app.basic(), ""), http.StatusForbidden)
	must(p.DeleteKey(t.Context(), "web-01"))
	wantNobody(t, "deleted", p.forward(t, rolled.basic(), ""), http.StatusUnauthorized)

	// Without the audit log nobody waits for a last use; without the store nobody gets in.
	store.lose(fault.New(fault.Unavailable, "away"))
	wantStatus(t, "without an audit log", p.forward(t, none.basic(), ""), http.StatusOK)
	store.lose(nil)
	if err := p.db.Close(); err != nil {
		t.Fatal(err)
	}
	wantNobody(t, "without a store", p.forward(t, none.basic(), ""), http.StatusServiceUnavailable)
	wantNobody(t, "without a store, and with nothing", p.forward(t, "", ""), http.StatusServiceUnavailable)
}

// Callers who are let in all the time are not let in by any request that begins after a disable was acknowledged.
func TestR20_ForwardAuthObeysADisable(t *testing.T) {
	p := serve(t, nil, nil)
	app := p.key(t, goLibrary, "web-01")
	for round := range 5 {
		type ask struct {
			begun  time.Time
			status int
		}
		var mu sync.Mutex
		var asked []ask
		stop := make(chan struct{})
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					begun := time.Now()
					got := p.forward(t, app.basic(), "")
					mu.Lock()
					asked = append(asked, ask{begun, got.status})
					mu.Unlock()
				}
			})
		}
		passed := func() bool {
			mu.Lock()
			defer mu.Unlock()
			return slices.ContainsFunc(asked, func(a ask) bool { return a.status == http.StatusOK })
		}
		for deadline := time.Now().Add(patience); !passed() && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
		if _, err := p.DisableKey(t.Context(), "web-01", false); err != nil {
			t.Fatal(err)
		}
		disabled := time.Now()
		later := func() int {
			mu.Lock()
			defer mu.Unlock()
			return len(slices.DeleteFunc(slices.Clone(asked), func(a ask) bool { return !a.begun.After(disabled) }))
		}
		for deadline := time.Now().Add(patience); later() < 20 && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
		close(stop)
		all.Wait()
		counts := map[string]int{}
		for _, a := range asked {
			when := "before"
			if a.begun.After(disabled) {
				when = "after"
			}
			counts[fmt.Sprint(when, " ", a.status)]++
		}
		if counts["after 200"] > 0 || counts["after 403"] < 20 || counts["before 200"] == 0 {
			t.Errorf("round %d: %v", round, counts)
		}
		if _, err := p.EnableKey(t.Context(), "web-01"); err != nil {
			t.Fatal(err)
		}
	}
}
