//go:build unix

package cmd

import (
	"bytes"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"keyctl/internal/credential"
)

// torturers is how many processes are on their way to a kill at once.
const torturers = 4

// torture kills keyctl at random moments and keeps a journal of what was acknowledged before, outside of the store.
type torture struct {
	t      *testing.T
	random *rand.Rand
	pace   map[string]span // of a process that nobody kills, by what it does

	mu     sync.Mutex
	killed map[string]int // what was killed, how often
	found  map[string]int // what a killed process had come to: it shows whether the kills meet the moments that matter
	acked  int
	lost   int
	halves int // half states
	orphan int // active keys whose credential nobody holds
	staged int // credentials found in a staged file only
}

// span is how long something takes from its beginning, and from each of its signs, to its end.
type span map[string]time.Duration

// TestR41_KilledAtRandomMoments kills create, roll and disable at random moments, on the clock and shortly after each sign
// of life. Every change that was acknowledged is there afterwards, every other one is there as a whole or not at all, no
// key is active whose credential nobody holds, and what a killed process left is in nobody's way.
//
// There are at least 100 kills, or as many as KEYCTL_TORTURE says.
func TestR41_KilledAtRandomMoments(t *testing.T) {
	t.Parallel()
	kills := killsOf(t, 100)
	seed := uint64(time.Now().UnixNano())
	tt := &torture{t: t, random: rand.New(rand.NewPCG(seed, 0)), pace: map[string]span{}, killed: map[string]int{}, found: map[string]int{}}
	first := max(1, kills/20)
	rolls := kills * 7 / 20
	tt.createAndDisable(kills - rolls - first)
	tt.roll(rolls)
	tt.createFirst(first)
	total := 0
	for _, n := range tt.killed {
		total += n
	}
	if total < kills {
		t.Errorf("%d kills, want %d", total, kills)
	}
	t.Logf("seed %d: %d kills %v; %d acknowledged changes, lost %d; half states %d; active keys nobody holds %d; credentials in a staged file only %d",
		seed, total, tt.killed, tt.acked, tt.lost, tt.halves, tt.orphan, tt.staged)
	t.Logf("the killed had come to: %v", tt.found)
}

// killsOf is how many kills there are to be: so many, unless KEYCTL_TORTURE has a number.
func killsOf(t *testing.T, kills int) int {
	t.Helper()
	if text := os.Getenv("KEYCTL_TORTURE"); text != "" {
		var err error
		if kills, err = strconv.Atoi(text); err != nil || kills < 1 {
			t.Fatalf("KEYCTL_TORTURE=%q is no number of kills", text)
		}
	}
	return kills
}

// signs are what keyctl -v says on its way, in order.
var signs = []string{"", "opened the store", "as pending", "proved possession"}

// victim is a keyctl process that is going to be killed.
type victim struct {
	w      *world
	what   string // create, roll, disable
	args   []string
	out    string // the file of --out, if there is one
	sign   string
	delay  time.Duration
	acked  bool
	killed bool
	text   string // its standard output
}

// aim chooses the moment: as likely on the clock as after any sign, and up to a little after the end.
func (tt *torture) aim(v *victim) {
	tt.mu.Lock()
	defer tt.mu.Unlock()
	reached := tt.pace[v.what]
	known := slices.DeleteFunc(slices.Clone(signs), func(sign string) bool { _, ok := reached[sign]; return !ok })
	v.sign = known[tt.random.IntN(len(known))]
	v.delay = time.Duration(tt.random.Int64N(int64(reached[v.sign])*11/10 + 1))
}

// run runs the victim to its end, whichever that is.
func (tt *torture) run(v *victim) {
	c := v.w.command(append(v.args, "-v")...)
	words := newWatcher(v.sign)
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, words
	if err := c.Start(); err != nil {
		tt.t.Error(err)
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		v.w.wait(c)
	}()
	select {
	case <-words.seen:
		select {
		case <-time.After(v.delay):
		case <-done:
		}
	case <-done:
	}
	_ = c.Process.Kill()
	<-done
	v.text = out.String()
	status, ok := c.ProcessState.Sys().(syscall.WaitStatus)
	v.killed = ok && status.Signaled() && status.Signal() == syscall.SIGKILL
	v.acked = c.ProcessState.ExitCode() == exitOK
	tt.mu.Lock()
	defer tt.mu.Unlock()
	switch {
	case v.killed:
		tt.killed[v.what]++
	case v.acked:
		tt.acked++
	default:
		tt.t.Errorf("keyctl %s = exit %d; stderr:\n%s", strings.Join(v.args, " "), c.ProcessState.ExitCode(), words)
	}
}

// measure runs a command that nobody kills, and learns its pace. It returns its standard output.
func (tt *torture) measure(w *world, what string, args ...string) string {
	tt.t.Helper()
	c := w.command(append(args, "-v")...)
	var out bytes.Buffer
	at := map[string]time.Duration{"": 0}
	begun := time.Now()
	c.Stdout, c.Stderr = &out, writerFunc(func(p []byte) {
		for _, sign := range signs[1:] {
			if bytes.Contains(p, []byte(sign)) {
				at[sign] = time.Since(begun)
			}
		}
	})
	w.finish(c).wants(tt.t, exitOK, args...)
	whole := time.Since(begun)
	pace := span{}
	for sign, when := range at {
		pace[sign] = whole - when
	}
	tt.pace[what] = pace
	return out.String()
}

type writerFunc func([]byte)

func (f writerFunc) Write(p []byte) (int, error) {
	f(p)
	return len(p), nil
}

// together runs a function for each item, a few at a time.
func together[T any](items []T, do func(T)) {
	var all sync.WaitGroup
	slots := make(chan struct{}, torturers)
	for _, item := range items {
		slots <- struct{}{}
		all.Go(func() {
			do(item)
			<-slots
		})
	}
	all.Wait()
}

// holders finds credentials in hand: access key id → the file that holds it.
type holders map[string]string

// take writes down what a victim handed out on standard output or in a file. A file that is staged and not in its place yet,
// as --replace has it for a moment after the proof, counts: it is private, whole, and the owner's.
func (tt *torture) take(h holders, v *victim, hand string) {
	if id, err := parseText(v.text); err == nil {
		h[id] = filepath.Join(hand, id)
		if err := os.WriteFile(h[id], []byte(v.text), 0o600); err != nil {
			tt.t.Error(err)
		}
	}
	if v.out == "" {
		return
	}
	tt.takeFile(h, v.w.path(v.out))
	staged, err := filepath.Glob(filepath.Join(filepath.Dir(v.w.path(v.out)), ".keyctl-*.tmp"))
	if err != nil {
		tt.t.Error(err)
	}
	for _, path := range staged {
		tt.takeFile(h, path)
	}
}

func (tt *torture) takeFile(h holders, path string) {
	content, err := os.ReadFile(path)
	if err != nil {
		return // it was not delivered
	}
	if id, err := parseText(string(content)); err == nil && h[id] == "" {
		h[id] = path
	}
}

// check looks at a store in which nothing runs: at SQLite's own opinion, at the audit chain, at the files around it, and
// at each key with the journal's eyes.
func (tt *torture) check(w *world, h holders, kills int, judge func(keys map[string]listedKey)) {
	t := tt.t
	t.Helper()
	tt.integrity(w)
	w.ok("audit", "verify")
	keys := w.keys()
	judge(keys)
	for _, k := range keys {
		if k.State != "active" {
			continue
		}
		file := h[k.AccessKeyID]
		if file == "" {
			tt.orphan++
			t.Errorf("the key %s is active with %s, which nobody holds", k.Name, k.AccessKeyID)
			continue
		}
		if strings.HasPrefix(filepath.Base(file), ".") {
			tt.staged++
		}
		w.run("verify", "--from", file).wants(t, exitOK, "verify --from", file)
	}
	if strays := strayFiles(t, w); len(strays) > kills {
		t.Errorf("%d kills left %d files: %q", kills, len(strays), strays)
	}
}

// integrity examines a copy, so that looking changes nothing.
func (tt *torture) integrity(w *world) {
	t := tt.t
	t.Helper()
	dir := t.TempDir()
	for _, suffix := range []string{"", "-wal"} {
		content, err := os.ReadFile(w.store() + suffix)
		if os.IsNotExist(err) && suffix != "" {
			continue
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "copy"+suffix), content, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	db := openSQL(t, filepath.Join(dir, "copy"))
	var verdict string
	if err := db.QueryRow("PRAGMA integrity_check").Scan(&verdict); err != nil || verdict != "ok" {
		tt.halves++
		t.Errorf("integrity_check = %q, %v", verdict, err)
	}
	var dangling int
	if err := db.QueryRow("SELECT count(*) FROM pragma_foreign_key_check").Scan(&dangling); err != nil || dangling != 0 {
		tt.halves++
		t.Errorf("foreign_key_check found %d, %v", dangling, err)
	}
	_ = db.Close()
}

// strayFiles lists what keyctl may leave only when it is killed: staged files, which are hidden. What SQLite keeps beside
// a file counts as part of it.
func strayFiles(t *testing.T, w *world) (strays []string) {
	t.Helper()
	err := filepath.WalkDir(w.dir, func(path string, entry fs.DirEntry, err error) error {
		name := entry.Name()
		beside := strings.HasSuffix(name, "-wal") || strings.HasSuffix(name, "-shm") || strings.HasSuffix(name, "-journal")
		if err == nil && !entry.IsDir() && strings.HasPrefix(name, ".") && !beside {
			strays = append(strays, path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return strays
}

// parseText finds the access key id of a credential that was written whole.
func parseText(text string) (accessKeyID string, err error) {
	cred, err := credential.Parse(strings.NewReader(text), "")
	return cred.AccessKeyID, err
}
