package access

import (
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"golang.org/x/time/rate"
)

// How many failed authentications one client may have at once, how often one more, and how many clients are remembered.
const (
	FailureBurst   = 20
	FailureEvery   = time.Minute / FailureBurst
	trackedClients = 100_000
)

// Failures limits how often one client may fail to authenticate. It counts failures alone and decides nothing about who is
// right: behind one address may be many, and who has a valid credential passes whatever his neighbours do. It is in memory,
// for one server, and forgets the clients that were quiet the longest when there are too many; it slows guessing down and
// keeps it out of the audit log's way, while 256 random bits keep it from succeeding.
type Failures struct {
	mu      sync.Mutex
	clients *simplelru.LRU[netip.Prefix, *rate.Limiter]
}

// NewFailures makes a Failures that has seen none.
func NewFailures() *Failures {
	clients, err := simplelru.NewLRU[netip.Prefix, *rate.Limiter](trackedClients, nil)
	if err != nil {
		panic("access: " + err.Error()) // only for a size that is not positive
	}
	return &Failures{clients: clients}
}

// Count counts one failure of a client (see iprange.Client) and reports whether it was one too many.
func (f *Failures) Count(client netip.Prefix, now time.Time) (tooMany bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	limiter, ok := f.clients.Get(client)
	if !ok {
		limiter = rate.NewLimiter(rate.Every(FailureEvery), FailureBurst)
		f.clients.Add(client, limiter)
	}
	return !limiter.AllowN(now, 1)
}
