package store

import (
	"context"
	"errors"
	"sync"
	"time"

	"keyctl/internal/fault"
)

// Making a change durable takes the disk longer than the change takes all else, and meanwhile others wait that want to write.
// Those that wait when one transaction ends share the next: each within a savepoint of its own, so that what fails is undone by
// itself, and all of them durable with one COMMIT before any of them is answered.

// maxTogether is how many changes share a transaction at most.
const maxTogether = 32

// queue has the changes that wait for their turn.
type queue struct {
	turn chan struct{} // held by who writes

	mu      sync.Mutex
	waiting []*member
}

func newQueue() *queue { return &queue{turn: make(chan struct{}, 1)} }

// member is one Update.
type member struct {
	ctx      context.Context
	fn       func(*tx) error
	err      error         // what Update returns
	own      bool          // err is this change's alone, and was undone
	panicked any           // what Update panics with
	done     chan struct{} // closed when err and panicked are known
}

// join puts a change into the queue.
func (q *queue) join(m *member) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = append(q.waiting, m)
}

// leave takes a change out of the queue, and reports whether it still was there.
func (q *queue) leave(m *member) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, w := range q.waiting {
		if w == m {
			q.waiting = append(q.waiting[:i], q.waiting[i+1:]...)
			return true
		}
	}
	return false
}

// next takes the changes out that have waited longest.
func (q *queue) next() []*member {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := min(len(q.waiting), maxTogether)
	group := q.waiting[:n:n]
	q.waiting = append([]*member(nil), q.waiting[n:]...)
	return group
}

// updateTogether is Update: it waits until the change is made, or its turn comes to make all those that wait.
func (db *DB) updateTogether(ctx context.Context, fn func(*tx) error) error {
	m := &member{ctx: ctx, fn: fn, done: make(chan struct{})}
	end := time.Now().Add(db.wait)
	db.queue.join(m)
	limit := time.NewTimer(db.wait)
	defer limit.Stop()
	for {
		var gaveUp error
		select {
		case <-m.done:
			if m.panicked != nil {
				panic(m.panicked)
			}
			return m.err
		case db.queue.turn <- struct{}{}:
			db.makeNext(time.Until(end))
			continue
		case <-limit.C:
			gaveUp = storeBusy(db.path)
		case <-ctx.Done():
			gaveUp = explain(db.path, ctx.Err())
		}
		if db.queue.leave(m) {
			return gaveUp
		}
		<-m.done // it is being made
	}
}

// makeNext makes the changes that wait, and gives the turn back.
func (db *DB) makeNext(wait time.Duration) {
	group := db.queue.next()
	defer func() {
		<-db.queue.turn
		for _, m := range group {
			close(m.done)
		}
	}()
	for _, m := range group {
		m.err = fault.New(fault.Internal, "a change that was made together with others broke off") // if this goroutine ends
	}
	switch len(group) {
	case 0: // another one made it
	case 1:
		db.makeAlone(group[0], wait)
	default:
		err := db.makeAll(group, wait)
		for _, m := range group {
			switch {
			case errors.Is(err, errApart):
				db.makeAlone(m, wait)
			case !m.own:
				m.err = err
			}
		}
	}
}

// makeAlone makes one change in a transaction of its own.
func (db *DB) makeAlone(m *member, wait time.Duration) {
	defer func() { m.panicked = recover() }()
	m.err = db.changeWithin(m.ctx, wait, (*tx).beginWriting, m.fn)
}

// How a transaction of several changes ends that is not committed.
var (
	errNothing = errors.New("none of the changes is to be kept")
	errApart   = errors.New("one of the changes spoiled the transaction of all")
)

// makeAll makes several changes in one transaction. Each has its own error; the error here is that of the transaction, which is
// every change's.
func (db *DB) makeAll(group []*member, wait time.Duration) error {
	return db.changeWithin(context.WithoutCancel(group[0].ctx), wait, (*tx).beginWriting, func(t *tx) error {
		kept := false
		if err := t.later(plainly, savepoint); err != nil {
			return err
		}
		for _, m := range group {
			if err := t.include(m); err != nil {
				return err
			}
			kept = kept || m.err == nil
		}
		if !kept {
			return errNothing
		}
		return nil
	})
}

// Every change begins at a new savepoint, which the one before has made, or at the one that it was undone to.
const (
	savepoint = "SAVEPOINT change"
	release   = "RELEASE change"
	undo      = "ROLLBACK TO change"
)

// include makes one change. Its own failure is undone and noted; an error is one of the whole transaction.
func (t *tx) include(m *member) error {
	before := *t
	m.own, m.err = false, m.run(t)
	if m.err == nil {
		m.err = t.err // an error that the function made light of
	}
	for _, next := range []string{release, savepoint} {
		if m.err == nil {
			m.err = t.later(plainly, next)
		}
	}
	if m.err == nil {
		m.err = t.flush()
	}
	switch {
	case t.busy || t.conn.broken:
		return m.err // the transaction is gone, and all of it runs again
	case m.err == nil:
		return nil
	case t.err != nil && !t.db.postgres:
		return errApart // what SQLite does with a transaction depends on the error
	}
	t.pending, t.err = nil, nil
	if _, err := t.exec(undo); err != nil {
		return errApart
	}
	t.head, t.due, t.wiped = before.head, before.due, before.wiped
	m.own = true
	return nil
}

// run runs the function of a change. A context that ended undoes it, as in a transaction of its own.
func (m *member) run(t *tx) (err error) {
	defer func() {
		if m.panicked = recover(); m.panicked != nil {
			err = errApart
		}
	}()
	if err := m.ctx.Err(); err != nil {
		return explain(t.db.path, err)
	}
	if err := m.fn(t); err != nil {
		return err
	}
	return explain(t.db.path, m.ctx.Err())
}
