package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"keyctl/internal/access"
	"keyctl/internal/credential"
	"keyctl/internal/fault"
	"keyctl/internal/keys"
	"keyctl/internal/routes"
)

// Door lets callers in and hears of those who were turned away.
type Door interface {
	// Admit lets the holder of a token in. unauthenticated: the same for every text that is no valid token. rate_limited: too
	// many such from one client.
	Admit(ctx context.Context, token credential.Secret, from keys.Origin) (Admission, error)
	// VerifyFor is Admit, and Verify by whom it admits, as keys.Local has it. unsupported: ask one after the other. With another
	// error the Admission is of who was admitted; without a Service it is nobody's.
	VerifyFor(ctx context.Context, token credential.Secret, from keys.Origin, q keys.Question) (Admission, keys.Verdict, error)
	// Refused is told of a request that ended with an error; who is nil when nobody was admitted.
	Refused(ctx context.Context, who keys.Service, from keys.Origin, action string, err error)
}

// Admission is somebody who was let in, for one request.
type Admission struct {
	Service  keys.Service // acts for him
	Role     access.Role
	Operator string // his name
	Token    string // the id of the token
}

// ServerOptions is what a Server needs. All fields are required.
type ServerOptions struct {
	Door     Door
	Version  string                                        // the program's
	Origin   func(ctx context.Context) keys.Origin         // of the request with this context
	Annotate func(ctx context.Context, attrs ...slog.Attr) // adds to the request's line in the log
}

// Server offers a Service at /v1, its description at /openapi.json and a page about it at /docs. It is an http.Handler.
type Server struct {
	ServerOptions
	mux *routes.Mux
	api huma.API
}

// NewServer makes a Server of the whole table.
func NewServer(options ServerOptions) *Server {
	useOwnErrors()
	s := &Server{ServerOptions: options}
	s.mux = routes.New(s.serveNothing)
	s.api = humago.New(s.mux, s.config())
	for _, op := range table {
		op.register(s)
	}
	describeNulls(s.api.OpenAPI().Components.Schemas)
	description := sync.OnceValues(func() ([]byte, error) { return s.Description() })
	s.mux.HandleFunc("GET /openapi.json", func(w http.ResponseWriter, r *http.Request) {
		text, err := description()
		if err != nil {
			NewFailure(err, s.Origin(r.Context()).RequestID).Write(w)
			return
		}
		w.Header().Set("Content-Type", jsonType)
		_, _ = w.Write(text)
	})
	s.mux.HandleFunc("GET /docs", s.serveReference)
	return s
}

// config is the router's: JSON alone, nothing that it would serve or add by itself.
func (s *Server) config() huma.Config {
	registry := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	for from, to := range textTypes {
		registry.RegisterTypeAlias(from, to)
	}
	c := huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title: "keyctl", Version: apiNumber,
				Description: "Administration of API keys. Every route wants a token (`keyctl tokens create`) whose role has the route's permission.",
				License:     &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"},
				Contact:     &huma.Contact{Name: "The keyctl maintainers"},
			},
			Tags:    groups,
			Servers: []*huma.Server{{URL: "/"}},
			Components: &huma.Components{
				Schemas: registry,
				SecuritySchemes: map[string]*huma.SecurityScheme{
					"token": {Type: "http", Scheme: "bearer", Description: "a token that begins with kct_"},
				},
			},
		},
		Formats: map[string]huma.Format{jsonType: {
			Marshal:   marshal,
			Unmarshal: unmarshal,
		}},
		DefaultFormat: jsonType,
	}
	c.RejectUnknownQueryParameters = true
	return c
}

// marshal writes an answer.
func marshal(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(v)
}

// Description is the OpenAPI 3.1 document of the API.
func (s *Server) Description() ([]byte, error) {
	var text strings.Builder
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	err := encoder.Encode(s.api.OpenAPI())
	return []byte(text.String()), err
}

// ServeHTTP implements http.Handler. What no route takes is answered in the form of everything else.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set(headerAPI, apiNumber)
	w.Header().Set(headerVersion, s.Version)
	if !s.serveUsual(w, r) {
		s.mux.ServeHTTP(w, r)
	}
}

// serveNothing answers a path, or a method of a path, that is not in the table.
func (s *Server) serveNothing(w http.ResponseWriter, r *http.Request, allow string) {
	status, refused := http.StatusNotFound, fault.New(fault.Unsupported, "no such route").WithHint("GET /openapi.json describes the routes")
	if allow != "" {
		w.Header().Set("Allow", allow)
		status, refused = http.StatusMethodNotAllowed, fault.New(fault.Invalid, "this path does not take the method").WithHint("it takes %s", allow)
	}
	NewFailure(refused, s.Origin(r.Context()).RequestID).WithStatus(status).Write(w)
}

// guest is who was admitted to a request.
type guest struct {
	service keys.Service
	from    keys.Origin
}

type guestKey struct{}

func guestOf(ctx context.Context) guest {
	g, _ := ctx.Value(guestKey{}).(guest)
	return g
}

// admits has admit stand before an operation of the router.
func (s *Server) admits(op route, hasBody bool) func(huma.Context, func(huma.Context)) {
	return func(c huma.Context, next func(huma.Context)) {
		r, w := humago.Unwrap(c)
		if g, ok := s.admit(w, r, op, hasBody); ok {
			next(huma.WithValue(c, guestKey{}, g))
		}
	}
}

// admit stands before every operation: it authenticates, then authorises, and only then lets the body be read (but for the usual
// question, which is short). Who is not let in is answered.
func (s *Server) admit(w http.ResponseWriter, r *http.Request, op route, hasBody bool) (g guest, ok bool) {
	ctx := r.Context()
	g.from = s.Origin(ctx)
	admitted, err := s.Door.Admit(ctx, bearer(r.Header.Get("Authorization")), g.from)
	if err != nil {
		s.failed(ctx, g, op.id, err).Write(w)
		return g, false
	}
	g.service = admitted.Service
	s.Annotate(ctx, slog.String("operator", admitted.Operator), slog.String("token", admitted.Token))
	switch kind := r.Header.Get("Content-Type"); {
	case !admitted.Role.May(op.permission):
		err = fault.New(fault.Forbidden, "the role %q has not the permission %q", string(admitted.Role), string(op.permission))
	case hasBody && kind != jsonType:
		s.failed(ctx, g, op.id, unsuitable(http.StatusUnsupportedMediaType, "")).WithStatus(http.StatusUnsupportedMediaType).Write(w)
		return g, false
	case !hasBody && r.ContentLength != 0:
		err = unsuitable(http.StatusBadRequest, "this route takes no body")
	}
	if err != nil {
		s.failed(ctx, g, op.id, err).Write(w)
		return g, false
	}
	return g, true
}

// bearer takes the token out of an Authorization header (RFC 6750 section 2.1); anything else is no token.
func bearer(header string) credential.Secret {
	scheme, token, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return credential.Secret{}
	}
	return credential.NewSecret(strings.TrimSpace(token))
}

// statusGivenUp is the status of a request whose client did not wait for the answer. There is nobody to read it; the log and
// the figures tell it from a defect of the server by it. Others call it the same.
const statusGivenUp = 499

// failed words an error for the caller, notes it in the request's line of the log, and tells the door.
func (s *Server) failed(ctx context.Context, g guest, action string, err error) *Failure {
	givenUp := errors.Is(err, context.Canceled) && ctx.Err() != nil
	if givenUp {
		err = fault.New(fault.Unavailable, "the client gave the request up").WithCause(err)
	}
	f := NewFailure(err, g.from.RequestID)
	if givenUp {
		f.status = statusGivenUp
	}
	s.Annotate(ctx, slog.String("code", string(fault.CodeOf(err))))
	if f.status >= http.StatusInternalServerError {
		s.Annotate(ctx, slog.String("error", credential.MaskTokens(causes(err))))
	}
	s.Door.Refused(ctx, g.service, g.from, action, err)
	return f
}

// causes is an error with what it was made from, for the log.
func causes(err error) string {
	text := err.Error()
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(inner) {
		if t := inner.Error(); !strings.Contains(text, t) {
			text += ": " + t
		}
	}
	return text
}

// useOwnErrors makes the router speak of unfit requests as everything else here does. The router has one such hook for
// the whole program.
var useOwnErrors = sync.OnceFunc(func() {
	huma.NewErrorWithContext = func(c huma.Context, status int, message string, errs ...error) huma.StatusError {
		return unfit(guestOf(c.Context()).from.RequestID, status, message, errs)
	}
	// What the description of the API says errors are.
	huma.NewError = func(status int, message string, errs ...error) huma.StatusError {
		return unfit("", status, message, errs)
	}
})

// unfit words what the router has against a request.
func unfit(requestID string, status int, message string, errs []error) *Failure {
	words := []string{}
	for _, err := range errs {
		var detailed huma.ErrorDetailer
		if errors.As(err, &detailed) {
			words = append(words, worded(detailed.ErrorDetail()))
		}
	}
	if len(words) > 0 {
		message = strings.Join(words, "; ")
	}
	f := NewFailure(unsuitable(status, message), requestID)
	switch status {
	case http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusRequestTimeout:
		f.status = status
	}
	return f
}

// plainPlace is a place in a request that can be repeated: names of fields and numbers of items, too short for a secret.
var plainPlace = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^(?:body|query|path)(?:[.\[][a-z0-9_]{1,32}\]?)*$`)
})

// worded says what is wrong with one part of a request. The library's detail may have the value in it; this has not.
func worded(d *huma.ErrorDetail) string {
	place := d.Location
	if !plainPlace().MatchString(place) {
		place, _, _ = strings.Cut(place, ".")
	}
	return fmt.Sprintf("%s: %s", place, d.Message)
}
