package httpapi

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"keyctl/internal/fault"
)

// plainly has the operation, a POST with a body, served without the router, which takes more time than all the rest of a short
// answer. It is described, admitted to and read by the same rules.
func (op *operation[In, Out]) plainly() *operation[In, Out] {
	op.plain = true
	return op
}

// serve answers a request of an operation that is served plainly.
func (op *operation[In, Out]) serve(s *Server, schema *huma.Schema, w http.ResponseWriter, r *http.Request) {
	g, ok := s.admit(w, r, op.route, true)
	if !ok {
		return
	}
	var in In
	index, _ := bodyOf[In]()
	if refused := s.read(r, g.from.RequestID, schema, reflect.ValueOf(&in).Elem().FieldByIndex(index).Addr().Interface()); refused != nil {
		refused.Write(w)
		return
	}
	ctx := context.WithValue(r.Context(), guestKey{}, g)
	out, err := op.call(ctx, g.service, &in)
	if err != nil {
		s.failed(ctx, g, op.id, err).Write(w)
		return
	}
	w.Header().Set("Content-Type", jsonType)
	if err := marshal(w, out); err != nil { // the connection is gone: what is answered can be written as JSON
		s.Annotate(ctx, slog.String("code", string(fault.Unavailable)))
	}
}

// read reads a body into a value as the router does: at most MaxBody bytes, strictly, and held against the schema.
func (s *Server) read(r *http.Request, requestID string, schema *huma.Schema, into any) *Failure {
	refuse := func(status int, message string, problems ...error) *Failure {
		return unfit(requestID, status, message, problems)
	}
	var found huma.ValidateResult
	for name := range r.URL.Query() {
		found.Errors = append(found.Errors, &huma.ErrorDetail{Location: "query." + name, Message: "unknown query parameter"})
	}
	if len(found.Errors) > 0 {
		return refuse(http.StatusBadRequest, "validation failed", found.Errors...)
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, MaxBody+1))
	var slow net.Error
	switch {
	case len(body) > MaxBody:
		return refuse(http.StatusRequestEntityTooLarge, "")
	case errors.As(err, &slow) && slow.Timeout():
		return refuse(http.StatusRequestTimeout, "the request's body did not come in time")
	case err != nil:
		return refuse(http.StatusBadRequest, "the request's body cannot be read")
	case len(body) == 0:
		return refuse(http.StatusBadRequest, "request body is required")
	}
	var value any
	err = unmarshal(body, &value)
	if err == nil {
		place := huma.NewPathBuffer(make([]byte, 0, 64), 0)
		place.Push("body")
		huma.Validate(s.api.OpenAPI().Components.Schemas, schema, place, huma.ModeWriteToServer, value, &found)
		if len(found.Errors) == 0 {
			err = unmarshal(body, into)
		}
	}
	if err != nil {
		found.Errors = append(found.Errors, &huma.ErrorDetail{Location: "body", Message: err.Error()})
	}
	if len(found.Errors) > 0 {
		return refuse(http.StatusBadRequest, "validation failed", found.Errors...)
	}
	return nil
}
