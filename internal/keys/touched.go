package keys

import (
	"context"
	"sync"
	"time"
)

// touched knows whose use is being written down, so that of many requests within a minute one does it. It is a courtesy to the
// store and decides nothing.
type touched struct {
	mu    sync.Mutex
	since time.Time
	ids   map[string]struct{}
}

// first reports whether an id comes for the first time in this minute.
func (t *touched) first(id string, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if age := now.Sub(t.since); t.ids == nil || age >= touchEvery || age < 0 {
		t.since, t.ids = now, map[string]struct{}{}
	}
	if _, there := t.ids[id]; there {
		return false
	}
	t.ids[id] = struct{}{}
	return true
}

// touch remembers a use, once a minute at most (R40).
func (c *change) touch(a Admission, from Origin) error {
	if c.now.Before(a.Credential.LastUsedAt.Add(touchEvery)) {
		return nil
	}
	return c.Touch(a.Credential.AccessKeyID, c.now, from.address())
}

// touchLater remembers a use soon, without anybody waiting for it.
func (l *Local) touchLater(a Admission, from Origin) {
	now := Instant(l.env.Now())
	if now.Before(a.Credential.LastUsedAt.Add(touchEvery)) || !l.touched.first(a.Credential.AccessKeyID, now) {
		return
	}
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), journalWait)
		defer cancel()
		_ = l.journal.add(ctx, func(c *change) error { return c.touch(a, from) })
	}()
}
