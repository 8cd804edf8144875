package keys

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"keyctl/internal/fault"
)

const (
	// maxBatch is how many entries one transaction of a journal takes at most.
	maxBatch = 128
	// gatherFor is how long a journal waits for requests that are under way and will have an entry, too.
	gatherFor = time.Millisecond
	// journalWait bounds one transaction of a journal.
	journalWait = 5 * time.Second
)

// journal writes down what many requests have to remember before they may answer, in as few transactions as possible: whoever
// comes while one is being made durable waits for the next, which takes all of them (group commit).
type journal struct {
	local   *Local
	running atomic.Int64 // requests that may still add an entry

	mu      sync.Mutex
	waiting []entry
	writing bool
}

// entry is what one request wants remembered.
type entry struct {
	write func(c *change) error // may run more than once
	done  chan error            // takes the outcome; it never blocks the journal
}

// begin tells of a request that may add an entry; the function it returns tells of the request's end.
func (j *journal) begin() (end func()) {
	j.running.Add(1)
	return func() { j.running.Add(-1) }
}

// add has write run in a transaction and returns when it is durable, with the transaction's error. If ctx ends first, what was
// asked for may still be written.
func (j *journal) add(ctx context.Context, write func(c *change) error) error {
	done := make(chan error, 1)
	j.mu.Lock()
	j.waiting = append(j.waiting, entry{write, done})
	start := !j.writing
	j.writing = true
	j.mu.Unlock()
	if start {
		go j.write()
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fault.New(fault.Unavailable, "the record of the request did not become durable in time").WithCause(ctx.Err())
	}
}

// write makes transactions until nothing waits any more.
func (j *journal) write() {
	for {
		j.gather()
		j.mu.Lock()
		batch := j.waiting[:min(len(j.waiting), maxBatch)]
		j.waiting = j.waiting[len(batch):]
		j.writing = len(batch) > 0
		j.mu.Unlock()
		if len(batch) == 0 {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), journalWait)
		err := j.local.update(ctx, func(c *change) error {
			for _, e := range batch {
				if err := e.write(c); err != nil {
					return err
				}
			}
			return nil
		})
		cancel()
		for _, e := range batch {
			e.done <- err
		}
	}
}

// gather waits a moment while requests are under way that have not added their entries yet.
func (j *journal) gather() {
	for limit := time.Now().Add(gatherFor); time.Now().Before(limit); time.Sleep(gatherFor / 20) {
		j.mu.Lock()
		all := int64(len(j.waiting)) >= min(j.running.Load(), maxBatch)
		j.mu.Unlock()
		if all {
			return
		}
	}
}
