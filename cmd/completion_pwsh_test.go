//go:build unix && pwsh

// PowerShell is in no Debian, so its test is left to those who have it: go test -tags pwsh ./cmd

package cmd

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

func TestCompletionInPowerShell(t *testing.T) {
	pwsh := needProgram(t, "pwsh")
	w := stocked(t)
	script := w.script("powershell", "keyctl.ps1")
	for text, want := range map[string]string{"keyctl keys show d": "db-01", "apikeyctl keys enable ": "web-02", "keyctl keys sh": "show"} {
		c := exec.Command(pwsh, "-NoProfile", "-NonInteractive", "-Command",
			". "+script+"; (TabExpansion2 -inputScript '"+text+"' -cursorColumn "+fmt.Sprint(len(text))+").CompletionMatches.CompletionText")
		c.Dir, c.Env = w.dir, append(slices.Clone(w.env), "PATH="+w.namedPrograms("keyctl", "apikeyctl"), "TERM=dumb")
		if r := w.finish(c); strings.TrimSpace(r.out) != want {
			t.Errorf("PowerShell: after %q it offers %q (%s), want %q", text, r.out, r.err, want)
		}
	}
}
