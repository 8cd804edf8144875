//go:build unix

package cmd

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestManual has man show every page: without a warning, with the name and the summary that whatis looks for, and with
// examples as they are to be typed.
func TestManual(t *testing.T) {
	for _, program := range []string{"man", "lexgrog"} {
		if _, err := exec.LookPath(program); err != nil {
			skip(t, err.Error())
		}
	}
	eachCommand(bareTree(io.Discard), func(c *cobra.Command) {
		name := manualName(c)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join("..", "docs", "man", name+".8")
			shown := shownBy(t, "man", "--warnings", "--local-file", path)
			if !strings.HasPrefix(shown, name+"(8)") {
				t.Errorf("the page begins with %.60q, want %s(8)", shown, name)
			}
			for _, line := range strings.Split(c.Example, "\n") {
				if !strings.Contains(shown, strings.TrimSpace(line)) {
					t.Errorf("man does not show the example %q as it is to be typed:\n%s", line, shown)
				}
			}
			want := path + `: "` + name + " - " + c.Short + `"` + "\n"
			if got := shownBy(t, "lexgrog", path); got != want {
				t.Errorf("whatis would find %q, want %q", got, want)
			}
		})
	})
}

// shownBy runs a program that must have nothing to complain about, and returns what it prints.
func shownBy(t *testing.T, program string, args ...string) string {
	t.Helper()
	c := exec.Command(program, args...)
	c.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "MANWIDTH=200", "MANROFFOPT=", "MANPAGER=cat", "MAN_KEEP_FORMATTING=")
	var out, complaints bytes.Buffer
	c.Stdout, c.Stderr = &out, &complaints
	if err := c.Run(); err != nil || complaints.Len() > 0 {
		t.Fatalf("%s %q: %v\n%s", program, args, err, complaints.String())
	}
	return out.String()
}
