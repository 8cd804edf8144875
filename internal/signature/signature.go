// Package signature proves who sent an HTTP request, in the way of the client libraries: a Signature header in the manner
// of draft-cavage-http-signatures, with HMAC-SHA-512 under the secret signing key. It says what a request must have signed,
// and whether it did. It is pure: time is an argument, and whose key it is and what the key may do is asked elsewhere.
package signature

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha512"
	"encoding/base64"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"keyctl/internal/credential"
	"keyctl/internal/fault"
)

// Skew is how far a request's time of creation may be from the server's, unless the configuration says otherwise. No client
// library tries again with another time, so it has to forgive what a clock without synchronisation does in a few months.
const Skew = 300 * time.Second

// Bounds of the work that somebody unknown can ask for.
const (
	maxNames  = 16       // in the list; the libraries sign seven at most
	maxSigned = 16 << 10 // bytes under the signature, which is all that a server takes in headers
)

// The names in the list that are not names of headers.
const (
	nameCreated = "(created)"
	nameTarget  = "(request-target)"
)

// required is what each request must sign, whatever its list says (R19). The date is not in it because a library sends none,
// and the content type counts only where there is content.
var required = [...]string{nameCreated, nameTarget, "digest", "host"}

// nobody stands for the key of an id that is not known: it takes as much work as a real one.
var nobody = credential.EncodeToken(credential.SigningKey, [32]byte{})

// emptyBody is the SHA-512 of no bytes.
var emptyBody = sha512.Sum512(nil)

// Request is what a request says about itself and has signed, as yet unproven.
type Request struct {
	KeyID string // 24 letters and digits: the access key id of whoever signed, if Check agrees

	signed    []byte // the text under the signature
	signature string
	digest    string
	created   int64 // seconds since 1970
	complete  bool  // all that is required is in the list, and all that is in the list is in the request, once
	typed     bool  // the content type is in the list
}

// Parse reads the signature of a request as a server received it. A Signature header that cannot be understood, and a key
// id that is none, are fault.Invalid, and say nothing about which keys there are; no such header at all is the refusal of
// Check. Everything else that is wrong with a request is left to Check, so that it takes the same work for a known key as for
// an unknown one.
func Parse(r *http.Request) (Request, error) {
	lines := r.Header["Signature"]
	switch len(lines) {
	case 0:
		return Request{}, refused()
	case 1:
	default:
		return Request{}, malformed("there is more than one")
	}
	p, err := parseParameters(lines[0])
	if err != nil {
		return Request{}, err
	}
	if !isKeyID(p.keyID) {
		return Request{}, malformed("its key id is not %d letters and digits", keyIDLength)
	}
	q := Request{KeyID: p.keyID, signature: p.signature}
	// A missing time is one long ago, and Check refuses it as such.
	if p.created != "" {
		if q.created, err = parseCreated(p.created); err != nil {
			return Request{}, err
		}
	}
	if err := q.cover(r, p); err != nil {
		return Request{}, err
	}
	return q, nil
}

// cover writes the text under the signature, strictly as the list in p has it, and notes whether the list covers enough.
func (q *Request) cover(r *http.Request, p parameters) error {
	if p.headers == "" {
		return nil
	}
	var names [maxNames]string
	n := 0
	q.complete = p.algorithm == "" || p.algorithm == algorithm
	q.signed = make([]byte, 0, 512)
	for name := range strings.SplitSeq(p.headers, " ") {
		switch {
		case n == maxNames:
			return malformed("it lists more than %d names", maxNames)
		case !isName(name):
			return malformed("it lists something that is not the name of a header in lower case")
		case slices.Contains(names[:n], name):
			return malformed("it lists a name twice")
		}
		names[n] = name
		n++
		var ok bool
		q.signed, ok = appendLine(q.signed, r, name, p.created)
		q.complete = q.complete && ok
		if len(q.signed) > maxSigned {
			return malformed("it covers more than %d bytes", maxSigned)
		}
	}
	for _, name := range required {
		q.complete = q.complete && slices.Contains(names[:n], name)
	}
	q.typed = slices.Contains(names[:n], "content-type")
	q.digest = r.Header.Get("Digest") // there is one, or the request is not complete
	return nil
}

// Check returns nil if the request was signed with signingKey, covers what it must, and was created at now or at most skew
// away from it. body is the SHA-512 of the body as received. For every other request it returns one and the same
// fault.Unauthenticated after the same work. For a key id that is not known call it with the zero Secret, with which nothing
// is ever signed: so the answer comes neither sooner nor in other words.
//
// It always uses HMAC-SHA-512: the request has no say in the algorithm.
func (q Request) Check(signingKey credential.Secret, body [sha512.Size]byte, now time.Time, skew time.Duration) error {
	known := !signingKey.IsZero()
	if !known {
		signingKey = nobody
	}
	signed := hmac.Equal([]byte(q.signature), appendMAC(make([]byte, 0, encodedSize), signingKey, q.signed))
	intact := hmac.Equal([]byte(q.digest), appendDigest(make([]byte, 0, len(digestPrefix)+encodedSize), body))
	current := now.Sub(time.Unix(q.created, 0)).Abs() <= skew
	typed := q.typed || body == emptyBody
	if known && signed && intact && current && typed && q.complete {
		return nil
	}
	return refused()
}

// encodedSize is the length of a SHA-512 in base64.
const encodedSize = (sha512.Size + 2) / 3 * 4

const digestPrefix = "SHA-512="

// appendDigest appends the value of the Digest header for a body with that SHA-512.
func appendDigest(b []byte, body [sha512.Size]byte) []byte {
	return base64.StdEncoding.AppendEncode(append(b, digestPrefix...), body[:])
}

// appendMAC appends the signature of text. The key is the secret's text as it stands, as it is for the libraries.
func appendMAC(b []byte, signingKey credential.Secret, text []byte) []byte {
	mac := hmac.New(sha512.New, []byte(signingKey.Reveal()))
	mac.Write(text)
	var sum [sha512.Size]byte
	return base64.StdEncoding.AppendEncode(b, mac.Sum(sum[:0]))
}

// appendLine appends the line that stands for a name in the list. It reports false, and appends something that no honest
// client signs, when the request does not have that header exactly once, or has a value that would be more than one line.
func appendLine(b []byte, r *http.Request, name, created string) ([]byte, bool) {
	b = append(append(b, name...), ": "...)
	start := len(b)
	b, ok := appendValue(b, r, name, created)
	ok = ok && bytes.IndexByte(b[start:], '\n') < 0
	return append(b, '\n'), ok
}

func appendValue(b []byte, r *http.Request, name, created string) ([]byte, bool) {
	switch name {
	case nameCreated:
		return append(b, created...), created != ""
	case nameTarget:
		b, ok := appendMethod(b, r.Method)
		target := r.RequestURI
		if target == "" && r.URL != nil {
			target = r.URL.RequestURI() // of a request that is still to be sent
		}
		return append(append(b, ' '), target...), ok && target != ""
	case "host":
		return append(b, r.Host...), r.Host != "" // net/http takes it from the headers
	case "content-length":
		// As net/http understood it. Zero is also what it says of a request without the header.
		present := r.ContentLength > 0 || r.ContentLength == 0 && r.Header["Content-Length"] != nil
		return strconv.AppendInt(b, r.ContentLength, 10), present
	}
	lines := r.Header[http.CanonicalHeaderKey(name)]
	if len(lines) != 1 {
		return b, false
	}
	return append(b, lines[0]...), true
}

// appendMethod appends the method in lower case. One that is not in upper case to begin with is another method to a server
// (RFC 9110 section 9.1), although the same text would stand for it.
func appendMethod(b []byte, method string) ([]byte, bool) {
	for _, c := range []byte(method) {
		if c < 'A' || c > 'Z' {
			return b, false
		}
		b = append(b, c-'A'+'a')
	}
	return b, true
}

// refusal is the one answer to every request that is not proven, whatever is wrong with it.
var refusal = fault.New(fault.Unauthenticated, "the request is not signed with a valid key").
	WithHint("the access key id or the secret signing key is wrong, or the clock is")

// refused returns the refusal, for the caller to keep.
func refused() error {
	e := *refusal
	return &e
}

func malformed(format string, args ...any) error {
	return fault.New(fault.Invalid, "malformed Signature header: "+format, args...)
}
