package cmd

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"io/fs"
	"time"

	"keyctl/internal/config"
	"keyctl/internal/credential"
	"keyctl/internal/fault"
	"keyctl/internal/httpapi"
	"keyctl/internal/safefile"
	"keyctl/internal/transport"
)

// maxCAFile bounds a file of certificates: some hundred of them.
const maxCAFile = 1 << 20

// openServer makes the client of the server that commands go to. It connects when the command asks something.
func (a *app) openServer(ctx context.Context, cfg config.Config) (*httpapi.Client, error) {
	if _, err := transport.ParseServer(cfg.Server); err != nil {
		return nil, err
	}
	token, err := a.readToken(ctx, cfg)
	if err != nil {
		return nil, err
	}
	client, err := newClient(cfg.Server, cfg.CAFile, token, cfg.Timeout)
	if err == nil {
		a.tell("commands go to %s", cfg.Server)
	}
	return client, err
}

// readToken reads the token from its source.
func (a *app) readToken(ctx context.Context, cfg config.Config) (credential.Secret, error) {
	if _, inKeyring := cfg.Token.Keyring(); !inKeyring { // whose wait for a person has a bound of its own
		var cancel func()
		ctx, cancel = context.WithTimeout(ctx, cfg.Timeout)
		defer cancel()
	}
	token, err := cfg.Token.Read(ctx)
	if err != nil {
		return token, err
	}
	_, err = credential.OperatorTokenID(token)
	return token, err
}

// newClient makes a client that trusts the authorities of a file, or the system's without one.
func newClient(server, caFile string, token credential.Secret, timeout time.Duration) (*httpapi.Client, error) {
	roots, err := authorities(caFile)
	if err != nil {
		return nil, err
	}
	return httpapi.NewClient(httpapi.ClientOptions{Server: server, Token: token, Roots: roots, Timeout: timeout, Version: thisBuild().Version})
}

// authorities reads a file of certificates; without one there is no pool.
func authorities(caFile string) (*x509.CertPool, error) {
	if caFile == "" {
		return nil, nil
	}
	pem, err := safefile.ReadConfig(caFile, maxCAFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(fault.NotFound, "no file %q with certificates", caFile).WithHint("--ca-file names a file in PEM").WithCause(err)
	}
	if err != nil {
		return nil, safefile.Explain(caFile, err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fault.New(fault.Invalid, "there is no certificate in %q", caFile).WithHint("it is a file in PEM, with the certificates of those who are trusted")
	}
	return roots, nil
}

// storeFile is the SQLite file of the store, for commands that work on one themselves.
func (a *app) storeFile() (string, error) {
	cfg, err := a.config()
	switch {
	case err != nil:
		return "", err
	case cfg.Server != "":
		return "", fault.New(fault.Invalid, "this works on the file of a store, and commands go to %s", cfg.Server).
			WithHint("run it on the server's machine, or name a store with --store sqlite:%s", cmp.Or(cfg.DefaultStore, "PATH"))
	case cfg.Postgres != "":
		return "", fault.New(fault.Invalid, "this works on the file of a store, and this store is in PostgreSQL").
			WithHint("PostgreSQL's own tools make and restore its backups (docs/server.md, Backup); a backup of a file is restored to a file, and `keyctl migrate` moves that")
	}
	return cfg.StorePath, nil
}

// serverOf is the server as client libraries are told it: they know no path. Empty for a store.
func serverOf(cfg *config.Config) string {
	if cfg == nil || cfg.Server == "" {
		return ""
	}
	base, err := transport.ParseServer(cfg.Server)
	if err != nil || base.Path != "" {
		return ""
	}
	return base.String()
}
