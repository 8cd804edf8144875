package safefile

import (
	"path/filepath"
	"sync"
	"testing"
	"time"

	"keyctl/internal/fault"
)

// LockDir lets one holder in at a time, waits no longer than it is told, and leaves no file behind.
func TestLockDir(t *testing.T) {
	dir := t.TempDir()
	unlock, err := LockDir(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := LockDir(dir, 20*time.Millisecond); fault.CodeOf(err) != fault.Unavailable {
		t.Errorf("LockDir of a locked directory = %v, want code unavailable", err)
	}
	if other, err := LockDir(t.TempDir(), 0); err != nil {
		t.Errorf("LockDir of another directory = %v", err)
	} else {
		other()
	}
	unlock()
	inside, most := 0, 0
	var mu sync.Mutex
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			unlock, err := LockDir(dir, time.Minute)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			inside++
			most = max(most, inside)
			mu.Unlock()
			time.Sleep(2 * time.Millisecond) // long enough for another to come in, were it let in
			mu.Lock()
			inside--
			mu.Unlock()
			unlock()
		})
	}
	all.Wait()
	if most != 1 {
		t.Errorf("%d held the lock at once", most)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) > 0 {
		t.Errorf("files left behind: %q, %v", left, err)
	}
}

func TestLockDirMissing(t *testing.T) {
	if _, err := LockDir(filepath.Join(t.TempDir(), "nope"), time.Minute); fault.CodeOf(err) != fault.NotFound {
		t.Errorf("LockDir of a missing directory = %v, want code not_found", err)
	}
}
