//go:build unix

package cmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"keyctl/internal/fault"
)

// doctor changes no file and leaves none behind, whatever state it finds. Only the index of a log that a killed writer left
// may be there afterwards: SQLite makes it of the log.
func TestDoctorChangesNothing(t *testing.T) {
	for name, spoil := range map[string]func(w *world){
		"whole": func(*world) {},
		"untidy": func(w *world) {
			w.sql(`UPDATE credentials SET proven_at = NULL, pending_until = 1`)
			w.sql(`UPDATE keys SET activated_at = NULL`)
		},
		"killed": func(w *world) {
			release := w.holdOpen()
			w.ok("keys", "edit", "web-01", "--description", "in the log")
			store, log := w.read(w.store()), w.read(w.store()+"-wal")
			release()
			w.overwrite(w.store(), store)
			w.overwrite(w.store()+"-wal", log)
		},
		"unlogged":   func(w *world) { w.sql(`PRAGMA journal_mode = DELETE`) },
		"damaged":    func(w *world) { w.overwrite(w.store(), strings.Repeat("x", 4096), 8*4096) },
		"no store":   func(w *world) { w.overwrite(w.store(), "not a database") },
		"newer":      func(w *world) { w.sql(`INSERT INTO goose_db_version (version_id, is_applied) VALUES (9000, 1)`) },
		"wrong key":  func(w *world) { w.overwrite(w.masterKey(), "kcm_wrong\n") },
		"wide open":  func(w *world) { w.chmod(w.store(), 0o644); w.chmod(filepath.Dir(w.store()), 0o777) },
		"bad config": func(w *world) { w.overwrite(w.path("home", ".config", "keyctl", "config.yaml"), "output: [") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.ok("keys", "create", "web-01", "--out", "web-01.env")
			spoil(w)
			before := w.homeFiles()
			for _, args := range [][]string{{"doctor"}, {"doctor", "--strict", "-o", "table"}} {
				if r := w.run(args...); r.status != exitOK && r.status != exitNegative || r.out == "" {
					t.Errorf("%q = exit %d with %q", args, r.status, r.err)
				}
				after := w.homeFiles()
				if name == "killed" {
					delete(after, w.store()+"-shm")
				}
				if diff := cmp.Diff(before, after); diff != "" {
					t.Errorf("%q changed something (-before +after):\n%s", args, diff)
				}
			}
		})
	}
}

// What is compared above does show a change: other commands that only read make one.
func TestReadingFoldsTheLog(t *testing.T) {
	w := newWorld(t)
	w.ok("keys", "create", "web-01", "--out", "web-01.env")
	w.sql(`PRAGMA journal_mode = DELETE`)
	before := w.homeFiles()
	w.ok("keys", "list")
	if cmp.Equal(before, w.homeFiles()) {
		t.Error("keys list changes nothing either: TestDoctorChangesNothing proves nothing")
	}
}

// homeFiles describes every file below the home: mode, time of the last write, content.
func (w *world) homeFiles() map[string]string {
	w.t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(w.path("home"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil || entry.IsDir() {
			files[path] = fmt.Sprint(info.Mode())
			return err
		}
		content, err := os.ReadFile(path)
		files[path] = fmt.Sprintf("%v %d %x", info.Mode(), info.ModTime().UnixNano(), content)
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return files
}

// sql changes the store behind keyctl's back.
func (w *world) sql(statement string) {
	w.t.Helper()
	db := openSQL(w.t, w.store())
	_, err := db.Exec(statement)
	if err := errors.Join(err, db.Close()); err != nil {
		w.t.Fatal(err)
	}
}

// overwrite puts content into a private file: in the place of the old one, or over a part of it.
func (w *world) overwrite(path, content string, offset ...int64) {
	w.t.Helper()
	if len(offset) == 0 {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			w.t.Fatal(err)
		}
		return
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	_, err = f.WriteAt([]byte(content), offset[0])
	if err := errors.Join(err, f.Close()); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) chmod(path string, mode fs.FileMode) {
	w.t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		w.t.Fatal(err)
	}
}

// What a machine need not have is told without a warning, and only where somebody can tell.
func TestDoctorOptionalParts(t *testing.T) {
	a := newApp(&System{Stdout: &bytes.Buffer{}, Stderr: &bytes.Buffer{}, Getenv: os.Getenv, Now: time.Now})
	look := func() map[string]string {
		e := &examination{a: a, cfgErr: errors.New("not read here")}
		e.cfg.Timeout = time.Minute
		results := map[string]string{}
		for _, f := range e.examine(t.Context()) {
			if f.Check == "keyring" || f.Check == "clipboard" {
				results[f.Check] = string(f.Result) + ": " + f.Message + "; " + orNone(f.Hint)
			}
		}
		return results
	}
	if got := look(); len(got) != 0 {
		t.Errorf("with nobody to ask doctor says %q", got)
	}
	a.checkKeyring = func(context.Context) error { return nil }
	a.checkClipboard = func(context.Context) error {
		return fault.New(fault.Unavailable, "no program for the clipboard").WithHint("install xclip")
	}
	want := map[string]string{
		"keyring":   "ok: the keyring answers; ",
		"clipboard": "skipped: there is none to be used: no program for the clipboard; install xclip",
	}
	if diff := cmp.Diff(want, look()); diff != "" {
		t.Errorf("optional parts differ (-want +got):\n%s", diff)
	}
}

// A check without enough time says so, and does not call anything broken.
func TestDoctorUndecided(t *testing.T) {
	late := fault.New(fault.Unavailable, "the work on the store timed out").WithCause(context.DeadlineExceeded)
	for _, tt := range []struct {
		err  error
		want checkResult
	}{
		{late, resultWarning},
		{fault.New(fault.StoreBusy, "the store is busy"), resultWarning},
		{fault.New(fault.Unavailable, "the disk reports an error"), resultError},
		{fault.New(fault.StoreDamaged, "the store is damaged"), resultError},
		{errors.New("anything else"), resultError},
	} {
		if got := undecided(tt.err); got.Result != tt.want || !strings.HasSuffix(got.Message, tt.err.Error()) {
			t.Errorf("undecided(%v) = %+v, want %s", tt.err, got, tt.want)
		}
	}
}

func TestSizeText(t *testing.T) {
	for bytes, want := range map[uint64]string{
		0: "0 bytes", 999: "999 bytes", 1000: "1.0 kB", 188_416: "188.4 kB", 999_949: "999.9 kB", 999_950: "1.0 MB",
		1 << 30: "1.1 GB", 5_000_000_000_000_000: "5000.0 TB",
	} {
		if got := sizeText(bytes); got != want {
			t.Errorf("sizeText(%d) = %q, want %q", bytes, got, want)
		}
	}
}
