//go:build linux

package packaging

import (
	"bytes"
	"debug/buildinfo"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// program is the path of the released program for this machine.
func program(t *testing.T) string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(released(t), "keyctl_linux_"+runtime.GOARCH+"_*", "keyctl"))
	if err != nil {
		t.Fatal(err)
	}
	if len(paths) != 1 {
		skip(t, "no release is built for linux/"+runtime.GOARCH)
	}
	return paths[0]
}

// TestVersion asks the program which one it is.
func TestVersion(t *testing.T) {
	path := program(t)
	var got struct{ Version, Revision, Go string }
	if err := json.Unmarshal([]byte(run(t, path, "version", "-o", "json")), &got); err != nil {
		t.Fatal(err)
	}
	head := exec.Command("git", "rev-parse", "HEAD")
	head.Dir = filepath.Dir(released(t))
	if want := strings.TrimSpace(finish(t, head)); got.Version != version || got.Revision != want {
		t.Errorf("the program is version %q of revision %q, want %q of %q", got.Version, got.Revision, version, want)
	}
	if got.Go != runtime.Version() {
		t.Errorf("the program says it was built with %q, want %q", got.Go, runtime.Version())
	}
}

// TestStatic makes sure that the program asks nothing of the machine it is put on.
func TestStatic(t *testing.T) {
	info, err := buildinfo.ReadFile(program(t))
	if err != nil {
		t.Fatal(err)
	}
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	if settings["CGO_ENABLED"] != "0" || settings["-trimpath"] != "true" {
		t.Errorf("the program is built with %v, want no cgo and no paths", settings)
	}
}

// TestR53_NoTestHook looks into the program for what only tests have: their libraries, and variables that change how
// keyctl behaves without being documented, such as the clock of the scripts.
func TestR53_NoTestHook(t *testing.T) {
	path := program(t)
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var modules []string
	for _, m := range info.Deps {
		modules = append(modules, m.Path)
	}
	if !slices.Contains(modules, "github.com/spf13/cobra") {
		t.Fatalf("the program says it is made of %q, without cobra", modules)
	}
	for _, module := range []string{
		"github.com/cpuguy83/go-md2man/v2", "github.com/creack/pty", "github.com/google/go-cmp", "github.com/rogpeppe/go-internal",
		"github.com/russross/blackfriday/v2", "pgregory.net/rapid",
	} {
		if slices.Contains(modules, module) {
			t.Errorf("the program contains %s, which only tests need", module)
		}
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(content, []byte("testing.(*T)")) {
		t.Error("the program contains the package testing")
	}
	checkVariables(t, string(content))
}

// inCode is how a comparison with a name goes on whose first eight bytes stand in an instruction: a letter or less of the name,
// and the next instruction.
var inCode = regexp.MustCompile(`^[A-Z]?(?:H[0-9]|f[^A-Z_]|[^A-Z_])`)

// checkVariables looks for names of variables in a program. Its texts stand in it without anything between them, so that
// only the beginning of each is known.
func checkVariables(t *testing.T, program string) {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(root, "docs", "reference", "keyctl_environment.md"))
	if err != nil {
		t.Fatal(err)
	}
	known := regexp.MustCompile(`KEYCTL_[A-Z_]+`).FindAllString(string(page), -1)
	known = append(known, "KEYCTL_TOKEN") // is not read, only kept from the commands that keyctl runs
	found := map[string]bool{}
	for rest := program; ; {
		_, after, more := strings.Cut(rest, "KEYCTL_")
		if !more {
			break
		}
		rest = after
		if inCode.MatchString(after) {
			continue
		}
		name := ""
		for _, k := range known {
			if strings.HasPrefix("KEYCTL_"+after, k) && len(k) > len(name) {
				name = k
			}
		}
		if name == "" || regexp.MustCompile(`^_[A-Z]`).MatchString(("KEYCTL_" + after)[len(name):]) {
			t.Errorf("the program knows a variable KEYCTL_%.20q, which `keyctl help environment` does not", after)
		}
		found[name] = true
	}
	if len(found) < 5 {
		t.Errorf("found only %v, want all of %q", found, known)
	}
}
