//go:build linux

// Package packaging checks what a release consists of. It makes one as .goreleaser.yaml says, from a checkout of its own,
// and looks at the programs, archives and packages as those who install them do.
//
// There is no program code here, and no fixture: file names, modes and owners are those that dpkg, rpm and the archives
// themselves tell.
package packaging

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	version = "1.2.3"
	date    = "2027-01-31T09:00:00Z" // of the commit, and so of every file in a release
)

var platforms = []string{"darwin_amd64", "darwin_arm64", "linux_amd64", "linux_arm64", "windows_amd64", "windows_arm64"}

var (
	root   = filepath.Join("..", "..")
	folder string // what all tests share, removed at the end
)

func TestMain(m *testing.M) {
	status := m.Run()
	if folder != "" {
		_ = os.RemoveAll(folder)
	}
	os.Exit(status)
}

// released makes a release once for all tests and returns its folder.
func released(t *testing.T) string {
	t.Helper()
	need(t, "git", "gzip")
	if os.Getenv("CI") != "true" {
		// Building goreleaser takes minutes, which only continuous integration spends.
		if out, err := exec.Command("sh", filepath.Join(root, ".ci", "goreleaser"), "--installed").CombinedOutput(); err != nil {
			t.Skip(strings.TrimSpace(string(out)))
		}
	}
	dist, err := release()
	if err != nil {
		t.Fatal(err)
	}
	return dist
}

var release = sync.OnceValues(func() (string, error) {
	var err error
	if folder, err = os.MkdirTemp("", "keyctl-packaging-"); err != nil {
		return "", err
	}
	return makeRelease(folder, "umask 022")
})

// makeRelease makes a release from a checkout in a new folder, after a line of shell, and returns where it is.
func makeRelease(dir, before string) (string, error) {
	if err := copyTree(root, dir); err != nil {
		return "", err
	}
	script := before + `
		set -e
		git init -q
		git add --all
		git -c commit.gpgsign=false commit -q -m 'packaging: release'
		git -c tag.gpgsign=false tag v` + version + `
		sh .ci/goreleaser release --clean --skip=sign,sbom`
	c := exec.Command("sh", "-c", script)
	c.Dir = dir
	c.Env = append(os.Environ(),
		"GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_DIR="+filepath.Join(dir, ".git"), "GIT_WORK_TREE="+dir,
		"GIT_AUTHOR_NAME=Ann", "GIT_AUTHOR_EMAIL=ann@example.com", "GIT_AUTHOR_DATE="+date,
		"GIT_COMMITTER_NAME=Ann", "GIT_COMMITTER_EMAIL=ann@example.com", "GIT_COMMITTER_DATE="+date,
	)
	if out, err := c.CombinedOutput(); err != nil {
		return "", fmt.Errorf("making a release: %w\n%s", err, out)
	}
	return filepath.Join(dir, "dist"), nil
}

// copyTree copies the sources, as they are now, without what git and make keep beside them.
func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, name)
		switch {
		case name == ".git" || name == "bin" || name == "dist":
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		case entry.IsDir():
			return os.MkdirAll(target, 0o755)
		case !entry.Type().IsRegular():
			return nil
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(target, content, 0o644)
	})
}

// need asks for programs that a test uses.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil {
			skip(t, err.Error())
		}
	}
}

// skip skips a test whose part of the machine is missing; in continuous integration nothing may be missing.
func skip(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// run runs a program to its end, which has to be a good one, and returns its standard output.
func run(t *testing.T, program string, args ...string) string {
	t.Helper()
	return finish(t, exec.Command(program, args...))
}

func finish(t *testing.T, c *exec.Cmd) string {
	t.Helper()
	var complaints strings.Builder
	c.Stderr = &complaints
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", strings.Join(c.Args, " "), err, out, complaints.String())
	}
	return string(out)
}

func TestConfiguration(t *testing.T) {
	released(t)
	c := exec.Command("sh", ".ci/goreleaser", "check")
	c.Dir = root
	finish(t, c)
}

// TestFiles compares what a release offers with its checksums, and both with what it should be.
func TestFiles(t *testing.T) {
	dist := released(t)
	var offered []string
	for _, platform := range platforms {
		extension := ".tar.gz"
		if strings.HasPrefix(platform, "windows") {
			extension = ".zip"
		}
		offered = append(offered, "keyctl_"+version+"_"+platform+extension)
	}
	offered = append(offered,
		"apikeyctl_"+version+"_amd64.deb", "apikeyctl_"+version+"_arm64.deb",
		"apikeyctl-"+version+"-1.x86_64.rpm", "apikeyctl-"+version+"-1.aarch64.rpm")
	want := map[string]string{}
	for _, name := range offered {
		want[name] = checksum(t, filepath.Join(dist, name))
	}
	if diff := cmp.Diff(want, checksums(t, dist)); diff != "" {
		t.Errorf("the checksums are not those of the files (-files +checksums):\n%s", diff)
	}
}

// TestR52_SameBytes makes the release again: in another folder, by somebody with other habits, at another time.
func TestR52_SameBytes(t *testing.T) {
	first := released(t)
	another := filepath.Join(t.TempDir(), "another", "folder")
	second, err := makeRelease(another, "umask 077; export TZ=Asia/Tokyo GOFLAGS=-buildvcs=true")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(contentsOf(t, first), contentsOf(t, second)); diff != "" {
		t.Errorf("the same sources gave another release (-first +second):\n%s", diff)
	}
}

// contentsOf is a release in checksums: of its programs, and of what contains them.
func contentsOf(t *testing.T, dist string) map[string]string {
	t.Helper()
	sums := checksums(t, dist)
	programs, err := filepath.Glob(filepath.Join(dist, "keyctl_*", "keyctl*"))
	if err != nil || len(programs) != len(platforms) {
		t.Fatalf("found the programs %q, %v, want one for each of %q", programs, err, platforms)
	}
	for _, path := range programs {
		sums[filepath.Base(filepath.Dir(path))] = checksum(t, path)
	}
	return sums
}

// checksums reads the list of checksums.
func checksums(t *testing.T, dist string) map[string]string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(dist, "keyctl_"+version+"_SHA256SUMS"))
	if err != nil {
		t.Fatal(err)
	}
	sums := map[string]string{}
	for _, line := range strings.Split(strings.TrimSpace(string(content)), "\n") {
		sum, name, _ := strings.Cut(line, "  ")
		sums[name] = sum
	}
	return sums
}

func checksum(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// manualPages are the names of the manual pages.
func manualPages(t *testing.T) []string {
	t.Helper()
	pages, err := filepath.Glob(filepath.Join(root, "docs", "man", "*.8"))
	if err != nil || len(pages) < 50 {
		t.Fatalf("found %d manual pages, %v, want one for each command", len(pages), err)
	}
	for i, path := range pages {
		pages[i] = filepath.Base(path)
	}
	return pages
}

// sorted sorts lines by the path at their end.
func sorted(lines []string) []string {
	path := func(line string) string { return line[strings.Index(line, " /")+1:] }
	slices.SortFunc(lines, func(a, b string) int { return strings.Compare(path(a), path(b)) })
	return lines
}
