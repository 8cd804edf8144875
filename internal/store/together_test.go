package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"keyctl/internal/audit"
	"keyctl/internal/fault"
	"keyctl/internal/keys"
)

// onEachDB is onEach for what is true of a DB alone.
func onEachDB(t *testing.T, test func(t *testing.T, db *DB)) {
	onEach(t, func(t *testing.T, open func(testing.TB) keys.Store) { test(t, open(t).(*DB)) })
}

// waiting is a change that waits for its turn.
func waiting(ctx context.Context, db *DB, change func(keys.Tx) error) *member {
	m := &member{ctx: ctx, fn: func(t *tx) error { return change(t) }, done: make(chan struct{})}
	db.queue.join(m)
	return m
}

// makeWaiting makes the changes that wait.
func makeWaiting(db *DB) {
	db.queue.turn <- struct{}{}
	db.makeNext(db.wait)
}

// together has changes made in one transaction, as those are that waited while another one was made.
func together(t *testing.T, db *DB, changes ...func(keys.Tx) error) []*member {
	t.Helper()
	group := make([]*member, len(changes))
	for i, change := range changes {
		group[i] = waiting(t.Context(), db, change)
	}
	makeWaiting(db)
	return group
}

func putKey(n int) func(keys.Tx) error {
	return func(tx keys.Tx) error { return tx.PutKey(testKey(n)) }
}

// TestTogetherEachByItself gives every way to fail a place among changes that succeed.
func TestTogetherEachByItself(t *testing.T) {
	onEachDB(t, func(t *testing.T, db *DB) {
		update(t, db, putKey(0))
		own := errors.New("an error of its own")
		taken := testKey(20)
		taken.Name = testKey(1).Name
		cancelled, cancel := context.WithCancel(t.Context())
		cases := []struct {
			change func(keys.Tx) error
			want   func(error) bool
		}{
			{putKey(1), nil},
			{func(tx keys.Tx) error { return errors.Join(tx.PutKey(testKey(11)), own) }, func(err error) bool { return errors.Is(err, own) }},
			{putKey(2), nil},
			{func(tx keys.Tx) error { return tx.PutKey(taken) }, func(err error) bool { return fault.Is(err, fault.Exists) }},
			{func(tx keys.Tx) error {
				_ = tx.PutKey(testKey(12))
				return tx.PutCredential(testCredential("key_nope", 1))
			}, func(err error) bool { return fault.Is(err, fault.NotFound) }},
			{func(tx keys.Tx) error { // sees what those before it wrote, and nothing of those that failed
				got, err := allKeys(tx)
				if err == nil && len(got) != 3 {
					err = fmt.Errorf("%d keys, want 3", len(got))
				}
				return errors.Join(err, tx.PutKey(testKey(3)))
			}, nil},
			{func(tx keys.Tx) error { cancel(); return tx.PutKey(testKey(13)) }, func(err error) bool { return errors.Is(err, context.Canceled) }},
			{putKey(4), nil},
		}
		group := make([]*member, len(cases))
		for i, c := range cases {
			ctx := t.Context()
			if i == 6 {
				ctx = cancelled
			}
			group[i] = waiting(ctx, db, c.change)
		}
		makeWaiting(db)
		for i, c := range cases {
			if err := group[i].err; c.want == nil && err != nil || c.want != nil && !c.want(err) {
				t.Errorf("change %d = %v", i, err)
			}
		}
		got := view(t, db, allKeys)
		if len(got) != 5 {
			t.Errorf("%d keys afterwards, want the 5 of the changes that succeeded", len(got))
		}
	})
}

// TestTogetherOneCommit counts the transactions: what shares one is gone as a whole when it does not get that far.
func TestTogetherOneCommit(t *testing.T) {
	onEachDB(t, func(t *testing.T, db *DB) {
		group := together(t, db, putKey(1), putKey(2), func(keys.Tx) error {
			if got := view(t, db, allKeys); len(got) != 0 {
				t.Errorf("%d keys are there before the commit, want 0", len(got))
			}
			return nil
		})
		for i, m := range group {
			if m.err != nil {
				t.Errorf("change %d = %v", i, m.err)
			}
		}
		if got := view(t, db, allKeys); len(got) != 2 {
			t.Errorf("%d keys afterwards, want 2", len(got))
		}
		nobody := errors.New("nobody")
		group = together(t, db, func(tx keys.Tx) error { return errors.Join(tx.PutKey(testKey(3)), nobody) }, func(keys.Tx) error { return nobody })
		for i, m := range group {
			if !errors.Is(m.err, nobody) {
				t.Errorf("failing change %d = %v, want its own error", i, m.err)
			}
		}
	})
}

// TestTogetherPanic has one change panic: its caller is told so, and nobody else.
func TestTogetherPanic(t *testing.T) {
	onEachDB(t, func(t *testing.T, db *DB) {
		group := together(t, db, putKey(1), func(tx keys.Tx) error { _ = tx.PutKey(testKey(2)); panic("a defect") }, putKey(3))
		if group[0].err != nil || group[2].err != nil || group[1].panicked != "a defect" {
			t.Errorf("the changes ended with %v, the panic %v, and %v", group[0].err, group[1].panicked, group[2].err)
		}
		if got := view(t, db, allKeys); len(got) != 2 {
			t.Errorf("%d keys afterwards, want 2", len(got))
		}
		defer func() {
			if recover() != "a defect" {
				t.Error("Update does not panic as its function does")
			}
			update(t, db, putKey(4)) // the turn was given back
		}()
		_ = db.Update(t.Context(), func(keys.Tx) error { panic("a defect") })
	})
}

// TestTogetherChain has many writers append to the audit log at once, some of which fail: the records are without gaps.
func TestTogetherChain(t *testing.T) {
	onEachDB(t, func(t *testing.T, db *DB) {
		const writers, rounds = 16, 10
		give := errors.New("given up")
		var done sync.WaitGroup
		for w := range writers {
			done.Go(func() {
				for r := range rounds {
					err := db.Update(t.Context(), func(tx keys.Tx) error {
						head, err := tx.AuditHead()
						if err != nil && !fault.Is(err, fault.NotFound) {
							return err
						}
						record := audit.Record{Seq: head.Seq + 1, Body: fmt.Appendf(nil, "%d %d", w, r), MAC: []byte("mac")}
						err = tx.AppendAudit(audit.Head{Seq: record.Seq, Hash: record.Hash(), MAC: []byte("mac")}, record)
						if err == nil && (w+r)%5 == 0 {
							err = give
						}
						return err
					})
					if want := (w+r)%5 == 0; err != nil && !errors.Is(err, give) || (err != nil) != want {
						t.Errorf("Update = %v", err)
					}
				}
			})
		}
		done.Wait()
		records := view(t, db, func(tx keys.Tx) ([]audit.Record, error) { return tx.AuditRecords(0, 1000) })
		if len(records) != writers*rounds*4/5 {
			t.Errorf("%d records, want %d", len(records), writers*rounds*4/5)
		}
		for i, r := range records {
			if r.Seq != int64(i)+1 {
				t.Fatalf("record %d has the number %d", i, r.Seq)
			}
		}
	})
}

// TestTogetherWait has a change wait for its turn: a bounded time, and no longer than its context.
func TestTogetherWait(t *testing.T) {
	onEachDB(t, func(t *testing.T, db *DB) {
		db.queue.turn <- struct{}{} // somebody's, for long
		ended, end := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer end()
		if err := db.Update(ended, putKey(1)); !fault.Is(err, fault.Unavailable) {
			t.Errorf("Update of a context that ends = %v, want unavailable", err)
		}
		db.wait = 10 * time.Millisecond
		if err := db.Update(t.Context(), putKey(1)); !fault.Is(err, fault.StoreBusy) {
			t.Errorf("Update that waits too long = %v, want store_busy", err)
		}
		db.wait = DefaultWait
		<-db.queue.turn
		if got := view(t, db, allKeys); len(got) != 0 {
			t.Errorf("%d keys of changes that gave up, want 0", len(got))
		}
		update(t, db, putKey(1))
	})
}
