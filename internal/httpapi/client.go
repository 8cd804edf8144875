package httpapi

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

	"keyctl/internal/credential"
	"keyctl/internal/fault"
	"keyctl/internal/keys"
	"keyctl/internal/transport"
)

// ClientOptions says where a server is and who asks.
type ClientOptions struct {
	Server  string            // https://HOST[:PORT][/PREFIX]; http:// only for a loopback host
	Token   credential.Secret // lets the caller in
	Roots   *x509.CertPool    // whose certificates are trusted; nil: the system's
	Timeout time.Duration     // of one call, with what is repeated in it; positive
	Version string            // of the program
}

// Client is the keys.Service of a server. It keeps the promises of the interface over a network that loses answers: what
// its arguments make idempotent it repeats, and of the rest it says outcome_unknown, never that nothing happened (R32).
//
// Besides the codes of the Service a call may fail with unauthenticated, unavailable, outcome_unknown, rate_limited and
// unsupported (the server is of another version).
type Client struct {
	options ClientOptions
	base    *url.URL
	http    *http.Client
}

var _ keys.Service = (*Client)(nil)

// The attempts of a call, and the longest pause after the first one; each further pause may be twice as long.
const (
	attempts   = 5
	firstPause = 100 * time.Millisecond
)

// NewClient makes a Client. It connects to nothing yet. invalid: the address is none, or plain HTTP would leave the machine.
func NewClient(o ClientOptions) (*Client, error) {
	base, err := transport.ParseServer(o.Server)
	if err != nil {
		return nil, err
	}
	return &Client{options: o, base: base, http: transport.NewClient(o.Roots)}, nil
}

// Close gives up idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

func (c *Client) place() string { return transport.Place(c.base) }

// on calls the operation. A lost answer makes it repeat the call where the operation is harmless to repeat.
func (op *operation[In, Out]) on(ctx context.Context, c *Client, in In) (Out, error) {
	return op.send(ctx, c, in, op.repeats)
}

// once calls the operation and does not repeat it, whatever it is otherwise.
func (op *operation[In, Out]) once(ctx context.Context, c *Client, in In) (Out, error) {
	return op.send(ctx, c, in, counts)
}

// repeatedly calls the operation with arguments that make it harmless to repeat.
func (op *operation[In, Out]) repeatedly(ctx context.Context, c *Client, in In) (Out, error) {
	return op.send(ctx, c, in, harmless)
}

func (op *operation[In, Out]) send(ctx context.Context, c *Client, in In, repeat repeats) (out Out, err error) {
	path, query, err := placeOf(op.path, reflect.ValueOf(in))
	if err != nil {
		return out, err
	}
	var body []byte
	if value, ok := bodyOf[In](); ok {
		if body, err = json.Marshal(reflect.ValueOf(in).FieldByIndex(value).Interface()); err != nil {
			return out, fault.New(fault.Invalid, "the request cannot be written as JSON").WithHint("years go from 1 to 9999").WithCause(err)
		}
	}
	answer, err := c.call(ctx, op.route, repeat, path, query, body)
	if err != nil {
		return out, err
	}
	if err := json.Unmarshal(answer, &out); err != nil {
		strange := c.strange("an answer to " + op.id)
		if repeat != reads {
			return out, c.inDoubt(op.route, strange)
		}
		return out, strange
	}
	return out, nil
}

// bodyOf finds the Body of an input.
func bodyOf[In any]() (index []int, ok bool) {
	f, ok := reflect.TypeFor[In]().FieldByName("Body")
	return f.Index, ok
}

// sizeOf is how much of a body a value takes.
func sizeOf(v any) int {
	text, err := json.Marshal(v)
	if err != nil {
		return MaxBody
	}
	return len(text) + 1
}

// placeOf fills in a path and makes the query from an input's fields.
func placeOf(path string, in reflect.Value) (filled string, query url.Values, err error) {
	query = url.Values{}
	for i := range in.NumField() {
		field, value := in.Type().Field(i), in.Field(i)
		if field.Anonymous {
			var inner url.Values
			if path, inner, err = placeOf(path, value); err != nil {
				return "", nil, err
			}
			for name, values := range inner {
				query[name] = values
			}
		} else if name := field.Tag.Get("path"); name != "" {
			segment, err := segmentOf(name, value.String())
			if err != nil {
				return "", nil, err
			}
			path = strings.Replace(path, "{"+name+"}", segment, 1)
		} else if name, _, _ := strings.Cut(field.Tag.Get("query"), ","); name != "" && !value.IsZero() {
			query[name] = queryTexts(value)
		}
	}
	return path, query, nil
}

// segmentOf writes a name or an id as part of a path. What cannot be either is nowhere, and least of all does a secret go
// into a path, which proxies log.
func segmentOf(what, text string) (string, error) {
	what = strings.NewReplacer("primary_key", "Primary Key", "access_key_id", "credential", "_", " ").Replace(what)
	switch {
	case credential.MaskTokens(text) != text:
		return "", fault.New(fault.NotFound, "no such %s; what was given looks like a secret, not a name or an id", what)
	case text == "" || text == "." || text == ".." || strings.ContainsAny(text, `/\`) && what != "operator" || strings.ContainsFunc(text, unicode.IsControl):
		return "", fault.New(fault.NotFound, "no %s %q", what, text)
	}
	return strings.ReplaceAll(url.PathEscape(text), "/", "%2F"), nil
}

func queryTexts(value reflect.Value) []string {
	switch value.Kind() {
	case reflect.Slice:
		texts := make([]string, value.Len())
		for i := range texts {
			texts[i] = value.Index(i).String()
		}
		return texts
	case reflect.Bool:
		return []string{strconv.FormatBool(value.Bool())}
	case reflect.Int:
		return []string{strconv.FormatInt(value.Int(), 10)}
	}
	return []string{value.String()}
}

// call sends a request until there is an answer or no more sense in it.
func (c *Client) call(ctx context.Context, r route, repeat repeats, path string, query url.Values, body []byte) ([]byte, error) {
	bounded, cancel := context.WithTimeout(ctx, c.options.Timeout)
	defer cancel()
	inDoubt := false // an attempt may have been carried out, whatever became of later ones
	for attempt := 1; ; attempt++ {
		answer, fate, err := c.attempt(bounded, r, path, query, body)
		switch {
		case err == nil:
			return answer, nil
		case fate == answered && !(inDoubt && saysNothing(err)):
			return nil, err
		}
		inDoubt = inDoubt || repeat != reads && (fate == unknown || fate == garbled)
		if cause := ctx.Err(); cause != nil && !inDoubt {
			return nil, cause
		}
		again := fate == unsent && !isHopeless(err) || fate == unknown && repeat != counts
		switch {
		case again && attempt < attempts && rest(bounded, attempt):
		case inDoubt:
			return nil, c.inDoubt(r, err)
		default:
			return nil, transport.Lost(c.base, err)
		}
	}
}

// saysNothing finds the failures by which a repeated request tells nothing about the one before: it did not get as far as
// the rules that would have known it again.
func saysNothing(err error) bool {
	switch code := fault.CodeOf(err); code {
	case fault.Unauthenticated, fault.Forbidden, fault.Internal, fault.Unsupported, fault.StoreDamaged, fault.SchemaNewer,
		fault.MasterKeyMissing, fault.MasterKeyWrong, fault.NoStore:
		return true
	default:
		return code.Retryable()
	}
}

// isHopeless finds the failures of the network that another attempt meets again.
func isHopeless(err error) bool {
	var lookup *net.DNSError
	return errors.As(err, &lookup) && lookup.IsNotFound || errors.Is(err, http.ErrSchemeMismatch)
}

// rest waits before another attempt, and reports whether there is time for one.
func rest(ctx context.Context, attempt int) bool {
	longest := firstPause << (attempt - 1)
	select {
	case <-ctx.Done():
		return false
	case <-time.After(longest/2 + rand.N(longest/2)):
		return true
	}
}

// fate is what became of a request.
type fate int

const (
	unsent   fate = iota // it surely did nothing
	unknown              // it may have been carried out
	garbled              // it may have been, and a repetition would get the same unreadable answer
	answered             // the server said what it did
)

// attempt sends a request once.
func (c *Client) attempt(ctx context.Context, r route, path string, query url.Values, body []byte) ([]byte, fate, error) {
	connected := false
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected = true }})
	address := c.base.Scheme + "://" + c.base.Host + c.base.EscapedPath() + path
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	request, err := http.NewRequestWithContext(traced, r.method, address, bytes.NewReader(body))
	if err != nil {
		return nil, unsent, fault.New(fault.Invalid, "the server's address does not make a request").WithCause(err)
	}
	if body != nil {
		request.Header.Set("Content-Type", jsonType)
	}
	request.Header.Set("Authorization", "Bearer "+c.options.Token.Reveal())
	request.Header.Set("User-Agent", "keyctl/"+c.options.Version)
	request.Header.Set(headerVersion, c.options.Version)
	response, err := c.http.Do(request)
	if err != nil {
		if untrusted := transport.Untrusted(c.base, err); untrusted != nil {
			return nil, answered, untrusted
		}
		if connected {
			return nil, unknown, err
		}
		return nil, unsent, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err != nil {
		return nil, unknown, err
	}
	if len(answer) > maxAnswer {
		return nil, garbled, c.strange("a shorter answer")
	}
	return c.read(response, answer)
}

// read tells an answer from a failure, and both from what is no answer of a keyctl server. What is between here and there
// may have answered in its place, with or without having passed the request on.
func (c *Client) read(response *http.Response, answer []byte) ([]byte, fate, error) {
	kind, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
	status := response.StatusCode
	switch number := response.Header.Get(headerAPI); {
	case number == "" && (status >= http.StatusInternalServerError || status == http.StatusRequestTimeout):
		return nil, unknown, fault.New(fault.Unavailable, "%s answered %d %s", c.place(), status, http.StatusText(status)).
			WithHint("this was not keyctl but what is in front of it: look there, then retry")
	case number == "" && status >= 300 && status < 400 && response.Header.Get("Location") != "":
		return nil, answered, c.redirected(response)
	case number == "" && status == http.StatusBadRequest && c.base.Scheme == "http":
		return nil, answered, c.strange("a header " + headerAPI).WithHint("perhaps it wants TLS: then its address begins with https://")
	case number == "":
		return nil, oddly(status), c.strange("a header " + headerAPI)
	case number != apiNumber:
		return nil, oddly(status), c.skewed(response)
	case status == http.StatusNoContent:
		return []byte("{}"), answered, nil
	case kind != jsonType:
		return nil, oddly(status), c.strange(jsonType)
	case status < 300:
		return answer, answered, nil
	}
	var f Failure
	if err := json.Unmarshal(answer, &f); err != nil || f.Detail.Code == "" {
		return nil, oddly(status), c.strange("an error with a code")
	}
	switch f.Detail.Code {
	case fault.Unsupported:
		return nil, answered, c.skewed(response)
	case fault.Unavailable: // a failed method changed nothing, so it can be repeated like one that was not sent
		return nil, unsent, f.Detail.fault()
	case fault.OutcomeUnknown:
		return nil, unknown, f.Detail.fault()
	}
	return nil, answered, f.Detail.fault()
}

// oddly is what became of a request whose answer cannot be read, by its status. Who refuses a request has not passed it on.
func oddly(status int) fate {
	if status >= 300 && status < 500 {
		return answered
	}
	return garbled
}

// redirected is the error for an answer that leads elsewhere. It is not followed: the token goes to the server that was
// named, and to no other (R24).
func (c *Client) redirected(response *http.Response) error {
	err := fault.New(fault.Unavailable, "%s leads to another address, and is not followed with a token", c.place())
	to, wrong := response.Location()
	if wrong != nil || to.Host == "" {
		return err.WithHint("is the address that of `keyctl serve`?")
	}
	return err.WithHint("if that is where the server is, log in there: %s://%s", to.Scheme, credential.MaskTokens(to.Host))
}

// skewed is the error for a server that does not know what this client asks, or answers in a way that it does not know.
func (c *Client) skewed(response *http.Response) error {
	there := response.Header.Get(headerVersion)
	if !versionText().MatchString(there) {
		there = "of an unknown version"
	}
	hint := "use the same version on both sides"
	if c.base.Path != "" {
		hint = fmt.Sprintf("is the path %q of the address right? Else %s", c.base.Path, hint)
	}
	return fault.New(fault.Unsupported, "%s runs keyctl %s, which does not understand this request of keyctl %s",
		c.place(), there, c.options.Version).WithHint("%s", hint)
}

// versionText is what the version of a program looks like. No token is one.
var versionText = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9(][A-Za-z0-9.+()-]{0,63}$`) })

// inDoubt is the error for a change of which nobody can say whether it was made.
func (c *Client) inDoubt(r route, err error) error {
	why := "the answer of " + c.place() + " was lost"
	if told := fault.From(err); told != nil {
		why = told.Message
	}
	return fault.New(fault.OutcomeUnknown, "%s: whether %s was done is not known", why, r.id).
		WithHint("look before you repeat it").WithCause(err)
}
