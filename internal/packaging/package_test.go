//go:build linux

package packaging

import (
	"bytes"
	"compress/gzip"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// kind is a kind of package: the names of its architectures, and what only it contains.
type kind struct {
	arch       map[string]string // by the name that Go has for it
	file       func(arch string) string
	license    string
	completion string // for zsh
}

var (
	deb = kind{
		arch:       map[string]string{"amd64": "amd64", "arm64": "arm64"},
		file:       func(arch string) string { return "apikeyctl_" + version + "_" + arch + ".deb" },
		license:    "/usr/share/doc/apikeyctl/copyright",
		completion: "/usr/share/zsh/vendor-completions/_apikeyctl",
	}
	rpm = kind{
		arch:       map[string]string{"amd64": "x86_64", "arm64": "aarch64"},
		file:       func(arch string) string { return "apikeyctl-" + version + "-1." + arch + ".rpm" },
		license:    "/usr/share/doc/apikeyctl/LICENSE",
		completion: "/usr/share/zsh/site-functions/_apikeyctl",
	}
)

// sources are the installed files that come from this repository as they are, or compressed, by their path in the package.
func (k kind) sources(t *testing.T) map[string]string {
	t.Helper()
	files := map[string]string{
		"/usr/share/bash-completion/completions/apikeyctl":    "completions/keyctl.bash",
		"/usr/share/fish/vendor_completions.d/apikeyctl.fish": "completions/keyctl.fish",
		"/usr/share/doc/apikeyctl/CHANGELOG.md":               "CHANGELOG.md",
		"/usr/share/doc/apikeyctl/README.md":                  "README.md",
		k.completion:                                          "completions/keyctl.zsh",
		k.license:                                             "LICENSE",
	}
	for _, page := range manualPages(t) {
		files["/usr/share/man/man8/"+page+".gz"] = "docs/man/" + page
	}
	return files
}

// entries is what a package has to contain, and nothing else. There is no keyctl in any bin that PATH has: that is where
// keyutils has its own.
func (k kind) entries(t *testing.T) []string {
	t.Helper()
	want := []string{
		"drwxr-xr-x root/root /opt/keyctl",
		"drwxr-xr-x root/root /opt/keyctl/bin",
		"-rwxr-xr-x root/root /opt/keyctl/bin/keyctl",
		"l root/root /usr/bin/apikeyctl -> /opt/keyctl/bin/keyctl",
		"drwxr-xr-x root/root /usr/share/doc/apikeyctl",
		"l root/root /usr/share/man/man8/apikeyctl.8.gz -> keyctl.8.gz",
	}
	for path := range k.sources(t) {
		want = append(want, "-rw-r--r-- root/root "+path)
	}
	return sorted(want)
}

// each runs a test for the package of each architecture.
func (k kind) each(t *testing.T, test func(t *testing.T, goarch, path string)) {
	dist := released(t)
	for goarch, arch := range k.arch {
		t.Run(arch, func(t *testing.T) { test(t, goarch, filepath.Join(dist, k.file(arch))) })
	}
}

// forThisMachine is the path of the package that can be installed here.
func (k kind) forThisMachine(t *testing.T) string {
	t.Helper()
	arch, ok := k.arch[runtime.GOARCH]
	if !ok {
		skip(t, "there is no package for "+runtime.GOARCH)
	}
	return filepath.Join(released(t), k.file(arch))
}

// shared are the directories of the system, which a .deb has to list and an .rpm does not.
var shared = regexp.MustCompile(`^drwxr-xr-x root/root /(opt|usr|usr/bin|usr/share|usr/share/doc|usr/share/man(/man8)?|` +
	`usr/share/bash-completion(/completions)?|usr/share/fish(/vendor_completions.d)?|usr/share/zsh(/vendor-completions)?)$`)

func TestDebContents(t *testing.T) {
	need(t, "dpkg-deb")
	deb.each(t, func(t *testing.T, _, path string) {
		var got []string
		for _, line := range strings.Split(strings.TrimSpace(run(t, "dpkg-deb", "--contents", path)), "\n") {
			// mode owner size day time path [-> target]
			words := strings.Fields(line)
			name := "/" + strings.Trim(strings.TrimPrefix(words[5], "."), "/")
			got = append(got, strings.Join(append([]string{kindOf(words[0]), words[1], name}, words[6:]...), " "))
		}
		got = slices.DeleteFunc(got, shared.MatchString)
		if diff := cmp.Diff(deb.entries(t), sorted(got)); diff != "" {
			t.Errorf("the package holds something else (-want +holds):\n%s", diff)
		}
	})
}

// kindOf is a mode as ls writes it; links have none that means anything.
func kindOf(mode string) string {
	if mode[0] == 'l' {
		return "l"
	}
	return mode
}

// TestDebControl reads what dpkg goes by: nothing is demanded of the machine, and no script runs on it.
func TestDebControl(t *testing.T) {
	need(t, "dpkg-deb")
	deb.each(t, func(t *testing.T, goarch, path string) {
		for field, want := range map[string]string{
			"Package": "apikeyctl", "Version": version, "Architecture": deb.arch[goarch],
			"Section": "admin", "Priority": "optional",
			"Depends": "", "Pre-Depends": "", "Conflicts": "", "Replaces": "", "Provides": "",
		} {
			if got := strings.TrimSpace(run(t, "dpkg-deb", "--field", path, field)); got != want {
				t.Errorf("%s: %q, want %q", field, got, want)
			}
		}
		dir := t.TempDir()
		run(t, "dpkg-deb", "--control", path, dir)
		files, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if f.Name() != "control" && f.Name() != "md5sums" {
				t.Errorf("the package has a %s, want no scripts, triggers or configuration", f.Name())
			}
		}
	})
}

func TestRPMContents(t *testing.T) {
	need(t, "rpm")
	rpm.each(t, func(t *testing.T, goarch, path string) {
		const format = `[%{FILEMODES:perms} %{FILEUSERNAME}/%{FILEGROUPNAME} %{FILENAMES}|%{FILELINKTOS}\n]`
		var got []string
		for _, line := range strings.Split(strings.TrimSpace(run(t, "rpm", "-qp", "--qf", format, path)), "\n") {
			line, target, _ := strings.Cut(line, "|")
			mode, rest, _ := strings.Cut(line, " ")
			if target != "" {
				rest += " -> " + target
			}
			got = append(got, kindOf(mode)+" "+rest)
		}
		if diff := cmp.Diff(rpm.entries(t), sorted(got)); diff != "" {
			t.Errorf("the package holds something else (-want +holds):\n%s", diff)
		}
		if scripts := run(t, "rpm", "-qp", "--scripts", "--triggers", path); scripts != "" {
			t.Errorf("the package runs scripts:\n%s", scripts)
		}
		for _, line := range strings.Fields(run(t, "rpm", "-qp", "--qf", `[%{REQUIRENAME}\n]`, path)) {
			if !strings.HasPrefix(line, "rpmlib(") {
				t.Errorf("the package requires %s, want nothing", line)
			}
		}
		want := "apikeyctl " + version + " 1 " + rpm.arch[goarch] + " localhost Apache-2.0"
		if got := run(t, "rpm", "-qp", "--qf", `%{NAME} %{VERSION} %{RELEASE} %{ARCH} %{BUILDHOST} %{LICENSE}`, path); got != want {
			t.Errorf("the package says it is %q, want %q", got, want)
		}
	})
}

// TestDebBesideKeyutils installs the package on a system that has keyutils, and removes it again.
func TestDebBesideKeyutils(t *testing.T) {
	need(t, "dpkg", "dpkg-deb", "dpkg-query")
	s := newSystem(t)
	path := deb.forThisMachine(t)
	for _, dir := range []string{"var/lib/dpkg/info", "var/lib/dpkg/updates", "var/log"} {
		s.mkdir(dir)
	}
	if err := os.WriteFile(s.path("var/lib/dpkg/status"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	keyutils := rebuiltKeyutils(t)
	dpkg := func(args ...string) {
		t.Helper()
		// Images of systems are told to leave out documentation.
		run(t, "dpkg", append([]string{"--root=" + s.dir, "--log=/dev/null", "--path-include=*"}, args...)...)
	}
	dpkg("--install", keyutils)
	before := s.files()
	keyctl := func(line string) bool { return strings.Contains(line, " usr/bin/keyctl ") }
	if !slices.ContainsFunc(before, keyctl) {
		t.Fatalf("keyutils has put no /usr/bin/keyctl there:\n%s", strings.Join(before, "\n"))
	}

	dpkg("--install", path)
	s.checkInstalled(deb)
	during := s.files()
	for _, line := range before {
		if !slices.Contains(during, line) {
			t.Errorf("%s is not as it was before the package came", line)
		}
	}

	dpkg("--purge", "apikeyctl")
	if diff := cmp.Diff(before, s.files()); diff != "" {
		t.Errorf("the package has left traces (-before +after):\n%s", diff)
	}
}

// rebuiltKeyutils makes a package of the keyutils that is installed here, and returns its path.
func rebuiltKeyutils(t *testing.T) string {
	t.Helper()
	list, err := exec.Command("dpkg-query", "--listfiles", "keyutils").Output()
	if err != nil {
		skip(t, "keyutils is not installed, or not by dpkg")
	}
	dir := filepath.Join(t.TempDir(), "keyutils")
	for _, path := range strings.Fields(string(list)) {
		info, err := os.Stat(path)
		if err != nil {
			continue // images of systems leave out documentation
		}
		target := filepath.Join(dir, path)
		if info.IsDir() {
			err = os.MkdirAll(target, 0o755)
		} else {
			var content []byte
			if content, err = os.ReadFile(path); err == nil {
				err = os.WriteFile(target, content, info.Mode().Perm())
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	const fields = "Package: ${Package}\nVersion: ${Version}\nArchitecture: ${Architecture}\n" +
		"Maintainer: ${Maintainer}\nDescription: ${Description}\n"
	control := run(t, "dpkg-query", "-W", "-f", fields, "keyutils")
	if err := os.MkdirAll(filepath.Join(dir, "DEBIAN"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "DEBIAN", "control"), []byte(control), 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, "dpkg-deb", "--root-owner-group", "--build", dir, dir+".deb")
	return dir + ".deb"
}

// TestNoFileOfKeyutils compares the lists of files, manual pages among them, which images of systems leave out.
func TestNoFileOfKeyutils(t *testing.T) {
	need(t, "dpkg-query")
	list, err := exec.Command("dpkg-query", "--listfiles", "keyutils").Output()
	if err != nil {
		skip(t, "keyutils is not installed, or not by dpkg")
	}
	theirs := strings.Fields(string(list))
	if !slices.ContainsFunc(theirs, func(path string) bool { return strings.HasSuffix(path, "/man1/keyctl.1.gz") }) {
		t.Fatalf("keyutils has the files %q, want its manual page among them", theirs)
	}
	for _, line := range append(deb.entries(t), rpm.entries(t)...) {
		words := strings.Fields(line)
		merged := strings.TrimPrefix(words[2], "/usr")
		for _, path := range theirs {
			if strings.TrimPrefix(path, "/usr") == merged {
				t.Errorf("%s is a file of keyutils", path)
			}
		}
	}
}

// TestRPMInstall installs the package and removes it again.
func TestRPMInstall(t *testing.T) {
	need(t, "rpm")
	s := newSystem(t)
	path := rpm.forThisMachine(t)
	command := func(args ...string) {
		t.Helper()
		run(t, "rpm", append([]string{"--root=" + s.dir, "--dbpath=/var/lib/rpm"}, args...)...)
	}
	s.mkdir("var/lib/rpm")
	command("--initdb")
	before := s.files()
	install := []string{"--install", path}
	if strings.Contains(run(t, "rpm", "--help"), "--force-debian") {
		install = append(install, "--force-debian") // Debian's rpm installs nothing without
	}
	command(install...)
	s.checkInstalled(rpm)
	command("--erase", "apikeyctl")
	if diff := cmp.Diff(before, s.files()); diff != "" {
		t.Errorf("the package has left traces (-before +after):\n%s", diff)
	}
}

// system is an otherwise empty one, in a folder of this machine.
type system struct {
	t   *testing.T
	dir string
}

func newSystem(t *testing.T) system {
	t.Helper()
	if os.Geteuid() != 0 {
		skip(t, "only root can install packages, even into a folder")
	}
	s := system{t, t.TempDir()}
	if err := os.Chmod(s.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	// Another package's files are there already, so that no directory of the system goes with ours.
	for _, dir := range []string{
		"opt/other", "usr/bin", "usr/sbin", "usr/lib", "usr/share/bash-completion/completions", "usr/share/doc/other",
		"usr/share/fish/vendor_completions.d", "usr/share/man/man8", "usr/share/zsh/vendor-completions",
		"usr/share/zsh/site-functions",
	} {
		s.mkdir(dir)
		if err := os.WriteFile(s.path(dir, "other"), []byte("of another package\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"bin", "sbin", "lib"} {
		if err := os.Symlink(filepath.Join("usr", name), s.path(name)); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func (s system) path(elements ...string) string {
	return filepath.Join(append([]string{s.dir}, elements...)...)
}

func (s system) mkdir(dir string) {
	s.t.Helper()
	if err := os.MkdirAll(s.path(dir), 0o755); err != nil {
		s.t.Fatal(err)
	}
}

// files lists all there is with its mode and content, besides what package managers write down.
func (s system) files() []string {
	s.t.Helper()
	var list []string
	err := filepath.WalkDir(s.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(s.dir, path)
		if err != nil {
			return err
		}
		if name == "var" {
			return fs.SkipDir
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		line := info.Mode().String() + " " + name + " "
		if info.Mode().IsRegular() {
			line += checksum(s.t, path)
		}
		list = append(list, line)
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return list
}

// checkInstalled runs the program by both of its names, and compares the files with those of the repository.
func (s system) checkInstalled(k kind) {
	s.t.Helper()
	for _, path := range []string{"/usr/bin/apikeyctl", "/opt/keyctl/bin/keyctl"} {
		c := exec.Command(path, "version", "-o", "name")
		c.Dir, c.Env = "/", []string{}
		c.SysProcAttr = &syscall.SysProcAttr{Chroot: s.dir}
		if got := strings.TrimSpace(finish(s.t, c)); got != version {
			s.t.Errorf("%s is version %q, want %q", path, got, version)
		}
	}
	for path, source := range k.sources(s.t) {
		want, err := os.ReadFile(filepath.Join(root, source))
		if err != nil {
			s.t.Fatal(err)
		}
		if got := s.read(path); !bytes.Equal(got, want) {
			s.t.Errorf("%s differs from %s", path, source)
		}
	}
}

// read reads an installed file, which is uncompressed where its name says so.
func (s system) read(path string) []byte {
	s.t.Helper()
	f, err := os.Open(s.path(path))
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.Close()
	var r io.Reader = f
	if filepath.Ext(path) == ".gz" {
		if r, err = gzip.NewReader(f); err != nil {
			s.t.Fatalf("%s: %v", path, err)
		}
	}
	content, err := io.ReadAll(r)
	if err != nil {
		s.t.Fatalf("%s: %v", path, err)
	}
	return content
}
