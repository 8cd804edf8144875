//go:build unix

package cmd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"keyctl/internal/desktoptest"
	"keyctl/internal/fault"
	"keyctl/internal/keyringtest"
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

// The clipboard is a display and a program that reaches it. Who has neither hears what would help, and no warning.
func TestDoctorClipboard(t *testing.T) {
	w := newWorld(t)
	for _, tt := range []struct {
		on         *desktoptest.Desktop
		path, want string
	}{
		{desktoptest.X11(t), os.Getenv("PATH"), "ok: what reaches the clipboard is there; "},
		{desktoptest.X11(t), desktoptest.Path(t, "true"), "skipped: no program that reaches the clipboard is installed; install xclip, or choose another place, such as --out FILE"},
		{desktoptest.None(t), os.Getenv("PATH"), "skipped: there is no clipboard: neither DISPLAY nor WAYLAND_DISPLAY is set; run it in a terminal of the desktop, or choose another place, such as --out FILE"},
	} {
		c := w.command("doctor", "--jq", `.items[] | select(.check == "clipboard") | .result + ": " + .message + "; " + .hint`)
		c.Env = append(tt.on.Environ(w.env), "PATH="+tt.path)
		r := w.finish(c)
		r.wants(t, exitOK, "doctor")
		if got := strings.TrimSuffix(r.out, "\n"); got != tt.want {
			t.Errorf("doctor says %q, want %q", got, tt.want)
		}
	}
}

// A keyring that would open a dialog is not asked to, also not for the master key, whoever sits before the terminal.
func TestR30_DoctorOpensNoDialog(t *testing.T) {
	session := keyringtest.NewWithout(t)
	fake := &keyringtest.Fake{Unanswered: true}
	fake.Serve(t, session)
	w := newWorld(t)
	w.ok("keys", "create", "web-01", "--out", "web-01.env")
	w.env = append(w.env, session.Env())
	for _, source := range []string{"file:" + w.masterKey(), "keyring:prod"} {
		screen := w.sit("doctor", "--master-key", source).ends(exitOK)
		if !strings.Contains(screen, "the keyring is locked") || fake.Unlocks() != 0 {
			t.Errorf("with %s it asked %d times to unlock, and says\n%s", source, fake.Unlocks(), screen)
		}
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
