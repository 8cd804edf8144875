// Package dataplane is what applications call with their credentials: the routes of the client libraries, which sign their
// requests, and forward-auth, with which a gateway asks whether a caller may pass. It speaks their protocol and decides nothing:
// keys.DataPlane does, anew for every request. Nobody administers anything here.
package dataplane

import (
	"context"
	"crypto/sha512"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"keyctl/internal/access"
	"keyctl/internal/credential"
	"keyctl/internal/fault"
	"keyctl/internal/iprange"
	"keyctl/internal/keys"
	"keyctl/internal/routes"
	"keyctl/internal/signature"
)

const (
	// maxBody bounds the body of a request for keys, and maxTracking that of a report of use (R17).
	maxBody     = 64 << 10
	maxTracking = 1 << 20
	// maxLarge is how many bodies above maxBody are in memory at once. They come before it is known from whom.
	maxLarge = 16
)

// Options is what a Server needs. All fields are required.
type Options struct {
	Plane    *keys.DataPlane
	Failures *access.Failures // whoever fails too often is told to wait
	// Refused is told of every request that was not let do what it asked; action names that.
	Refused  func(ctx context.Context, from keys.Origin, action string, err error)
	Origin   func(ctx context.Context) keys.Origin         // of the request with this context
	Annotate func(ctx context.Context, attrs ...slog.Attr) // adds to the request's line in the log
	Now      func() time.Time
	Skew     time.Duration // how far a request's time of creation may be away
}

// Server is an http.Handler of all routes. It has to see requests as they were sent: paths and queries are signed byte for byte.
type Server struct {
	Options
	mux   *routes.Mux
	large chan struct{} // has an element for each large body in memory
}

// New makes a Server.
func New(o Options) *Server {
	s := &Server{Options: o, mux: routes.New(unknown), large: make(chan struct{}, maxLarge)}
	s.signed("POST /api/v0/encryption/key", "data-keys.encrypt", maxBody, s.encryptionKey)
	s.signed("POST /api/v0/decryption/key", "data-keys.decrypt", maxBody, s.decryptionKey)
	s.signed("PATCH /api/v0/encryption/key/{fingerprint}/{session}", "data-keys.report", maxBody, s.reported)
	s.signed("PATCH /api/v0/decryption/key/{fingerprint}/{session}", "data-keys.report", maxBody, s.reported)
	s.signed("GET /api/v0/ffs", "datasets.show", maxBody, s.record)
	s.signed("GET /api/v0/fpe/key", "data-keys.structured", maxBody, s.structuredKey)
	s.signed("GET /api/v0/fpe/def_keys", "data-keys.structured", maxBody, s.structuredKeys)
	s.signed("POST /api/v3/tracking/events", "usage.track", maxTracking, s.track)
	s.mux.HandleFunc(forwardAuthPath, s.forwardAuth)
	return s
}

const (
	wirePath        = "/api/"
	forwardAuthPath = "/v1/forward-auth"
)

// Patterns are the parts of a URL's path under which the server has routes.
func Patterns() []string { return []string{wirePath, forwardAuthPath} }

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// unknown answers a path, or a method of a path, that is no route.
func unknown(w http.ResponseWriter, _ *http.Request, allow string) {
	if allow == "" {
		fail(w, http.StatusNotFound, "no such route")
		return
	}
	w.Header().Set("Allow", allow)
	fail(w, http.StatusMethodNotAllowed, "the route does not take this method")
}

// Refuse answers a request that a server turns away before it gets as far as its handler, in the words of the route that it was
// for. It reports false, and answers nothing, if that is none of this package.
func Refuse(w http.ResponseWriter, r *http.Request, status int, err error) bool {
	path := r.URL.Path
	switch {
	case path == forwardAuthPath || strings.HasPrefix(path, forwardAuthPath+"/"):
		if status < http.StatusInternalServerError {
			w.WriteHeader(http.StatusForbidden)
		} else {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	case strings.HasPrefix(path, wirePath):
		_, message := worded(fault.CodeOf(err), err)
		fail(w, status, message)
	default:
		return false
	}
	return true
}

// call is a request whose body was read and whose signature was parsed, as yet unproven.
type call struct {
	*http.Request
	claim keys.Claim
	body  []byte
}

// answer is what a route has to say. A nil body is none.
type answer struct {
	status int
	body   any
}

// signed adds a route whose requests are signed.
func (s *Server) signed(pattern, action string, limit int64, handle func(call) (answer, error)) {
	s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		from := s.Origin(r.Context())
		var a answer
		var c call
		err := s.reserve(r, limit)
		if err == nil {
			defer s.free(r, limit)
			c, err = s.read(r, from, limit)
		}
		if err == nil {
			s.Annotate(r.Context(), slog.String("access_key_id", c.claim.AccessKeyID))
			if a, err = handle(c); fault.Is(err, fault.Invalid) {
				// What is wrong with a request is only for who proved that it is his.
				if _, refused := s.Plane.Enter(c.Context(), c.claim, ""); refused != nil {
					err = refused
				}
			}
		}
		if err != nil {
			s.refuse(w, r, from, action, err)
			return
		}
		if a.body == nil {
			w.WriteHeader(a.status)
			return
		}
		write(w, a.status, a.body)
	})
}

// reserve lets few requests at a time have a large body: on all connections that a server takes, they would fill the memory.
// unavailable: there are enough, and this one should come again. After a nil free is called.
func (s *Server) reserve(r *http.Request, limit int64) error {
	if !isLarge(r, limit) {
		return nil
	}
	select {
	case s.large <- struct{}{}:
		return nil
	default:
		return fault.New(fault.Unavailable, "too many large requests at once")
	}
}

func (s *Server) free(r *http.Request, limit int64) {
	if isLarge(r, limit) {
		<-s.large
	}
}

// isLarge reports whether the body of a request may be larger than that of a request for keys. A length of -1 is not known.
func isLarge(r *http.Request, limit int64) bool {
	return limit > maxBody && (r.ContentLength < 0 || r.ContentLength > maxBody)
}

// read reads a request's signature and body.
func (s *Server) read(r *http.Request, from keys.Origin, limit int64) (call, error) {
	q, err := signature.Parse(r)
	if err != nil {
		return call{}, err
	}
	if r.ContentLength > limit {
		return call{}, errTooLarge
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, limit+1))
	switch {
	case err != nil:
		return call{}, fault.New(fault.Invalid, "the body could not be read")
	case int64(len(body)) > limit:
		return call{}, errTooLarge
	}
	sum := sha512.Sum512(body)
	now := s.Now()
	return call{r, keys.Claim{
		AccessKeyID: q.KeyID, From: from,
		Proves: func(signingKey credential.Secret) bool { return q.Check(signingKey, sum, now, s.Skew) == nil },
	}, body}, nil
}

var errTooLarge = fault.New(fault.Invalid, "the body is too large")

// decode reads a JSON body as leniently as the libraries' differ: fields that are not known are passed over.
func (c call) decode(into any) error {
	if err := json.Unmarshal(c.body, into); err != nil {
		return fault.New(fault.Invalid, "the body is not the JSON that was expected")
	}
	return nil
}

// refuse words an error for a client library (and only its kind), and tells who has to know.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, from keys.Origin, action string, err error) {
	code := fault.CodeOf(err)
	if code == fault.Unauthenticated && s.Failures.Count(iprange.Client(from.Address), s.Now()) {
		code = fault.RateLimited
		err = fault.New(code, "too many requests of this client were not authenticated").WithCause(err)
	}
	s.tell(r.Context(), from, action, err)
	status, message := worded(code, err)
	if errors.Is(err, errTooLarge) {
		status = http.StatusRequestEntityTooLarge
	}
	w.Header().Set(headerCode, string(code))
	fail(w, status, message)
}

// tell has a refusal written down where it belongs. What the answer does not say of a failure of the server is in its log.
func (s *Server) tell(ctx context.Context, from keys.Origin, action string, err error) {
	code := fault.CodeOf(err)
	s.Annotate(ctx, slog.String("code", string(code)))
	s.Refused(ctx, from, action, err)
	if status, _ := worded(code, err); status >= http.StatusInternalServerError {
		s.Annotate(ctx, slog.String("error", credential.MaskTokens(err.Error())))
	}
}

// worded turns a code into a status and a message. Who has not proven a credential gets one and the same answer. The message
// of anything that is not about the request stays in the log.
func worded(code fault.Code, err error) (status int, message string) {
	text := err.Error()
	if f := fault.From(err); f != nil {
		text = f.Message
	}
	switch code {
	case fault.Unauthenticated:
		return http.StatusUnauthorized, "the credential is not valid"
	case fault.NotFound: // as not permitted: what exists is nobody's business
		return http.StatusUnauthorized, text
	case fault.Forbidden:
		return http.StatusForbidden, text
	case fault.Invalid:
		return http.StatusBadRequest, text
	case fault.RateLimited:
		return http.StatusTooManyRequests, text
	case fault.Internal:
		return http.StatusInternalServerError, "internal error"
	}
	return http.StatusServiceUnavailable, "the server cannot decide now; try again"
}

// headerCode is the header in which a refusal of a signed request has its code, for Client. Libraries look at the status alone,
// which is the same for several of them.
const headerCode = "Keyctl-Code"

// failure is the body of every answer that is an error.
type failure struct {
	Status  int    `json:"status"`
	Message string `json:"message"`
}

// fail answers with an error. A library passes messages through a format function, so there is no percent sign in them, and
// they are one line of ASCII.
func fail(w http.ResponseWriter, status int, message string) {
	plain := strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' || c == '%' {
			return '?'
		}
		return c
	}, message)
	write(w, status, failure{status, plain})
}

// write answers with JSON.
func write(w http.ResponseWriter, status int, body any) {
	text, err := json.Marshal(body)
	if err != nil { // of fixed types, which all can be encoded
		status, text = http.StatusInternalServerError, []byte(`{"status":500,"message":"internal error"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(text)
}
