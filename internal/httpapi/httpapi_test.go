package httpapi_test

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"keyctl/internal/credential"
	"keyctl/internal/envelope"
	"keyctl/internal/httpapi"
	"keyctl/internal/keys"
	"keyctl/internal/keys/keystest"
	"keyctl/internal/store"
)

// world is a server on a new store, and its first owner.
type world struct {
	owner  *keys.Local
	db     *store.DB
	url    string
	server *httpapi.Server
}

var here = keys.Origin{Address: netip.MustParseAddr("127.0.0.1"), RequestID: "req_test"}

func newWorld(t testing.TB, env keys.Env) *world {
	t.Helper()
	path, master := newStore(t, env)
	return openWorld(t, path, master, env, func(context.Context) keys.Origin { return here })
}

// newStore makes a store and tells where it is.
func newStore(t testing.TB, env keys.Env) (path string, master envelope.MasterKey) {
	t.Helper()
	master, err := envelope.DrawMasterKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "keyctl.db")
	err = store.Create(t.Context(), path, store.Options{}, func(ctx context.Context, db *store.DB) error {
		return keys.Init(ctx, db, master, env)
	})
	if err != nil {
		t.Fatal(err)
	}
	return path, master
}

// openWorld serves a store that is there.
func openWorld(t testing.TB, path string, master envelope.MasterKey, env keys.Env, origin func(context.Context) keys.Origin) *world {
	t.Helper()
	db, err := store.Open(t.Context(), path, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	owner, err := keys.Open(t.Context(), db, master, env)
	if err != nil {
		t.Fatal(err)
	}
	server := httpapi.NewServer(httpapi.ServerOptions{
		Door: httpapi.NewStoreDoor(owner, env.Now, slog.New(slog.DiscardHandler)), Version: "1.2.3", Origin: origin,
		Annotate: func(context.Context, ...slog.Attr) {},
	})
	listener := httptest.NewServer(server)
	t.Cleanup(listener.Close)
	return &world{owner, db, listener.URL, server}
}

// token makes a token of an operator; empty is the owner.
func (w *world) token(t testing.TB, operator string) credential.Secret {
	t.Helper()
	token, err := credential.DrawOperatorToken(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.owner.CreateToken(t.Context(), keys.NewToken{Token: token, Operator: operator}); err != nil {
		t.Fatal(err)
	}
	return token
}

func (w *world) client(t testing.TB, token credential.Secret) *httpapi.Client {
	t.Helper()
	client := w.clientAt(t, w.url, token)
	t.Cleanup(client.Close)
	return client
}

// clientAt makes a client of a server at another address than its own.
func (w *world) clientAt(t testing.TB, url string, token credential.Secret) *httpapi.Client {
	t.Helper()
	client, err := httpapi.NewClient(httpapi.ClientOptions{Server: url, Token: token, Timeout: 20 * time.Second, Version: "1.2.3"})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// TestService holds client and server to what keys.Service promises, as it is held for a local store.
func TestService(t *testing.T) {
	keystest.Suite(t, func(t *testing.T, env keys.Env) keys.Service {
		w := newWorld(t, env)
		return w.client(t, w.token(t, ""))
	})
}
