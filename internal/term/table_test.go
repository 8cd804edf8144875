package term

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"

	"github.com/charmbracelet/lipgloss"
	"github.com/google/go-cmp/cmp"
)

func keysTable() Table {
	return Table{
		Columns: []Column{{Title: "NAME"}, {Title: "STATE"}, {Title: "DATASETS", Shrink: true}, {Title: "IP RANGES", Shrink: true}, {Title: "ID"}},
		Rows: [][]Cell{
			{{Text: "web-01"}, {Text: "active", Tone: Good}, {Text: "payments, ledger, customers"}, {Text: "10.0.0.0/8"}, {Text: "KC1"}},
			{{Text: "ci-tmp"}, {Text: "expired", Tone: Bad}, {}, {Text: "any"}, {}},
			{{Text: "größe-世界"}, {Text: "pending", Tone: Warn}},
		},
	}
}

func render(t *testing.T, table Table, width int, color bool) string {
	t.Helper()
	var b strings.Builder
	if err := table.Render(&b, width, color); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestTableFits(t *testing.T) {
	for _, tt := range []struct {
		width int
		want  string
	}{
		{0, `
NAME        STATE    DATASETS                     IP RANGES   ID
web-01      active   payments, ledger, customers  10.0.0.0/8  KC1
ci-tmp      expired                               any
größe-世界  pending
`},
		{65, `
NAME        STATE    DATASETS                     IP RANGES   ID
web-01      active   payments, ledger, customers  10.0.0.0/8  KC1
ci-tmp      expired                               any
größe-世界  pending
`},
		{55, `
NAME        STATE    DATASETS           IP RANGES   ID
web-01      active   payments, ledger…  10.0.0.0/8  KC1
ci-tmp      expired                     any
größe-世界  pending
`},
		{45, `
NAME        STATE    DATASETS  IP RANGES  ID
web-01      active   payment…  10.0.0.0…  KC1
ci-tmp      expired            any
größe-世界  pending
`},
		{44, `
NAME        STATE    DATASETS            ID
web-01      active   payments, ledger,…  KC1
ci-tmp      expired
größe-世界  pending
`},
		{25, `
NAME        STATE    ID
web-01      active   KC1
ci-tmp      expired
größe-世界  pending
`},
		{5, `
NAME        STATE    ID
web-01      active   KC1
ci-tmp      expired
größe-世界  pending
`},
	} {
		got := "\n" + render(t, keysTable(), tt.width, false)
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("Render(width %d) differs (-want +got):\n%s", tt.width, diff)
		}
	}
}

func TestTableWithoutHeader(t *testing.T) {
	table := Table{Columns: []Column{{Title: "A LONG TITLE"}, {Title: "B"}}, Rows: [][]Cell{{{Text: "x"}, {Text: "y"}}}, NoHeader: true}
	if got, want := render(t, table, 0, false), "x  y\n"; got != want {
		t.Errorf("Render = %q, want %q", got, want)
	}
}

// R26: what is in a cell cannot steer the terminal or begin a new line.
func TestR26_TableCleansCells(t *testing.T) {
	table := Table{Columns: []Column{{Title: "A"}}, Rows: [][]Cell{{{Text: "\x1b[2J\nfake\u202e"}}}}
	if got, want := render(t, table, 0, true), "A\n"+`\x1b[2J\nfake\u202e`+"\n"; got != want {
		t.Errorf("Render = %q, want %q", got, want)
	}
}

var colorSequence = regexp.MustCompile(`\x1b\[[0-9;]*m`)

// Colour adds colour, and nothing else: without its sequences the table is the plain one.
func TestTableColor(t *testing.T) {
	for _, width := range []int{0, 50, 30} {
		plain, colored := render(t, keysTable(), width, false), render(t, keysTable(), width, true)
		if got := colorSequence.ReplaceAllString(colored, ""); got != plain {
			t.Errorf("width %d: colours removed = %q, want %q", width, got, plain)
		}
		if !strings.Contains(colored, "\x1b[32mactive\x1b[0m") || !strings.Contains(colored, "\x1b[31mexpired\x1b[0m") {
			t.Errorf("width %d: %q, want active in green and expired in red", width, colored)
		}
		if strings.Contains(plain, "\x1b") {
			t.Errorf("width %d: without colour %q, want no escape", width, plain)
		}
	}
}

// An id is shown whole or not at all, whatever stands around it.
func TestIDsAreNotCut(t *testing.T) {
	id := "KC" + strings.Repeat("0", 22)
	other := "key_" + strings.Repeat("0", 22)
	for _, tt := range []struct {
		text string
		room int
		want string
	}{
		{id, 24, id},
		{id, 23, "…"},
		{"access_key_id=" + id, 30, "access_key_id=…"},
		{"größe " + id + ", more", 20, "größe …"},
		{"größe " + id + ", more", 33, "größe " + id + ", …"},
		{"store " + other, 12, "store …"},
		{id + "0", 10, "KC0000000…"}, // too long for an id
		{"payments, ledger, customers", 17, "payments, ledger…"},
		{"payments", 3, "pa…"},
	} {
		if got := cut(tt.text, tt.room); got != tt.want {
			t.Errorf("cut(%q, %d) = %q, want %q", tt.text, tt.room, got, tt.want)
		}
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

func TestTableReportsWriteErrors(t *testing.T) {
	want := errors.New("no space")
	if err := keysTable().Render(failingWriter{want}, 0, false); !errors.Is(err, want) {
		t.Errorf("Render to a failing writer = %v, want %v", err, want)
	}
}

// A line is never wider than asked, unless the columns that may not be cut are; and those are always whole.
func FuzzTable(f *testing.F) {
	f.Add("web-01", "payments, ledger", "any", 20)
	f.Add("größe", "世界世界世界世界", "👩‍💻", 12)
	f.Add("\x1b[2J", "\xff", "", 1)
	f.Fuzz(func(t *testing.T, id, long, other string, width int) {
		if width < 0 || width > 500 || len(id)+len(long)+len(other) > 2000 {
			return
		}
		table := Table{
			Columns: []Column{{Title: "ID"}, {Title: "LONG", Shrink: true}, {Title: "OTHER", Shrink: true}},
			Rows:    [][]Cell{{{Text: id}, {Text: long}, {Text: other}}},
		}
		out := render(t, table, width, false)
		if !strings.Contains(out, "\n"+Clean(id)) {
			t.Errorf("Render(%d) = %q, want the id %q whole", width, out, Clean(id))
		}
		limit := max(width, lipgloss.Width(Clean(id)), len("ID"))
		for line := range strings.Lines(out) {
			if got := lipgloss.Width(strings.TrimSuffix(line, "\n")); width > 0 && got > limit {
				t.Errorf("Render(%d): %q is %d wide, want at most %d", width, line, got, limit)
			}
		}
	})
}

func BenchmarkTable50(b *testing.B) {
	table := Table{Columns: keysTable().Columns}
	for i := range 50 {
		table.Rows = append(table.Rows, []Cell{
			{Text: fmt.Sprintf("web-%02d", i)}, {Text: "active", Tone: Good}, {Text: "payments, ledger, customers"},
			{Text: "10.0.0.0/8, 192.0.2.7"}, {Text: fmt.Sprintf("KCtest%018d", i)},
		})
	}
	for _, bench := range []struct {
		name  string
		width int
		color bool
	}{{"plain", 0, false}, {"terminal", 80, true}} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := table.Render(io.Discard, bench.width, bench.color); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
