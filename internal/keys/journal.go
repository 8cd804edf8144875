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
	// gatherFor is how long a journal waits at most for requests that are under way and will have an entry, too. A slow machine takes
	// some milliseconds for several that come at once.
	gatherFor = 4 * time.Millisecond
	// settleFor is how long it waits, for each of several that it answered, until those who ask again at once are back: without that
	// they would come in two halves, with a commit for each.
	settleFor = 100 * time.Microsecond
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
	ready   chan struct{} // takes a value when the batch is complete; it holds one
}

func newJournal(l *Local) *journal { return &journal{local: l, ready: make(chan struct{}, 1)} }

// entry is what one request wants remembered.
type entry struct {
	write func(c *change) error // may run more than once
	done  chan error            // takes the outcome; it never blocks the journal
}

// begin tells of a request that may add an entry; the function it returns tells of the request's end.
func (j *journal) begin() (end func()) {
	j.running.Add(1)
	return func() {
		j.running.Add(-1)
		j.mu.Lock()
		defer j.mu.Unlock()
		j.tell()
	}
}

// tell says that the batch is complete, if it is. The caller holds mu.
func (j *journal) tell() {
	if !j.complete() {
		return
	}
	select {
	case j.ready <- struct{}{}:
	default:
	}
}

// complete reports whether waiting longer would bring hardly more entries into a batch: one in eight may be late. The caller holds mu.
func (j *journal) complete() bool {
	expected := min(j.running.Load(), maxBatch)
	return int64(len(j.waiting)) >= expected-expected/8
}

// add has write run in a transaction and returns when it is durable, with the transaction's error. If ctx ends first, what was
// asked for may still be written.
func (j *journal) add(ctx context.Context, write func(c *change) error) error {
	done := make(chan error, 1)
	j.mu.Lock()
	j.waiting = append(j.waiting, entry{write, done})
	j.tell()
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
	answered := 0
	for {
		if answered > 1 {
			time.Sleep(min(time.Duration(answered)*settleFor, gatherFor))
		}
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
		answered = len(batch)
	}
}

// gather waits a moment while requests are under way that have not added their entries yet.
func (j *journal) gather() {
	limit := time.NewTimer(gatherFor)
	defer limit.Stop()
	for {
		j.mu.Lock()
		complete := j.complete()
		j.mu.Unlock()
		if complete {
			return
		}
		select {
		case <-j.ready: // perhaps a while ago
		case <-limit.C:
			return
		}
	}
}
