package dataplane

import (
	"net/http"
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
	id, secret, _ := r.BasicAuth()
	signingKey := credential.NewSecret(secret)
	pass, err := s.Plane.Enter(r.Context(), keys.Claim{AccessKeyID: id, From: from, Proves: signingKey.Equal}, r.URL.Query().Get("dataset"))
	if err == nil {
		w.Header().Set(headerKey, pass.Key)
		w.Header().Set(headerAccessKeyID, pass.AccessKeyID)
		w.Header().Set(headerDatasets, strings.Join(pass.Datasets, ","))
		w.WriteHeader(http.StatusOK)
		return
	}
	s.Refused(r.Context(), from, "forward-auth", err)
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
