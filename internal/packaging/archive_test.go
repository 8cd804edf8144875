//go:build linux

package packaging

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// entry is a file in an archive or package: its mode, its owner where there is one, and its path.
func entry(mode fs.FileMode, owner, path string) string {
	return strings.Join(strings.Fields(fmt.Sprintf("%v %s /%s", mode, owner, path)), " ")
}

// TestArchives lists what is in each archive: everything in one folder, and with the same modes and time anywhere.
func TestArchives(t *testing.T) {
	dist := released(t)
	for _, platform := range platforms {
		t.Run(platform, func(t *testing.T) {
			dir := "keyctl_" + version + "_" + platform
			program, owner, list := "keyctl", "root/root", tarEntries
			if strings.HasPrefix(platform, "windows") {
				program, owner, list = "keyctl.exe", "", zipEntries
			}
			want := []string{entry(0o755, owner, dir+"/"+program)}
			for _, name := range []string{
				"CHANGELOG.md", "LICENSE", "README.md",
				"completions/keyctl.bash", "completions/keyctl.fish", "completions/keyctl.ps1", "completions/keyctl.zsh",
			} {
				want = append(want, entry(0o644, owner, dir+"/"+name))
			}
			for _, page := range manualPages(t) {
				want = append(want, entry(0o644, owner, dir+"/docs/man/"+page))
			}
			if diff := cmp.Diff(sorted(want), sorted(list(t, filepath.Join(dist, dir)))); diff != "" {
				t.Errorf("%s holds something else (-want +holds):\n%s", dir, diff)
			}
		})
	}
}

func tarEntries(t *testing.T, path string) []string {
	t.Helper()
	f, err := os.Open(path + ".tar.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	unzipped, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var entries []string
	for r := tar.NewReader(unzipped); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return entries
		}
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, entry(h.FileInfo().Mode(), h.Uname+"/"+h.Gname, h.Name))
		checkTime(t, h.Name, h.ModTime)
	}
}

func zipEntries(t *testing.T, path string) []string {
	t.Helper()
	r, err := zip.OpenReader(path + ".zip")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var entries []string
	for _, f := range r.File {
		entries = append(entries, entry(f.Mode(), "", f.Name))
		checkTime(t, f.Name, f.Modified)
	}
	return entries
}

func checkTime(t *testing.T, name string, modified time.Time) {
	t.Helper()
	if got := modified.UTC().Format(time.RFC3339); got != date {
		t.Errorf("%s is from %s, want the commit's %s", name, got, date)
	}
}
