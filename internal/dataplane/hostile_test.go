package dataplane_test

import (
	"bufio"
	"context"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"keyctl/internal/access"
	"keyctl/internal/audit"
	"keyctl/internal/fault"
	"keyctl/internal/iprange"
	"keyctl/internal/keys"
	"keyctl/internal/keys/keystest"
	"keyctl/internal/server"
	"keyctl/internal/signature"
)

// canary is sent in wrong places and must never come back.
const canary = "kcs_CANARYcanaryCANARYcanaryCANARYcanaryCANARYcanary00000"

// raw sends a request byte by byte as it is given, and reads the answer.
func (p *place) raw(t testing.TB, request string) received {
	t.Helper()
	conn, err := net.DialTimeout("tcp", p.address, patience)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	go func() { _, _ = io.WriteString(conn, request) }() // a server that has heard enough answers before it has read all
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("no answer to %.200q: %v", request, err)
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	return received{response.StatusCode, response.Proto, response.Header, string(body)}
}

// Whatever is sent, signed or not, the answer is no failure of the server and repeats nothing of it.
func TestR17_HostileRequests(t *testing.T) {
	p := serve(t, nil, nil)
	p.dataset(t, "files")
	p.structuredDataset(t, "ssn", "ssn")
	app := p.key(t, goLibrary, "web-01", "files", "ssn")
	bodies := []string{
		"", " ", "null", "0", "-0", `""`, "[]", "{", "}", "{}x", `{"a":}`, "\x00", "\xff\xfe", "\ufeff{}", `{"uses":1e999}`, `{"uses":1.5}`, `{"uses":true}`, `{"uses":[[]]}`,
		`{"uses":-9223372036854775809}`, `{"USES":1,"uses":"` + canary + `"}`, `{"encrypted_data_key":1}`, `{"encrypted_data_key":null}`, `{"encrypted_data_key":"` + canary + `"}`,
		`{"encrypted_data_key":"AAAA"}`, `{"encrypted_data_key":"` + strings.Repeat("A", 40_000) + `"}`, `{"encrypted_data_key":"AQ=="}`,
		`{"usage":[` + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + `]}`, strings.Repeat("[", 60_000), `{"usage":[{"datasets":{},"count":{},"action":[]}]}`,
		`{"usage":[{"datasets":"ssn","count":-1,"action":"encrypt"},{"datasets":"ssn","count":1e300,"action":"encrypt"},{"datasets":"ssn,,,","count":"9223372036854775808","action":"encrypt"}]}`,
		`{"usage":[{"datasets":"` + canary + `","action":"` + canary + `","product":"` + canary + `","first_call_timestamp":"` + canary + `"}]}`,
		`{"usage":[{"datasets":"ssn","count":1,"action":"encrypt","first_call_timestamp":"9999-12-31T23:59:59.999999999Z","last_call_timestamp":"0001-01-01T00:00:00Z"}]}`,
		`{"usage":[{"datasets":"ssn","count":1,"action":"encrypt","product":"\u0000\u001b[31m\u202e` + strings.Repeat("p", 5000) + `"}]}`,
		`{"usage":[` + strings.Repeat(`{"datasets":"ssn","count":1,"action":"encrypt"},`, 900) + `{}]}`,
	}
	queries := []string{
		"", "?", "??", "?ffs_name=" + canary, "?ffs_name=ssn&ffs_name=" + canary, "?ffs_name=%00", "?ffs_name=%zz", "?ffs_name=ssn;x", "?ffs_name=" + strings.Repeat("ssn,", 1000),
		"?ffs_name=../../etc/passwd", "?ffs_name='%20OR%201=1--", "?ffs_name=ssn&key_number=" + canary, "?ffs_name=ssn&key_number=0x1", "?ffs_name=ssn&key_number=-1", "?ffs_name=%C3%A4",
		"?ffs_name=ssn&key_number=9223372036854775807", "?ffs_name=ssn&key_number=9223372036854775808", "?ffs_name=" + strings.Repeat("a", 4000), "?papi=" + canary, "?ffs_name=SSN",
	}
	requests := map[string]*http.Request{}
	for i, lib := range []library{libraries[0], libraries[3]} { // with a length, and in chunks
		a := app
		a.lib = lib
		for _, body := range bodies {
			for method, targets := range map[string][]string{
				"POST": {encryptPath, decryptPath, trackPath}, "PATCH": {encryptPath + "/ab/cd", decryptPath + "/" + strings.Repeat("a", 129) + "/cd", encryptPath + "/%25/..%20"},
			} {
				for _, target := range targets {
					requests[fmt.Sprintf("%d %s %s with %.60q", i, method, target, body)] = a.request(method, target, body, nil)
				}
			}
		}
	}
	for _, query := range queries {
		for _, target := range []string{recordPath, keyPath, allPath} {
			requests[fmt.Sprintf("GET %s%.60s", target, query)] = app.request("GET", target+query, "", nil)
			requests[fmt.Sprintf("HEAD %s%.60s", target, query)] = app.request("HEAD", target+query, "", nil)
		}
	}
	codes := map[int]int{}
	for what, r := range requests {
		got := app.do(r)
		codes[got.status]++
		if got.status >= 500 {
			t.Errorf("%s: %d %s", what, got.status, got.body)
		}
		if strings.Contains(strings.ToLower(got.body+fmt.Sprint(got.header)), "canary") {
			t.Errorf("%s: it comes back: %d %s", what, got.status, got.body)
		}
		if got.status >= 400 && r.Method != "HEAD" {
			checkError(t, what, got)
		}
	}
	t.Logf("%d requests were answered with %v", len(requests), codes)
	usage, err := p.Usage(t.Context(), keys.UsageQuery{})
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range usage {
		if u.Count < 1 || u.FirstAt.After(u.LastAt) || u.LastAt.After(p.clock.Now()) || len(u.Product) > 64 || strings.ContainsAny(u.Product, "\x00\x1b") {
			t.Errorf("there is the usage %+v", u)
		}
	}
	if log := p.log(t); strings.Contains(strings.ToLower(log), "canary") {
		t.Error("what was sent is in the log")
	}
}

// Requests that are no good HTTP, or headers that are none, are refused before anything else is done with them.
func TestR18_R19_HostileHeads(t *testing.T) {
	p := serve(t, nil, nil)
	p.dataset(t, "files")
	app := p.key(t, goLibrary, "web-01", "files")
	signed := app.request("POST", encryptPath, oneUse, nil)
	line := func(name string) string { return name + ": " + signed.Header.Get(name) + "\r\n" }
	head := "Host: " + p.address + "\r\nContent-Type: application/json\r\n" + line("Date") + line("Digest") + line("Signature")
	length := "Content-Length: 28\r\n"
	post := "POST " + encryptPath + " HTTP/1.1\r\n"
	for what, c := range map[string]struct {
		request string
		want    int
	}{
		"the request itself":    {post + head + length + "\r\n" + oneUse, 201},
		"two signatures":        {post + head + length + line("Signature") + "\r\n" + oneUse, 400},
		"two digests":           {post + head + length + line("Digest") + "\r\n" + oneUse, 401},
		"two hosts":             {post + head + length + "Host: a\r\n\r\n" + oneUse, 400},
		"two lengths":           {post + head + length + "Content-Length: 29\r\n\r\n" + oneUse, 400},
		"a length and chunks":   {post + head + length + "Transfer-Encoding: chunked\r\n\r\n1c\r\n" + oneUse + "\r\n0\r\n\r\n", 401},
		"an odd coding":         {post + head + "Transfer-Encoding: gzip, chunked\r\n\r\n", 501},
		"a trailer as header":   {post + strings.Replace(head, line("Digest"), "", 1) + "Transfer-Encoding: chunked\r\nTrailer: Digest\r\n\r\n1c\r\n" + oneUse + "\r\n0\r\n" + line("Digest") + "\r\n", 401},
		"an absolute target":    {strings.Replace(post, "/api", "http://"+p.address+"/api", 1) + head + length + "\r\n" + oneUse, 401},
		"a slash at the end":    {strings.Replace(post, "/key", "/key/", 1) + head + length + "\r\n" + oneUse, 404},
		"two slashes":           {strings.Replace(post, "/v0", "//v0", 1) + head + length + "\r\n" + oneUse, 404},
		"dots":                  {strings.Replace(post, "/v0", "/./v0", 1) + head + length + "\r\n" + oneUse, 404},
		"encoded dots":          {strings.Replace(post, "/v0", "/%2e%2e/api/v0", 1) + head + length + "\r\n" + oneUse, 404},
		"an encoded slash":      {strings.Replace(post, "/v0/", "/v0%2f", 1) + head + length + "\r\n" + oneUse, 404},
		"an encoded letter":     {strings.Replace(post, "/key", "/%6bey", 1) + head + length + "\r\n" + oneUse, 401}, // the same route, not what was signed
		"a fragment":            {strings.Replace(post, "/key", "/key#x", 1) + head + length + "\r\n" + oneUse, 404},
		"HTTP 1.0 without host": {strings.Replace(post, "1.1", "1.0", 1) + strings.Replace(head, "Host: "+p.address+"\r\n", "", 1) + length + "\r\n" + oneUse, 401},
		"a huge header":         {post + head + "X-A: " + strings.Repeat("a", 20_000) + "\r\n\r\n", 431},
		"a method in small":     {strings.Replace(post, "POST", "post", 1) + head + length + "\r\n" + oneUse, 405},
		"a method of its own":   {strings.Replace(post, "POST", "BREW", 1) + head + length + "\r\n" + oneUse, 405},
		"too long a length":     {post + head + "Content-Length: 99999999999\r\n\r\n" + oneUse, 413},
		"a method override":     {strings.Replace(post, "POST", "GET", 1) + head + length + "X-Http-Method-Override: POST\r\n\r\n" + oneUse, 405},
	} {
		got := p.raw(t, c.request)
		wantStatus(t, what, got, c.want)
		// What net/http itself refuses (400, 431, 501) is text, and no library sends such a thing.
		if strings.HasPrefix(got.header.Get("Content-Type"), "application/json") && got.status >= 400 {
			checkError(t, what, got)
		}
		p.clock.Advance(time.Second * 3)
	}
}

func TestR17_ReportsOfUseAreBounded(t *testing.T) {
	p := serve(t, nil, nil)
	p.dataset(t, "files")
	app := p.key(t, goLibrary, "web-01", "files")
	event := `{"datasets":"files","count":1,"action":"encrypt","product":"p"},`
	padding := strings.Repeat(" ", 1<<20-len(`{"usage":[{}]}`)-100*len(event))
	wantStatus(t, "1 MiB", app.post(trackPath, `{"usage":[`+strings.Repeat(event, 100)+`{}`+padding+`]}`), http.StatusOK)
	got := app.post(trackPath, `{"usage":[`+strings.Repeat(event, 100)+`{} `+padding+`]}`)
	wantStatus(t, "a byte more", got, http.StatusRequestEntityTooLarge)
	checkError(t, "a byte more", got)
	chunks := app
	chunks.lib.chunked = true
	wantStatus(t, "a byte more, in chunks", chunks.post(trackPath, `{"usage":[`+strings.Repeat(event, 100)+`{} `+padding+`]}`), http.StatusRequestEntityTooLarge)
	wantStatus(t, "very many events", app.post(trackPath, `{"usage":[`+strings.Repeat(`{},`, 300_000)+`{}]}`), http.StatusOK)
	wantStatus(t, "very many datasets", app.post(trackPath, `{"usage":[{"datasets":"`+strings.Repeat(`,`, 1_000_000)+`"}]}`), http.StatusOK)
	usage, err := p.Usage(t.Context(), keys.UsageQuery{})
	if err != nil || len(usage) != 1 || usage[0].Count != 100 {
		t.Errorf("Usage() = %+v, %v", usage, err)
	}

	// As many large ones at once as there may be, which never end; small ones are served meanwhile.
	request := app.request("POST", trackPath, "x", nil)
	var head strings.Builder
	fmt.Fprintf(&head, "POST %s HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n", trackPath)
	for name := range request.Header {
		fmt.Fprintf(&head, "%s: %s\r\n", name, request.Header.Get(name))
	}
	var open []net.Conn
	defer func() {
		for _, conn := range open {
			conn.Close()
		}
	}()
	begin := func() {
		conn, err := net.Dial("tcp", p.address)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, conn)
		fmt.Fprintf(conn, "%s\r\n", head.String())
	}
	for range 16 {
		begin()
	}
	large := `{"usage":[{}` + strings.Repeat(" ", 70_000) + `]}`
	deadline := time.Now().Add(patience)
	for got = app.post(trackPath, large); got.status == http.StatusOK && time.Now().Before(deadline); got = app.post(trackPath, large) {
		begin() // one of them came later than this one, and was the one too many
	}
	wantStatus(t, "one more large one", got, http.StatusServiceUnavailable)
	checkError(t, "one more large one", got)
	wantStatus(t, "a small one", app.post(trackPath, `{"usage":[`+event+`{}]}`), http.StatusOK)
	for _, conn := range open {
		conn.Close()
	}
	for got = app.post(trackPath, large); got.status != http.StatusOK && time.Now().Before(deadline); got = app.post(trackPath, large) {
		time.Sleep(10 * time.Millisecond)
	}
	wantStatus(t, "a large one when they are gone", got, http.StatusOK)
}

// Whoever fails too often waits; who has a credential never does.
func TestR23_FailuresAreSlowedDown(t *testing.T) {
	p := serve(t, nil, nil)
	p.dataset(t, "files")
	app := p.key(t, goLibrary, "web-01", "files")
	wrong := app.withWrongSecret()
	for i := range access.FailureBurst {
		wantStatus(t, fmt.Sprintf("failure %d", i+1), wrong.post(encryptPath, oneUse), http.StatusUnauthorized)
	}
	got := wrong.post(encryptPath, oneUse)
	wantStatus(t, "one more", got, http.StatusTooManyRequests)
	checkError(t, "one more", got)
	wantStatus(t, "the right one", app.post(encryptPath, oneUse), http.StatusCreated)
	p.clock.Advance(access.FailureEvery)
	wantStatus(t, "later", wrong.post(encryptPath, oneUse), http.StatusUnauthorized)
	if n := len(p.audited(t, "data-keys.encrypt")); n != 11 { // ten refusals of an address a minute, and one release
		t.Errorf("%d records of the route, want 11", n)
	}
}

// The address is the client's, whatever it says of itself (R21), and decides at the next request (R20).
func TestR21_AddressOfTheClient(t *testing.T) {
	p := serve(t, nil, func(o *server.Options) { o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")} })
	p.dataset(t, "files")
	app := p.key(t, goLibrary, "web-01", "files")
	ranges, err := iprange.ParseList([]string{"10.0.0.0/8"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.EditKey(t.Context(), "web-01", keys.KeyEdit{IPRanges: &ranges}); err != nil {
		t.Fatal(err)
	}
	from := func(lines ...string) received {
		return app.do(app.request("POST", encryptPath, oneUse, func(r *http.Request) { r.Header["X-Forwarded-For"] = lines }))
	}
	for what, c := range map[string]struct {
		lines []string
		want  int
	}{
		"inside":                    {[]string{"10.1.2.3"}, 201},
		"inside, mapped":            {[]string{"::ffff:10.1.2.3"}, 201},
		"inside behind another":     {[]string{"192.0.2.1, 10.1.2.3"}, 201},
		"outside, pretending":       {[]string{"10.1.2.3, 192.0.2.1"}, 403},
		"outside, in two lines":     {[]string{"10.1.2.3", "192.0.2.1"}, 403},
		"not behind the proxy":      {nil, 403},
		"garbage":                   {[]string{"10.1.2.3, %s"}, 400},
		"garbage further left":      {[]string{"%s, 10.1.2.3"}, 201},
		"more hops than there are":  {[]string{strings.Repeat("127.0.0.1,", 40) + "10.1.2.3"}, 400},
		"an address with a zone":    {[]string{"fe80::1%eth0"}, 400},
		"nothing between two hops":  {[]string{"10.1.2.3,"}, 400},
		"a name in an address' way": {[]string{"localhost"}, 400},
	} {
		got := from(c.lines...)
		wantStatus(t, what, got, c.want)
		if got.status >= 400 {
			checkError(t, what, got)
		}
	}
	released := 0
	for _, r := range p.audited(t, "data-keys.encrypt") {
		if r.Event.Outcome != audit.OK {
			continue
		}
		released++
		if r.Event.Address != "10.1.2.3" {
			t.Errorf("the record of a release has the address %q", r.Event.Address)
		}
	}
	if released != 4 {
		t.Errorf("there are %d records of releases, want 4", released)
	}
}

// losing is a store that loses the audit log's records, or everything, while it is told to.
type losing struct {
	keys.Store
	mu  sync.Mutex
	why error
}

func (s *losing) lose(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.why = why
}

func (s *losing) Update(ctx context.Context, fn func(keys.Tx) error) error {
	s.mu.Lock()
	why := s.why
	s.mu.Unlock()
	return s.Store.Update(ctx, func(tx keys.Tx) error { return fn(losingTx{tx, why}) })
}

type losingTx struct {
	keys.Tx
	why error
}

func (tx losingTx) AppendAudit(head audit.Head, records ...audit.Record) error {
	if tx.why != nil {
		return tx.why
	}
	return tx.Tx.AppendAudit(head, records...)
}

// A data key that is not in the audit log does not leave, in whatever way the log fails.
func TestR36_NoRecordNoDataKey(t *testing.T) {
	var store *losing
	p := serve(t, func(s keys.Store) keys.Store { store = &losing{Store: s}; return store }, nil)
	p.dataset(t, "files")
	p.structuredDataset(t, "ssn", "ssn")
	app := p.key(t, goLibrary, "web-01", "files", "ssn")
	encrypted := string(fields(t, "encryption/key", app.post(encryptPath, oneUse).body)["encrypted_data_key"])
	releases := map[string]func() received{
		"encryption/key": func() received { return app.post(encryptPath, oneUse) },
		"decryption/key": func() received { return app.post(decryptPath, `{"encrypted_data_key":`+encrypted+`}`) },
		"fpe/key":        func() received { return app.get(keyPath + app.query("ssn")) },
		"fpe/def_keys":   func() received { return app.get(allPath) },
	}
	for why, status := range map[error]int{
		fault.New(fault.Unavailable, "no space left on the device"): http.StatusServiceUnavailable, fault.New(fault.StoreBusy, "busy"): http.StatusServiceUnavailable,
		fault.New(fault.OutcomeUnknown, "lost"): http.StatusServiceUnavailable, io.ErrUnexpectedEOF: http.StatusInternalServerError,
	} {
		store.lose(why)
		before := auditLength(t, p)
		for route, ask := range releases {
			got := ask()
			wantStatus(t, route+" while "+why.Error(), got, status)
			checkError(t, route, got)
			for _, part := range []string{"key_", "wrapped", "PRIVATE", why.Error()} {
				if strings.Contains(got.body, part) {
					t.Errorf("%s while %v: the answer has %q: %s", route, why, part, got.body)
				}
			}
		}
		store.lose(nil)
		if after := auditLength(t, p); after != before {
			t.Errorf("%d records of what did not happen", after-before)
		}
		for route, ask := range releases {
			if got := ask(); got.status >= 300 {
				t.Errorf("%s afterwards: %d %s", route, got.status, got.body)
			}
		}
	}
}

func auditLength(t testing.TB, p *place) int64 {
	t.Helper()
	head, err := p.AuditHead(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return head.Seq
}

// Every release is in the audit log with who, what and from where, and nothing secret is there, in the server's log or in an
// answer (R2).
func TestR2_R36_WhatIsWrittenDown(t *testing.T) {
	p := serve(t, nil, nil)
	p.dataset(t, "files")
	p.structuredDataset(t, "ssn", "ssn")
	app := p.key(t, goLibrary, "web-01", "files", "ssn")
	made := app.post(encryptPath, `{"uses":3}`)
	f := fields(t, "encryption/key", made.body)
	answers := []received{
		made, app.post(decryptPath, `{"encrypted_data_key":`+string(f["encrypted_data_key"])+`}`), app.get(keyPath + app.query("ssn", number(0))), app.get(allPath),
		app.get(recordPath + app.query("ssn")),
	}
	for action, want := range map[string][]map[string]string{
		"data-keys.encrypt": {{"access_key_id": app.AccessKeyID, "uses": "3", "primary_key_version": "1"}},
		"data-keys.decrypt": {{"access_key_id": app.AccessKeyID, "primary_key_version": "1"}},
		"data-keys.structured": {
			{"access_key_id": app.AccessKeyID, "key_number": "0"}, {"access_key_id": app.AccessKeyID, "key_number": "all"},
		},
	} {
		var got []map[string]string
		for _, r := range p.audited(t, action) {
			got = append(got, r.Event.Detail)
			if e := r.Event; e.Actor.Name != "web-01" || e.Address != "127.0.0.1" || !strings.HasPrefix(e.RequestID, "req_") {
				t.Errorf("%s: the record is %+v", action, e)
			}
		}
		keystest.Diff(t, action, got, want)
	}
	errors := []received{
		app.do(app.request("POST", encryptPath, oneUse, func(r *http.Request) { r.Header.Set("Digest", app.SigningKey.Reveal()) })),
		app.do(app.request("POST", encryptPath, oneUse, func(r *http.Request) { r.Header.Set("Signature", `keyId="`+app.SigningKey.Reveal()+`"`) })),
		app.get(recordPath + "?ffs_name=" + app.SigningKey.Reveal()), app.get(keyPath + "?ffs_name=ssn&key_number=" + app.CryptoAccessKey.Reveal()),
		app.post(encryptPath, app.SigningKey.Reveal()), app.post(decryptPath, `{"encrypted_data_key":"`+app.CryptoAccessKey.Reveal()+`"}`),
		p.forward(t, basic(app.AccessKeyID, app.CryptoAccessKey.Reveal()), "?dataset="+app.SigningKey.Reveal()),
		p.forward(t, basic(app.SigningKey.Reveal(), app.SigningKey.Reveal()), ""),
	}
	secrets := map[string]string{
		"the signing key": app.SigningKey.Reveal(), "the crypto access key": app.CryptoAccessKey.Reveal(),
		"the signing key in base64": base64.StdEncoding.EncodeToString([]byte(app.SigningKey.Reveal())),
	}
	text, err := json.Marshal(keystest.Events(t, p.Local, keys.AuditFilter{}))
	if err != nil {
		t.Fatal(err)
	}
	written := map[string]string{"the log": p.log(t), "the audit log": string(text)}
	for i, a := range errors {
		written[fmt.Sprintf("error %d", i)] = a.body + fmt.Sprint(a.header)
		if a.status < 400 {
			t.Errorf("error %d is answered with %d", i, a.status)
		}
	}
	for i, a := range answers {
		written[fmt.Sprintf("answer %d", i)] = a.body
	}
	plain := app.dataKey(textOf(t, f, "encrypted_private_key"), bytesOf(t, f, "wrapped_data_key"))
	for what, form := range map[string]string{"hex": hex.EncodeToString(plain), "base64": base64.StdEncoding.EncodeToString(plain), "bytes": string(plain)} {
		secrets["the data key in "+what] = form
	}
	for where, text := range written {
		for what, secret := range secrets {
			if strings.Contains(text, secret) || strings.Contains(text, secret[:len(secret)/2]) && len(secret) > 30 {
				t.Errorf("%s has %s", where, what)
			}
		}
	}
	// What is in an answer, and only there.
	for _, where := range []string{"the log", "the audit log"} {
		for _, name := range []string{"wrapped_data_key", "encrypted_data_key", "encryption_session"} {
			if value := textOf(t, f, name); strings.Contains(written[where], value) {
				t.Errorf("%s has the %s", where, name)
			}
		}
		if strings.Contains(written[where], "PRIVATE KEY") {
			t.Errorf("%s has a private key", where)
		}
	}
}

// tracing notes what a request reads.
type tracing struct {
	keys.Store
	mu    sync.Mutex
	calls []string
}

func (s *tracing) View(ctx context.Context, fn func(keys.Tx) error) error {
	return s.Store.View(ctx, func(tx keys.Tx) error { return fn(tracingTx{tx, s}) })
}

func (s *tracing) note(call string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		call = "no " + call
	}
	s.calls = append(s.calls, call)
}

// taken returns what was noted, and forgets it.
func (s *tracing) taken() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	calls := s.calls
	s.calls = nil
	slices.Sort(calls)
	return calls
}

type tracingTx struct {
	keys.Tx
	s *tracing
}

func (tx tracingTx) Candidate(id string) (keys.Candidate, error) {
	c, err := tx.Tx.Candidate(id)
	tx.s.note("Candidate", err)
	return c, err
}

func (tx tracingTx) Reached(id string) ([]keys.Reach, error) {
	r, err := tx.Tx.Reached(id)
	tx.s.note("Reached", err)
	return r, err
}

func (tx tracingTx) NewRelease(keyID, accessKeyID string) (keys.Release, error) {
	r, err := tx.Tx.NewRelease(keyID, accessKeyID)
	tx.s.note("NewRelease", err)
	return r, err
}

func (tx tracingTx) StructuredReleases(keyID, accessKeyID, name string) ([]keys.Release, error) {
	r, err := tx.Tx.StructuredReleases(keyID, accessKeyID, name)
	tx.s.note("StructuredReleases", err)
	return r, err
}

func (tx tracingTx) Material(id string) (keys.Material, error) {
	m, err := tx.Tx.Material(id)
	tx.s.note("Material", err)
	return m, err
}

// Whoever is not proven has the same work done, whatever is wrong: one statement finds one credential, and nothing else of what exists is read.
func TestR3_RefusalsDoTheSameWork(t *testing.T) {
	var store *tracing
	p := serve(t, func(s keys.Store) keys.Store { store = &tracing{Store: s}; return store }, nil)
	p.dataset(t, "files")
	app := p.key(t, goLibrary, "web-01", "files")
	unknown, wrong := app, app.withWrongSecret()
	unknown.Drawn = keystest.Draw(t)
	want := []string{"Candidate"}
	for what, ask := range map[string]func() received{
		"an unknown id":  func() received { return unknown.post(encryptPath, oneUse) },
		"a wrong secret": func() received { return wrong.post(encryptPath, oneUse) },
		"another digest": func() received {
			return app.do(app.request("POST", encryptPath, oneUse, func(r *http.Request) { r.Header.Set("Digest", "x") }))
		},
		"another time":    func() received { return app.do(app.request("POST", encryptPath, oneUse, late(app))) },
		"no dataset":      func() received { return wrong.get(recordPath + "?ffs_name=nope") },
		"a Basic unknown": func() received { return p.forward(t, basic(unknown.AccessKeyID, app.SigningKey.Reveal()), "") },
		"a Basic wrong":   func() received { return p.forward(t, basic(app.AccessKeyID, unknown.SigningKey.Reveal()), "") },
		"no Basic":        func() received { return p.forward(t, "", "?dataset=files") },
	} {
		store.taken()
		wantStatus(t, what, ask(), http.StatusUnauthorized)
		if got := store.taken(); !slices.Equal(got, want) {
			t.Errorf("%s reads %v, want %v", what, got, want)
		}
	}
}

// Who has not proven a credential is not told what else is wrong with the request, and counts as who failed; who has is.
func TestProofComesFirst(t *testing.T) {
	p := serve(t, nil, nil)
	p.dataset(t, "files")
	app := p.key(t, goLibrary, "web-01", "files")
	wrong := app.withWrongSecret()
	for what, ask := range map[string]func(a application) received{
		"no JSON":          func(a application) received { return a.post(encryptPath, "{") },
		"no base64":        func(a application) received { return a.post(decryptPath, `{"encrypted_data_key":"%"}`) },
		"another data key": func(a application) received { return a.post(decryptPath, `{"encrypted_data_key":"QUJD"}`) },
		"no number":        func(a application) received { return a.get("/api/v0/fpe/key?ffs_name=files&key_number=x") },
		"no report":        func(a application) received { return a.post(trackPath, "[") },
	} {
		wantStatus(t, what, ask(app), http.StatusBadRequest)
		wantStatus(t, what+" and a wrong secret", ask(wrong), http.StatusUnauthorized)
	}
	for range access.FailureBurst {
		wrong.post(encryptPath, "{")
	}
	wantStatus(t, "too many of them", wrong.post(encryptPath, "{"), http.StatusTooManyRequests)
}

func late(a application) func(*http.Request) {
	return func(r *http.Request) {
		signature.Sign(r, sha512.Sum512([]byte(oneUse)), a.AccessKeyID, a.SigningKey, signature.GoOrder, a.clock.Now().Add(-time.Hour))
	}
}

// basic is the header of a caller at a gateway.
func basic(id, secret string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(id+":"+secret))
}

// forward asks as a gateway does.
func (p *place) forward(t testing.TB, authorization, query string) received {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "GET", p.url+"/v1/forward-auth"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	response, err := (&http.Client{Timeout: patience}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return received{response.StatusCode, response.Proto, response.Header, string(body)}
}
