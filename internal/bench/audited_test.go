package bench

import (
	"io"
	"net/http"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// serveApplications starts the server of applications alone on the store of a home.
func (h home) serveApplications(b *testing.B, durability string) server {
	b.Helper()
	keyFile := filepath.Join(h.dir, ".config", "keyctl", "master.key")
	return start(b, command{program(b, "keyctl/internal/bench/applications"), []string{h.store(), keyFile, durability}, nil}, addressLine)
}

// changes asks that server how many transactions it made.
func (s server) changes(b *testing.B) int {
	b.Helper()
	response, err := http.Get(s.address + "/changes")
	if err != nil {
		b.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		b.Fatal(err)
	}
	n, err := strconv.Atoi(string(text))
	if err != nil {
		b.Fatal(err)
	}
	return n
}

// BenchmarkRatioAudited tells what it costs to have each release of a data key in the audit log before it is answered, and how
// many releases share a commit.
func BenchmarkRatioAudited(b *testing.B) {
	a := newApplication(b)
	durable, volatile := a.serveApplications(b, "durable"), a.serveApplications(b, "volatile")
	ours, without := newLoad(b, durable.address, a.owner), newLoad(b, volatile.address, a.owner)
	requests := a.written(b, encryptionKey)
	rounds, before := 0, 0
	rate(b, "encryption/key, 16 clients, to itself without audit", 0.65,
		func() time.Duration {
			rounds++
			if rounds == 2 { // the first one warms up
				before = durable.changes(b)
			}
			return ours.run(b, releases, requests)
		},
		func() time.Duration { return without.run(b, releases, requests) })
	records := float64((rounds - 1) * releases)
	record(b, figure{what: "records a commit", value: records / float64(durable.changes(b)-before), limit: 8, least: true, unit: "%.1f"}, "records/commit")
}
