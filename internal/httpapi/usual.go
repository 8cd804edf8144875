package httpapi

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"

	"keyctl/internal/fault"
)

// Gateways ask one question at every request: may the holder of this signing key come in, from there? It is read here and answered
// with one look at the store, where the router would need as long as all the rest. Whatever is not just that question, or is
// refused, goes through the router like every other request, which knows what to say of it.

// maxUsual is how long the question is at most, in bytes.
const maxUsual = 1 << 10

// serveUsual answers a request if it asks the question that gateways ask mostly; otherwise it reports false, and the request is as
// it was.
func (s *Server) serveUsual(w http.ResponseWriter, r *http.Request) bool {
	if r.URL.Path != verify.path || r.Method != verify.method || r.URL.RawQuery != "" || r.ContentLength < 1 || r.ContentLength > maxUsual ||
		r.Header.Get("Content-Type") != jsonType {
		return false
	}
	body := make([]byte, r.ContentLength)
	n, err := io.ReadFull(r.Body, body)
	unread := func() bool {
		r.Body = partRead{io.MultiReader(bytes.NewReader(body[:n]), r.Body), r.Body}
		return false
	}
	asked, ok := usualQuestion(body)
	if err != nil || !ok {
		return unread()
	}
	question, err := asked.question()
	if err != nil {
		return unread()
	}
	g := guest{from: s.Origin(r.Context())}
	admitted, verdict, err := s.Door.VerifyFor(r.Context(), bearer(r.Header.Get("Authorization")), g.from, question)
	if fault.Is(err, fault.Unsupported) {
		return unread()
	}
	r.Pattern = verify.method + " " + verify.path
	if err != nil {
		s.failed(r.Context(), g, verify.id, err).Write(w)
		return true
	}
	s.Annotate(r.Context(), slog.String("operator", admitted.Operator), slog.String("token", admitted.Token))
	w.Header().Set("Content-Type", jsonType)
	_ = marshal(w, verdictBody{Verdict: verdict}) // if it fails, nobody is there any more
	return true
}

// partRead is a request's body whose beginning was read before.
type partRead struct {
	io.Reader
	io.Closer
}

// usualQuestion reads the question: an object of an access key id, its secret signing key, and perhaps an address, each once, in
// ASCII without escapes. It reports false for all else, JSON or not.
func usualQuestion(body []byte) (q questionBody, ok bool) {
	left := body
	take := func(c byte) bool {
		left = bytes.TrimLeft(left, " \t\r\n")
		if len(left) == 0 || left[0] != c {
			return false
		}
		left = left[1:]
		return true
	}
	text := func() string { // never empty; or it was none
		if !take('"') {
			return ""
		}
		for i, c := range left {
			switch {
			case c == '"':
				found := left[:i]
				left = left[i+1:]
				return string(found)
			case c < ' ' || c > '~' || c == '\\':
				return ""
			}
		}
		return ""
	}
	for more := take('{'); more; more = take(',') {
		var field *string
		switch text() {
		case "access_key_id":
			field = &q.AccessKeyID
		case "secret_signing_key":
			field = &q.SigningKey
		case "address":
			field = &q.Address
		}
		if field == nil || *field != "" || !take(':') {
			return questionBody{}, false
		}
		if *field = text(); *field == "" {
			return questionBody{}, false
		}
	}
	ok = take('}') && len(bytes.TrimLeft(left, " \t\r\n")) == 0 && q.AccessKeyID != "" && q.SigningKey != ""
	return q, ok
}
