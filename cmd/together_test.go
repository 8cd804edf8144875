//go:build unix

package cmd

import (
	"fmt"
	"strings"
	"sync"
	"testing"
)

// Eight processes at once on one store: each change succeeds or is store_busy, and of those that succeeded none is lost.
// All of them edit the same key, each its own label, so that a change made on an old reading would take others back.
func TestR43_ProcessesLoseNothing(t *testing.T) {
	t.Parallel()
	const workers, rounds = 8, 6
	w := newWorld(t)
	w.ok("keys", "create", "shared", "--out", "shared.env")
	var mu sync.Mutex
	want := map[string]string{"shared": "active"}
	labels := map[string]string{}
	busy := 0
	var all sync.WaitGroup
	for i := range workers {
		all.Go(func() {
			// change runs one command and reports whether it was acknowledged.
			change := func(args ...string) bool {
				r := w.run(args...)
				mu.Lock()
				defer mu.Unlock()
				if r.status == exitUnavailable && strings.Contains(r.err, "busy") {
					busy++
					return false
				}
				r.wants(t, exitOK, args...)
				return r.status == exitOK
			}
			for round := range rounds {
				name, label, value := fmt.Sprintf("key-%d-%d", i, round), fmt.Sprintf("worker-%d", i), fmt.Sprint(round)
				created := change("keys", "create", name, "--out", name+".env")
				edited := change("keys", "edit", "shared", "--label", label+"="+value)
				disabled := created && round%2 == 0 && change("keys", "disable", name, "--yes")
				mu.Lock()
				if created {
					want[name] = "active"
				}
				if disabled {
					want[name] = "disabled"
				}
				if edited {
					labels[label] = value
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	got := w.keys()
	for name, state := range want {
		if got[name].State != state {
			t.Errorf("the key %s is %q, acknowledged was %s", name, got[name].State, state)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d keys, %d were acknowledged", len(got), len(want))
	}
	if fmt.Sprint(got["shared"].Labels) != fmt.Sprint(labels) {
		t.Errorf("the labels are %v, acknowledged were %v", got["shared"].Labels, labels)
	}
	w.ok("audit", "verify")
	t.Logf("%d changes, %d times store_busy", workers*rounds*2+workers*rounds/2, busy)
}

// A store that another process holds longer than keyctl waits is store_busy: exit 10, and soon.
func TestR43_WaitingIsBounded(t *testing.T) {
	w := newWorld(t)
	w.ok("init")
	before := w.head()
	db := openSQL(t, w.store())
	db.SetMaxOpenConns(1)
	if _, err := db.Exec("BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"keys", "create", "web-01", "--out", "web-01.env"}, {"datasets", "create", "payments", "--no-key"}} {
		r := w.run(append(args, "--timeout", "1s", "-o", "json")...)
		r.wants(t, exitUnavailable, args...)
		if !strings.Contains(r.err, `"code":"store_busy"`) || !strings.Contains(r.err, `"retryable":true`) {
			t.Errorf("stderr = %q, want store_busy", r.err)
		}
	}
	if w.head() != before { // reading waits for nobody
		t.Error("a busy store was changed")
	}
	if _, err := db.Exec("ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	w.ok("keys", "create", "web-01", "--out", "web-01.env")
}
