package cmd_test

import (
	"encoding/base32"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"keyctl/internal/access"
	"keyctl/internal/keyringtest"
)

// docsStart is the clock of a page's first command. Each command after it comes a minute later, which gives each its own
// authenticator code; a line like "# 7 days later" moves it further.
var docsStart = time.Date(2027, 1, 31, 9, 0, 0, 0, time.UTC)

// TestDocs runs the commands of the README and of docs/*.md as a reader would, page by page in an empty home, and compares
// what they print with what the page shows. Commands stand in ```console blocks behind "$ "; one that is meant to fail
// ends in "# exit N"; a line "…" stands for any lines. What differs from run to run is compared by its form.
func TestDocs(t *testing.T) {
	if _, err := exec.LookPath("sh"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("the pages' commands are written for a POSIX shell: ", err)
	}
	pages, err := filepath.Glob(filepath.Join("..", "docs", "*.md"))
	if err != nil || len(pages) < 4 {
		t.Fatalf("found the pages %q, %v, want at least 4", pages, err)
	}
	for _, path := range append(pages, filepath.Join("..", "README.md")) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			t.Parallel()
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			r := newReader(t)
			for _, s := range stepsOf(t, string(content)) {
				r.follow(s)
			}
		})
	}
}

// step is one command of a page.
type step struct {
	line    int
	command string
	exit    int
	output  []string // as shown; none: not shown
	wait    time.Duration
}

var (
	exitMark = regexp.MustCompile(`\s+# exit (\d+)$`)
	waitMark = regexp.MustCompile(`^# (\d+) (minute|hour|day)s? later$`)
)

// stepsOf finds the commands of a page.
func stepsOf(t *testing.T, page string) []step {
	t.Helper()
	var steps []step
	var wait time.Duration
	fence := ""
	for i, line := range strings.Split(page, "\n") {
		if info, isFence := strings.CutPrefix(line, "```"); isFence {
			if fence != "" {
				info = ""
			}
			fence = info
			continue
		}
		command, isCommand := strings.CutPrefix(line, "$ ")
		switch {
		case isCommand && fence != "console":
			t.Errorf("line %d: a command outside of a console block is never run", i+1)
		case fence != "console":
		case isCommand:
			s := step{line: i + 1, command: command, wait: wait}
			if m := exitMark.FindStringSubmatch(command); m != nil {
				s.exit, _ = strconv.Atoi(m[1])
			}
			steps, wait = append(steps, s), 0
		case waitMark.MatchString(line):
			wait += waiting(line)
		case len(steps) == 0:
			t.Errorf("line %d: output before the first command", i+1)
		default:
			last := &steps[len(steps)-1]
			last.output = append(last.output, line)
		}
	}
	if len(steps) == 0 && strings.Contains(page, "```console") {
		t.Error("a console block without a command")
	}
	return steps
}

func waiting(line string) time.Duration {
	m := waitMark.FindStringSubmatch(line)
	n, _ := strconv.Atoi(m[1])
	return time.Duration(n) * map[string]time.Duration{"minute": time.Minute, "hour": time.Hour, "day": 24 * time.Hour}[m[2]]
}

// reader is somebody who follows a page.
type reader struct {
	t      *testing.T
	home   string // and where the commands run
	root   string // of the repository, where make and go run
	user   string
	now    time.Time
	seed   string // of the authenticator, once enrolled
	goVars []string
}

func newReader(t *testing.T) *reader {
	t.Helper()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	r := &reader{t: t, home: t.TempDir(), root: root, user: me.Username, now: docsStart}
	out, err := exec.Command("go", "env", "GOCACHE", "GOMODCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	for i, value := range strings.Fields(string(out)) {
		r.goVars = append(r.goVars, []string{"GOCACHE=", "GOMODCACHE="}[i]+value)
	}
	return r
}

// follow runs one command and compares.
func (r *reader) follow(s step) {
	r.t.Helper()
	r.now = r.now.Add(s.wait + time.Minute)
	command, dir := r.withCode(s.command), r.home
	switch word, _, _ := strings.Cut(command, " "); word {
	case "go":
		dir = r.root
	case "make": // that the target exists; what it does is not for a test to do
		command, dir = "make -n"+strings.TrimPrefix(command, "make"), r.root
	}
	shell := exec.CommandContext(r.t.Context(), "sh", "-c", command)
	shell.Dir = dir
	shell.Env = append([]string{
		"HOME=" + r.home, "PATH=" + os.Getenv("PATH"), "LC_ALL=C.UTF-8", keyringtest.Nowhere, clockVar + "=" + r.now.Format(time.RFC3339Nano),
	}, r.goVars...)
	out, err := shell.CombinedOutput()
	if shell.ProcessState == nil {
		r.t.Fatal(err)
	}
	if status := shell.ProcessState.ExitCode(); status != s.exit {
		r.t.Fatalf("line %d: %s: exit status %d, want %d\n%s", s.line, command, status, s.exit, out)
	}
	if m := seedShown.FindSubmatch(out); m != nil {
		r.seed = string(m[1])
	}
	if len(s.output) == 0 {
		return
	}
	shown := r.comparable(strings.Join(s.output, "\n"))
	got := matched(shown, r.comparable(string(out)))
	if diff := cmp.Diff(shown, got); diff != "" {
		r.t.Errorf("line %d: %s: the page shows something else (-shown +printed):\n%s", s.line, command, diff)
	}
}

var (
	seedShown = regexp.MustCompile(`secret=([A-Z2-7]{32})`)
	codeFlag  = regexp.MustCompile(`--otp \d{6}`)
)

// withCode puts the authenticator's code of the moment in the place of the one that a page shows.
func (r *reader) withCode(command string) string {
	r.t.Helper()
	if !codeFlag.MatchString(command) {
		return command
	}
	raw, err := base32.StdEncoding.DecodeString(r.seed)
	if err != nil {
		r.t.Fatal(err)
	}
	seed, err := access.SeedFromBytes(raw)
	if err != nil {
		r.t.Fatalf("%s: there is no authenticator on this page yet: %v", command, err)
	}
	code := access.CodeAt(seed, access.StepAt(r.now))
	return codeFlag.ReplaceAllString(command, "--otp "+code.Reveal())
}

// forms are what differs from run to run, and how it is compared.
var forms = []struct {
	form *regexp.Regexp
	as   string
}{
	{regexp.MustCompile(`\bKC[0-9A-Za-z]{22}\b`), "KC-ID"},
	{regexp.MustCompile(`\b(key|st|op|ds|pk)_[0-9A-Za-z]{22}\b`), "$1-ID"},
	{regexp.MustCompile(`\b(kcs|kcx|kcm)_(…|[0-9A-Za-z]{49})`), "$1_SECRET"},
	{regexp.MustCompile(`\b[0-9a-f]{64}\b|\b[0-9a-f]{6,8}…`), "HASH"},
	{regexp.MustCompile(`\b[A-Z2-7]{32}\b`), "…"}, // a seed
	{regexp.MustCompile(`[ \t]+`), " "},
}

// comparable takes out of a text what differs from run to run, and the empty lines at its end.
func (r *reader) comparable(text string) []string {
	text = strings.ReplaceAll(text, r.home, "/home/ann")
	text = regexp.MustCompile(`\b`+regexp.QuoteMeta(r.user)+`\b`).ReplaceAllString(text, "ann")
	for _, f := range forms {
		text = f.form.ReplaceAllString(text, f.as)
	}
	lines := strings.Split(strings.TrimRight(text, "\n "), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimSpace(line)
	}
	return lines
}

// matched returns what was printed, with the lines that a "…" stands for replaced by it, as far as the two agree.
func matched(shown, printed []string) []string {
	var result []string
	for len(shown) > 0 {
		switch {
		case shown[0] == "…":
			shown = shown[1:]
			end := len(printed)
			if len(shown) > 0 {
				if at := slices.Index(printed, shown[0]); at >= 0 {
					end = at
				}
			}
			result, printed = append(result, "…"), printed[end:]
		case len(printed) > 0 && printed[0] == shown[0]:
			result, shown, printed = append(result, shown[0]), shown[1:], printed[1:]
		default:
			return append(result, printed...)
		}
	}
	return append(result, printed...)
}

// TestRuleTable makes sure that docs/security.md explains every rule that a comment or a test of this repository names.
func TestRuleTable(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "docs", "security.md"))
	if err != nil {
		t.Fatal(err)
	}
	cited := regexp.MustCompile(`\b(?:Test|Benchmark)?R([1-9][0-9]?)(?:_|\b)`)
	explained := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^\| R(\d+) \| \S`).FindAllSubmatch(page, -1) {
		explained[string(m[1])] = true
	}
	err = filepath.WalkDir("..", func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".go" {
			return err
		}
		content, err := os.ReadFile(path)
		for _, m := range cited.FindAllSubmatch(content, -1) {
			if rule := string(m[1]); !explained[rule] {
				explained[rule] = true // once is enough
				t.Errorf("%s cites rule R%s, which docs/security.md does not explain", path, rule)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(explained) < 40 {
		t.Errorf("found %d rules in docs/security.md, want the whole table", len(explained))
	}
}

// TestPackageMap compares the table of packages in CONTRIBUTING.md with what imports what.
func TestPackageMap(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "CONTRIBUTING.md"))
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z/]+)` \\| ([a-z, ]*)\\| ").FindAllStringSubmatch(string(page), -1) {
		shown[m[1]] = strings.TrimSpace(m[2])
	}
	list := exec.Command("go", "list", "-f", `{{.ImportPath}}{{range .Imports}} {{.}}{{end}}`, "-deps", ".")
	list.Dir = ".."
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	imported := map[string]string{}
	for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		words := strings.Fields(line)
		if words[0] != "keyctl" && !strings.HasPrefix(words[0], "keyctl/") {
			continue
		}
		name := strings.TrimPrefix(words[0], "keyctl/")
		var names []string
		for _, path := range words[1:] {
			if own, ok := strings.CutPrefix(path, "keyctl/"); ok {
				names = append(names, strings.TrimPrefix(own, "internal/"))
			}
		}
		slices.Sort(names)
		imported[name] = strings.Join(names, ", ")
	}
	if diff := cmp.Diff(imported, shown); diff != "" {
		t.Errorf("CONTRIBUTING.md does not show the packages as they are (-are +shown):\n%s", diff)
	}
}
