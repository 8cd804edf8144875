//go:build unix

package cmd

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// namedPrograms puts the program in a folder under both of its names, or only one, and another program in the place of the
// other, which like keyutils' keyctl does not know the command line.
func (w *world) namedPrograms(ours ...string) (path string) {
	w.t.Helper()
	folder := w.path("bin-" + strings.Join(ours, "-"))
	if err := os.MkdirAll(folder, 0o755); err != nil {
		w.t.Fatal(err)
	}
	for _, name := range []string{"keyctl", "apikeyctl"} {
		file := filepath.Join(folder, name)
		var err error
		if slices.Contains(ours, name) {
			err = os.Symlink(w.command().Path, file)
		} else {
			err = os.WriteFile(file, []byte("#!/bin/sh\necho 'Unknown command' >&2\nexit 2\n"), 0o755)
		}
		if err != nil && !os.IsExist(err) {
			w.t.Fatal(err)
		}
	}
	return folder + ":" + os.Getenv("PATH")
}

// program finds a program that a test needs.
func needProgram(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		skip(t, err.Error())
	}
	return path
}

// script writes the completion script for a shell to a file.
func (w *world) script(shell, file string) string {
	w.t.Helper()
	return w.write(file, w.ok("completion", shell))
}

// line is a shell in which somebody types.
type line struct{ *console }

// controls are what terminals are sent besides text.
var controls = regexp.MustCompile("\x1b\\[[0-9;?]*[A-Za-z]|\x1b[=>]|\x07|\r")

// tab types a text and the tabulator, and returns what then stands on the line and what the screen showed on the way.
func (l *line) tab(text string) (line, screen string) {
	l.w.t.Helper()
	from := len(l.shown.String())
	l.types("\x15" + text + "\t" + "\x18\x0c") // clears the line, completes, asks for the line
	end := regexp.MustCompile(`(?s)<<(.*)>>`)
	for deadline := time.Now().Add(hang); ; time.Sleep(2 * time.Millisecond) {
		shown := controls.ReplaceAllString(l.shown.String()[from:], "")
		if at := end.FindStringSubmatchIndex(shown); at != nil {
			return shown[at[2]:at[3]], shown[:at[0]]
		}
		if time.Now().After(deadline) {
			l.w.t.Fatalf("after %q and a tabulator the screen shows %q", text, shown)
		}
	}
}

// completedLines are what shells make of a line when the tabulator is pressed: the line, and what the screen shows.
var completedLines = []struct {
	typed, line string
	shows       []string
}{
	{"keyctl keys sh", "keyctl keys show ", nil},
	{"keyctl keys show d", "keyctl keys show db-01 ", nil},
	{"apikeyctl keys show d", "apikeyctl keys show db-01 ", nil},
	{"keyctl keys show w", "keyctl keys show web-0", []string{"web-01", "web-02", "active", "disabled"}},
	{"keyctl keys enable ", "keyctl keys enable web-02 ", nil},
	{"keyctl keys list --dataset p", "keyctl keys list --dataset payments ", nil},
	{"keyctl keys list --dataset=p", "keyctl keys list --dataset=payments ", nil},
	{"keyctl --context prod", "keyctl --context production ", nil},
	{"keyctl --store sqlite:nowhere.db keys show w", "keyctl --store sqlite:nowhere.db keys show w", nil},
	{"keyctl keys list --no-h", "keyctl keys list --no-headers ", nil},
	{"keyctl backup only", "keyctl backup only-file ", nil},
	{"keyctl keys create only", "keyctl keys create only", nil},
	{"keyctl keys show nope", "keyctl keys show nope", nil},
}

// compare types the lines one after the other.
func (l *line) compare(t *testing.T) {
	t.Helper()
	for _, tt := range completedLines {
		line, screen := l.tab(tt.typed)
		if line != tt.line {
			t.Errorf("%q and a tabulator make %q, want %q; the screen shows %q", tt.typed, line, tt.line, screen)
		}
		for _, want := range tt.shows {
			if !strings.Contains(screen, want) {
				t.Errorf("after %q and a tabulator the screen shows %q, want %q there", tt.typed, screen, want)
			}
		}
		for _, noise := range []string{"rror", "not found", "keyctl: ", "nknown", "No such", "usage"} {
			if strings.Contains(screen, noise) {
				t.Errorf("after %q and a tabulator the screen shows %q", tt.typed, screen)
			}
		}
	}
}

// bash starts an interactive bash with the script, which begins with other lines.
func (w *world) bash(t *testing.T, path string, first ...string) *line {
	t.Helper()
	bash := needProgram(t, "bash")
	rc := append([]string{
		`PS1='> '`, `bind 'set bell-style none'`, `bind 'set show-all-if-ambiguous on'`, `bind 'set enable-bracketed-paste off'`,
		`bind -x '"\C-x\C-l": printf "<<%s>>\n" "$READLINE_LINE"'`,
	}, first...)
	rc = append(rc, "source "+w.script("bash", "keyctl.bash"))
	c := exec.Command(bash, "--noprofile", "--rcfile", w.write("bashrc", strings.Join(rc, "\n")+"\n"), "-i")
	c.Dir, c.Env = w.dir, append(slices.Clone(w.env), "PATH="+path, "TERM=dumb", "INPUTRC=/dev/null", "HISTFILE=/dev/null")
	return &line{w.seat(c, 120).expect("> ")}
}

// bashCompletion is where the package bash-completion keeps its functions.
const bashCompletion = "/usr/share/bash-completion/bash_completion"

func TestCompletionInBash(t *testing.T) {
	w := stocked(t)
	w.write("only-file", "")
	both := w.namedPrograms("keyctl", "apikeyctl")
	t.Run("alone", func(t *testing.T) {
		l := w.bash(t, both)
		l.compare(t)
		// The cursor may stand in the middle of the line.
		if line, screen := l.tab("keyctl keys show d --quiet" + strings.Repeat("\x02", len(" --quiet"))); line != "keyctl keys show db-01 --quiet" {
			t.Errorf("a tabulator in the middle makes %q; the screen shows %q", line, screen)
		}
	})
	t.Run("bash-completion", func(t *testing.T) {
		if _, err := os.Stat(bashCompletion); err != nil {
			skip(t, err.Error())
		}
		w.bash(t, both, "source "+bashCompletion).compare(t)
	})
	t.Run("folders", func(t *testing.T) {
		// No command of this version takes a folder; others may, and the script knows how.
		folder := w.path("bin-folders")
		for _, dir := range []string{folder, w.path("folder one")} {
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		w.write("folder two", "a file")
		if err := os.WriteFile(filepath.Join(folder, "keyctl"), []byte("#!/bin/sh\necho :16\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		if line, screen := w.bash(t, folder+":"+os.Getenv("PATH")).tab("keyctl --out-dir fold"); line != `keyctl --out-dir folder\ one/` {
			t.Errorf("a folder is completed as %q; the screen shows %q", line, screen)
		}
	})
	t.Run("another keyctl", func(t *testing.T) { otherKeyctl(t, w.bash(t, w.namedPrograms("apikeyctl"))) })
}

// otherKeyctl types the names of two programs of which one is not ours.
func otherKeyctl(t *testing.T, l *line) {
	t.Helper()
	if line, screen := l.tab("keyctl keys show web-0"); line != "keyctl keys show web-0" || strings.Contains(screen, "nknown") {
		t.Errorf("with another keyctl a tabulator makes %q, and the screen shows %q", line, screen)
	}
	if line, screen := l.tab("apikeyctl keys show d"); line != "apikeyctl keys show db-01 " {
		t.Errorf("with another keyctl apikeyctl is completed to %q, and the screen shows %q", line, screen)
	}
}

// zsh starts an interactive zsh that finds the script in a folder of functions, under a name.
func (w *world) zsh(t *testing.T, path, function string) *line {
	t.Helper()
	zsh := needProgram(t, "zsh")
	if err := os.RemoveAll(w.path("functions")); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"zsh", "functions"} {
		if err := os.MkdirAll(w.path(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	w.script("zsh", "functions/"+function)
	w.write("zsh/.zshrc", strings.Join([]string{
		`PS1='> '`, `unsetopt beep prompt_sp list_ambiguous`, `fpath=(` + w.path("functions") + ` $fpath)`,
		`autoload -U compinit; compinit -u -D`, `show-line() { print -r -- "<<$BUFFER>>" }`, `zle -N show-line`, `bindkey -e`,
		`bindkey '^X^L' show-line`,
	}, "\n")+"\n")
	c := exec.Command(zsh, "-d", "-i")
	c.Dir, c.Env = w.dir, append(slices.Clone(w.env), "PATH="+path, "TERM=dumb", "ZDOTDIR="+w.path("zsh"))
	return &line{w.seat(c, 120).expect("> ")}
}

func TestCompletionInZsh(t *testing.T) {
	w := stocked(t)
	w.write("only-file", "")
	w.zsh(t, w.namedPrograms("keyctl", "apikeyctl"), "_keyctl").compare(t)
	t.Run("another keyctl", func(t *testing.T) { otherKeyctl(t, w.zsh(t, w.namedPrograms("apikeyctl"), "_keyctl")) })
	// Packages install it under this name. The first tabulator has to work there, too.
	t.Run("as packaged", func(t *testing.T) {
		l := w.zsh(t, w.namedPrograms("apikeyctl"), "_apikeyctl")
		if line, screen := l.tab("apikeyctl keys show d"); line != "apikeyctl keys show db-01 " {
			t.Errorf("the first tabulator makes %q, and the screen shows %q", line, screen)
		}
	})
}

func TestCompletionInFish(t *testing.T) {
	fish := needProgram(t, "fish")
	w := stocked(t)
	w.write("only-file", "")
	script := w.script("fish", "keyctl.fish")
	// tab returns the lines that fish offers.
	tab := func(path, text string) []string {
		t.Helper()
		c := exec.Command(fish, "--no-config", "-c", "source "+script+"; complete -C '"+text+"'")
		c.Dir, c.Env = w.dir, append(slices.Clone(w.env), "PATH="+path, "TERM=dumb")
		r := w.finish(c)
		if r.err != "" || r.status != 0 {
			t.Errorf("fish: after %q exit %d and %q on standard error", text, r.status, r.err)
		}
		return strings.Split(strings.TrimSuffix(r.out, "\n"), "\n")
	}
	both := w.namedPrograms("keyctl", "apikeyctl")
	for text, want := range map[string]string{
		"keyctl keys sh":                               "show\tShow one key",
		"keyctl keys show w":                           "web-01\tactive|web-02\tdisabled",
		"apikeyctl keys show w":                        "web-01\tactive|web-02\tdisabled",
		"keyctl keys enable ":                          "web-02\tdisabled",
		"keyctl keys list --dataset p":                 "payments\tunstructured",
		"keyctl --context prod":                        "production",
		"keyctl keys list --dataset=p":                 "--dataset=payments\tunstructured",
		"keyctl roll web-01 --expire ":                 "now|1h|24h|7d|30d",
		"keyctl backup only":                           "only-file",
		"keyctl keys create only":                      "",
		"keyctl keys show nope":                        "",
		"keyctl --store sqlite:nowhere.db keys show w": "",
	} {
		if got := strings.Join(tab(both, text), "|"); got != want {
			t.Errorf("fish: after %q it offers %q, want %q", text, got, want)
		}
	}
	other := w.namedPrograms("apikeyctl")
	if got := tab(other, "keyctl keys show d"); slices.Contains(got, "db-01") {
		t.Errorf("fish: another keyctl offers %q", got)
	}
	if got := strings.Join(tab(other, "apikeyctl keys show d"), "|"); got != "db-01\tactive, rolling" {
		t.Errorf("fish: with another keyctl apikeyctl offers %q", got)
	}
}
