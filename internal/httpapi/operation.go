package httpapi

import (
	"context"
	"net/http"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"keyctl/internal/access"
	"keyctl/internal/fault"
	"keyctl/internal/keys"
)

// repeats says what a repetition of a request does, which decides what the client does about a lost answer (R27, R32).
type repeats int

const (
	reads    repeats = iota // changes nothing, so that a lost answer is all that was lost
	harmless                // a change that its arguments make idempotent
	counts                  // each one counts: after a lost answer only a look tells
)

// route is what an operation says of itself: the one row of the table that server, client and matrix of permissions share.
type route struct {
	id, method, path, summary string
	permission                access.Permission
	repeats                   repeats
}

// operation is a route together with what goes in and comes out. In has fields for the parts of the path (`path:"…"`), of
// the query (`query:"…"`), and a Body.
type operation[In, Out any] struct {
	route
	call func(ctx context.Context, s keys.Service, in *In) (Out, error)
}

// define makes an operation and puts it into the table.
func define[In, Out any](id, method, path string, p access.Permission, r repeats, summary string,
	call func(ctx context.Context, s keys.Service, in *In) (Out, error)) *operation[In, Out] {
	op := &operation[In, Out]{route{id, method, path, summary, p, r}, call}
	table = append(table, op)
	return op
}

// table has every operation, in the order they are defined.
var table []interface {
	describe() route
	register(*Server)
}

func (op *operation[In, Out]) describe() route { return op.route }

// answer is what the router sends.
type answer[Out any] struct{ Body Out }

// register offers the operation on a server.
func (op *operation[In, Out]) register(s *Server) {
	_, hasBody := bodyOf[In]()
	described := huma.Operation{
		OperationID: op.id, Method: op.method, Path: op.path, Summary: op.summary, Tags: []string{tagOf(op.id)},
		Description:  "Permission: `" + string(op.permission) + "`.",
		MaxBodyBytes: MaxBody + 1, // the router refuses what reaches the bound
		Security:     []map[string][]string{{"token": {}}},
		Responses: map[string]*huma.Response{
			"401":     s.failing("The token is not valid, or not any more."),
			"403":     s.failing("The role has not the permission, or an authenticator code is needed or wrong."),
			"default": s.failing("It failed; the code says how."),
		},
		Middlewares: huma.Middlewares{s.admits(op.route, hasBody)},
	}
	huma.Register(s.api, described, func(ctx context.Context, in *In) (*answer[Out], error) {
		guest := guestOf(ctx)
		out, err := op.call(ctx, guest.service, in)
		if err != nil {
			return nil, s.failed(ctx, guest, op.id, err)
		}
		return &answer[Out]{out}, nil
	})
}

// failing describes an answer that is a Failure.
func (s *Server) failing(description string) *huma.Response {
	schema := s.api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[Failure](), true, "")
	return &huma.Response{Description: description, Content: map[string]*huma.MediaType{jsonType: {Schema: schema}}}
}

// groups says what the groups of operations are about, in the order of the reference.
var groups = []*huma.Tag{
	{Name: "keys", Description: "API keys: make, show, change, roll, end."},
	{Name: "credentials", Description: "The generations of a key's secrets, until they are proven."},
	{Name: "rolls", Description: "Rolls whose old credential still works."},
	{Name: "verify", Description: "Whether a credential would be let in, and why."},
	{Name: "datasets", Description: "Datasets, and the keys that reach them."},
	{Name: "usage", Description: "How often keys were used."},
	{Name: "primary-keys", Description: "The root keys of datasets, in versions."},
	{Name: "operators", Description: "Who administers, with which role."},
	{Name: "tokens", Description: "What lets operators in."},
	{Name: "whoami", Description: "Whom the token lets in."},
	{Name: "otp", Description: "One's second factor."},
	{Name: "audit", Description: "The log of every change and every refusal."},
}

// tagOf groups operations: by the first part of their ids.
func tagOf(id string) string {
	group, _, _ := strings.Cut(id, ".")
	return group
}

// nothing is the answer of an operation that has none to give.
type nothing struct{}

// none is the input of an operation that takes none.
type none struct{}

// unsuitable is a request that the table does not have: what the router says of it, in our words. Values never come back,
// and places in the body only where they cannot be a secret.
func unsuitable(status int, message string) *fault.Error {
	switch status {
	case http.StatusRequestEntityTooLarge:
		return fault.New(fault.Invalid, "the request's body is larger than %d bytes", MaxBody)
	case http.StatusUnsupportedMediaType:
		return fault.New(fault.Invalid, "the content type is not %s", jsonType)
	}
	return fault.New(fault.Invalid, "the request does not fit: %s", message).WithHint("GET /openapi.json describes every request")
}
