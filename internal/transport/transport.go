// Package transport is how keyctl reaches a server, whoever speaks through it: over TLS that is always checked, or plainly on
// the machine itself, to the address that was named and to no other; and it says in words why that failed.
package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"keyctl/internal/fault"
)

// ParseServer reads the address of a server: https, or http on a loopback address, and nothing that a secret could hide in.
func ParseServer(text string) (*url.URL, error) {
	const hint = "write https://HOST[:PORT], for example https://keys.example.com"
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Opaque != "" || u.Hostname() == "":
		return nil, fault.New(fault.Invalid, "the server's address is not a URL").WithHint(hint)
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return nil, fault.New(fault.Invalid, "the server's address has a user, a query or a fragment").WithHint(hint)
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		return nil, fault.New(fault.Invalid, "plain http lets the network read along and change what is sent").WithHint(hint)
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fault.New(fault.Invalid, "the server's address is neither https nor http").WithHint(hint)
	}
	u.Path = strings.TrimSuffix(u.Path, "/")
	return u, nil
}

func isLoopback(host string) bool {
	address, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && address.Unmap().IsLoopback()
}

// Place is a server as messages name it.
func Place(server *url.URL) string { return server.Scheme + "://" + server.Host }

// NewClient makes a client that trusts these authorities; nil: the system's. It returns redirections as answers: what is sent
// goes to the server that was named, and to no other (R24).
func NewClient(roots *x509.CertPool) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
			TLSHandshakeTimeout: 10 * time.Second,
			DialContext:         (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
			MaxIdleConnsPerHost: 4,
			DisableCompression:  true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Untrusted is the error for a certificate that is not good; nil for any other failure. Nothing switches the check off.
func Untrusted(server *url.URL, err error) error {
	var verification *tls.CertificateVerificationError
	if !errors.As(err, &verification) {
		return nil
	}
	hint := "if a private authority issued it, name its certificate with --ca-file"
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &name):
		hint = "use the name that the certificate is for, or have one issued for this name"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		hint = "renew it on the server; or is the clock of this machine wrong?"
	}
	return fault.New(fault.Unavailable, "the certificate of %s is not trusted: %v", Place(server), verification.Err).
		WithHint("%s", hint).WithCause(err)
}

// Lost is the error for a request that got no answer and surely did nothing, or that only asked.
func Lost(server *url.URL, err error) error {
	if told := fault.From(err); told != nil {
		return told
	}
	if errors.Is(err, http.ErrSchemeMismatch) {
		return fault.New(fault.Unavailable, "%s does not speak TLS", Place(server)).
			WithHint("is the port right? `keyctl serve` without TLS is reached by http:// on its own machine only").WithCause(err)
	}
	return fault.New(fault.Unavailable, "%s does not answer: %s", Place(server), network(err)).
		WithHint("is `keyctl serve` running there? `keyctl context list` shows where commands go").WithCause(err)
}

// network words a failure of the network without the request, which the caller knows.
func network(err error) string {
	var timeout interface{ Timeout() bool }
	if errors.As(err, &timeout) && timeout.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		return "it took too long"
	}
	var lookup *net.DNSError
	if errors.As(err, &lookup) {
		return "no such host"
	}
	for inner := err; inner != nil; inner = errors.Unwrap(inner) {
		err = inner
	}
	return err.Error()
}
