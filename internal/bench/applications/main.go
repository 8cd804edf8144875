// Command applications is `keyctl serve` for applications alone, so that it can be compared with itself without the audit log: it
// does all that a request takes, and makes the changes that come of it only if it is told to.
//
// It prints where it listens, and serves until it is killed. GET /changes tells how many transactions it made, or would have.
//
// Usage: applications STORE MASTER-KEY-FILE durable|volatile
package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"keyctl/internal/access"
	"keyctl/internal/credential"
	"keyctl/internal/dataplane"
	"keyctl/internal/envelope"
	"keyctl/internal/keys"
	"keyctl/internal/process"
	serving "keyctl/internal/server"
	"keyctl/internal/signature"
	"keyctl/internal/store"
)

func main() {
	if err := serve(os.Args[1], os.Args[2], os.Args[3] == "durable"); err != nil {
		fmt.Fprintln(os.Stderr, "applications:", err)
		os.Exit(1)
	}
}

// forgetful is a Store that counts its changes, and makes them only if it remembers.
type forgetful struct {
	keys.Store
	remembers bool
	changes   atomic.Int64
}

func (s *forgetful) Update(ctx context.Context, fn func(keys.Tx) error) error {
	s.changes.Add(1)
	if !s.remembers {
		return nil
	}
	return s.Store.Update(ctx, fn)
}

func serve(path, masterKeyFile string, remembers bool) error {
	text, err := os.ReadFile(masterKeyFile)
	if err != nil {
		return err
	}
	master, err := envelope.ParseMasterKey(credential.NewSecret(strings.TrimSpace(string(text))))
	if err != nil {
		return err
	}
	ctx := context.Background()
	db, err := store.Open(ctx, path, store.Options{})
	if err != nil {
		return err
	}
	defer db.Close()
	counted := &forgetful{Store: db, remembers: remembers}
	local, err := keys.Open(ctx, counted, master, keys.Env{Now: time.Now, Rand: rand.Reader, OSUser: "bench"})
	if err != nil {
		return err
	}
	refuse := func(w http.ResponseWriter, _ *http.Request, status int, err error) {
		http.Error(w, err.Error(), status)
	}
	process.CollectLater() // as keyctl serve does
	routes := http.NewServeMux()
	routes.HandleFunc("GET /changes", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, counted.changes.Load()) })
	routes.Handle("/", dataplane.New(dataplane.Options{
		Plane: keys.NewDataPlane(local), Failures: access.NewFailures(), Annotate: serving.Annotate, Now: time.Now, Skew: signature.Skew,
		Origin: func(ctx context.Context) keys.Origin {
			address, id := serving.Origin(ctx)
			return keys.Origin{Address: address, RequestID: id}
		},
		Refused: func(_ context.Context, _ keys.Origin, action string, err error) {
			fmt.Fprintln(os.Stderr, "applications:", action, err)
		},
	}))
	s, err := serving.New(serving.Options{
		Listen: "127.0.0.1:0", Log: slog.New(slog.NewJSONHandler(io.Discard, nil)), Now: time.Now, Rand: rand.Reader,
		Ready: func(context.Context) error { return nil }, Refuse: refuse, Handler: routes,
	})
	if err != nil {
		return err
	}
	fmt.Println("http://" + s.Address())
	return s.Serve(ctx)
}
