package dataplane_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha512"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"keyctl/internal/access"
	"keyctl/internal/credential"
	"keyctl/internal/dataplane"
	"keyctl/internal/envelope"
	"keyctl/internal/keys"
	"keyctl/internal/keys/keystest"
	"keyctl/internal/server"
	"keyctl/internal/signature"
	"keyctl/internal/store"
)

// patience is how long something may take on a loaded machine.
const patience = 30 * time.Second

// place is what `keyctl serve` runs for applications: a server with the data plane in it, on a new store.
type place struct {
	*keys.Local
	db      *store.DB
	clock   *keystest.Clock
	phone   *keystest.Authenticator // nil until it is needed
	url     string
	address string
	logFile string
}

// serve serves a new store as cmd does. change may change the options, and between the store and the rules.
func serve(t testing.TB, between func(keys.Store) keys.Store, change func(*server.Options)) *place {
	t.Helper()
	p := &place{clock: keystest.NewClock(), logFile: filepath.Join(t.TempDir(), "log")}
	env := p.clock.Env()
	master, err := envelope.DrawMasterKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "keyctl.db")
	err = store.Create(t.Context(), path, store.Options{}, func(ctx context.Context, db *store.DB) error {
		return keys.Init(ctx, db, master, env)
	})
	if err != nil {
		t.Fatal(err)
	}
	if p.db, err = store.Open(t.Context(), path, store.Options{}); err != nil {
		t.Fatal(err)
	}
	var under keys.Store = p.db
	if between != nil {
		under = between(under)
	}
	if p.Local, err = keys.Open(t.Context(), under, master, env); err != nil {
		t.Fatal(err)
	}
	logFile, err := os.Create(p.logFile)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewJSONHandler(logFile, nil))
	plane, refusals := keys.NewDataPlane(p.Local), keys.NewRefusals(p.Local)
	options := server.Options{
		Listen: "127.0.0.1:0", Ready: p.Writable, Log: log, Now: env.Now, Rand: rand.Reader,
		Handler: dataplane.New(dataplane.Options{
			Plane: plane, Failures: access.NewFailures(), Annotate: server.Annotate, Now: env.Now, Skew: signature.Skew,
			Origin: func(ctx context.Context) keys.Origin {
				address, id := server.Origin(ctx)
				return keys.Origin{Address: address, RequestID: id}
			},
			Refused: func(ctx context.Context, from keys.Origin, action string, refused error) {
				_ = plane.NoteRefusal(ctx, refusals, from, action, refused)
			},
		}),
		Refuse: func(w http.ResponseWriter, r *http.Request, status int, err error) {
			if !dataplane.Refuse(w, r, status, err) {
				t.Errorf("the server refused %s %s, which is no route of an application", r.Method, r.URL.Path)
			}
		},
	}
	if change != nil {
		change(&options)
	}
	s, err := server.New(options)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Serve() = %v", err)
		}
		_ = p.db.Close()
		_ = logFile.Close()
	})
	p.address = s.Address()
	p.url = "http://" + p.address
	return p
}

// log is what the server has written to its log.
func (p *place) log(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile(p.logFile)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// dataset makes an unstructured dataset.
func (p *place) dataset(t testing.TB, name string) {
	t.Helper()
	if _, _, err := p.CreateDataset(t.Context(), keys.NewDataset{Name: name, Type: keys.Unstructured}); err != nil {
		t.Fatalf("CreateDataset(%q) = %v", name, err)
	}
}

// key makes an active key, and the application that has its credential and uses a library.
func (p *place) key(t testing.TB, lib library, name string, datasets ...string) application {
	t.Helper()
	d := keystest.Draw(t)
	pending, err := p.CreateKey(t.Context(), keys.NewKey{Name: name, Datasets: datasets, Offer: d.Offer})
	if err != nil {
		t.Fatalf("CreateKey(%q) = %v", name, err)
	}
	if _, err := p.Prove(t.Context(), d.AccessKeyID, d.Proof(pending)); err != nil {
		t.Fatalf("Prove(%q) = %v", name, err)
	}
	return application{t, p, lib, d}
}

// roll rolls a key, and returns the application with the new credential.
func (p *place) roll(t testing.TB, app application, name string, grace time.Duration) application {
	t.Helper()
	if p.phone == nil {
		p.phone = keystest.Enroll(t, p.Local, p.clock)
	}
	d := keystest.Draw(t)
	pending, err := p.Roll(t.Context(), keys.RollRequest{
		Key: name, Terms: keys.RollTerms{Grace: keys.Grace{For: grace}}, Offer: d.Offer, Code: p.phone.Next(),
	})
	if err != nil {
		t.Fatalf("Roll(%q) = %v", name, err)
	}
	if _, err := p.Prove(t.Context(), d.AccessKeyID, d.Proof(pending)); err != nil {
		t.Fatal(err)
	}
	app.Drawn = d
	return app
}

// library is how a client library speaks.
type library struct {
	name     string
	order    signature.Order
	postType string // content type of a request with a body
	getType  string // of one without; empty: it sends none
	noPort   bool   // in the Host header
	chunked  bool
	pretty   bool // bodies are indented
	noDate   bool
	idFirst  bool // in queries
}

const jsonType = "application/json"

// libraries are all of them.
var libraries = []library{
	{name: "go", order: signature.GoOrder, postType: jsonType},
	{name: "python", order: signature.GoOrder, postType: jsonType, getType: jsonType},
	{name: "node", order: signature.NodeOrder, postType: jsonType, getType: jsonType, idFirst: true},
	{name: "node in chunks", order: signature.NodeOrder, postType: jsonType, getType: jsonType, idFirst: true, chunked: true},
	{name: "java", order: signature.JavaOrder, postType: "application/json; charset=UTF-8", getType: "application/json; charset=UTF-8", noDate: true},
	{name: "c", order: signature.GoOrder, postType: jsonType, pretty: true},
	{name: ".NET", order: signature.GoOrder, postType: "application/json; charset=utf-8", noPort: true, idFirst: true},
	{name: "php", order: signature.GoOrder, postType: jsonType, idFirst: true},
	{name: "ruby", order: signature.NodeOrder, postType: jsonType, getType: jsonType},
}

// goLibrary is the one that tests take when it does not matter.
var goLibrary = libraries[0]

// application has a credential and a library.
type application struct {
	t testing.TB
	*place
	lib library
	keystest.Drawn
}

// received is an answer.
type received struct {
	status int
	proto  string
	header http.Header
	body   string
}

// withWrongSecret is somebody who has the id and another secret signing key.
func (a application) withWrongSecret() application {
	a.t.Helper()
	a.SigningKey = keystest.Draw(a.t).SigningKey
	return a
}

// request makes a request and signs it; target is what stands on the request line. change, which may be nil, spoils what was
// signed.
func (a application) request(method, target, body string, change func(*http.Request)) *http.Request {
	a.t.Helper()
	if a.lib.pretty && body != "" {
		var indented bytes.Buffer
		if json.Indent(&indented, []byte(body), "", "\t") == nil {
			body = indented.String() + "\n"
		}
	}
	r, err := http.NewRequestWithContext(a.t.Context(), method, a.url, strings.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	path, query, _ := strings.Cut(target, "?")
	r.URL = &url.URL{Scheme: "http", Host: a.address, Opaque: path, RawQuery: query}
	r.RequestURI = target // for the signature alone
	if a.lib.noPort {
		r.Host = "127.0.0.1"
	}
	kind := a.lib.getType
	if body != "" {
		kind = a.lib.postType
	}
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	if a.lib.chunked && body != "" {
		r.ContentLength = -1
	}
	signature.Sign(r, sha512.Sum512([]byte(body)), a.AccessKeyID, a.SigningKey, a.lib.order, a.clock.Now())
	r.RequestURI = ""
	if change != nil {
		change(r)
	}
	return r
}

// do sends a request that request made.
func (a application) do(r *http.Request) received {
	a.t.Helper()
	response, err := (&http.Client{Timeout: patience}).Do(r)
	if err != nil {
		a.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	return received{response.StatusCode, response.Proto, response.Header, string(body)}
}

func (a application) post(target, body string) received {
	a.t.Helper()
	return a.do(a.request("POST", target, body, nil))
}

func (a application) get(target string) received {
	a.t.Helper()
	return a.do(a.request("GET", target, "", nil))
}

// query is the query for a dataset, in the library's order, and with more behind it.
func (a application) query(dataset string, more ...string) string {
	parts := []string{"ffs_name=" + dataset, "papi=" + a.AccessKeyID}
	if a.lib.idFirst {
		parts[0], parts[1] = parts[1], parts[0]
	}
	return "?" + strings.Join(append(parts, more...), "&")
}

// wantStatus checks an answer's status.
func wantStatus(t testing.TB, what string, got received, want int) {
	t.Helper()
	if got.status != want {
		t.Errorf("%s: %d %s, want %d", what, got.status, got.body, want)
	}
}

// fields are those of a JSON object, as they stand in it.
func fields(t testing.TB, what, body string) map[string]json.RawMessage {
	t.Helper()
	var f map[string]json.RawMessage
	if err := json.Unmarshal([]byte(body), &f); err != nil {
		t.Fatalf("%s is no JSON object: %v, of %.500s", what, err, body)
	}
	return f
}

// textOf reads a field that has to be text.
func textOf(t testing.TB, f map[string]json.RawMessage, name string) string {
	t.Helper()
	var s string
	if err := json.Unmarshal(f[name], &s); err != nil || len(f[name]) == 0 || f[name][0] != '"' {
		t.Fatalf("%s is %.200s, want text", name, f[name])
	}
	return s
}

// bytesOf reads a field that has to be base64.
func bytesOf(t testing.TB, f map[string]json.RawMessage, name string) []byte {
	t.Helper()
	var b []byte
	if err := json.Unmarshal(f[name], &b); err != nil || len(b) == 0 {
		t.Fatalf("%s is %.200s, want base64", name, f[name])
	}
	return b
}

// dataKey opens what a server wrapped for the application.
func (a application) dataKey(pem string, wrapped []byte) []byte {
	a.t.Helper()
	private, err := credential.OpenPrivateKey([]byte(pem), a.CryptoAccessKey)
	if err != nil {
		a.t.Fatal(err)
	}
	plain, err := credential.Unwrap(private, wrapped)
	if err != nil {
		a.t.Fatal(err)
	}
	return plain
}

// audited are the events in the audit log with an action.
func (p *place) audited(t testing.TB, action string) []keys.AuditRecord {
	t.Helper()
	var found []keys.AuditRecord
	for _, r := range keystest.Events(t, p.Local, keys.AuditFilter{}) {
		if r.Event.Action == action {
			found = append(found, r)
		}
	}
	return found
}

// number is n as it stands in a query.
func number(n int) string { return "key_number=" + strconv.Itoa(n) }
