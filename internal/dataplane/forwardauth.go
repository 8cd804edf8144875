package dataplane

import (
	"log/slog"
	"net/http"
	"net/url"
	"strings"

	"keyctl/internal/credential"
	"keyctl/internal/fault"
	"keyctl/internal/keys"
)

// The headers in which forward-auth names who was let in, for the gateway to pass on.
const (
	headerKey         = "Keyctl-Key"
	headerAccessKeyID = "Keyctl-Access-Key-Id"
	headerDatasets    = "Keyctl-Datasets" // separated by commas
)

// forwardAuth answers a gateway that asks whether the caller may pass: 200 if the Authorization header holds a credential that
// is let in (Basic: access key id and secret signing key, RFC 7617), and into the dataset that the query names if it names one.
// It answers nothing but 200, 401, 403 and 503, for a gateway takes any other status for a fault of its own, and never 200 on
// any doubt.
func (s *Server) forwardAuth(w http.ResponseWriter, r *http.Request) {
	from := s.Origin(r.Context())
	pass, err := s.enter(r, from)
	if err == nil {
		s.Annotate(r.Context(), slog.String("access_key_id", pass.AccessKeyID))
		w.Header().Set(headerKey, pass.Key)
		w.Header().Set(headerAccessKeyID, pass.AccessKeyID)
		w.Header().Set(headerDatasets, strings.Join(pass.Datasets, ","))
		w.WriteHeader(http.StatusOK)
		return
	}
	s.tell(r.Context(), from, "forward-auth", err)
	switch fault.CodeOf(err) {
	case fault.Unauthenticated:
		w.Header().Set("WWW-Authenticate", `Basic realm="keyctl", charset="UTF-8"`)
		w.WriteHeader(http.StatusUnauthorized)
	case fault.Forbidden:
		w.WriteHeader(http.StatusForbidden)
	default:
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}

func (s *Server) enter(r *http.Request, from keys.Origin) (keys.Pass, error) {
	dataset, err := askedFor(r.URL.RawQuery)
	if err != nil {
		return keys.Pass{}, err
	}
	claim := keys.Claim{From: from, Proves: func(credential.Secret) bool { return false }}
	if len(r.Header.Values("Authorization")) == 1 { // with two, who is behind the gateway might believe the other one
		if id, secret, ok := r.BasicAuth(); ok {
			claim.AccessKeyID, claim.Proves = id, credential.NewSecret(secret).Equal
		}
	}
	return s.Plane.Enter(r.Context(), claim, dataset)
}

// askedFor reads the query, which a gateway's configuration has. A mistake in it, such as a name that a variable should have
// given, must not let in whom the right one would have kept out, so everything but one dataset with a name is refused.
func askedFor(query string) (dataset string, err error) {
	values, err := url.ParseQuery(query)
	if err == nil && len(values) == 0 {
		return "", nil
	}
	names := values["dataset"]
	if err != nil || len(values) != 1 || len(names) != 1 || names[0] == "" {
		return "", fault.New(fault.Forbidden, "the query has something other than one dataset")
	}
	return names[0], nil
}
