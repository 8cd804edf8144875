package safefile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"keyctl/internal/fault"
)

// stage makes a staged file with content, or ends the test.
func stage(t *testing.T, path, content string) *Staged {
	t.Helper()
	s, err := Stage(path)
	if err != nil {
		t.Fatalf("Stage(%q) = %v", path, err)
	}
	if _, err := s.Write([]byte(content)); err != nil {
		t.Fatalf("Write = %v", err)
	}
	return s
}

// wantOnly fails unless dir holds exactly the named files.
func wantOnly(t *testing.T, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if fmt.Sprint(got) != fmt.Sprint(names) {
		t.Errorf("directory holds %v, want %v", got, names)
	}
}

func wantContent(t *testing.T, path, want string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || string(got) != want {
		t.Errorf("%s holds %q, %v, want %q", path, got, err, want)
	}
}

func TestCommitNew(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "new")
	s := stage(t, path, "first")
	if _, err := os.Lstat(path); err == nil {
		t.Error("the file has its name before CommitNew")
	}
	if err := s.CommitNew(); err != nil {
		t.Fatalf("CommitNew = %v", err)
	}
	if err := s.Discard(); err != nil {
		t.Errorf("Discard after CommitNew = %v", err)
	}
	wantContent(t, path, "first")

	err := stage(t, path, "second").CommitNew()
	if fault.CodeOf(err) != fault.Exists {
		t.Errorf("CommitNew over a file = %v, want code exists", err)
	}
	wantContent(t, path, "first")
	wantOnly(t, dir, "new")
}

// Some file systems have no links; a new name is still never taken from somebody else.
func TestClaimWithoutLinks(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "new")
	for i, want := range []error{nil, fs.ErrExist} {
		s := stage(t, path, fmt.Sprint(i))
		if err := s.flush(); err != nil {
			t.Fatal(err)
		}
		if err := s.claimWithoutLinks(); !errors.Is(err, want) {
			t.Errorf("claimWithoutLinks, time %d = %v, want %v", i, err, want)
		}
		if err := s.Discard(); err != nil {
			t.Errorf("Discard = %v", err)
		}
	}
	wantContent(t, path, "0")
	wantOnly(t, dir, "new")
}

// A commit that fails half-way leaves nothing under the final name.
func TestCommitNewFails(t *testing.T) {
	dir := t.TempDir()
	s := stage(t, filepath.Join(dir, "new"), "content")
	if err := os.Remove(filepath.Join(dir, s.temp)); err != nil {
		t.Skipf("an open file cannot be removed here: %v", err)
	}
	if err := s.CommitNew(); fault.CodeOf(err) != fault.NotFound {
		t.Errorf("CommitNew of a file that is gone = %v, want code not_found", err)
	}
	wantOnly(t, dir)
}

func TestCommitReplace(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	for _, content := range []string{"first", "second"} { // the first replaces nothing
		if err := stage(t, path, content).CommitReplace(); err != nil {
			t.Fatalf("CommitReplace = %v", err)
		}
		wantContent(t, path, content)
	}
	wantOnly(t, dir, "file")
}

func TestDiscard(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	s := stage(t, path, "content")
	for range 2 {
		if err := s.Discard(); err != nil {
			t.Errorf("Discard = %v", err)
		}
	}
	wantOnly(t, dir)
	if _, err := s.Write([]byte("more")); err == nil {
		t.Error("Write after Discard succeeded")
	}
	if err := s.CommitNew(); err == nil {
		t.Error("CommitNew after Discard succeeded")
	}
	wantOnly(t, dir)
}

func TestReplaceRefusesDirectory(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "sub")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	staged := stage(t, path, "content")
	if err := staged.CheckReplace(); fault.CodeOf(err) != fault.Forbidden {
		t.Errorf("CheckReplace over a directory = %v, want code forbidden", err)
	}
	if err := staged.CommitReplace(); fault.CodeOf(err) != fault.Forbidden {
		t.Errorf("CommitReplace over a directory = %v, want code forbidden", err)
	}
	// What could not be put in place may be the only copy: it stays until the caller is done with it.
	if content, err := os.ReadFile(staged.Temporary()); err != nil || string(content) != "content" {
		t.Errorf("after a failed CommitReplace Temporary holds %q, %v", content, err)
	}
	if err := staged.Discard(); err != nil {
		t.Error(err)
	}
	wantOnly(t, dir, "sub")
}

func TestStageErrors(t *testing.T) {
	dir := t.TempDir()
	for path, want := range map[string]fault.Code{
		"":                                      fault.Invalid,
		".":                                     fault.Invalid,
		"..":                                    fault.Invalid,
		string(filepath.Separator):              fault.Invalid,
		filepath.Join(dir, "none", "f"):         fault.NotFound,
		filepath.Join(dir, "..", "none") + "/x": fault.NotFound,
	} {
		if _, err := Stage(path); fault.CodeOf(err) != want {
			t.Errorf("Stage(%q) = %v (code %s), want code %s", path, err, fault.CodeOf(err), want)
		}
	}
}

// Of many commits to one new name exactly one succeeds, and its content is what the file holds.
func TestCommitNewRace(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "contested")
	const workers = 16
	var wg sync.WaitGroup
	errs := make([]error, workers)
	for i := range workers {
		s := stage(t, path, fmt.Sprint(i))
		wg.Go(func() { errs[i] = s.CommitNew() })
	}
	wg.Wait()
	winner := -1
	for i, err := range errs {
		switch {
		case err == nil && winner >= 0:
			t.Errorf("both %d and %d committed", winner, i)
		case err == nil:
			winner = i
		case fault.CodeOf(err) != fault.Exists:
			t.Errorf("CommitNew = %v, want nil or code exists", err)
		}
	}
	wantContent(t, path, fmt.Sprint(winner))
	wantOnly(t, dir, "contested")
}

// The directory is held open: renaming it and putting another in its place moves neither the secret nor its destination.
func TestStagedFollowsItsDirectory(t *testing.T) {
	if os.PathSeparator == '\\' {
		t.Skip("Windows does not rename a directory that is in use")
	}
	root := t.TempDir()
	dir := filepath.Join(root, "dir")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s := stage(t, filepath.Join(dir, "file"), "content")
	if err := os.Rename(dir, filepath.Join(root, "moved")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.CommitNew(); err != nil {
		t.Fatalf("CommitNew = %v", err)
	}
	wantOnly(t, dir)
	wantContent(t, filepath.Join(root, "moved", "file"), "content")
}

func TestTemporaryNamesDiffer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	a, b := stage(t, path, "a"), stage(t, path, "b")
	defer a.Discard()
	defer b.Discard()
	if a.temp == b.temp || !strings.HasPrefix(a.temp, ".keyctl-") || len(a.temp) < len(".keyctl-.tmp")+26 {
		t.Errorf("temporary names %q and %q, want two different unpredictable ones", a.temp, b.temp)
	}
}
