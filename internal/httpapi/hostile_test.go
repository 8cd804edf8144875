package httpapi_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"keyctl/internal/access"
	"keyctl/internal/credential"
	"keyctl/internal/httpapi"
	"keyctl/internal/keys"
	"keyctl/internal/keys/keystest"
)

// schema is what the API's description says of a value.
type schema struct {
	Ref                  string             `json:"$ref"`
	OneOf                []*schema          `json:"oneOf"`
	Type                 any                `json:"type"` // a word or several
	Format               string             `json:"format"`
	ContentEncoding      string             `json:"contentEncoding"`
	Properties           map[string]*schema `json:"properties"`
	Required             []string           `json:"required"`
	Items                *schema            `json:"items"`
	AdditionalProperties any                `json:"additionalProperties"`
}

// parameter is a part of a path or of a query.
type parameter struct {
	Name     string
	In       string
	Required bool
	Schema   *schema
}

// described is one operation of the description.
type described struct {
	OperationID string
	Summary     string
	Tags        []string
	Security    []map[string][]string
	Parameters  []parameter
	RequestBody *struct {
		Required bool
		Content  map[string]struct{ Schema *schema }
	}
	Responses map[string]struct {
		Description string
		Content     map[string]struct{ Schema *schema }
	}
}

// description is the OpenAPI document, as far as tests read it.
type description struct {
	OpenAPI    string
	Paths      map[string]map[string]described
	Tags       []struct{ Name, Description string }
	Components struct {
		Schemas         map[string]*schema
		SecuritySchemes map[string]any
	}
}

func describe(t testing.TB, s *httpapi.Server) description {
	t.Helper()
	text, err := s.Description()
	if err != nil {
		t.Fatal(err)
	}
	var d description
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// takes reports whether a path takes a method, also as the path of a key that is named like it.
func (d description) takes(path, method string) bool {
	_, listed := d.Paths[path][method]
	if rest, ok := strings.CutPrefix(path, "/v1/keys/"); ok && !strings.Contains(rest, "/") {
		_, named := d.Paths["/v1/keys/{key}"][method]
		listed = listed || named
	}
	return listed
}

// resolve follows a reference.
func (d description) resolve(s *schema) *schema {
	for s.Ref != "" {
		s = d.Components.Schemas[strings.TrimPrefix(s.Ref, "#/components/schemas/")]
	}
	return s
}

// typed is the first type that a schema has.
func (s *schema) typed() string {
	switch types := s.Type.(type) {
	case string:
		return types
	case []any:
		word, _ := types[0].(string)
		return word
	}
	return ""
}

// goodTexts are texts for fields of these names, so that a request is refused for what a test changes and for nothing else.
var goodTexts = map[string]string{
	"type": "unstructured", "role": "ci", "expires_at": "2027-01-01T00:00:00Z", "at": "2026-03-02T00:00:00Z", "address": "192.0.2.1",
	"for": "", "ip_ranges": "192.0.2.0/24", "add_ip_ranges": "192.0.2.0/24", "remove_ip_ranges": "192.0.2.0/24", "algorithm": "AES-256-GCM",
}

// sample makes a value that fits a schema, with every field there is.
func (d description) sample(name string, s *schema) any {
	s = d.resolve(s)
	switch s.typed() {
	case "object":
		o := object{}
		for field, inner := range s.Properties {
			o[field] = d.sample(field, inner)
		}
		if extra, ok := s.AdditionalProperties.(map[string]any); ok && extra["type"] == "string" {
			o["a"] = "b"
		}
		return o
	case "array":
		return []any{d.sample(name, s.Items)}
	case "integer", "number":
		return 1
	case "boolean":
		return false
	}
	if s.ContentEncoding != "" {
		return "AAAA"
	}
	if text, ok := goodTexts[name]; ok {
		return text
	}
	return "web-99"
}

// variants calls yield with every value that differs from v in one place, where a bad value stands or an object has a field
// more. The path names the place.
func variants(v any, place string, yield func(place string, changed any)) {
	for _, bad := range badValues() {
		yield(place+" = "+clipped(string(bad)), bad)
	}
	switch v := v.(type) {
	case object:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			variants(v[name], place+"."+name, func(place string, changed any) {
				o := maps.Clone(v)
				o[name] = changed
				yield(place, o)
			})
			o := maps.Clone(v)
			delete(o, name)
			yield(place+" without "+name, o)
			text, _ := json.Marshal(v)
			again, _ := json.Marshal(object{name: v[name]})
			yield(place+" with "+name+" twice", json.RawMessage(string(text[:len(text)-1])+","+string(again[1:])))
			o[strings.ToUpper(name)] = v[name]
			yield(place+" with "+name+" in capitals", o)
		}
		o := maps.Clone(v)
		o[canaries["signing key"]] = canaries["token"]
		yield(place+" with an unknown field", o)
	case []any:
		for i := range v {
			variants(v[i], place+"["+strconv.Itoa(i)+"]", func(place string, changed any) {
				a := slices.Clone(v)
				a[i] = changed
				yield(place, a)
			})
		}
	}
}

func clipped(text string) string {
	if len(text) > 60 {
		return fmt.Sprintf("%.40q… (%d bytes)", text, len(text))
	}
	return fmt.Sprintf("%q", text)
}

// canaries are secrets that are sent in wrong places and must never come back.
var canaries = map[string]string{
	"signing key": "kcs_CANARYcanaryCANARYcanaryCANARYcanaryCANARYcanaryCANARY00"[:53],
	"crypto key":  "kcx_CANARYcanaryCANARYcanaryCANARYcanaryCANARYcanaryCANARY00"[:53],
	"master key":  "kcm_CANARYcanaryCANARYcanaryCANARYcanaryCANARYcanaryCANARY00"[:53],
	"token":       "kct_CANARYcanaryCANARYcanaryCANARYcanaryCANARYcanaryCANARYcanaryCANARY00"[:65],
}

// checkCanaries looks for them.
func checkCanaries(t *testing.T, where, text string) {
	t.Helper()
	if strings.Contains(strings.ToLower(text), "canary") {
		t.Errorf("%s repeats a secret that was sent: %.2000s", where, text)
	}
}

// badValues are values that belong in no field, or hardly in one.
func badValues() []json.RawMessage {
	quoted := func(text string) json.RawMessage {
		b, _ := json.Marshal(text)
		return b
	}
	values := []json.RawMessage{}
	for _, text := range []string{
		`null`, `true`, `0`, `-1`, `-0`, `1.5`, `1e400`, `-1e400`, `99999999999999999999999999`, `18446744073709551616`, `4294967296`, `1e-9`,
		`[]`, `{}`, `[null]`, `[[]]`, `[{}]`, `{"":""}`, `{"a":null}`, `"\ud800"`, `"\udc00\ud800"`, "\"\xff\xfe\"", "\"a\x00b\"", `"\u0000"`, "\"a\nb\"", `"\x"`,
	} {
		values = append(values, json.RawMessage(text))
	}
	for _, text := range []string{
		"", " ", ".", "..", "../../etc/passwd", "a/b", `a\b`, "%00", "a\u0000b", "\u202ea", "\u200b", "Owner", "owner ", "ｏｗｎｅｒ", "é", "e\u0301", "'; DROP TABLE keys; --",
		"<script>alert(1)</script>", "${jndi:ldap://x}", "{{7*7}}", "=1+1", "\x1b[31m", "KC0000000000000000000000", "key_0000000000000000000000",
		"never", "-1h", "99999999999h", "9999-12-31T23:59:59.999999999Z", "0000-01-01T00:00:00Z", "2026-02-30T00:00:00Z", "99999-01-01T00:00:00Z",
		"0.0.0.0/0", "::/0", "::ffff:1.2.3.4", "fe80::1%eth0", "1.2.3.4/33", "123456", "１２３４５６", strings.Repeat("a", 65), strings.Repeat("é", 300), strings.Repeat("x", 50_000),
	} {
		values = append(values, quoted(text))
	}
	for _, secret := range canaries {
		values = append(values, quoted(secret), quoted(secret+" "), quoted("x"+secret))
	}
	return values
}

// hostile is a store with an object of each kind, its server, and how requests get there.
type hostile struct {
	*served
	*wire
	t       *testing.T
	token   string
	objects map[string]string // by parameter of a path
	sent    int
	codes   map[int]int
}

func newHostile(t *testing.T) *hostile {
	t.Helper()
	clock := keystest.NewClock()
	s := newServed(t, clock.Env(), nil)
	h := &hostile{served: s, wire: &wire{t: t, address: s.address}, t: t, codes: map[int]int{}}
	t.Cleanup(h.hangUp)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, _, err := s.owner.CreateDataset(t.Context(), keys.NewDataset{Name: "files", Type: keys.Unstructured})
	must(err)
	_, err = s.owner.CreateOperator(t.Context(), keys.NewOperator{Name: "bob", Role: access.CI})
	must(err)
	drawn := keystest.Draw(t)
	pending, err := s.owner.CreateKey(t.Context(), keys.NewKey{Name: "web-01", Offer: drawn.Offer})
	must(err)
	_, err = s.owner.Prove(t.Context(), drawn.AccessKeyID, drawn.Proof(pending))
	must(err)
	h.objects = map[string]string{
		"key": pending.KeyID, "access_key_id": drawn.AccessKeyID, "dataset": "files", "primary_key": "files", "operator": "bob",
		"token": mustTokenID(t, s.token(t, "bob")),
	}
	h.token = s.token(t, "").Reveal()
	return h
}

func mustTokenID(t *testing.T, token credential.Secret) string {
	t.Helper()
	id, err := credential.OperatorTokenID(token)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// fill puts the objects' names and ids into a path.
func (h *hostile) fill(path string) string {
	for name, value := range h.objects {
		path = strings.ReplaceAll(path, "{"+name+"}", value)
	}
	return path
}

// look checks an answer: no defect of the server, an error in its own form, and none of the secrets.
func (h *hostile) look(what string, answer message) {
	h.t.Helper()
	h.sent++
	h.codes[answer.status]++
	switch {
	case answer.status >= 500:
		h.t.Errorf("%s: %d %s", what, answer.status, answer.body)
	case answer.status == http.StatusExpectationFailed: // net/http's own, without a body
	case answer.status >= 400:
		checkCanaries(h.t, what, answer.body+fmt.Sprint(answer.header))
		var f struct {
			Error struct {
				Code      string
				Message   string
				RequestID string `json:"request_id"`
			}
		}
		if err := json.Unmarshal([]byte(answer.body), &f); err != nil || f.Error.Code == "" || f.Error.Message == "" || f.Error.RequestID == "" {
			if !strings.HasPrefix(what, "HEAD ") { // which is answered without a body
				h.t.Errorf("%s: %d %q is no failure with a code, a message and a request id", what, answer.status, answer.body)
			}
		}
	}
}

// ask sends a request with the token and looks at the answer.
func (h *hostile) ask(what, method, target string, body []byte, headers ...string) message {
	h.t.Helper()
	answer := h.exchange(raw(method, target, body, append([]string{"Authorization: Bearer " + h.token}, headers...)...))
	h.look(what, answer)
	return answer
}

// done looks at what all of it left behind: in the log, the metrics and the audit log there is no secret and no defect, and
// the server still works.
func (h *hostile) done() {
	h.t.Helper()
	log := h.log(h.t)
	checkCanaries(h.t, "the log", log)
	for _, word := range []string{"broke off", `"level":"ERROR"`, `"level":"WARN"`, "panic"} {
		if at := strings.Index(log, word); at >= 0 {
			h.t.Errorf("the log has %q: %.2000s", word, log[max(0, at-200):])
		}
	}
	checkCanaries(h.t, "the metrics", h.page(h.t, "/metrics"))
	for _, r := range keystest.Events(h.t, h.owner, keys.AuditFilter{}) {
		checkCanaries(h.t, "the audit log", string(r.Record.Body))
	}
	if page := h.page(h.t, "/readyz"); page != "ok\n" {
		h.t.Errorf("afterwards /readyz says %q", page)
	}
	h.t.Logf("%d requests, answered %v", h.sent, h.codes)
}

const jsonHeader = "Content-Type: application/json"

// TestR17_HostileBodies sends to each route, for each field of its body, values of every wrong kind, fields too many, too few
// and twice, and bodies that are no JSON of the right form.
func TestR17_HostileBodies(t *testing.T) {
	oneByOne(t)
	h := newHostile(t)
	d := describe(t, h.api)
	wellFormed := 0
	for path, methods := range d.Paths {
		for method, op := range methods {
			method, target := strings.ToUpper(method), h.fill(path)
			if op.RequestBody == nil {
				for _, body := range []string{"{}", "x", canaries["token"]} {
					for _, header := range []string{jsonHeader, "Content-Type: text/plain"} {
						if a := h.ask(op.OperationID+" with a body", method, target, []byte(body), header); a.status != 400 {
							t.Errorf("%s takes a body: %d", op.OperationID, a.status)
						}
					}
				}
				continue
			}
			good, err := json.Marshal(d.sample("", op.RequestBody.Content["application/json"].Schema))
			if err != nil {
				t.Fatal(err)
			}
			variants(d.sample("", op.RequestBody.Content["application/json"].Schema), op.OperationID+": body", func(place string, changed any) {
				h.ask(place, method, target, rawJSON(changed), jsonHeader)
			})
			for name, body := range bodies(good) {
				status := h.ask(op.OperationID+": "+name, method, target, []byte(body), jsonHeader).status
				if strings.Contains(name, "too large") && status != 413 || !strings.Contains(name, "too large") && status != 400 {
					t.Errorf("%s: %s is answered %d", op.OperationID, name, status)
				}
			}
			for _, header := range []string{
				"X-None: 1", "Content-Type: ", "Content-Type: text/plain", "Content-Type: application/json; charset=utf-8", "Content-Type: Application/JSON",
				"Content-Type: application/x-www-form-urlencoded", "Content-Type: multipart/form-data; boundary=a", "Content-Type: application/cbor",
				"Content-Type: application/json, text/plain", "Content-Type: " + canaries["token"],
			} {
				if a := h.ask(op.OperationID+": "+header, method, target, good, header); a.status != 415 {
					t.Errorf("%s with %q is answered %d, want 415", op.OperationID, header, a.status)
				}
			}
			// The sample itself fits: what the route says of it is about its meaning.
			if a := h.ask(op.OperationID+": the sample", method, target, good, jsonHeader); !strings.Contains(a.body, "does not fit") {
				wellFormed++
			} else {
				t.Errorf("%s: the sample %s does not fit: %s", op.OperationID, good, a.body)
			}
		}
	}
	h.done()
}

// rawJSON encodes a value with the raw parts in it as they are, valid or not.
func rawJSON(v any) []byte {
	switch v := v.(type) {
	case json.RawMessage:
		return v
	case object:
		var fields []string
		for _, name := range slices.Sorted(maps.Keys(v)) {
			quoted, _ := json.Marshal(name)
			fields = append(fields, string(quoted)+":"+string(rawJSON(v[name])))
		}
		return []byte("{" + strings.Join(fields, ",") + "}")
	case []any:
		var items []string
		for _, item := range v {
			items = append(items, string(rawJSON(item)))
		}
		return []byte("[" + strings.Join(items, ",") + "]")
	}
	text, _ := json.Marshal(v)
	return text
}

// bodies are bodies that no route takes, by what is wrong with them.
func bodies(good []byte) map[string]string {
	nested := func(depth int) string { return strings.Repeat(`{"a":`, depth) + "1" + strings.Repeat("}", depth) }
	padded := func(size int) string { return string(good[:len(good)-1]) + strings.Repeat(" ", size-len(good)) + "}" }
	text := string(good)
	return map[string]string{
		"nothing": "", "blanks": " \n", "null": "null", "a text": `"x"`, "a number": "1", "true": "true", "a list": "[]", "a list of it": "[" + text + "]",
		"an open object": "{", "a closed one": "}", "a comma too many": text[:len(text)-1] + ",}", "two values": text + text, "something after it": text + "x",
		"a zero byte after it": text + "\x00", "a byte order mark": "\ufeff" + text, "UTF-16": "\xff\xfe{\x00}\x00", "a comment": "/**/" + text, "single quotes": "{'a':1}",
		"no quotes": "{a:1}", "NaN": `{"a":NaN}`, "bad UTF-8": "{\"\xff\":1}", "a bad UTF-8 value": text[:len(text)-1] + ",\"a\":\"\xc3\x28\"}",
		"17 deep": nested(17), "1000 deep": nested(1000), "10000 lists": strings.Repeat("[", 10_000), "gzip": "\x1f\x8b\x08\x00", "a form": "name=web-01&role=owner",
		"XML": `<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>`, "many fields": manyFields(3000),
		"a huge number": `{"limit":1` + strings.Repeat("0", 60_000) + `}`, "too large by one byte": padded(httpapi.MaxBody + 1), "too large by far": padded(3 << 20),
	}
}

func manyFields(n int) string {
	var fields []string
	for i := range n {
		fields = append(fields, fmt.Sprintf(`"f%d":%d`, i, i))
	}
	return "{" + strings.Join(fields, ",") + "}"
}

// TestR17_LargestBody sends a body of exactly the limit.
func TestR17_LargestBody(t *testing.T) {
	h := newHostile(t)
	body := `{"key":"` + h.objects["key"] + `"`
	body += strings.Repeat(" ", httpapi.MaxBody-len(body)-1) + "}"
	if a := h.ask("the largest body", "POST", "/v1/verify", []byte(body), jsonHeader); a.status != 200 {
		t.Errorf("a body of %d bytes is answered %d: %s", len(body), a.status, a.body)
	}
	h.done()
}

// TestR18_HostilePlaces sends to each route, in each part of its path and of its query, odd characters, secrets and what
// should be elsewhere; and asks for paths that are none, with methods that are none.
func TestR18_HostilePlaces(t *testing.T) {
	oneByOne(t)
	h := newHostile(t)
	d := describe(t, h.api)
	segments := []string{"*", "{key}", ":", "@", ";", ";jsessionid=1", "a;b=c", "..;", "a..b", "~", "'", "%22", "%3Cscript%3E", "%0d%0aX-A:%20b", "%25", "%2500", "%C0%AE", "%EF%BC%8E",
		"%E2%80%AE", "%ED%A0%80", "%F0%9F%98%80", "a%20b", "%20", "+", "$ref", "__proto__", strings.Repeat("a", 300), strings.Repeat("%41", 2000), "KC", "key_", "KC0000", "whoami", "keys"}
	for b := range 256 {
		segments = append(segments, fmt.Sprintf("a%%%02xb", b))
	}
	for _, secret := range canaries {
		segments = append(segments, secret, "x"+secret, secret+"x", url.PathEscape(secret+" "))
	}
	for path, methods := range d.Paths {
		for method, op := range methods {
			method := strings.ToUpper(method)
			body, headers := []byte(nil), []string{}
			if op.RequestBody != nil {
				body, _ = json.Marshal(d.sample("", op.RequestBody.Content["application/json"].Schema))
				headers = []string{jsonHeader}
			}
			if at := strings.Index(path, "{"); at >= 0 {
				end := strings.Index(path, "}")
				for _, segment := range segments {
					h.ask(op.OperationID+" at "+clipped(segment), method, path[:at]+segment+path[end+1:], body, headers...)
				}
				for _, odd := range []string{"", ".", "..", "%2e%2e", "%2E", "a%2fb", "a%2Fb", "%2f", "a//b", `a\b`} {
					target := path[:at] + odd + path[end+1:]
					if a := h.ask(op.OperationID+" at "+target, method, target, body, headers...); a.status != 404 {
						t.Errorf("%s %s is answered %d, want 404", method, target, a.status)
					}
				}
			}
			target := h.fill(path)
			for _, query := range []string{"unknown=1", "token=" + canaries["token"], "access_token=" + canaries["token"], canaries["token"], "code=123456", "%zz", "a;b", "=", "&&&",
				"?", "limit=1&limit=2&x", "%00=%00", url.QueryEscape(canaries["signing key"]) + "=1"} {
				answer := h.ask(op.OperationID+"?"+query, method, target+"?"+query, body, headers...)
				if answer.status < 400 && !strings.Contains("%zz a;b = &&& ?", query) {
					t.Errorf("%s %s?%s is answered %d", method, target, query, answer.status)
				}
			}
			for _, p := range op.Parameters {
				if p.In != "query" {
					continue
				}
				for _, bad := range append([]string{"", "-1", "0", "1001", "1e9", "99999999999999999999", "NaN", "TRUE", "yes", "null", "[]", "%00", "%ff", "a,b", "a=b=c", "%25", "-1h", "999999999999h",
					"[", "*****************************b", "\\", strings.Repeat("a", 5000)}, slices.Collect(maps.Values(canaries))...) {
					h.ask(op.OperationID+"?"+p.Name+"="+clipped(bad), method, target+"?"+p.Name+"="+bad, body, headers...)
				}
				h.ask(op.OperationID+" with "+p.Name+" many times", method, target+"?"+strings.Repeat(p.Name+"=a&", 1000)+"z", body, headers...)
			}
		}
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "get", "FOO", "M-SEARCH", "QUERY"} {
			if d.takes(path, strings.ToLower(method)) || method == "HEAD" && d.takes(path, "get") {
				continue
			}
			a := h.ask(method+" "+path, method, h.fill(path), nil)
			if a.status != 405 || a.header.Get("Allow") == "" {
				t.Errorf("%s %s is answered %d, Allow %q; want 405 with the methods there are", method, path, a.status, a.header.Get("Allow"))
			}
		}
	}
	for _, target := range []string{"/", "/v1", "/v2/keys", "/V1/keys", "/v1/Keys", "/v1/keys/web-01/roll/nothing", "/v1/nothing", "/debug/pprof/", "/debug/vars", "/.git/config", "/.well-known/x",
		"/openapi.yaml", "/openapi-3.0.json", "/schemas/Key.json", "/docs/index.html", "/favicon.ico", "/api/v0/encryption/key", "/v1/operators/alex/..;/alex", "http://other.example.com/nothing"} {
		if a := h.ask(target, "GET", target, nil); a.status != 404 {
			t.Errorf("GET %s is answered %d, want 404: %s", target, a.status, a.body)
		}
	}
	h.done()
}

// TestR17_HostileHeaders sends headers that are odd, contradict each other or pretend something.
func TestR17_HostileHeaders(t *testing.T) {
	h := newHostile(t)
	authorization := "Authorization: Bearer " + h.token
	for _, c := range []struct {
		header string
		status int // 0: any that is no defect
	}{
		{"X-HTTP-Method-Override: DELETE", 200}, {"X-Original-URL: /v1/operators", 200}, {"X-Rewrite-Url: /v1/operators", 200}, {"X-Forwarded-For: 10.0.0.1", 200},
		{"X-Forwarded-Host: evil.example.com", 200}, {"Forwarded: for=10.0.0.1", 200}, {"X-Real-Ip: 10.0.0.1", 200}, {"Request-Id: " + canaries["token"], 200},
		{"Cookie: token=" + canaries["token"], 200}, {"Referer: https://h/?token=" + canaries["token"], 200}, {"User-Agent: " + canaries["signing key"], 200}, {"Origin: https://evil.example.com", 200},
		{"Range: bytes=0-1", 200}, {"If-None-Match: *", 200}, {"If-Modified-Since: Sat, 29 Oct 2033 19:43:31 GMT", 200}, {"Accept: text/html", 0}, {"Accept: application/cbor", 0},
		{"Accept: " + canaries["token"], 0}, {"Accept: */*;q=0", 0}, {"Accept-Encoding: gzip, br", 200}, {"Expect: 100-continue", 200}, {"Expect: 200-ok", 0}, {"Upgrade: h2c", 200},
		{"Connection: Upgrade, HTTP2-Settings", 200}, {"TE: trailers", 200}, {"Trailer: X-A", 0}, {"Content-Encoding: gzip", 200}, {"Content-Type: application/json", 200},
		{"Prefer: respond-async", 200}, {"Date: Sat, 29 Oct 1994 19:43:31 GMT", 200}, {"Keyctl-Version: " + canaries["token"], 200}, {"Keyctl-Api: 99", 200}, {"X-Empty:", 200},
		{"X-Bytes: \x80\xff", 200}, {"X-Long: " + strings.Repeat("a", 10_000), 200},
		{"Authorization: Bearer " + canaries["token"], 0}, // twice
	} {
		answer := h.exchange(raw("GET", "/v1/whoami", nil, authorization, c.header))
		h.look(clipped(c.header), answer)
		if c.status != 0 && answer.status != c.status {
			t.Errorf("with %s: %d, want %d: %s", clipped(c.header), answer.status, c.status, answer.body)
		}
		if origin := answer.header.Get("Access-Control-Allow-Origin"); origin != "" {
			t.Errorf("with %s: other sites' scripts are let in: %q", c.header, origin)
		}
	}
	for _, header := range []string{
		"", "Authorization:", "Authorization: Bearer", "Authorization: Bearer ", "Authorization: bearer", "Authorization: " + h.token, "Authorization: Basic " + h.token,
		"Authorization: Basic a2N0OmtjdA==", "Authorization: Token " + h.token, "Authorization: Bearer\t" + h.token, "Authorization: Bearer " + h.token + "x", "Authorization: Bearer x" + h.token,
		"Authorization: Bearer " + strings.ToUpper(h.token), "Authorization: Bearer " + h.token[:64], "Authorization: Bearer " + h.token + ", Bearer " + h.token, "Authorization: Bearer \"" + h.token + "\"",
		"Authorization: Bearer " + canaries["token"], "Authorization: Bearer " + strings.Repeat("k", 9000), "Authorization: Bearer \x80\xff", "X-Api-Key: " + h.token, "Cookie: " + h.token,
		"Proxy-Authorization: Bearer " + h.token,
	} {
		for _, token := range []string{header, "X-A: b\r\n" + header} {
			if token == "" || strings.HasSuffix(token, "\n") {
				token = "X-A: b"
			}
			answer := h.exchange(raw("GET", "/v1/whoami", nil, token))
			h.look(clipped(token), answer)
			if answer.status != 401 && answer.status != 429 {
				t.Errorf("with %s: %d, want 401: %s", clipped(token), answer.status, answer.body)
			}
			if strings.Contains(answer.body, h.token) {
				t.Errorf("with %s: the answer repeats the token", clipped(token))
			}
		}
	}
	if strings.Contains(h.log(t), h.token) {
		t.Error("the log has the token")
	}
	h.done()
}

// TestR17_HostileFraming sends messages whose length is not what it seems. What net/http answers itself, before there is a
// request, has no form of ours: 400, or 501 for a coding and 505 for a version of HTTP that it does not know (RFC 9110
// sections 15.6.2 and 15.6.6).
func TestR17_HostileFraming(t *testing.T) {
	h := newHostile(t)
	start := "POST /v1/verify HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer " + h.token + "\r\nContent-Type: application/json\r\n"
	body := `{"key":"` + h.objects["key"] + `"}`
	size := strconv.Itoa(len(body))
	for name, c := range map[string]struct {
		request string
		status  int
	}{
		"chunks":                    {start + "Transfer-Encoding: chunked\r\n\r\n" + fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body), 200},
		"a chunk for each byte":     {start + "Transfer-Encoding: chunked\r\n\r\n" + inChunks(body, 1) + "0\r\n\r\n", 200},
		"chunks with trailers":      {start + "Transfer-Encoding: chunked\r\nTrailer: Authorization\r\n\r\n" + inChunks(body, 5) + "0\r\nAuthorization: " + canaries["token"] + "\r\n\r\n", 200},
		"chunks that are too large": {start + "Transfer-Encoding: chunked\r\n\r\n" + inChunks(strings.Repeat(" ", httpapi.MaxBody)+body, 8000) + "0\r\n\r\n", 413},
		"no chunk":                  {start + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
		"a bad length of a chunk":   {start + "Transfer-Encoding: chunked\r\n\r\nxyz\r\n" + body, 400},
		"a huge length of a chunk":  {start + "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n" + body, 400},
		"both lengths":              {start + "Transfer-Encoding: chunked\r\nContent-Length: " + size + "\r\n\r\n" + inChunks(body, 5) + "0\r\n\r\n", 0},
		"two lengths":               {start + "Content-Length: " + size + "\r\nContent-Length: 5\r\n\r\n" + body, 400},
		"a negative length":         {start + "Content-Length: -1\r\n\r\n" + body, 400},
		"a signed length":           {start + "Content-Length: +" + size + "\r\n\r\n" + body, 400},
		"a huge length":             {start + "Content-Length: 99999999999999999999\r\n\r\n" + body, 400},
		"no length":                 {start + "\r\n", 400},
		"a coding it does not know": {start + "Transfer-Encoding: gzip\r\n\r\n" + body, 501},
		"two codings":               {start + "Transfer-Encoding: gzip, chunked\r\n\r\n" + body, 501},
		"no host":                   {"GET /v1/whoami HTTP/1.1\r\n\r\n", 400},
		"two hosts":                 {"GET /v1/whoami HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400},
		"a bad host":                {"GET /v1/whoami HTTP/1.1\r\nHost: " + canaries["token"] + " /\r\n\r\n", 400},
		"a header without a name":   {"GET /v1/whoami HTTP/1.1\r\nHost: h\r\n: " + canaries["token"] + "\r\n\r\n", 400},
		"a header without a colon":  {"GET /v1/whoami HTTP/1.1\r\nHost: h\r\n" + canaries["token"] + "\r\n\r\n", 400},
		"a blank before the colon":  {"GET /v1/whoami HTTP/1.1\r\nHost: h\r\nAuthorization : Bearer " + canaries["token"] + "\r\n\r\n", 400},
		"a folded header":           {"GET /v1/whoami HTTP/1.1\r\nHost: h\r\nX-A: b\r\n c\r\n\r\n", 0},
		"a zero byte in a header":   {"GET /v1/whoami HTTP/1.1\r\nHost: h\r\nX-A: b\x00c\r\n\r\n", 400},
		"a bare return":             {"GET /v1/whoami HTTP/1.1\r\nHost: h\r\nX-A: b\rX-B: c\r\n\r\n", 400},
		"HTTP 1.0":                  {"GET /v1/whoami HTTP/1.0\r\n\r\n", 401},
		"HTTP 2":                    {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 404},
		"HTTP 9":                    {"GET /v1/whoami HTTP/9.9\r\nHost: h\r\n\r\n", 505},
		"no version":                {"GET /v1/whoami\r\nHost: h\r\n\r\n", 400},
		"a blank in the target":     {"GET /v1/who ami HTTP/1.1\r\nHost: h\r\n\r\n", 400},
		"a secret as a method":      {canaries["token"] + " /v1/whoami HTTP/1.1\r\nHost: h\r\n\r\n", 405},
		"a control as a method":     {"\x01 /v1/whoami HTTP/1.1\r\nHost: h\r\n\r\n", 400},
		"a bad escape":              {"GET /v1/keys/%zz HTTP/1.1\r\nHost: h\r\n\r\n", 400},
		"a tunnel":                  {"CONNECT /v1/whoami HTTP/1.1\r\nHost: h\r\n\r\n", 0},
		"a tunnel elsewhere":        {"CONNECT evil.example.com:443 HTTP/1.1\r\nHost: evil.example.com:443\r\n\r\n", 404},
		"the whole server":          {"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", 200},
		"a star":                    {"GET * HTTP/1.1\r\nHost: h\r\n\r\n", 404},
		"no slash":                  {"GET v1/whoami HTTP/1.1\r\nHost: h\r\n\r\n", 400},
		"another scheme":            {"GET ftp://h/v1/whoami HTTP/1.1\r\nHost: h\r\n\r\n", 401},
		"zero bytes":                {"\x00\x00\x00\x00\r\n\r\n", 400},
		"TLS":                       {"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n\r\n", 400},
	} {
		h.hangUp()
		answer := h.exchange([]byte(c.request))
		h.hangUp() // what is left of a request is not the next one
		h.sent++
		h.codes[answer.status]++
		if c.status != 0 && answer.status != c.status || answer.status >= 500 && answer.status != c.status {
			t.Errorf("%s is answered %d, want %d: %s", name, answer.status, c.status, answer.body)
		}
		checkCanaries(t, name, answer.body+fmt.Sprint(answer.header))
	}
	h.done()
}

func inChunks(text string, size int) string {
	var b strings.Builder
	for part := range slices.Chunk([]byte(text), size) {
		fmt.Fprintf(&b, "%x\r\n%s\r\n", len(part), part)
	}
	return b.String()
}
