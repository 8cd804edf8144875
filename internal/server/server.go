// Package server is what an HTTP service of keyctl stands in: listener, TLS, limits, whose request it is, request ids, the
// request log, health, metrics, and a stop that lets running requests end. It knows no keys, no store and no routes.
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"keyctl/internal/fault"
	"keyctl/internal/iprange"
)

// limits are those of a connection (R17), of how many there are, and of how long a stop waits for what is running (R50).
type limits struct {
	headerBytes                         int
	readHeader, read, write, idle, stop time.Duration
	connections                         int
}

// usual are the limits of every Server outside of tests. Of a header's bytes net/http lets 4 KiB more through than it is
// told. A connection takes up to 70 KiB, so that all of them together stay far below 200 MiB.
var usual = limits{
	headerBytes: 16<<10 - 4<<10,
	readHeader:  5 * time.Second, read: 10 * time.Second, write: time.Minute, idle: 2 * time.Minute, stop: 10 * time.Second,
	connections: 1500,
}

// Options is what a Server needs. Handler, Refuse, Ready, Log, Now and Rand are required.
type Options struct {
	Listen          string // HOST:PORT; port 0 is any
	CertFile        string // PEM, with KeyFile: serve TLS; both are read again when they change
	KeyFile         string
	BehindProxy     bool           // a proxy in front speaks TLS: plain HTTP beyond this machine
	TrustedProxies  []netip.Prefix // whose forwarded header is believed
	ForwardedHeader string         // iprange.XForwardedFor (also when empty) or iprange.Forwarded

	Handler http.Handler
	Refuse  func(w http.ResponseWriter, r *http.Request, status int, err error) // answers what does not get as far as Handler
	Ready   func(context.Context) error                                         // whether requests would be served
	Log     *slog.Logger
	Now     func() time.Time
	Rand    io.Reader
}

// Server serves one Handler.
type Server struct {
	options  Options
	limits   limits
	pair     *keyPair // nil: plain HTTP
	listener net.Listener
	metrics  *metrics
	ready    readiness
}

// New checks the options and listens. invalid: they contradict each other, or plain HTTP would leave the machine (R24).
// not_found: a file of the certificate is not there.
// unavailable: the address is taken. forbidden: this user may not listen there.
func New(o Options) (*Server, error) {
	if o.ForwardedHeader == "" {
		o.ForwardedHeader = iprange.XForwardedFor
	}
	s := &Server{options: o, limits: usual, metrics: newMetrics(), ready: readiness{check: o.Ready, now: o.Now}}
	switch {
	case o.ForwardedHeader != iprange.XForwardedFor && o.ForwardedHeader != iprange.Forwarded:
		return nil, fault.New(fault.Invalid, "no forwarded header %q", o.ForwardedHeader).WithHint("it is %s or %s", iprange.XForwardedFor, iprange.Forwarded)
	case (o.CertFile == "") != (o.KeyFile == ""):
		return nil, fault.New(fault.Invalid, "TLS needs a certificate and its key").WithHint("give both --tls-cert and --tls-key")
	case o.CertFile != "" && o.BehindProxy:
		return nil, fault.New(fault.Invalid, "--behind-proxy says that the proxy speaks TLS").WithHint("leave out --tls-cert and --tls-key, or --behind-proxy")
	}
	host, _, err := net.SplitHostPort(o.Listen)
	if err != nil {
		return nil, fault.New(fault.Invalid, "the address to listen on is not HOST:PORT").WithHint("for example 127.0.0.1:8420, or :8420 for every address")
	}
	if o.CertFile == "" && !o.BehindProxy && !isLoopback(host) {
		return nil, fault.New(fault.Invalid, "plain HTTP on %q would carry tokens over the network readably", o.Listen).
			WithHint("add --tls-cert and --tls-key; or --behind-proxy, if a proxy in front speaks TLS")
	}
	if o.CertFile != "" {
		if s.pair, err = loadKeyPair(o); err != nil {
			return nil, err
		}
	}
	if s.listener, err = net.Listen("tcp", o.Listen); err != nil {
		code := fault.Unavailable
		if errors.Is(err, errPermission) {
			code = fault.Forbidden
		}
		return nil, fault.New(code, "cannot listen on %q", o.Listen).WithHint("is another program there? --listen names another address").WithCause(err)
	}
	return s, nil
}

func isLoopback(host string) bool {
	address, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && address.Unmap().IsLoopback()
}

// Address is where the server listens.
func (s *Server) Address() string { return s.listener.Addr().String() }

// Close gives up a server that does not serve.
func (s *Server) Close() error { return s.listener.Close() }

// Serve serves until ctx ends; then it takes no new requests and lets running ones end, for 10 s at most. The error is nil
// after a stop in which all of them did.
func (s *Server) Serve(ctx context.Context) error {
	server := &http.Server{
		Handler: s.handler(), ReadHeaderTimeout: s.limits.readHeader, ReadTimeout: s.limits.read, WriteTimeout: s.limits.write,
		IdleTimeout: s.limits.idle, MaxHeaderBytes: s.limits.headerBytes, ConnState: newConnections(s.limits.connections).changed,
		ErrorLog: slog.NewLogLogger(s.options.Log.Handler(), slog.LevelWarn),
	}
	listener := s.listener
	if s.pair != nil {
		// HTTP/2 is not offered: its headers may take as long as a connection may idle.
		server.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: s.pair.certificate, NextProtos: []string{"http/1.1"}}
		listener = tls.NewListener(listener, server.TLSConfig)
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return fault.New(fault.Unavailable, "the server cannot go on serving").WithCause(err)
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.limits.stop)
	defer cancel()
	if err := server.Shutdown(stop); err != nil {
		_ = server.Close()
		return fault.New(fault.Unavailable, "requests were still running after %v, and were cut off", s.limits.stop).WithCause(err)
	}
	return nil
}
