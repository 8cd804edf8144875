package server

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"keyctl/internal/credential"
	"keyctl/internal/fault"
	"keyctl/internal/iprange"
)

// request is what is known of a request beside itself.
type request struct {
	id      string
	address netip.Addr

	mu    sync.Mutex
	attrs []slog.Attr
}

type requestKey struct{}

// Origin is where a request came from, and its id. It is for handlers: outside of a request both are zero.
func Origin(ctx context.Context) (address netip.Addr, requestID string) {
	r, _ := ctx.Value(requestKey{}).(*request)
	if r == nil {
		return netip.Addr{}, ""
	}
	return r.address, r.id
}

// Annotate adds to the request's line in the log.
func Annotate(ctx context.Context, attrs ...slog.Attr) {
	r, _ := ctx.Value(requestKey{}).(*request)
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.attrs = append(r.attrs, attrs...)
}

// handler puts around the options' Handler what every request gets.
func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { sayOK(w) })
	mux.HandleFunc("GET /readyz", s.serveReady)
	mux.HandleFunc("GET /metrics", s.metrics.serve)
	mux.Handle("/", s.options.Handler)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.serve(mux, w, r) })
}

func sayOK(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("ok\n"))
}

// serve answers one request, counts it and writes its line in the log: who, what, how it went. What was in its path, its
// query, its headers and its body stays out of the log.
func (s *Server) serve(next http.Handler, w http.ResponseWriter, r *http.Request) {
	begun := time.Now()
	id, err := credential.DrawID(s.options.Rand, "req_")
	known := &request{id: id}
	r = r.WithContext(context.WithValue(r.Context(), requestKey{}, known))
	out := &recorder{ResponseWriter: w}
	headers := out.Header()
	headers.Set("Request-Id", id)
	headers.Set("Cache-Control", "no-store")
	headers.Set("X-Content-Type-Options", "nosniff")
	s.metrics.begin()
	defer func() {
		problem := recover()
		begunToAnswer := out.status != 0
		if problem != nil {
			s.panicked(out, r, known, problem)
		}
		s.finish(out, r, known, time.Since(begun))
		if problem != nil && begunToAnswer {
			panic(http.ErrAbortHandler) // or half an answer would look like a whole one
		}
	}()
	if err == nil {
		known.address, err = s.clientAddress(r)
	}
	switch {
	case err != nil:
		Annotate(r.Context(), slog.String("code", string(fault.CodeOf(err))))
		s.options.Refuse(out, r, http.StatusBadRequest, err)
	case isOddPath(r.URL):
		s.options.Refuse(out, r, http.StatusNotFound, fault.New(fault.Unsupported, "no such route").WithHint("paths are written without . and .. and empty parts"))
	default:
		next.ServeHTTP(out, r)
	}
}

// clientAddress tells whose request it is.
func (s *Server) clientAddress(r *http.Request) (netip.Addr, error) {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}, fault.New(fault.Invalid, "the peer's address cannot be told").WithCause(err)
	}
	return iprange.ClientAddress(peer.Addr(), s.options.TrustedProxies, s.options.ForwardedHeader, r.Header.Values(s.options.ForwardedHeader))
}

// isOddPath finds paths that a proxy and this program could read differently (R18). They are not cleaned but refused. A
// backslash is only in the raw path as it came; encoded it is a part of names.
func isOddPath(u *url.URL) bool {
	lower := strings.ToLower(u.EscapedPath())
	if strings.Contains(lower, "%2f") || strings.Contains(lower, "%2e") || strings.Contains(u.RawPath, `\`) || !strings.HasPrefix(lower, "/") {
		return true
	}
	for i, part := range strings.Split(lower, "/") {
		if part == "." || part == ".." || part == "" && i > 0 && lower != "/" {
			return true
		}
	}
	return false
}

// panicked answers a request whose handler broke off. The server goes on.
func (s *Server) panicked(w *recorder, r *http.Request, known *request, problem any) {
	s.options.Log.LogAttrs(r.Context(), slog.LevelError, "a handler broke off", slog.String("request_id", known.id),
		slog.String("route", routeOf(r)), slog.String("problem", credential.MaskTokens(fmt.Sprint(problem))), slog.String("stack", string(debug.Stack())))
	if w.status == 0 {
		s.options.Refuse(w, r, http.StatusInternalServerError, fault.New(fault.Internal, "internal error"))
	}
}

// finish counts a request and writes its line.
func (s *Server) finish(w *recorder, r *http.Request, known *request, took time.Duration) {
	status := w.status
	if status == 0 {
		status = http.StatusOK
	}
	s.metrics.end(routeOf(r), status, took)
	known.mu.Lock()
	defer known.mu.Unlock()
	attrs := append([]slog.Attr{
		slog.String("request_id", known.id), slog.String("route", routeOf(r)), slog.Int("status", status),
		slog.Float64("duration_ms", float64(took.Microseconds())/1000), slog.Int64("bytes", w.written),
		slog.String("address", addressText(known.address)),
	}, known.attrs...)
	s.options.Log.LogAttrs(r.Context(), slog.LevelInfo, "request", attrs...)
}

func addressText(address netip.Addr) string {
	if !address.IsValid() {
		return ""
	}
	return address.String()
}

// routeOf is the pattern that took a request, never its path: that may hold anything, and each would be a metric of its own.
func routeOf(r *http.Request) string {
	if r.Pattern == "" || r.Pattern == "/" {
		return "none"
	}
	return r.Pattern
}

// recorder remembers how a request was answered.
type recorder struct {
	http.ResponseWriter
	status  int
	written int64
}

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(b)
	w.written += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// readiness is the answer of Options.Ready, kept for a moment so that asking loads nothing.
type readiness struct {
	check func(context.Context) error
	now   func() time.Time

	mu    sync.Mutex
	asked time.Time
	err   error
}

// How long an answer is kept, and how long one may take.
const (
	keepReadiness = time.Second
	readyTimeout  = 5 * time.Second
)

func (r *readiness) get(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	if age := now.Sub(r.asked); r.asked.IsZero() || age < 0 || age >= keepReadiness {
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), readyTimeout)
		defer cancel()
		r.err, r.asked = r.check(bounded), now
	}
	return r.err
}

func (s *Server) serveReady(w http.ResponseWriter, r *http.Request) {
	if err := s.ready.get(r.Context()); err != nil {
		Annotate(r.Context(), slog.String("error", err.Error()))
		s.options.Refuse(w, r, http.StatusServiceUnavailable, fault.New(fault.Unavailable, "the store cannot be written to now"))
		return
	}
	sayOK(w)
}
