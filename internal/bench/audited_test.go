package bench

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	crand "crypto/rand"

	"keyctl/internal/access"
	"keyctl/internal/dataplane"
	"keyctl/internal/keys"
	serving "keyctl/internal/server"
	"keyctl/internal/signature"
)

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

// serveInProcess serves applications from this process, on a store that remembers or does not, and returns where.
func (h home) serveInProcess(b *testing.B, remembers bool) (address string, store *forgetful) {
	b.Helper()
	store = &forgetful{Store: h.db, remembers: remembers}
	local, err := keys.Open(b.Context(), store, h.master, h.around())
	if err != nil {
		b.Fatal(err)
	}
	plane := keys.NewDataPlane(local)
	s, err := serving.New(serving.Options{
		Listen: "127.0.0.1:0", Log: slog.New(slog.NewJSONHandler(io.Discard, nil)), Now: time.Now, Rand: crand.Reader,
		Ready: func(context.Context) error { return nil },
		Refuse: func(w http.ResponseWriter, _ *http.Request, status int, err error) {
			http.Error(w, err.Error(), status)
		},
		Handler: dataplane.New(dataplane.Options{
			Plane: plane, Failures: access.NewFailures(), Annotate: serving.Annotate, Now: time.Now, Skew: signature.Skew,
			Origin: func(ctx context.Context) keys.Origin {
				address, id := serving.Origin(ctx)
				return keys.Origin{Address: address, RequestID: id}
			},
			Refused: func(_ context.Context, _ keys.Origin, action string, err error) { b.Errorf("%s: %v", action, err) },
		}),
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	stopped := make(chan error, 1)
	go func() { stopped <- s.Serve(ctx) }()
	b.Cleanup(func() {
		stop()
		if err := <-stopped; err != nil {
			b.Error(err)
		}
	})
	return "http://" + s.Address(), store
}

// BenchmarkRatioAudited tells what it costs to have each release of a data key in the audit log before it is answered, and how
// many releases share a commit.
func BenchmarkRatioAudited(b *testing.B) {
	a := newApplication(b)
	a.open(b)
	b.Cleanup(func() { a.close(b) }) // after the servers
	durable, audited := a.serveInProcess(b, true)
	volatile, _ := a.serveInProcess(b, false)
	ours, without := newLoad(b, durable, a.owner), newLoad(b, volatile, a.owner)
	requests := a.written(b, encryptionKey)
	rounds := 0
	rate(b, "encryption/key, 16 clients, to itself without audit", 0.65,
		func() time.Duration {
			rounds++
			if rounds == 2 { // the first one warms up
				audited.changes.Store(0)
			}
			return ours.run(b, releases, requests)
		},
		func() time.Duration { return without.run(b, releases, requests) })
	records := float64((rounds - 1) * releases)
	record(b, figure{what: "records a commit", value: records / float64(audited.changes.Load()), limit: 8, least: true, unit: "%.1f"}, "records/commit")
}
