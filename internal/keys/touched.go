package keys

import (
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
