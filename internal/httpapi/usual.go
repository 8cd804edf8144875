package httpapi

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"strings"

	"keyctl/internal/credential"
	"keyctl/internal/fault"
)

// Gateways ask one question at every request: may the holder of this signing key come in, from there? It is read here and answered
// with one look at the store, where the router would need as long as all the rest. Whatever is not just that question, and whoever
// may not ask it, goes through the router like every other request, which knows what to say of it.

// maxUsual is how long the question is at most, in bytes.
const maxUsual = 1 << 10

// isUsual reports whether a request may ask the question, as far as its head tells. Only who has something like a token has the body
// read before he was admitted, and as much of it as nobody could fill memory with.
func isUsual(r *http.Request) bool {
	if r.URL.Path != verify.path || r.Method != verify.method || r.URL.RawQuery != "" || r.Header.Get("Content-Type") != jsonType ||
		r.ContentLength < 1 || r.ContentLength > maxUsual || r.Header.Get("Expect") != "" {
		return false
	}
	token := bearer(r.Header.Get("Authorization"))
	return strings.HasPrefix(token.Reveal(), string(credential.OperatorToken))
}

// serveUsual answers a request if it asks the question that gateways ask mostly; otherwise it reports false, and the request is as
// it was.
func (s *Server) serveUsual(w http.ResponseWriter, r *http.Request) bool {
	if !isUsual(r) {
		return false
	}
	body := make([]byte, r.ContentLength)
	n, err := io.ReadFull(r.Body, body)
	unread := func() bool {
		r.Body = partRead{io.MultiReader(bytes.NewReader(body[:n]), r.Body), r.Body}
		return false
	}
	if err != nil {
		// The failure has ended the context, and the router does not read the body before it has looked who asks.
		unread()
		routed := r.WithContext(context.WithoutCancel(r.Context()))
		s.mux.ServeHTTP(w, routed)
		r.Pattern = routed.Pattern
		return true
	}
	asked, ok := usualQuestion(body)
	if !ok {
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
	if g.service = admitted.Service; g.service != nil {
		s.Annotate(r.Context(), slog.String("operator", admitted.Operator), slog.String("token", admitted.Token))
	}
	if err != nil {
		s.failed(r.Context(), g, verify.id, err).Write(w)
		return true
	}
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
