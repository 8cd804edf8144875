//go:build unix

package cmd

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// list writes a list of n keys.
func (w *world) list(n int) (file string) {
	var text strings.Builder
	text.WriteString("name\n")
	for i := range n {
		fmt.Fprintf(&text, "web-%02d\n", i)
	}
	return w.write("list.csv", text.String())
}

// stopAfter starts a bulk create, sends it a signal once it has told so many results, and waits for it.
func (w *world) stopAfter(results int, signal os.Signal, args ...string) result {
	w.t.Helper()
	c := w.command(args...)
	out, err := c.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	var words strings.Builder
	c.Stderr = &words
	if err := c.Start(); err != nil {
		w.t.Fatal(err)
	}
	timer := time.AfterFunc(hang, func() { _ = c.Process.Kill() })
	defer timer.Stop()
	var seen strings.Builder
	for lines := bufio.NewScanner(out); lines.Scan(); {
		fmt.Fprintln(&seen, lines.Text())
		if results--; results == 0 {
			if err := c.Process.Signal(signal); err != nil {
				w.t.Error(err)
			}
		}
	}
	_ = c.Wait() // its status is looked at below
	return result{seen.String(), words.String(), c.ProcessState.ExitCode()}
}

// wantDelivered checks that the keys of a list are active, and that what their files hold lets them in.
func (w *world) wantDelivered(n int, dir string) {
	w.t.Helper()
	all := w.keys()
	for i := range n {
		name := fmt.Sprintf("web-%02d", i)
		if all[name].State != "active" {
			w.t.Errorf("key %s is %q", name, all[name].State)
		}
		file := filepath.Join(dir, name+".env")
		w.ok("verify", "--from", file)
		if held := parseCredential(w.t, w.read(file), ""); held.AccessKeyID != all[name].AccessKeyID {
			w.t.Errorf("%s holds %s, and the key has %s", file, held.AccessKeyID, all[name].AccessKeyID)
		}
	}
	if len(all) != n {
		w.t.Errorf("%d keys, want %d", len(all), n)
	}
}

// However often a bulk create is killed, the same command with --if-not-exists ends with every key made once, and every
// credential in its file.
func TestBulkSurvivesKills(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const n = 12
	args := []string{"keys", "create", "-f", w.list(n), "--out-dir", w.path("out"), "--if-not-exists"}
	w.ok("init")
	for made := 1; made < n; made += 3 {
		if r := w.stopAfter(made, syscall.SIGKILL, args...); r.status != -1 {
			t.Fatalf("killed after %d results = exit %d; stderr:\n%s", made, r.status, r.err)
		}
	}
	w.ok(args...)
	w.wantDelivered(n, w.path("out"))
}

// Ctrl-C withdraws the key in the making, and says how to go on.
func TestBulkInterrupted(t *testing.T) {
	w := newWorld(t)
	const n = 12
	args := []string{"keys", "create", "-f", w.list(n), "--out-dir", w.path("out"), "--if-not-exists"}
	r := w.stopAfter(2, os.Interrupt, args...)
	r.wants(t, exitInterrupted, args...)
	if !strings.Contains(r.err, fmt.Sprintf("of %d keys were created; the same command with --if-not-exists makes the others", n)) {
		t.Errorf("stderr = %q", r.err)
	}
	var files, active []string
	for _, file := range w.files(w.path("out")) {
		files = append(files, strings.TrimSuffix(file, ".env"))
	}
	for name, k := range w.keys() {
		if k.State != "active" {
			t.Errorf("key %s is %s", name, k.State)
		}
		active = append(active, name)
	}
	slices.Sort(active)
	if !slices.Equal(files, active) || len(files) >= n {
		t.Errorf("files %q, active keys %q", files, active)
	}
	w.ok(args...)
	w.wantDelivered(n, w.path("out"))
}

// Who stops reading the results gets no further keys, and the one whose result was lost is withdrawn.
func TestR28_BulkReaderGoesAway(t *testing.T) {
	w := newWorld(t)
	w.ok("init")
	c := w.command("keys", "create", "-f", w.list(12))
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	var words strings.Builder
	c.Stdout, c.Stderr = writer, &words
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	writer.Close()
	first, err := bufio.NewReader(reader).ReadString('\n')
	if err != nil {
		t.Error(err)
	}
	reader.Close()
	w.wait(c)
	result{err: words.String(), status: c.ProcessState.ExitCode()}.wants(t, exitUndelivered, "keys create -f")
	all := w.keys()
	if len(all) == 0 || len(all) >= 12 || all["web-00"].State != "active" || !strings.Contains(first, all["web-00"].AccessKeyID) {
		t.Errorf("keys = %v after the first result %q", all, first[:min(len(first), 80)])
	}
	for name, k := range all {
		if k.State != "active" {
			t.Errorf("key %s is %s, want the undelivered one withdrawn", name, k.State)
		}
	}
}

// A full disk under --out-dir fails the keys that find no room, each by itself.
func TestR28_BulkOnFullDisk(t *testing.T) {
	w := newWorld(t)
	w.ok("init")
	disk := mountTmpfs(t, "64k")
	ballast := filepath.Join(disk, "ballast")
	fillFile(t, ballast)
	args := []string{"keys", "create", "-f", w.list(3), "--out-dir", disk, "--if-not-exists"}
	r := w.run(args...)
	r.wants(t, exitBatch, args...)
	if strings.Count(r.out, `"error":"undelivered"`) != 3 || !strings.Contains(r.err, "3 of 3 keys were not created") {
		t.Errorf("results %s\nstderr %s", r.out, r.err)
	}
	if all := w.keys(); len(all) != 0 {
		t.Errorf("keys = %v, want none", all)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	w.ok(args...)
	w.wantDelivered(3, disk)
}

// Results that were redirected to a full device: nothing is made.
func TestR28_BulkDeviceFull(t *testing.T) {
	w := newWorld(t)
	w.ok("init")
	needDevice(t, "/dev/full")
	list := w.list(3)
	for _, target := range []string{">/dev/full", ">&-", ">/dev/null"} {
		w.finish(w.shell(`exec "$KEYCTL" keys create -f '`+list+`' `+target)).wants(t, exitUndelivered, "keys create -f", target)
		if all := w.keys(); len(all) != 0 {
			t.Errorf("%s: keys = %v, want none", target, all)
		}
	}
}

// On a terminal the progress stands on a line of its own, out of the way of what is said meanwhile, and is gone at the end.
func TestBulkProgress(t *testing.T) {
	w := newWorld(t)
	w.ok("init")
	const n = 40
	s := w.sit("keys", "create", "-f", w.list(n), "--out-dir", w.path("out"))
	s.expect(fmt.Sprintf(" of %d ", n)).expect("%").expect(fmt.Sprintf("keyctl: created %d, found 0, failed 0", n))
	s.ends(exitOK)
	screen := s.shown.String()
	for i := range n {
		if result := fmt.Sprintf("\n"+`{"line":%d,"name":"web-%02d","result":"created"`, i+2, i); i > 0 && !strings.Contains(strings.ReplaceAll(screen, "\r", "\n"), result) {
			t.Errorf("the result of web-%02d does not begin a line of its own", i)
		}
	}
	if end := screen[strings.LastIndex(screen, "keyctl: created"):]; strings.Contains(end, " of ") {
		t.Errorf("the progress is still there at the end: %q", end)
	}
}
