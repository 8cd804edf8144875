package term

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/charmbracelet/lipgloss"
	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files in testdata")

// golden compares a drawing with the file that keeps it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs (-want +got), -update rewrites it:\n%s", path, diff)
	}
}

// secretLines are as wide as those of a credential.
var secretLines = []string{
	"Access key id             KC" + strings.Repeat("0", 22),
	"Secret signing key        kcs_" + strings.Repeat("0", 49),
	"Secret crypto access key  kcx_" + strings.Repeat("0", 49),
}

func drawBox(t *testing.T, s Surface, title string) string {
	t.Helper()
	var b strings.Builder
	if err := Box(&b, s, title, secretLines, "shown once"); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// The borders are as wide as the terminal up to 80 columns; the lines are whole and have nothing after them.
func TestBox(t *testing.T) {
	for _, width := range []int{60, 80, 200} {
		for kind, s := range map[string]Surface{"unicode": {Width: width, Unicode: true}, "ascii": {Width: width}} {
			got := drawBox(t, s, "web-01, generation 3")
			golden(t, fmt.Sprintf("box-%s-%d", kind, width), got)
			lines := strings.Split(got, "\n")
			for _, at := range []int{0, len(lines) - 2} {
				if w := lipgloss.Width(lines[at]); w != min(width, 80) {
					t.Errorf("%s, %d columns: the border %q is %d wide", kind, width, lines[at], w)
				}
			}
			for i, line := range secretLines {
				if w := lipgloss.Width(lines[i+1]); width == 80 && w > width {
					t.Errorf("%q is %d wide and does not fit 80 columns", lines[i+1], w)
				}
				if lines[i+1] != " "+line {
					t.Errorf("%s, %d columns: %q, want the line whole", kind, width, lines[i+1])
				}
			}
		}
	}
}

// Whatever the title, a border fits its terminal; without a width it is as on a wide one.
func TestBoxBorderFits(t *testing.T) {
	for _, title := range []string{"", "web-01, generation 3", strings.Repeat("größe", 20), "\x1b[2J"} {
		for _, unicode := range []bool{true, false} {
			for _, width := range []int{0, 8, 20, 79, 300} {
				limit := width
				if width == 0 || width > 80 {
					limit = 80
				}
				upper, _, _ := strings.Cut(drawBox(t, Surface{Width: width, Unicode: unicode}, title), "\n")
				if w := lipgloss.Width(upper); w > limit || strings.Contains(upper, "\x1b") {
					t.Errorf("Box(%q) at %d columns has the border %q, %d wide", title, width, upper, w)
				}
			}
		}
	}
}

// Colour is in the borders alone: what is selected and copied is the text.
func TestBoxColour(t *testing.T) {
	plain := drawBox(t, Surface{Width: 80, Unicode: true}, "web-01")
	coloured := drawBox(t, Surface{Width: 80, Unicode: true, Color: true}, "web-01")
	if got := colorSequence.ReplaceAllString(coloured, ""); got != plain || coloured == plain {
		t.Errorf("with colour the box is %q, want %q with colours", coloured, plain)
	}
	for _, line := range secretLines {
		if !strings.Contains(coloured, "\n "+line+"\n") {
			t.Errorf("with colour %q is not on a line of its own", line)
		}
	}
}
