package safefile

import (
	"errors"
	"math/rand/v2"
	"time"

	"keyctl/internal/fault"
)

// errLocked says that another process holds the lock.
var errLocked = errors.New("the folder is locked")

// LockDir keeps other processes that call it for the same directory out until unlock is called, or the process ends. It
// is for files that are read, changed and replaced, where the later of two processes would undo what the earlier one
// did. It binds keyctl alone: editors know nothing of it. The locks of Go, SQLite and others on files are not touched.
//
// It waits for another process no longer than wait: fault.Unavailable. Where the directory cannot be locked, because the
// file system has no locks or the caller may not read it, it succeeds without.
func LockDir(dir string, wait time.Duration) (unlock func(), err error) {
	for deadline := time.Now().Add(wait); ; {
		unlock, err := tryLockDir(dir)
		if err == nil {
			return unlock, nil
		}
		if !errors.Is(err, errLocked) {
			return nil, Explain(dir, err)
		}
		if !time.Now().Before(deadline) {
			return nil, fault.New(fault.Unavailable, "another keyctl is at work on the files in %q", dir).
				WithHint("try again in a moment")
		}
		// Of many that wait, no two should look at the same instants.
		time.Sleep(time.Duration(2+rand.IntN(10)) * time.Millisecond)
	}
}
