package dataplane

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"keyctl/internal/credential"
	"keyctl/internal/fault"
	"keyctl/internal/keys"
	"keyctl/internal/signature"
	"keyctl/internal/transport"
)

// maxAnswer bounds an answer: a private key, and a data key twice.
const maxAnswer = 64 << 10

// ClientOptions says where a server is and who asks. All fields but Roots are required.
type ClientOptions struct {
	Server      string // as client libraries are told it: a host alone is reached by https
	AccessKeyID string
	SigningKey  credential.Secret
	Roots       *x509.CertPool // whose certificates are trusted; nil: the system's
	Timeout     time.Duration  // of one call
	Version     string         // of the program
	Now         func() time.Time
}

// Client asks a server for data keys as client libraries do. Its methods are those of keys.DataPlane for the holder of one
// credential, and fail with the same codes. Besides, they fail with rate_limited, and with unavailable for all that kept a
// server's answer away. They ask once: what a failed call left behind, if anything, is a record in the audit log.
type Client struct {
	options ClientOptions
	base    *url.URL
	http    *http.Client
}

// NewClient makes a Client. It connects to nothing yet. invalid: the address is none that may be used.
func NewClient(o ClientOptions) (*Client, error) {
	if !strings.Contains(o.Server, "://") {
		o.Server = "https://" + o.Server
	}
	base, err := transport.ParseServer(o.Server)
	if err != nil {
		return nil, err
	}
	if base.Path != "" {
		return nil, fault.New(fault.Invalid, "applications reach a server by its host alone, and not under a path").
			WithHint("requests are signed as they are sent, and what is in front of the server changes the path")
	}
	return &Client{o, base, transport.NewClient(o.Roots)}, nil
}

// Close gives up idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// NewDataKey is that of keys.DataPlane.
func (c *Client) NewDataKey(ctx context.Context, uses int) (keys.ReleasedKey, error) {
	out, err := ask[encryptionAnswer](ctx, c, "/api/v0/encryption/key", http.StatusCreated, encryptionRequest{uses})
	key := out.key()
	key.Encrypted, key.Algorithm = out.Encrypted, out.Model.Algorithm
	return key, err
}

// OpenDataKey is that of keys.DataPlane, but for the algorithm, which a server does not tell: it stands in the ciphertext.
func (c *Client) OpenDataKey(ctx context.Context, encrypted []byte) (keys.ReleasedKey, error) {
	in := decryptionRequest{base64.StdEncoding.EncodeToString(encrypted)}
	out, err := ask[decryptionAnswer](ctx, c, "/api/v0/decryption/key", http.StatusOK, in)
	key := out.key()
	key.Encrypted = encrypted
	return key, err
}

// Track is that of keys.DataPlane.
func (c *Client) Track(ctx context.Context, events []keys.UsageEvent) error {
	in := usageReport{Usage: make([]reportedEvent, len(events))}
	for i, e := range events {
		in.Usage[i] = reportedEvent{
			Datasets: e.Dataset, APIKey: c.options.AccessKeyID, Count: e.Count, Action: e.Action, Product: e.Product, Version: e.Version,
			UserAgent: c.userAgent(), APIVersion: "V3", FirstAt: e.FirstAt.UTC(), LastAt: e.LastAt.UTC(),
		}
	}
	_, err := ask[struct{}](ctx, c, "/api/v3/tracking/events", http.StatusOK, in)
	return err
}

func (c *Client) userAgent() string { return "keyctl/" + c.options.Version }

// ask sends a signed request and reads the answer, which has to have this status.
func ask[Out any](ctx context.Context, c *Client, path string, want int, in any) (out Out, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.options.Timeout)
	defer cancel()
	body, err := json.Marshal(in)
	if err != nil {
		return out, fmt.Errorf("encoding a request: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base.String()+path, bytes.NewReader(body))
	if err != nil {
		return out, fault.New(fault.Invalid, "the server's address does not make a request").WithCause(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", c.userAgent())
	signature.Sign(request, sha512.Sum512(body), c.options.AccessKeyID, c.options.SigningKey, signature.GoOrder, c.options.Now())
	response, err := c.http.Do(request)
	if err != nil {
		return out, cmp.Or(transport.Untrusted(c.base, err), transport.Lost(c.base, err))
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err != nil {
		return out, transport.Lost(c.base, err)
	}
	if response.StatusCode != want {
		return out, c.refused(response, answer)
	}
	if len(answer) > maxAnswer || json.Unmarshal(answer, &out) != nil {
		return out, c.strange(response)
	}
	return out, nil
}

// codes are the codes of statuses, for a server that names none.
var codes = map[int]fault.Code{
	http.StatusBadRequest: fault.Invalid, http.StatusUnauthorized: fault.Unauthenticated, http.StatusForbidden: fault.Forbidden,
	http.StatusTooManyRequests: fault.RateLimited,
}

// refused is the error for an answer that is a refusal.
func (c *Client) refused(response *http.Response, answer []byte) error {
	var f failure
	if json.Unmarshal(answer, &f) != nil || f.Message == "" || f.Status != response.StatusCode {
		return c.strange(response)
	}
	code := fault.Code(response.Header.Get(headerCode)) // several are told by one status
	if !slices.Contains(fault.Codes(), code) {
		code = cmp.Or(codes[response.StatusCode], fault.Unavailable)
	}
	err := fault.New(code, "%s", f.Message)
	switch code {
	case fault.Unauthenticated:
		return err.WithHint("was the key rolled or deleted, or is the clock of this machine wrong? `keyctl keys show %s` tells an operator", c.options.AccessKeyID)
	case fault.Forbidden:
		return err.WithHint("`keyctl keys show %s` shows an operator the key's state, addresses and datasets", c.options.AccessKeyID)
	}
	return err
}

// strange is the error for an answer that a server for applications does not give.
func (c *Client) strange(response *http.Response) error {
	return fault.New(fault.Unavailable, "%s answered %d %s, as no server for applications does", transport.Place(c.base), response.StatusCode,
		http.StatusText(response.StatusCode)).WithHint("is that the address of `keyctl serve`? If it is, look at what is in front of it")
}
