package cmd

import (
	"bytes"
	"flag"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
	"github.com/spf13/pflag"

	"keyctl/internal/access"
	"keyctl/internal/fault"
	"keyctl/internal/httpapi"
)

var update = flag.Bool("update", false, "write the generated files instead of comparing them")

// TestGeneratedReference keeps docs/reference as the command tree is: one page for each command and each help topic.
func TestGeneratedReference(t *testing.T) {
	compareFolder(t, filepath.Join("..", "docs", "reference"), referencePages(t))
}

// TestGeneratedCompletions keeps the completion scripts that packages install.
func TestGeneratedCompletions(t *testing.T) {
	scripts := map[string]string{}
	for shell, file := range map[string]string{"bash": "keyctl.bash", "zsh": "keyctl.zsh", "fish": "keyctl.fish", "powershell": "keyctl.ps1"} {
		var script bytes.Buffer
		root := bareTree(&script)
		root.SetArgs([]string{"completion", shell})
		if err := root.ExecuteContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		scripts[file] = script.String()
	}
	compareFolder(t, filepath.Join("..", "completions"), scripts)
}

// TestGeneratedOpenAPI keeps the description of the HTTP API as the routes are.
func TestGeneratedOpenAPI(t *testing.T) {
	want, err := httpapi.NewServer(httpapi.ServerOptions{}).Description()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join("..", "docs", "openapi.json")
	if *update {
		if err := os.WriteFile(file, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s is not what the routes say: run `make generate` (-want +got):\n%s", file, diff)
	}
}

// bareTree is the command tree with a system that has nothing but a standard output.
func bareTree(out io.Writer) *cobra.Command {
	return newRoot(newApp(&System{
		Stdin: strings.NewReader(""), Stdout: out, Stderr: io.Discard,
		Getenv: func(string) string { return "" }, Now: time.Now,
	}))
}

// referencePages writes the pages by file name.
func referencePages(t *testing.T) map[string]string {
	t.Helper()
	pages := map[string]string{}
	eachCommand(bareTree(io.Discard), func(c *cobra.Command) {
		name := strings.ReplaceAll(c.CommandPath(), " ", "_") + ".md"
		var page bytes.Buffer
		if c.IsAdditionalHelpTopicCommand() {
			page.WriteString("## " + c.CommandPath() + "\n\n" + c.Short + "\n\n" + c.Long + "\n\n`keyctl help " + c.Name() + "` shows this page.\n")
		} else if err := doc.GenMarkdown(c, &page); err != nil {
			t.Fatal(err)
		}
		pages[name] = strings.TrimSpace(page.String()) + "\n"
	})
	pages["README.md"] = contents(pages)
	return pages
}

// eachCommand visits all commands and help topics, their texts ready for Markdown and without the date that cobra adds.
func eachCommand(c *cobra.Command, visit func(*cobra.Command)) {
	c.DisableAutoGenTag = true
	c.InitDefaultHelpFlag()
	c.Long = fenced(c.Long)
	visit(c)
	for _, sub := range c.Commands() {
		if sub.Name() != "help" {
			eachCommand(sub, visit)
		}
	}
}

// contents lists the pages. The file names sort as the tree reads.
func contents(pages map[string]string) string {
	var b strings.Builder
	b.WriteString("# Reference\n\nGenerated from the command tree by `make generate`.\n\n")
	for _, name := range slices.Sorted(maps.Keys(pages)) {
		lines := strings.SplitN(pages[name], "\n", 4)
		title, short := strings.TrimPrefix(lines[0], "## "), lines[2]
		b.WriteString("- [" + title + "](" + name + "): " + short + "\n")
	}
	return b.String()
}

// fenced puts the indented lines of a help text, which a terminal shows as they are, into fences, so that Markdown does
// not run them together.
func fenced(text string) string {
	var b strings.Builder
	inside := false
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		indented := strings.HasPrefix(line, "  ")
		// An empty line between two indented ones belongs to them.
		if line == "" && inside && i+1 < len(lines) {
			indented = strings.HasPrefix(lines[i+1], "  ")
		}
		if indented != inside {
			b.WriteString("```")
			if indented {
				b.WriteString("text")
			}
			b.WriteString("\n")
			inside = indented
		}
		b.WriteString(line + "\n")
	}
	if inside {
		b.WriteString("```\n")
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// TestGeneratedTables keeps the tables in the pages as the code is: who may do what, the routes, the codes of failures, the
// settings of a server.
func TestGeneratedTables(t *testing.T) {
	compareTable(t, "server.md", "settings", settingsTable())
	compareTable(t, "roles.md", "permissions", permissionsTable())
	compareTable(t, "http-api.md", "routes", routesTable())
	compareTable(t, "http-api.md", "errors", errorsTable())
}

// table writes a table in Markdown.
type table struct{ strings.Builder }

func newTable(heads ...string) *table {
	var b table
	b.row(heads...)
	b.WriteString("|" + strings.Repeat("---|", len(heads)) + "\n")
	return &b
}

func (b *table) row(cells ...string) { b.WriteString("| " + strings.Join(cells, " | ") + " |\n") }

// settingsTable lists the flags of keyctl serve and what says the same elsewhere.
func settingsTable() string {
	b := newTable("flag", "environment", "file", "is")
	newServe(newApp(&System{})).LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
		variable := "KEYCTL_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		b.row("`--"+f.Name+"`", "`"+variable+"`", "`"+f.Name+"`", f.Usage)
	})
	return b.String()
}

// permissionsTable says what each role may do, and which routes a permission is for.
func permissionsTable() string {
	heads := []string{"permission"}
	for _, role := range access.Roles() {
		heads = append(heads, string(role))
	}
	b := newTable(append(heads, "operations")...)
	for _, p := range access.Permissions() {
		cells := []string{"`" + string(p) + "`"}
		for _, role := range access.Roles() {
			cells = append(cells, map[bool]string{true: "yes", false: ""}[role.May(p)])
		}
		var ids []string
		for _, r := range httpapi.Routes() {
			if r.Permission == string(p) {
				ids = append(ids, r.ID)
			}
		}
		b.row(append(cells, strings.Join(ids, ", "))...)
	}
	return b.String()
}

// routesTable lists the operations of the HTTP API.
func routesTable() string {
	b := newTable("operation", "request", "does", "permission", "repeat after a lost answer")
	for _, r := range httpapi.Routes() {
		b.row("`"+r.ID+"`", "`"+r.Method+" "+r.Path+"`", r.Summary, "`"+r.Permission+"`", map[bool]string{true: "yes", false: "look first"}[r.Repeatable])
	}
	return b.String()
}

// errorsTable lists the codes that a server answers with.
func errorsTable() string {
	b := newTable("code", "HTTP status", "may succeed later", "exit status of keyctl")
	for _, code := range fault.Codes() {
		switch code {
		case fault.BatchFailed, fault.Undelivered: // commands alone fail so
			continue
		}
		err := fault.New(code, "")
		b.row("`"+string(code)+"`", strconv.Itoa(httpapi.NewFailure(err, "").GetStatus()), yesNo(code.Retryable()), strconv.Itoa(exitStatus(err)))
	}
	return b.String()
}

// compareTable compares what stands in a page of docs between two marks with what should, or with -update puts it there.
func compareTable(t *testing.T, page, name, want string) {
	t.Helper()
	path := filepath.Join("..", "docs", page)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	begin, end := "<!-- begin: "+name+" -->\n", "<!-- end: "+name+" -->\n"
	before, rest, found := strings.Cut(string(content), begin)
	got, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		t.Fatalf("%s has no place for the table of %s", path, name)
	}
	if *update {
		if err := os.WriteFile(path, []byte(before+begin+want+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		got = want
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the table of %s in %s is stale: run `make generate` (-want +got):\n%s", name, path, diff)
	}
}

// compareFolder compares a folder with what it should hold, or with -update makes it hold that and nothing else.
func compareFolder(t *testing.T, dir string, want map[string]string) {
	t.Helper()
	if *update {
		rewriteFolder(t, dir, want)
	}
	got := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		got[entry.Name()] = string(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s is not what the command tree says: run `make generate` (-want +got):\n%s", dir, diff)
	}
}

func rewriteFolder(t *testing.T, dir string, want map[string]string) {
	t.Helper()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range want {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestReferenceLinks follows the links between the pages.
func TestReferenceLinks(t *testing.T) {
	pages := referencePages(t)
	for name, page := range pages {
		for rest := page; ; {
			_, after, found := strings.Cut(rest, "](")
			if !found {
				break
			}
			target, more, _ := strings.Cut(after, ")")
			if _, ok := pages[target]; !ok {
				t.Errorf("%s links to %s, which is not there", name, target)
			}
			rest = more
		}
	}
}
