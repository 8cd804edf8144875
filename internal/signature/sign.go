package signature

import (
	"crypto/sha512"
	"net/http"
	"strconv"
	"strings"
	"time"

	"keyctl/internal/credential"
)

// Order is what a client signs and in which order, as it stands in the Signature header; of the headers in it only those
// that a request has.
type Order string

// The orders of the client libraries.
const (
	GoOrder   Order = "(created) (request-target) content-length content-type date digest host" // and C, PHP, Python, .NET
	NodeOrder Order = "content-type date host (created) (request-target) digest"                // and Ruby
	JavaOrder Order = "(created) (request-target) content-type digest host"
)

// Sign signs a request that is about to be sent, and whose body has the SHA-512 body. It sets the headers Digest, Signature
// and, if the order has it, Date. Content-Type, Host and Content-Length are signed as they are in r.
func Sign(r *http.Request, body [sha512.Size]byte, accessKeyID string, signingKey credential.Secret, order Order, now time.Time) {
	r.Header.Set("Digest", string(appendDigest(nil, body)))
	if strings.Contains(string(order), "date") {
		r.Header.Set("Date", now.UTC().Format(http.TimeFormat))
	}
	created := strconv.FormatInt(now.Unix(), 10)
	var names []string
	var text []byte
	for name := range strings.SplitSeq(string(order), " ") {
		if longer, ok := appendLine(text, r, name, created); ok {
			names, text = append(names, name), longer
		}
	}
	r.Header.Set("Signature", `keyId="`+accessKeyID+`", algorithm="`+algorithm+`", created=`+created+
		`, headers="`+strings.Join(names, " ")+`", signature="`+string(appendMAC(nil, signingKey, text))+`"`)
}
