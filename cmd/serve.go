package cmd

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"keyctl/internal/access"
	"keyctl/internal/config"
	"keyctl/internal/dataplane"
	"keyctl/internal/fault"
	"keyctl/internal/httpapi"
	"keyctl/internal/iprange"
	"keyctl/internal/keys"
	"keyctl/internal/process"
	"keyctl/internal/server"
)

func newServe(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "serve",
		Short: "Serve the store to other machines",
		Long: `Serve the store over HTTPS: every command works through it as on the store itself (keyctl login). Beyond this machine it wants TLS,
from a certificate or from a proxy in front. The first token is made here, beside the server: keyctl tokens create.

It also answers /healthz (the process lives), /readyz (the store can be written to), /metrics (for Prometheus), /openapi.json and
/docs. It writes a line of JSON about each request to standard error. SIGTERM or Ctrl-C stops it after running requests, within ten
seconds. All settings may also stand in the configuration file or in the environment (keyctl help environment).`,
		Example: `  keyctl serve
  keyctl serve --listen :8420 --tls-cert keys.example.com.pem --tls-key keys.example.com.key
  keyctl serve --store postgres://db.example.com/keyctl --listen :8420 --behind-proxy --trusted-proxies 10.0.0.1`,
		Args: args(),
		RunE: func(c *cobra.Command, _ []string) error {
			a.flags = c.Flags() // those of its own are settings, too
			return a.serve(c.Context())
		},
	}
	f := c.Flags()
	f.SortFlags = false
	f.Var(nonEmpty(new(string)), "listen", "HOST:PORT to listen on (default "+config.DefaultListen+")")
	f.Var(nonEmpty(new(string)), "tls-cert", "the certificate, in PEM; it is read again when it changes")
	f.Var(nonEmpty(new(string)), "tls-key", "its key, in PEM")
	f.Bool("behind-proxy", false, "a proxy in front speaks TLS: listen with plain HTTP beyond this machine")
	f.Var(nonEmpty(new(string)), "trusted-proxies", "the proxies, as addresses and ranges separated by commas, that name the client")
	f.Var(nonEmpty(new(string)), "clock-skew", "how far the clocks of applications may be away (default 5m)")
	f.Var(nonEmpty(new(string)), "forwarded-header", "the header they name it in: X-Forwarded-For (default) or Forwarded")
	return c
}

func (a *app) serve(ctx context.Context) error {
	cfg, err := a.config()
	if err != nil {
		return err
	}
	if cfg.Server != "" {
		return fault.New(fault.Invalid, "a server serves a store, and commands go to %s", cfg.Server).
			WithHint("say which: keyctl serve --store sqlite:%s", cmp.Or(cfg.DefaultStore, "PATH"))
	}
	options, err := serverOptions(cfg.Serve)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewJSONHandler(a.sys.Stderr, nil))
	var handler http.Handler // of the store, which is opened once everything else is as it should be
	options.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.ServeHTTP(w, r) })
	options.Ready = func(ctx context.Context) error { return a.local.Writable(ctx) }
	options.Refuse = func(w http.ResponseWriter, r *http.Request, status int, err error) {
		if !dataplane.Refuse(w, r, status, err) {
			_, requestID := server.Origin(r.Context())
			httpapi.NewFailure(err, requestID).WithStatus(status).Write(w)
		}
	}
	options.Log, options.Now, options.Rand = log, a.sys.Now, a.sys.Rand
	s, err := server.New(options)
	if err != nil {
		return err
	}
	if _, err := a.openOrCreate(ctx); err != nil {
		_ = s.Close()
		return err
	}
	door := httpapi.NewStoreDoor(a.local, a.sys.Now, log)
	routes := http.NewServeMux()
	routes.Handle("/", httpapi.NewServer(httpapi.ServerOptions{
		Door: door, Version: thisBuild().Version, Origin: requestOrigin, Annotate: server.Annotate,
	}))
	applications := a.dataPlane(log, cfg.Serve.Skew)
	for _, pattern := range dataplane.Patterns() {
		routes.Handle(pattern, applications)
	}
	handler = routes
	scheme := "http://"
	if options.CertFile != "" {
		scheme = "https://"
	}
	if screen, err := a.terminal(); err == nil && screen.CanPrompt() {
		a.hint("`keyctl tokens create` makes a token here, and `keyctl login %s` takes it; Ctrl-C stops the server", scheme+s.Address())
	}
	process.CollectLater()
	log.Info("serving", "address", scheme+s.Address(), "version", thisBuild().Version)
	flushed := make(chan struct{})
	go func() {
		door.Run(ctx)
		close(flushed)
	}()
	err = s.Serve(ctx)
	if ctx.Err() != nil {
		<-flushed
	}
	log.Info("stopped")
	return err
}

// refusalWait bounds how long a request of an application waits for its refusal to be written down.
const refusalWait = 2 * time.Second

// dataPlane makes what serves applications.
func (a *app) dataPlane(log *slog.Logger, skew time.Duration) http.Handler {
	plane, refusals := keys.NewDataPlane(a.local), keys.NewRefusals(a.local)
	return dataplane.New(dataplane.Options{
		Plane: plane, Failures: access.NewFailures(), Origin: requestOrigin, Annotate: server.Annotate, Now: a.sys.Now, Skew: skew,
		Refused: func(ctx context.Context, from keys.Origin, action string, refused error) {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), refusalWait)
			defer cancel()
			if err := plane.NoteRefusal(ctx, refusals, from, action, refused); err != nil {
				log.Error("a refusal is not in the audit log", "request_id", from.RequestID, "error", err.Error())
			}
		},
	})
}

// serverOptions reads the settings of a server.
func serverOptions(cfg config.Serve) (server.Options, error) {
	o := server.Options{
		Listen: cfg.Listen, CertFile: cfg.CertFile, KeyFile: cfg.KeyFile, BehindProxy: cfg.BehindProxy, ForwardedHeader: cfg.ForwardedHeader,
	}
	for _, text := range cfg.TrustedProxies {
		prefix, err := iprange.Parse(text)
		if err != nil {
			f := fault.From(err)
			return o, fault.New(f.Code, "--trusted-proxies: %s", f.Message).WithHint("%s", f.Hint).WithCause(err)
		}
		o.TrustedProxies = append(o.TrustedProxies, prefix)
	}
	return o, nil
}

// requestOrigin is where the request of a context came from.
func requestOrigin(ctx context.Context) keys.Origin {
	address, id := server.Origin(ctx)
	return keys.Origin{Address: address, RequestID: id}
}
