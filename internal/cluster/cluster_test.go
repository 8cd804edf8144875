//go:build unix

// Package cluster tests what several servers on one database promise together, and what happens to it when PostgreSQL, or
// the way there, dies under them. There is nothing else in it.
package cluster

import (
	"bytes"
	"context"
	"crypto/rand"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"keyctl/internal/access"
	"keyctl/internal/credential"
	"keyctl/internal/envelope"
	"keyctl/internal/httpapi"
	"keyctl/internal/keys"
	"keyctl/internal/keys/keystest"
	"keyctl/internal/server"
	"keyctl/internal/store"
)

// cluster is a store with servers on it that share nothing else.
type cluster struct {
	t      *testing.T
	open   func(context.Context) (*store.DB, error)
	master envelope.MasterKey
	env    keys.Env
	clock  *keystest.Clock // that of env
	nodes  []*node
	steps  sync.RWMutex // held by who moves the clock; shared by who has a code in hand
}

// newCluster initialises the store in an empty PostgreSQL database and starts servers on it.
func newCluster(t *testing.T, url string, servers int) *cluster {
	t.Helper()
	clock := keystest.NewClock()
	c := newClusterIn(t, url, servers, clock.Env())
	c.clock = clock
	return c
}

// newClusterIn is newCluster in a given world.
func newClusterIn(t *testing.T, url string, servers int, env keys.Env) *cluster {
	t.Helper()
	return newClusterOn(t, servers, env,
		func(ctx context.Context, fill func(context.Context, *store.DB) error) error {
			return store.CreatePostgres(ctx, url, store.Options{}, fill)
		},
		func(ctx context.Context) (*store.DB, error) { return store.OpenPostgres(ctx, url, store.Options{}) })
}

// newSQLiteCluster is newCluster with a file, and one server.
func newSQLiteCluster(t *testing.T) *cluster {
	t.Helper()
	path, clock := filepath.Join(t.TempDir(), "keyctl.db"), keystest.NewClock()
	c := newClusterOn(t, 1, clock.Env(),
		func(ctx context.Context, fill func(context.Context, *store.DB) error) error {
			return store.Create(ctx, path, store.Options{}, fill)
		},
		func(ctx context.Context) (*store.DB, error) { return store.Open(ctx, path, store.Options{}) })
	c.clock = clock
	return c
}

func newClusterOn(t *testing.T, servers int, env keys.Env, create func(context.Context, func(context.Context, *store.DB) error) error,
	open func(context.Context) (*store.DB, error)) *cluster {
	t.Helper()
	master, err := envelope.DrawMasterKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{t: t, open: open, master: master, env: env}
	err = create(t.Context(), func(ctx context.Context, db *store.DB) error { return keys.Init(ctx, db, master, env) })
	if err != nil {
		t.Fatal(err)
	}
	for range servers {
		c.nodes = append(c.nodes, c.serve())
	}
	return c
}

// node is a server on a handle of its own.
type node struct {
	local *keys.Local
	url   string
}

// serve starts a server for the rest of the test.
func (c *cluster) serve() *node { return c.serveOn(c.open) }

func (c *cluster) serveOn(open func(context.Context) (*store.DB, error)) *node {
	t := c.t
	t.Helper()
	db, err := open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	local, err := keys.Open(t.Context(), db, c.master, c.env)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewJSONHandler(defects{t}, nil))
	s, err := server.New(server.Options{
		Listen: "127.0.0.1:0",
		Handler: httpapi.NewServer(httpapi.ServerOptions{
			Door: httpapi.NewStoreDoor(local, c.env.Now, log), Version: "1.2.3", Annotate: server.Annotate,
			Origin: func(ctx context.Context) keys.Origin {
				address, id := server.Origin(ctx)
				return keys.Origin{Address: address, RequestID: id}
			},
		}),
		Refuse: func(w http.ResponseWriter, r *http.Request, status int, err error) {
			_, requestID := server.Origin(r.Context())
			httpapi.NewFailure(err, requestID).WithStatus(status).Write(w)
		},
		Ready: local.Writable, Log: log, Now: time.Now, Rand: rand.Reader,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = s.Serve(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return &node{local, "http://" + s.Address()}
}

// defects shows of a server's log what should never be in it.
type defects struct{ t *testing.T }

func (d defects) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte(`"internal"`)) || bytes.Contains(line, []byte("panic")) {
		d.t.Logf("%s", line)
	}
	return len(line), nil
}

// token makes a token of an operator; empty is the first owner.
func (c *cluster) token(operator string) credential.Secret {
	c.t.Helper()
	token, err := credential.DrawOperatorToken(rand.Reader)
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := c.nodes[0].local.CreateToken(c.t.Context(), keys.NewToken{Token: token, Operator: operator}); err != nil {
		c.t.Fatal(err)
	}
	return token
}

// operator makes an operator.
func (c *cluster) operator(name string, role access.Role) {
	c.t.Helper()
	if _, err := c.nodes[0].local.CreateOperator(c.t.Context(), keys.NewOperator{Name: name, Role: role}); err != nil {
		c.t.Fatal(err)
	}
}

// client is a client of a server.
func (c *cluster) client(n *node, token credential.Secret) *httpapi.Client {
	c.t.Helper()
	client, err := httpapi.NewClient(httpapi.ClientOptions{Server: n.url, Token: token, Timeout: 20 * time.Second, Version: "1.2.3"})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(client.Close)
	return client
}

// clients are clients of all servers.
func (c *cluster) clients(token credential.Secret) (all []keys.Service) {
	for _, n := range c.nodes {
		all = append(all, c.client(n, token))
	}
	return all
}

// phone shows the codes of one operator, among several who share a clock.
type phone struct {
	*keystest.Authenticator
	c    *cluster
	step int64 // of the last code
}

// enroll gives a client's operator a second factor.
func (c *cluster) enroll(client keys.Service) *phone {
	c.t.Helper()
	auth := keystest.Enroll(c.t, client, c.clock)
	return &phone{auth, c, access.StepAt(c.clock.Now())}
}

// code is a code that was not used yet. The clock stands still until release.
func (p *phone) code() (code string, release func()) {
	for {
		p.c.steps.RLock()
		if step := access.StepAt(p.c.clock.Now()); step > p.step {
			p.step = step
			return p.At(p.c.clock.Now()), p.c.steps.RUnlock
		}
		p.c.steps.RUnlock()
		p.c.steps.Lock()
		if access.StepAt(p.c.clock.Now()) <= p.step {
			p.c.clock.Advance(access.Step)
		}
		p.c.steps.Unlock()
	}
}

// rounds is how many rounds a test goes: few, with -short a third of that, or as many as KEYCTL_TORTURE's kills ask for.
func rounds(t *testing.T, few, many int) int {
	t.Helper()
	text := os.Getenv("KEYCTL_TORTURE")
	switch {
	case text == "" && testing.Short():
		return max(2, few/3)
	case text == "":
		return few
	}
	kills, err := strconv.Atoi(text)
	if err != nil || kills < 1 {
		t.Fatalf("KEYCTL_TORTURE=%q is no number of kills", text)
	}
	return max(few, many*kills/1000)
}
