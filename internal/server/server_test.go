package server

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"keyctl/internal/fault"
)

// patience is how long something may take on a loaded machine.
const patience = 30 * time.Second

// journal is a log that is read while it is written.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(b)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// lines are the lines with a message.
func (j *journal) lines(t *testing.T, message string) (found []map[string]any) {
	t.Helper()
	for line := range strings.Lines(j.String()) {
		fields := map[string]any{}
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Fatalf("the log has a line that is no JSON: %q", line)
		}
		if fields["msg"] == message {
			found = append(found, fields)
		}
	}
	return found
}

// running is a server that serves.
type running struct {
	*Server
	log   *journal
	url   string
	stop  func()     // begins the stop
	ended chan error // has what Serve returned
}

// options are the usual ones of a test: a handler, and what a server needs.
func options(handler http.Handler, log *journal) Options {
	return Options{
		Listen: "127.0.0.1:0", Handler: handler, Now: time.Now, Rand: rand.Reader, Log: slog.New(slog.NewJSONHandler(log, nil)),
		Ready: func(context.Context) error { return nil },
		Refuse: func(w http.ResponseWriter, r *http.Request, status int, err error) {
			_, requestID := Origin(r.Context())
			w.WriteHeader(status)
			fmt.Fprintf(w, "refused %s %s", fault.CodeOf(err), requestID)
		},
	}
}

// start starts a server; change may change its options and limits.
func start(t testing.TB, handler http.Handler, change func(*Options, *limits)) *running {
	t.Helper()
	r := &running{log: &journal{}, ended: make(chan error, 1)}
	o, l := options(handler, r.log), usual
	if change != nil {
		change(&o, &l)
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	s.limits = l
	ctx, cancel := context.WithCancel(context.Background())
	r.Server, r.stop, r.url = s, cancel, "http://"+s.Address()
	if o.CertFile != "" {
		r.url = "https://" + s.Address()
	}
	go func() { r.ended <- s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-r.ended:
			r.ended <- err
		case <-time.After(patience):
			t.Error("the server does not stop")
		}
	})
	return r
}

// get asks for a path and returns status, header and body.
func (r *running) get(t testing.TB, path string) (*http.Response, string) {
	t.Helper()
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get(r.url + path)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(body)
}

// waitForLines waits until the log has so many lines with a message; a line is written after its answer.
func (r *running) waitForLines(t *testing.T, message string, n int) []map[string]any {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		lines := r.log.lines(t, message)
		if len(lines) >= n {
			return lines
		}
		if time.Now().After(deadline) {
			t.Fatalf("the log has %d lines %q, want %d:\n%s", len(lines), message, n, r.log)
		}
	}
}

func saying(text string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) })
}

func TestR24_RefusedOptions(t *testing.T) {
	good := newFiles(t)
	for _, c := range []struct {
		name   string
		change func(*Options)
		want   fault.Code
	}{
		{"plain HTTP on every address", func(o *Options) { o.Listen = ":0" }, fault.Invalid},
		{"plain HTTP on 0.0.0.0", func(o *Options) { o.Listen = "0.0.0.0:0" }, fault.Invalid},
		{"plain HTTP on ::", func(o *Options) { o.Listen = "[::]:0" }, fault.Invalid},
		{"plain HTTP on an address of the network", func(o *Options) { o.Listen = "192.0.2.1:0" }, fault.Invalid},
		{"plain HTTP on a name", func(o *Options) { o.Listen = "localhost.example.com:0" }, fault.Invalid},
		{"no port", func(o *Options) { o.Listen = "127.0.0.1" }, fault.Invalid},
		{"no address", func(o *Options) { o.Listen = "" }, fault.Invalid},
		{"a certificate without a key", func(o *Options) { o.CertFile = good.cert }, fault.Invalid},
		{"a key without a certificate", func(o *Options) { o.KeyFile = good.key }, fault.Invalid},
		{"a certificate and a proxy that speaks TLS", func(o *Options) { o.CertFile, o.KeyFile, o.BehindProxy = good.cert, good.key, true }, fault.Invalid},
		{"files that are not there", func(o *Options) { o.CertFile, o.KeyFile = good.cert+"x", good.key }, fault.NotFound},
		{"files the wrong way round", func(o *Options) { o.CertFile, o.KeyFile = good.key, good.cert }, fault.Invalid},
		{"another header", func(o *Options) { o.ForwardedHeader = "X-Real-Ip" }, fault.Invalid},
		{"another spelling of it", func(o *Options) { o.ForwardedHeader = "x-forwarded-for" }, fault.Invalid},

		{"loopback", func(*Options) {}, ""},
		{"loopback by name", func(o *Options) { o.Listen = "localhost:0" }, ""},
		{"TLS everywhere", func(o *Options) { o.Listen, o.CertFile, o.KeyFile = "127.0.0.1:0", good.cert, good.key }, ""},
		{"behind a proxy", func(o *Options) {
			o.BehindProxy, o.TrustedProxies = true, []netip.Prefix{netip.MustParsePrefix("10.0.0.1/32")}
		}, ""},
	} {
		o := options(saying(""), &journal{})
		c.change(&o)
		s, err := New(o)
		if fault.CodeOf(err) != c.want {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
		if err == nil {
			_ = s.Close()
		}
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	o := options(saying(""), &journal{})
	o.Listen = taken.Addr().String()
	if _, err := New(o); !fault.Is(err, fault.Unavailable) {
		t.Errorf("a taken port: %v, want %q", err, fault.Unavailable)
	}
}

func TestR50_StopLetsRequestsEnd(t *testing.T) {
	entered, release := make(chan bool, 1), make(chan bool)
	s := start(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		entered <- true
		<-release
		_, _ = io.WriteString(w, "done")
	}), nil)
	type result struct {
		body string
		err  error
	}
	answers := make(chan result, 1)
	go func() {
		response, err := http.Get(s.url + "/slow")
		if err != nil {
			answers <- result{"", err}
			return
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		answers <- result{string(body), err}
	}()
	<-entered
	s.stop()
	// New connections are refused as soon as the stop has begun.
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		conn, err := net.Dial("tcp", s.Address())
		if err != nil {
			break
		}
		conn.Close()
		if time.Now().After(deadline) {
			t.Fatal("the server still takes connections")
		}
	}
	select {
	case err := <-s.ended:
		t.Fatalf("the server stopped while a request ran: %v", err)
	default:
	}
	close(release)
	if got := <-answers; got.err != nil || got.body != "done" {
		t.Errorf("the running request got %q, %v", got.body, got.err)
	}
	if err := <-s.ended; err != nil {
		t.Errorf("Serve() = %v", err)
	}
	s.ended <- nil
}

// TestR50_StopIsBounded has a request that never ends: it is cut off, and the error says so.
func TestR50_StopIsBounded(t *testing.T) {
	if usual.stop > 10*time.Second {
		t.Errorf("a stop takes up to %v, want 10 s", usual.stop)
	}
	entered, never := make(chan bool, 1), make(chan bool)
	defer close(never)
	s := start(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		entered <- true
		<-never
	}), func(_ *Options, l *limits) { l.stop = 50 * time.Millisecond })
	cut := make(chan error, 1)
	go func() {
		response, err := http.Get(s.url + "/slow")
		if err == nil {
			response.Body.Close()
		}
		cut <- err
	}()
	<-entered
	s.stop()
	if err := <-s.ended; !fault.Is(err, fault.Unavailable) {
		t.Errorf("Serve() = %v, want %q", err, fault.Unavailable)
	}
	if err := <-cut; err == nil {
		t.Error("the request that never ends was answered")
	}
	s.ended <- nil
}

func TestR50_Readiness(t *testing.T) {
	var mu sync.Mutex
	var trouble error
	asked := 0
	now := time.Unix(1_800_000_000, 0)
	set := func(err error, later time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		trouble, now = err, now.Add(later)
	}
	s := start(t, saying(""), func(o *Options, _ *limits) {
		o.Ready = func(context.Context) error {
			mu.Lock()
			defer mu.Unlock()
			asked++
			return trouble
		}
		o.Now = func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			return now
		}
	})
	want := func(when, path string, status int) {
		t.Helper()
		if response, body := s.get(t, path); response.StatusCode != status || status == 200 && body != "ok\n" {
			t.Errorf("%s: %s = %d %q, want %d", when, path, response.StatusCode, body, status)
		}
	}
	want("at first", "/readyz", 200)
	set(errors.New("SECRET: the disk is full"), keepReadiness-1)
	want("a moment later", "/readyz", 200)
	set(errors.New("SECRET: the disk is full"), 1)
	want("a second later", "/readyz", 503)
	want("the same second", "/readyz", 503)
	want("all the while", "/healthz", 200)
	if _, body := s.get(t, "/readyz"); strings.Contains(body, "SECRET") {
		t.Errorf("the answer says too much: %q", body)
	}
	set(nil, -time.Hour) // a clock that was set back does not freeze the answer
	want("after the trouble", "/readyz", 200)
	if asked != 3 {
		t.Errorf("the store was asked %d times, want 3", asked)
	}
}

func TestRequestIDs(t *testing.T) {
	s := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		address, id := Origin(r.Context())
		fmt.Fprint(w, address, " ", id)
	}), nil)
	form := regexp.MustCompile(`^req_[0-9A-Za-z]{22}$`)
	seen := map[string]bool{}
	for range 50 {
		response, body := s.get(t, "/")
		id := response.Header.Get("Request-Id")
		if !form.MatchString(id) || seen[id] || body != "127.0.0.1 "+id {
			t.Fatalf("the id %q of a request whose handler says %q", id, body)
		}
		seen[id] = true
		if response.Header.Get("Cache-Control") != "no-store" || response.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Fatalf("headers %v", response.Header)
		}
	}
	for _, line := range s.waitForLines(t, "request", 50) {
		if id := fmt.Sprint(line["request_id"]); !seen[id] {
			t.Errorf("the log has the id %q, which no answer had", id)
		}
	}
	if address, id := Origin(t.Context()); address.IsValid() || id != "" {
		t.Errorf("Origin() outside of a request = %v, %q", address, id)
	}
	Annotate(t.Context(), slog.String("a", "b")) // does nothing
}

// TestR2_LogLine sends something secret in every part of a request and looks for it in the log, and for nothing more than
// what belongs there.
func TestR2_LogLine(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /things/{thing}", func(w http.ResponseWriter, r *http.Request) {
		Annotate(r.Context(), slog.String("operator", "ann"))
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(201)
		_, _ = io.WriteString(w, "CANARY")
	})
	s := start(t, mux, nil)
	request, err := http.NewRequest("POST", s.url+"/things/CANARY?token=CANARY", strings.NewReader("CANARY"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"Authorization", "Cookie", "User-Agent", "Referer", "X-Forwarded-For", "Request-Id", "X-Request-Id", "X-Canary", "Origin"} {
		request.Header.Set(name, "CANARY")
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	line := s.waitForLines(t, "request", 1)[0]
	if strings.Contains(strings.ToUpper(s.log.String()), "CANARY") {
		t.Errorf("the log repeats the request: %s", s.log)
	}
	for name, want := range map[string]any{
		"route": "POST /things/{thing}", "status": 201.0, "bytes": 6.0, "address": "127.0.0.1", "operator": "ann", "level": "INFO",
		"request_id": response.Header.Get("Request-Id"),
	} {
		if line[name] != want {
			t.Errorf("%s is %v, want %v", name, line[name], want)
		}
		delete(line, name)
	}
	for _, name := range []string{"time", "msg", "duration_ms"} {
		if line[name] == nil {
			t.Errorf("the line has no %s", name)
		}
		delete(line, name)
	}
	if len(line) > 0 {
		t.Errorf("the line also has %v", line)
	}
}

// TestMetrics asks for many paths in many ways: the figures are those of Prometheus's text form, and their labels are a few
// known words.
func TestMetrics(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /things/{thing}", func(w http.ResponseWriter, r *http.Request) {
		if r.PathValue("thing") == "7" {
			w.WriteHeader(404)
		}
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) })
	s := start(t, mux, nil)
	for i := range 100 {
		s.get(t, fmt.Sprintf("/things/%d?q=%d", i, i))
		s.get(t, fmt.Sprintf("/elsewhere/%d/%%22%%0a", i))
	}
	s.get(t, "/things//7")
	for _, method := range []string{"PROPFIND", "FOO", "DELETE"} {
		request, _ := http.NewRequest(method, s.url+"/things/1", nil)
		if response, err := http.DefaultClient.Do(request); err == nil {
			response.Body.Close()
		}
	}
	s.waitForLines(t, "request", 204)
	_, text := s.get(t, "/metrics")
	sample := regexp.MustCompile(`^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{((?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*",?[ ]?)*)\})? (-?[0-9.e+-]+|NaN|[+-]Inf)$`)
	known := regexp.MustCompile(`^(?:route="(?:GET /things/\{thing\}|GET /healthz|GET /readyz|GET /metrics|none)"|code="[1-5]xx"|le="[^"]*"|` +
		`quantile="[^"]*"|[a-z_]+="[a-z0-9_./-]*")$`)
	count := map[string]string{}
	label := regexp.MustCompile(`[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\]|\\.)*"`)
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "#") || line == "" {
			continue
		}
		parts := sample.FindStringSubmatch(line)
		if parts == nil {
			t.Fatalf("no line of a metric: %q", line)
		}
		for _, l := range label.FindAllString(parts[2], -1) {
			if strings.HasPrefix(parts[1], "keyctl_") && !known.MatchString(l) {
				t.Errorf("the label %s of %s is not one of the known ones", l, parts[1])
			}
		}
		if strings.HasPrefix(parts[1], "keyctl_http_requests_total") {
			count[parts[2]] = parts[3]
		}
	}
	for labels, want := range map[string]string{
		`route="GET /things/{thing}",code="2xx"`: "99", `route="GET /things/{thing}",code="4xx"`: "1", `route="none",code="4xx"`: "104",
	} {
		if count[labels] != want {
			t.Errorf("%s is %q, want %s; there are %v", labels, count[labels], want, count)
		}
	}
	if !strings.Contains(text, "keyctl_http_requests_in_flight 1\n") {
		t.Error("the request for the metrics itself is not in flight")
	}
}
