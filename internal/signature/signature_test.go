package signature

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/sha512"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"keyctl/internal/credential"
)

const (
	keyID   = "AKEXAMPLE000000000000001"
	date    = "Thu, 01 Jan 2026 00:00:00 GMT"
	created = "1767225600"
	host    = "127.0.0.1:8080"
	post    = `{"uses":1,"payload_cert":""}`
	search  = "/api/v0/ffs?ffs_name=SSN&papi=AKEXAMPLE000000000000001"

	postDigest  = "SHA-512=LyufFdEhXZxgqK8yhYkEGeaLgaRAybWMKVGkf7AfLDO9hyBBUCZREs2XuGXv1rBWOIEhIejWHBTzuO9b8ecc3w=="
	emptyDigest = "SHA-512=z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8XYXysP+DGNKHfuwvY7kxvUdBeoGlODJ6+SfaPg=="
)

var (
	signingKey = credential.NewSecret("TEST-ONLY-SIGNING-KEY-0123456789abcdefghijkl")
	now        = time.Unix(1767225600, 0)
)

// message is a request as text, so that a test can spoil any part of it. No function of the package has a hand in it.
type message struct {
	line   string   // the request line
	lines  []string // the header's
	body   string
	params []string // of the Signature header
}

// The message of vector A, and the one of vector C.
func vectorA() message {
	return message{
		line: "POST /api/v0/encryption/key HTTP/1.1",
		lines: []string{"Host: " + host, "Content-Length: 28", "Content-Type: application/json", "Date: " + date,
			"Digest: " + postDigest},
		body: post,
		params: []string{`keyId="` + keyID + `"`, `algorithm="hmac-sha512"`, "created=" + created,
			`headers="(created) (request-target) content-length content-type date digest host"`,
			`signature="5AiIRRb43784VisTxSQbgDEy1ESIU+/XmDsuTgct3yIY5/ewumtwsFhRgsvhXyfcX5xt2ctu8wQpPfERVFBVVw=="`},
	}
}

func vectorC() message {
	return message{
		line:  "GET " + search + " HTTP/1.1",
		lines: []string{"Host: " + host, "Date: " + date, "Digest: " + emptyDigest},
		params: []string{`keyId="` + keyID + `"`, `algorithm="hmac-sha512"`, "created=" + created,
			`headers="(created) (request-target) date digest host"`,
			`signature="MkxgdUgEWR0JGlSR/qiyrWcWRazZy8t0LCmtzdSwUpzkei9BdX1MEP2Y5Vq5Lhsgv6A7NzE0wBFFugXtaTLIDA=="`},
	}
}

// String returns the message as it goes over the wire.
func (m message) String() string {
	text := m.line + "\r\n" + strings.Join(m.lines, "\r\n") + "\r\n"
	if m.params != nil {
		text += "Signature: " + strings.Join(m.params, ", ") + "\r\n"
	}
	return text + "\r\n" + m.body
}

// value returns what a name in the list stands for, from the text of the message.
func (m message) value(name string) string {
	switch name {
	case "(created)":
		return strings.TrimPrefix(m.params[2], "created=")
	case "(request-target)":
		method, rest, _ := strings.Cut(m.line, " ")
		return strings.ToLower(method) + " " + strings.TrimSuffix(rest, " HTTP/1.1")
	}
	for _, line := range m.lines {
		if field, value, _ := strings.Cut(line, ": "); strings.EqualFold(field, name) {
			return value
		}
	}
	return ""
}

// signed returns the message with a right signature over what the list names.
func (m message) signed(list string) message {
	var text strings.Builder
	for _, name := range strings.Fields(list) {
		fmt.Fprintf(&text, "%s: %s\n", name, m.value(name))
	}
	mac := hmac.New(sha512.New, []byte(signingKey.Reveal()))
	io.WriteString(mac, text.String())
	m.params = slices.Clone(m.params)
	m.params[3] = `headers="` + list + `"`
	m.params[4] = `signature="` + base64.StdEncoding.EncodeToString(mac.Sum(nil)) + `"`
	return m
}

// digested returns the message with the right digest of its body.
func (m message) digested() message {
	sum := sha512.Sum512([]byte(m.body))
	return m.with("Digest", "SHA-512="+base64.StdEncoding.EncodeToString(sum[:]))
}

// with returns the message with another value, or none, for a header.
func (m message) with(field, value string) message {
	i := slices.IndexFunc(m.lines, func(line string) bool { return strings.HasPrefix(line, field+": ") })
	m.lines = slices.Clone(m.lines)
	switch {
	case value == "":
		m.lines = slices.Delete(m.lines, i, i+1)
	case i < 0:
		m.lines = append(m.lines, field+": "+value)
	default:
		m.lines[i] = field + ": " + value
	}
	return m
}

// param returns the message with another parameter, or none, in that place of its Signature header.
func (m message) param(i int, text string) message {
	m.params = slices.Clone(m.params)
	if text == "" {
		m.params = slices.Delete(m.params, i, i+1)
	} else {
		m.params[i] = text
	}
	return m
}

// read reads the message as net/http's server does.
func (m message) read(tb testing.TB) *http.Request {
	tb.Helper()
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(m.String())))
	if err != nil {
		tb.Fatalf("%v in\n%s", err, m)
	}
	return r
}

// check is what a server does with a request.
func check(r *http.Request, key credential.Secret, now time.Time) error {
	q, err := Parse(r)
	if err != nil {
		return err
	}
	if q.KeyID != keyID {
		key = credential.Secret{}
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	return q.Check(key, sha512.Sum512(body), now, Skew)
}

func TestR6_SignatureVectors(t *testing.T) {
	vectors := []struct {
		name      string
		order     Order
		target    string
		body      string
		typ       string
		list      string
		signature string
	}{
		{"A", GoOrder, "/api/v0/encryption/key", post, "application/json",
			"(created) (request-target) content-length content-type date digest host",
			"5AiIRRb43784VisTxSQbgDEy1ESIU+/XmDsuTgct3yIY5/ewumtwsFhRgsvhXyfcX5xt2ctu8wQpPfERVFBVVw=="},
		{"B", NodeOrder, search, "", "application/json",
			"content-type date host (created) (request-target) digest",
			"KLKN6iERo/4hAgaFThjCZSfHJhdpeK12bsS6/ou2vmdKTpvI4N6MKX+57zNViY8pW0ipe2hsTYwlIbBLC4N0WQ=="},
		{"C", GoOrder, search, "", "",
			"(created) (request-target) date digest host",
			"MkxgdUgEWR0JGlSR/qiyrWcWRazZy8t0LCmtzdSwUpzkei9BdX1MEP2Y5Vq5Lhsgv6A7NzE0wBFFugXtaTLIDA=="},
		{"D", JavaOrder, search, "", "application/json; charset=UTF-8",
			"(created) (request-target) content-type digest host",
			"O4ppL110zq0T1L0QdTzB4MRa3uTVbNGWSQBAbF/b+gDFOCjvc1L1bLBRzRvz6oDWyGYPJOkhgqskPkUTbHIX5A=="},
	}
	for _, v := range vectors {
		t.Run(v.name, func(t *testing.T) {
			method, digest := "GET", emptyDigest
			if v.body != "" {
				method, digest = "POST", postDigest
			}
			r, err := http.NewRequest(method, "http://"+host+v.target, strings.NewReader(v.body))
			if err != nil {
				t.Fatal(err)
			}
			if v.typ != "" {
				r.Header.Set("Content-Type", v.typ)
			}
			Sign(r, sha512.Sum512([]byte(v.body)), keyID, signingKey, v.order, now)
			want := `keyId="` + keyID + `", algorithm="hmac-sha512", created=` + created +
				`, headers="` + v.list + `", signature="` + v.signature + `"`
			if got := r.Header.Get("Signature"); got != want {
				t.Errorf("Sign made the header\n%s, want\n%s", got, want)
			}
			if got := r.Header.Get("Digest"); got != digest {
				t.Errorf("Sign made the digest %s, want %s", got, digest)
			}
			wantDate := date
			if v.order == JavaOrder {
				wantDate = ""
			}
			if got := r.Header.Get("Date"); got != wantDate {
				t.Errorf("Sign made the date %q, want %q", got, wantDate)
			}
			var wire bytes.Buffer
			if err := r.Write(&wire); err != nil {
				t.Fatal(err)
			}
			received, err := http.ReadRequest(bufio.NewReader(&wire))
			if err != nil {
				t.Fatal(err)
			}
			if err := check(received, signingKey, now); err != nil {
				t.Errorf("Check = %v", err)
			}
		})
	}
	for _, m := range []message{vectorA(), vectorC()} {
		if err := check(m.read(t), signingKey, now); err != nil {
			t.Errorf("Check = %v of\n%s", err, m)
		}
	}
}

// TestLibraries sends to a server what each client library sends, in its spelling.
func TestLibraries(t *testing.T) {
	const (
		goPost = "(created) (request-target) content-length content-type date digest host"
		goGet  = "(created) (request-target) date digest host"
		python = "(created) (request-target) content-type date digest host"
		node   = "content-type date host (created) (request-target) digest"
		java   = "(created) (request-target) content-type digest host"
	)
	var got error
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		got = check(r, signingKey, now.Add(Skew))
	}))
	defer server.Close()
	tests := []struct {
		name  string
		line  string
		lines []string
		body  string
		list  string
	}{
		{"go posts", "POST /api/v0/encryption/key",
			[]string{"Host: 127.0.0.1:8080", "User-Agent: ubiq-go/2.2.9", "Content-Length: 28", "Content-Type: application/json",
				"Date: " + date, "Digest: ", "Accept-Encoding: gzip"}, post, goPost},
		{"go gets", "GET " + search,
			[]string{"Host: 127.0.0.1:8080", "User-Agent: ubiq-go/2.2.9", "Date: " + date, "Digest: ", "Accept-Encoding: gzip"}, "", goGet},
		{"c posts", "POST /api/v0/decryption/key",
			[]string{"Host: 127.0.0.1:8080", "User-Agent: ubiq-c-cpp/2.3.0", "Content-Length: 34", "Content-Type: application/json",
				"Date: " + date, "Digest: "}, "{\n\t\"encrypted_data_key\":\t\"AAAA\"\n\t}", goPost},
		{"c gets with the name first", "GET /api/v0/fpe/key?ffs_name=SSN&papi=" + keyID + "&key_number=0",
			[]string{"Host: 127.0.0.1:8080", "Date: " + date, "Digest: "}, "", goGet},
		{"php posts", "POST /api/v3/tracking/events",
			[]string{"Date: " + date, "Host: 127.0.0.1:8080", "Digest: ", "Content-Length: 12", "Content-Type: application/json"},
			`{"usage":[]}`, goPost},
		{"php gets with the id first", "GET /api/v0/ffs?papi=" + keyID + "&ffs_name=SSN",
			[]string{"Date: " + date, "Host: 127.0.0.1:8080", "Digest: "}, "", goGet},
		{"python posts", "POST /api/v0/encryption/key",
			[]string{"Host: 127.0.0.1:8080", "User-Agent: ubiq-python/2.3.2", "Accept-Encoding: gzip, deflate", "Accept: */*",
				"Connection: keep-alive", "Content-Length: 11", "Content-type: application/json", "Date: " + date, "Digest: "},
			`{"uses": 1}`, goPost},
		{"python gets", "GET " + search,
			[]string{"Host: 127.0.0.1:8080", "Content-type: application/json", "Date: " + date, "Digest: "}, "", python},
		{"python gets with a query as it came", "GET /api/v0/ffs?ffs_name=a+b/c&papi=p+q/r==&x=%2f%2F,\"|",
			[]string{"Host: 127.0.0.1:8080", "Content-type: application/json", "Date: " + date, "Digest: "}, "", python},
		{"python patches", "PATCH /api/v0/encryption/key/ab12/cd34",
			[]string{"Host: 127.0.0.1:8080", "Content-Length: 29", "Content-type: application/json", "Date: " + date, "Digest: "},
			`{"requested": 2, "actual": 1}`, goPost},
		{"node posts", "POST /api/v0/encryption/key",
			[]string{"user-agent: ubiq-node/2.4.0", "content-type: application/json", "date: " + date, "Digest: ",
				"Host: 127.0.0.1:8080", "Content-Length: 10", "Connection: close"}, `{"uses":1}`, node},
		{"node posts in chunks", "POST /api/v0/encryption/key",
			[]string{"content-type: application/json", "date: " + date, "Digest: ", "Host: 127.0.0.1:8080",
				"Transfer-Encoding: chunked"}, `{"uses":1}`, node},
		{"node gets", "GET /api/v0/ffs?papi=" + keyID + "&ffs_name=SSN",
			[]string{"content-type: application/json", "date: " + date, "Digest: ", "Host: 127.0.0.1:8080"}, "", node},
		{"ruby posts", "POST /api/v0/decryption/key",
			[]string{"content-type: application/json", "date: " + date, "Digest: ", "Host: 127.0.0.1", "Content-Length: 29"},
			`{"encrypted_data_key":"AAAA"}`, node},
		{"java posts without a date", "POST /api/v0/encryption/key",
			[]string{"Digest: ", "Content-Type: application/json; charset=UTF-8", "Content-Length: 10", "Host: 127.0.0.1:8080"},
			`{"uses":1}`, java},
		{"java gets without a date", "GET /api/v0/fpe/def_keys?ffs_name=SSN,ALPHANUM_SSN&papi=" + keyID,
			[]string{"Digest: ", "Content-Type: application/json; charset=UTF-8", "Host: 127.0.0.1:8080"}, "", java},
		{".NET posts to a host without its port", "POST /api/v0/encryption/key",
			[]string{"Host: 127.0.0.1", "Date: " + date, "Digest: ", "Content-Type: application/json; charset=utf-8",
				"Content-Length: 30"}, `{"uses":1,"payload_cert":null}`, goPost},
		{".NET gets from a host without its port", "GET /api/v0/ffs?papi=" + keyID + "&ffs_name=SSN",
			[]string{"Host: 127.0.0.1", "Date: " + date, "Digest: "}, "", goGet},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m := message{line: test.line + " HTTP/1.1", lines: test.lines, body: test.body, params: vectorA().params}
			m = m.digested().signed(test.list)
			if slices.Contains(m.lines, "Transfer-Encoding: chunked") {
				m.body = fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(m.body), m.body)
			}
			got = fmt.Errorf("nothing arrived")
			send(t, server.Listener.Addr().String(), m.String())
			if got != nil {
				t.Errorf("%v, of\n%s", got, m)
			}
			// Sign makes the same of it.
			r := m.read(t)
			order := GoOrder
			switch test.list {
			case node:
				order = NodeOrder
			case java:
				order = JavaOrder
			}
			Sign(r, sha512.Sum512([]byte(test.body)), keyID, signingKey, order, now)
			if got, want := r.Header.Get("Signature"), strings.Join(m.params, ", "); got != want {
				t.Errorf("Sign made the header\n%s, want\n%s", got, want)
			}
		})
	}
}

// send sends one request as it stands and waits for the answer.
func send(t *testing.T, address, text string) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Fatalf("the server answers %s to\n%s", answer.Status, text)
	}
}

// Over HTTP/2 host, target and length come in other ways, and have to come out the same.
func TestHTTP2(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := check(r, signingKey, now); err != nil || r.ProtoMajor != 2 {
			http.Error(w, fmt.Sprintf("%s: %v, %+v", r.Proto, err, r.Header), http.StatusUnauthorized)
		}
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	for _, order := range []Order{GoOrder, NodeOrder, JavaOrder} {
		for _, request := range [][2]string{{"GET", ""}, {"POST", post}, {"POST", ""}, {"PATCH", post}} {
			r, err := http.NewRequest(request[0], server.URL+search+"&raw=a+b,c%2f%2F", strings.NewReader(request[1]))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", "application/json")
			Sign(r, sha512.Sum512([]byte(request[1])), keyID, signingKey, order, now)
			answer, err := server.Client().Do(r)
			if err != nil {
				t.Fatal(err)
			}
			text, _ := io.ReadAll(answer.Body)
			answer.Body.Close()
			if answer.StatusCode != http.StatusOK {
				t.Errorf("%s with %q in the order %s: %s", request[0], request[1], order, text)
			}
		}
	}
}

func TestR19_WhatHolds(t *testing.T) {
	a, c := vectorA(), vectorC()
	tests := map[string]message{
		"headers in another order on the wire": func() message { m := a; m.lines = reversed(m.lines); return m }(),
		"header names in another case":         a.with("Date", "").with("DATE", date),
		"parameters in another order":          func() message { m := a; m.params = reversed(m.params); return m }(),
		"no algorithm":                         a.param(1, ""),
		"no space after a comma":               a.param(1, "").param(1, "").param(0, a.params[0]+","+a.params[2]),
		"a list in another order":              a.signed("host digest date content-type content-length (request-target) (created)"),
		"neither date nor content length":      a.signed("(created) (request-target) content-type digest host"),
		"no more than is required":             c.signed("(created) (request-target) digest host"),
		"more than is required":                c.with("X-Trace", "7").signed("(created) (request-target) digest host x-trace"),
		"no Date, and none in the list":        c.with("Date", "").signed("(created) (request-target) digest host"),
		"as many names as there may be":        manyNames(maxNames),
	}
	for name, m := range tests {
		if err := check(m.read(t), signingKey, now); err != nil {
			t.Errorf("%s: %v, of\n%s", name, err, m)
		}
	}
	for seconds, want := range map[int64]bool{-301: false, -300: true, 0: true, 300: true, 301: false} {
		if err := check(a.read(t), signingKey, now.Add(time.Duration(seconds)*time.Second)); (err == nil) != want {
			t.Errorf("%d s later: %v", seconds, err)
		}
	}
	if err := check(a.read(t), signingKey, now.Add(Skew+time.Nanosecond)); err == nil {
		t.Error("a request a nanosecond too old holds")
	}
}

func reversed(lines []string) []string {
	lines = slices.Clone(lines)
	slices.Reverse(lines)
	return lines
}

// manyNames is a message that signs n headers.
func manyNames(n int) message {
	m, list := vectorC(), "(created) (request-target) digest host"
	for i := range n - 4 {
		name := fmt.Sprintf("x-%d", i)
		m = m.with("X-"+name[2:], "v")
		list += " " + name
	}
	return m.signed(list)
}
