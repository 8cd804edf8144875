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
//
// The commands of a "```console terminal" block run on a terminal, where what the page shows behind a question is typed.
//
// A command that ends in " &" goes on running, and "kill %1" ends it, as in a shell. Ports and the host keys.example.com are
// those of the test in truth. What systemctl is told to start is started: see docs_server_test.go.
//
// A block whose fence names a file as well, as in "```csv servers.csv", is that file: it is written, and some command has
// to use it. A workflow of GitHub Actions and a unit of systemd are run at once, as far as they can be without their
// machine: see docs_machine_test.go. So no command of a page is there only to be read.
func TestDocs(t *testing.T) {
	if _, err := exec.LookPath("sh"); err != nil {
		leaveOut(t, "the pages' commands are written for a POSIX shell: "+err.Error())
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
			steps := stepsOf(t, string(content))
			r := newReader(t)
			r.equip(steps)
			defer r.stopAll()
			for _, s := range steps {
				if s.file != "" {
					r.write(s)
				} else {
					r.follow(s)
				}
			}
		})
	}
}

// onTerminal runs a command on a terminal, where there are any for tests; shown is what the page has of it.
var onTerminal func(r *reader, command *exec.Cmd, shown []string) (screen string)

// atDesk starts what a person at a desk has and a page uses: a keyring, a clipboard.
var atDesk = func(*reader, func(words string) bool) {}

// leaveOut skips a test whose part of the machine is missing; in continuous integration nothing may be missing.
func leaveOut(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// step is one command of a page, or a file that the page shows.
type step struct {
	line    int
	command string
	exit    int
	output  []string // as shown; none: not shown
	wait    time.Duration

	terminal bool // the command is run on one

	file    string // of the block's content, which is output
	program bool   // the file is written for a shell
}

var (
	exitMark = regexp.MustCompile(`\s+# exit (\d+)$`)
	waitMark = regexp.MustCompile(`^# (\d+) (minute|hour|day)s? later$`)
)

// block is what stands between two fences of a page, or outside of any.
type block struct {
	line           int // of the first one in it
	language, file string
	lines          []string
}

// blocksOf takes a page apart.
func blocksOf(page string) []block {
	blocks, inside := []block{{line: 1}}, false
	for i, line := range strings.Split(page, "\n") {
		info, isFence := strings.CutPrefix(line, "```")
		switch {
		case !isFence:
			last := &blocks[len(blocks)-1]
			last.lines = append(last.lines, line)
		case inside:
			blocks, inside = append(blocks, block{line: i + 2}), false
		default:
			language, file, _ := strings.Cut(info, " ")
			blocks, inside = append(blocks, block{line: i + 2, language: language, file: file}), true
		}
	}
	return blocks
}

// onlyRead finds lines that somebody would paste into a shell, and that no test runs.
var onlyRead = regexp.MustCompile("^\\s*\\$ ?keyctl |^\\$ |^    \\S*keyctl |^\\s+```")

// stepsOf finds the commands and files of a page, and refuses commands that would not be run.
func stepsOf(t *testing.T, page string) []step {
	t.Helper()
	var steps []step
	for _, b := range blocksOf(page) {
		switch {
		case b.language == "console":
			steps = append(steps, b.commands(t)...)
		case b.file != "":
			steps = append(steps, step{line: b.line, file: b.file, program: b.isShell(), output: b.lines})
		case b.isShell():
			t.Errorf("line %d: commands in a %s block are never run: make it a console block, or name its file", b.line, b.language)
		default:
			for i, line := range b.lines {
				if onlyRead.MatchString(line) {
					t.Errorf("line %d: a command outside of a console block is never run", b.line+i)
				}
			}
		}
	}
	for i, s := range steps {
		used := func(later step) bool { return strings.Contains(later.command, s.file) }
		read := isWorkflow(s.file) || isUnit(s.file) || isSite(s.file) || strings.Contains(s.file, "/keyctl/config.yaml") // without being named
		if s.file != "" && !read && !slices.ContainsFunc(steps[i:], used) {
			t.Errorf("line %d: no command uses the file %s", s.line, s.file)
		}
	}
	return steps
}

func (b block) isShell() bool {
	return slices.Contains([]string{"sh", "bash", "shell", "zsh", "shell-session", "powershell"}, b.language)
}

// commands are those of a console block.
func (b block) commands(t *testing.T) (steps []step) {
	t.Helper()
	var wait time.Duration
	for i, line := range b.lines {
		command, isCommand := strings.CutPrefix(line, "$ ")
		switch {
		case isCommand:
			s := step{line: b.line + i, command: command, wait: wait, terminal: b.file == "terminal"}
			if m := exitMark.FindStringSubmatch(command); m != nil {
				s.exit, _ = strconv.Atoi(m[1])
			}
			steps, wait = append(steps, s), 0
		case waitMark.MatchString(line):
			wait += waiting(line)
		case len(steps) == 0:
			t.Errorf("line %d: output before the first command", b.line+i)
		default:
			last := &steps[len(steps)-1]
			last.output = append(last.output, line)
		}
	}
	if len(steps) == 0 {
		t.Errorf("line %d: a console block without a command", b.line)
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
	t    *testing.T
	home string // and where the commands run
	root string // of the repository, where make and go run
	user string
	now  time.Time
	seed string   // of the authenticator, once enrolled
	env  []string // what else its commands find in the environment

	clock string            // the file that holds now
	ports map[string]string // of this machine, by those that the page has
	units map[string]string // of systemd, by the services' names
	jobs  []*job            // that were started, in this order; nil once ended
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
	r := &reader{
		t: t, home: t.TempDir(), root: root, user: me.Username, now: docsStart,
		clock: filepath.Join(t.TempDir(), "clock"), ports: map[string]string{}, units: map[string]string{},
	}
	for _, port := range []string{"443", "8420", "8421"} {
		r.ports[port] = freePort(t)
	}
	r.tick(0)
	out, err := exec.Command("go", "env", "GOCACHE", "GOMODCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	for i, value := range strings.Fields(string(out)) {
		r.env = append(r.env, []string{"GOCACHE=", "GOMODCACHE="}[i]+value)
	}
	return r
}

// environ is the environment of the reader's commands, with nothing of the caller's in it. Programs that Debian does not
// have, or that need a cluster or a whole machine, have a stand-in that comes first in PATH.
func (r *reader) environ() []string {
	return append([]string{
		"HOME=" + r.home, "USER=" + r.user, "LC_ALL=C.UTF-8", keyringtest.Nowhere, clockFileVar + "=" + r.clock,
		"KEYCTL_LISTEN=127.0.0.1:" + r.ports["8420"],
		"PATH=" + filepath.Join(r.root, "cmd", "testdata", "standin") + string(filepath.ListSeparator) + os.Getenv("PATH"),
	}, r.env...)
}

// follow runs one command and compares.
func (r *reader) follow(s step) {
	r.t.Helper()
	r.tick(s.wait + time.Minute)
	command, dir := r.here(r.withCode(s.command)), r.home
	if r.keepsRunning(s, command) {
		return
	}
	switch word, _, _ := strings.Cut(command, " "); word {
	case "go":
		dir = r.root
	case "make": // that the target exists; what it does is not for a test to do
		command, dir = "make -n"+strings.TrimPrefix(command, "make"), r.root
	}
	shell := exec.CommandContext(r.t.Context(), "sh", "-c", command)
	shell.Dir = dir
	shell.Env = r.environ()
	var out string
	if s.terminal {
		out = onTerminal(r, shell, s.output)
	} else {
		printed, err := shell.CombinedOutput()
		if shell.ProcessState == nil {
			r.t.Fatal(err)
		}
		out = string(printed)
	}
	if status := shell.ProcessState.ExitCode(); status != s.exit {
		r.t.Fatalf("line %d: %s: exit status %d, want %d\n%s", s.line, command, status, s.exit, out)
	}
	r.learnSeed(out)
	if len(s.output) == 0 {
		return
	}
	shown := r.comparable(strings.Join(s.output, "\n"))
	got := matched(shown, r.comparable(out))
	if diff := cmp.Diff(shown, got); diff != "" {
		r.t.Errorf("line %d: %s: the page shows something else (-shown +printed):\n%s", s.line, command, diff)
	}
}

var (
	seedShown = regexp.MustCompile(`secret=([A-Z2-7]{32})`)
	codeFlag  = regexp.MustCompile(`--otp \d{6}`)
)

// learnSeed keeps the seed of the authenticator, if it was just shown.
func (r *reader) learnSeed(output string) {
	if m := seedShown.FindStringSubmatch(output); m != nil {
		r.seed = m[1]
	}
}

// codeAfter is the code that the authenticator shows some steps after the present one.
func (r *reader) codeAfter(steps int) string {
	r.t.Helper()
	raw, err := base32.StdEncoding.DecodeString(r.seed)
	if err != nil {
		r.t.Fatal(err)
	}
	seed, err := access.SeedFromBytes(raw)
	if err != nil {
		r.t.Fatalf("there is no authenticator on this page yet: %v", err)
	}
	return access.CodeAt(seed, access.StepAt(r.now)+int64(steps)).Reveal()
}

// withCode puts the authenticator's code of the moment in the place of the one that a page shows.
func (r *reader) withCode(command string) string {
	r.t.Helper()
	if !codeFlag.MatchString(command) {
		return command
	}
	return codeFlag.ReplaceAllString(command, "--otp "+r.codeAfter(0))
}

// forms are what differs from run to run, and how it is compared.
var forms = []struct {
	form *regexp.Regexp
	as   string
}{
	{regexp.MustCompile(`\bKC(…|[0-9A-Za-z]{22}\b)`), "KC-ID"},
	{regexp.MustCompile(`\b(key|st|op|ds|pk|req)_(…|[0-9A-Za-z]{22}\b)`), "$1-ID"},
	{regexp.MustCompile(`\b(kcs|kcx|kcm|kct)_(…|[0-9A-Za-z]{49,61})`), "$1_SECRET"},
	{regexp.MustCompile(`"(time|version)":"[^"]*"`), `"$1":"…"`},
	{regexp.MustCompile(`"duration_ms":[0-9.]+`), `"duration_ms":…`},
	{regexp.MustCompile(`\b[0-9a-f]{64}\b|\b[0-9a-f]{6,8}…`), "HASH"},
	{regexp.MustCompile(`\b[A-Z2-7]{32}\b`), "…"}, // a seed
	{regexp.MustCompile(`(s left\): )\d{6}\b`), "${1}CODE"},
	{regexp.MustCompile(`[ \t]+`), " "},
}

// tokenID is the form of a token's id, and of some words.
var tokenID = regexp.MustCompile(`\b[0-9A-Za-z]{12}\b`)

// comparable takes out of a text what differs from run to run, and the empty lines at its end.
func (r *reader) comparable(text string) []string {
	text = r.there(text)
	text = regexp.MustCompile(`\b`+regexp.QuoteMeta(r.user)+`\b`).ReplaceAllString(text, "ann")
	for _, f := range forms {
		text = f.form.ReplaceAllString(text, f.as)
	}
	text = tokenID.ReplaceAllStringFunc(text, func(word string) string {
		if word == "unstructured" {
			return word
		}
		return "TOKEN-ID"
	})
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

// asHelp stands before keyctl in PATH and asks it for help with whatever it was to do, which reads the flags and their
// values and then does nothing.
const asHelp = `#!/bin/sh
for word; do
	shift
	if [ "$word" = -- ] && [ -z "$asked" ]; then
		set -- "$@" --help
		asked=1
	fi
	set -- "$@" "$word"
done
[ -n "$asked" ] || set -- "$@" --help
echo "$*" >>"$SEEN"
help=$("$KEYCTL" "$@" 2>>"$FAILURES") || echo "  by: keyctl $*" >>"$FAILURES"
case $help in
*'[command]'*) echo "no such command: keyctl $*" >>"$FAILURES" ;;
esac
`

// TestExamples makes sure that keyctl reads the examples in its help texts: their commands and flags are there, and the
// flags take these values. What they do needs a world that each example would have to make first.
func TestExamples(t *testing.T) {
	sh, err := exec.LookPath("sh")
	if err != nil {
		leaveOut(t, err.Error())
	}
	keyctl, err := exec.LookPath("keyctl")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := filepath.Glob(filepath.Join("..", "docs", "reference", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	var examples []string
	for _, path := range pages {
		page, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, after, ok := strings.Cut(string(page), "### Examples\n\n```\n"); ok {
			block, _, _ := strings.Cut(after, "```")
			examples = append(examples, strings.Split(strings.TrimSpace(block), "\n")...)
		}
	}
	dir := t.TempDir()
	// PATH has nothing else: of other programs that examples use, none is run.
	for name, script := range map[string]string{"keyctl": asHelp, "cat": "#!/bin/sh\necho content\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	shell := exec.CommandContext(t.Context(), sh, "-c", strings.Join(examples, "\n"))
	shell.Dir = dir
	shell.Env = []string{"PATH=" + dir, "HOME=" + dir, "KEYCTL=" + keyctl, "SEEN=seen", "FAILURES=failures"}
	out, _ := shell.CombinedOutput() // other programs are missed
	failures, err := os.ReadFile(filepath.Join(dir, "failures"))
	if len(failures) > 0 {
		t.Errorf("keyctl does not read examples of its own help:\n%s", failures)
	}
	seen, readErr := os.ReadFile(filepath.Join(dir, "seen"))
	if readErr != nil || err != nil {
		t.Fatalf("%v, %v; the shell says:\n%s", readErr, err, out)
	}
	for _, line := range examples {
		if n := strings.Count(line, "keyctl "); n == 0 {
			t.Errorf("the example %q is none of keyctl", line)
		}
	}
	if n := strings.Count(string(seen), "\n"); n < len(examples) {
		t.Errorf("%d of %d examples were read; the shell says:\n%s", n, len(examples), out)
	}
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

// TestLinks follows the links of the pages to other files here, and to sections.
func TestLinks(t *testing.T) {
	pages, err := filepath.Glob(filepath.Join("..", "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	followed := 0
	for _, page := range append(pages, filepath.Join("..", "README.md"), filepath.Join("..", "CONTRIBUTING.md")) {
		content, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllSubmatch(content, -1) {
			path, section, _ := strings.Cut(string(m[1]), "#")
			if strings.Contains(path, "://") {
				continue
			}
			target := page
			if path != "" {
				target = filepath.Join(filepath.Dir(page), filepath.FromSlash(path))
			}
			followed++
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s: %v", page, m[1], err)
			} else if section != "" && !slices.Contains(sections(t, target), section) {
				t.Errorf("%s links to %s, which has no such section", page, m[1])
			}
		}
	}
	if followed < 50 {
		t.Errorf("followed %d links, want more", followed)
	}
}

// sections are the names by which the headings of a page can be linked to.
func sections(t *testing.T, page string) (names []string) {
	t.Helper()
	content, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range blocksOf(string(content)) {
		for _, line := range b.lines {
			if title, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " "); ok && strings.HasPrefix(line, "#") && b.language == "" {
				name := strings.ReplaceAll(strings.ToLower(title), " ", "-")
				names = append(names, regexp.MustCompile(`[^\p{L}\p{N}_-]`).ReplaceAllString(name, ""))
			}
		}
	}
	return names
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
