//go:build unix

package safefile

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"keyctl/internal/fault"
)

func TestCheckFolder(t *testing.T) {
	dir := t.TempDir()
	for _, tt := range []struct {
		mode fs.FileMode
		hint string // empty: the folder is fine
	}{
		{0o700, ""},
		{0o755, ""},
		{0o711, ""},
		{0o777 | fs.ModeSticky, ""}, // like /tmp
		{0o775, "chmod 700 "},
		{0o777, "chmod 700 "},
		{0o702, "chmod 700 "},
	} {
		chmod(t, dir, tt.mode)
		err := CheckFolder(dir)
		switch {
		case tt.hint == "" && err != nil:
			t.Errorf("CheckFolder of mode %v = %v, want nil", tt.mode, err)
		case tt.hint != "" && (!fault.Is(err, fault.Forbidden) || !strings.Contains(fault.From(err).Hint, tt.hint+dir)):
			t.Errorf("CheckFolder of mode %v = %v, want forbidden with the hint %q", tt.mode, err, tt.hint)
		}
	}
	if err := CheckFolder(filepath.Join(dir, "none")); !fault.Is(err, fault.NotFound) {
		t.Errorf("CheckFolder of nothing = %v, want not_found", err)
	}
	if err := CheckFolder(write(t, testContent)); !fault.Is(err, fault.Invalid) {
		t.Errorf("CheckFolder of a file = %v, want invalid", err)
	}
}

func TestCheckFolderOfAnother(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	if err := os.Chown(dir, 65534, -1); err != nil {
		t.Fatal(err)
	}
	if err := CheckFolder(dir); !fault.Is(err, fault.Forbidden) || !strings.Contains(err.Error(), "uid 65534") {
		t.Errorf("CheckFolder of another user's = %v, want forbidden", err)
	}
}

// A folder in which nothing can be made is told to an ordinary user; root can write everywhere.
func TestCheckFolderThatIsClosed(t *testing.T) {
	above, err := os.MkdirTemp("", "keyctl-") // unlike t.TempDir open to all
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(above) })
	chmod(t, above, 0o755)
	dir := filepath.Join(above, "closed")
	if err := os.Mkdir(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(dir, 65534, -1); err != nil {
			t.Fatal(err)
		}
	}
	asNobody(t, func() {
		if err := CheckFolder(dir); !fault.Is(err, fault.Forbidden) || !strings.Contains(fault.From(err).Hint, "chmod u+wx "+dir) {
			t.Errorf("CheckFolder of mode 0500 = %v, want forbidden", err)
		}
	})
}

func TestLeftovers(t *testing.T) {
	dir := t.TempDir()
	if left, err := Leftovers(filepath.Join(dir, "none"), time.Now()); err != nil || left != nil {
		t.Errorf("Leftovers of nothing = %q, %v", left, err)
	}
	now := time.Now()
	var want []string
	for _, age := range []time.Duration{time.Minute, 2 * time.Hour, 3 * time.Hour} {
		staged, err := Stage(filepath.Join(dir, "out"))
		if err != nil {
			t.Fatal(err)
		}
		defer staged.Discard()
		at := now.Add(-age)
		if err := os.Chtimes(staged.Temporary(), at, at); err != nil {
			t.Fatal(err)
		}
		if age > time.Hour {
			want = append(want, staged.Temporary())
		}
	}
	for _, name := range []string{"out", ".other"} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file, now.Add(-2*time.Hour), now.Add(-2*time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	got, err := Leftovers(dir, now.Add(-time.Hour))
	sorted := cmp.Transformer("sort", func(s []string) map[string]bool {
		set := map[string]bool{}
		for _, path := range s {
			set[path] = true
		}
		return set
	})
	if diff := cmp.Diff(want, got, sorted); err != nil || diff != "" {
		t.Errorf("Leftovers (%v) differ (-want +got):\n%s", err, diff)
	}
}

// FreeBytes says what df says.
func TestFreeBytes(t *testing.T) {
	dir := t.TempDir()
	got, err := FreeBytes(dir)
	if errors.Is(err, errors.ErrUnsupported) && runtime.GOOS != "linux" && runtime.GOOS != "darwin" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("df", "-Pk", dir).Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	kilobytes, err := strconv.ParseUint(strings.Fields(lines[len(lines)-1])[3], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	// Others write to the disk meanwhile.
	if want := kilobytes << 10; got < want/2 || got > 2*want {
		t.Errorf("FreeBytes = %d, df says %d", got, want)
	}
	if _, err := FreeBytes(filepath.Join(dir, "none")); !fault.Is(err, fault.NotFound) {
		t.Errorf("FreeBytes of nothing = %v, want not_found", err)
	}
}
