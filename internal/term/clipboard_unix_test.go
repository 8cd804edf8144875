//go:build unix && !darwin

package term

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"keyctl/internal/desktoptest"
	"keyctl/internal/fault"
)

// clipText is what the tests copy: several lines, as a credential has.
const clipText = "export TEST_ID='KC'\nexport TEST_SECRET='canary \"$&\\é'\n\n"

// clipboardProcess prepares clipboardChild in an environment that has a PATH, a home, a desktop, and nothing else.
func clipboardProcess(d *desktoptest.Desktop, path, input, verb string, args ...string) *exec.Cmd {
	c := exec.Command(os.Args[0], append([]string{verb}, args...)...)
	c.Env = d.Environ([]string{childMode + "=clipboard", "PATH=" + path, "HOME=" + path})
	c.Stdin = strings.NewReader(input)
	return c
}

// useClipboard runs clipboardChild, and returns the result of a success.
func useClipboard(t *testing.T, c *exec.Cmd) string {
	t.Helper()
	result, ok := strings.CutPrefix(outputOf(t, c), "ok ")
	if !ok {
		t.Errorf("%s = %s", strings.Join(c.Args[1:], " "), result)
	}
	return result
}

func outputOf(t *testing.T, c *exec.Cmd) string {
	t.Helper()
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil || stderr.Len() > 0 {
		t.Fatalf("%s: %v\n%s", strings.Join(c.Args[1:], " "), err, &stderr)
	}
	return string(out)
}

// R30: what is copied is what another program pastes, to the byte, and it is cleared only while it is still there.
func TestR30_Clipboard(t *testing.T) {
	for _, tt := range []struct {
		tools   []string // that there are
		desktop func(testing.TB) *desktoptest.Desktop
		copies  string // some other program
		pastes  string // and another
	}{
		{[]string{"xclip"}, desktoptest.X11, "xclip", "xsel"},
		{[]string{"xsel"}, desktoptest.X11, "xclip", "xclip"},
		{[]string{"wl-copy", "wl-paste", "cat", "rm"}, desktoptest.Wayland, "wl-copy", "wl-paste"},
	} {
		t.Run(tt.tools[0], func(t *testing.T) {
			t.Parallel()
			path := desktoptest.Path(t, tt.tools...) // outlives the desktop, with which the tools clean up
			d := tt.desktop(t)
			use := func(input, verb string, args ...string) string {
				t.Helper()
				return useClipboard(t, clipboardProcess(d, path, input, verb, args...))
			}
			d.Copy(tt.copies, "from before")
			use("", "check")
			if got := d.Paste(tt.pastes); got != "from before" {
				t.Errorf("after checking the clipboard holds %q, want what was there", got)
			}
			mark := use(clipText, "copy")
			if got := d.Paste(tt.pastes); got != clipText {
				t.Errorf("after copying the clipboard holds %q, want %q", got, clipText)
			}
			use("", "clear", newMark(t, "something else").String())
			if got := d.Paste(tt.pastes); got != clipText {
				t.Errorf("after clearing something else the clipboard holds %q, want %q", got, clipText)
			}
			d.Copy(tt.copies, "of the user's")
			use("", "clear", mark)
			if got := d.Paste(tt.pastes); got != "of the user's" {
				t.Errorf("clearing took what the user copied: the clipboard holds %q", got)
			}
			d.Copy(tt.copies, clipText) // by a clipboard manager, say
			use("", "clear", mark)
			if got := d.Paste(tt.pastes); got != "" {
				t.Errorf("after clearing the clipboard holds %q, want nothing", got)
			}
		})
	}
}

// Windows' own tools, as a Linux on top of it finds them, take and give lines with other ends.
func TestR30_ClipboardOfWindows(t *testing.T) {
	path := t.TempDir()
	held := filepath.Join(path, "held")
	desktoptest.Script(t, path, "clip.exe", "/bin/cat >"+held)
	desktoptest.Script(t, path, "powershell.exe", "/bin/sed 's/$/\r/' "+held+"; printf '\\r\\n'")
	mark := useClipboard(t, clipboardProcess(desktoptest.None(t), path, clipText, "copy"))
	if got, err := os.ReadFile(held); err != nil || string(got) != clipText {
		t.Errorf("clip.exe was given %q, %v, want %q", got, err, clipText)
	}
	useClipboard(t, clipboardProcess(desktoptest.None(t), path, "", "clear", mark))
	if got, err := os.ReadFile(held); err != nil || len(got) > 0 {
		t.Errorf("after clearing the clipboard holds %q, %v, want nothing", got, err)
	}
}

// R30: a tool that is killed, fails, hangs or stores something else is an error, which comes in bounded time and does
// not tell what was copied.
func TestR30_ClipboardToolFails(t *testing.T) {
	const onCopy, onPaste = `[ "$1" = -in ] || exec XCLIP "$@"; `, `[ "$1" = -out ] || exec XCLIP "$@"; `
	const hang = `while [ -e HANGING ]; do /bin/sleep 0.05; done`
	for _, tt := range []struct {
		name, script string
		verb         string
		want         string
	}{
		{"works", `exec XCLIP "$@"`, "copy", "ok "},
		{"fails", onCopy + `/bin/cat >/dev/null; exit 3`, "copy", "unavailable: the clipboard could not be written: exit status 3"},
		{"killed", onCopy + `/bin/cat >/dev/null; kill -9 $$`, "copy", "unavailable: the clipboard could not be written: signal: killed"},
		{"killed while it reads", onCopy + `read -r line; kill -9 $$`, "copy", "unavailable: the clipboard could not be written: "},
		{"does not read", onCopy + `exit 0`, "copy", "unavailable: the clipboard could not be written: its program does not read"},
		{"hangs", onCopy + hang, "copy", "unavailable: the clipboard did not answer within 3 seconds"},
		{"hangs, interrupted", onCopy + hang, "copy and interrupt", "ok interrupted: true"},
		{"stores nothing", onCopy + `exec /bin/cat >/dev/null`, "copy", "unavailable: the clipboard does not hold what was put there"},
		{"cannot be read", onPaste + `XCLIP "$@"; exit 3`, "copy", "unavailable: the clipboard could not be read: exit status 3"},
		{"hangs when it is read", onPaste + hang, "copy", "unavailable: the clipboard did not answer within 3 seconds"},
		{"hangs when it is cleared", onPaste + hang, "clear", "unavailable: the clipboard did not answer within 3 seconds"},
		{"cannot be read for clearing", onPaste + `exit 3`, "clear", "unavailable: the clipboard could not be read: exit status 3"},
		{"cannot be cleared", onCopy + `exec /bin/cat >/dev/null`, "clear", "unavailable: the clipboard still holds what was to be cleared"},
		{"is late", onPaste + `if [ -e HANGING ]; then /bin/rm HANGING; echo "something else"; else exec XCLIP "$@"; fi`, "copy", "ok "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d, path := desktoptest.X11(t), t.TempDir()
			d.Copy("xclip", "something else")
			var args []string
			if tt.verb == "clear" {
				d.Copy("xclip", clipText)
				args = []string{newMark(t, clipText).String()}
			}
			hanging := filepath.Join(t.TempDir(), "hanging")
			if err := os.WriteFile(hanging, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			defer os.Remove(hanging) // ends what hangs
			desktoptest.Script(t, path, "xclip", strings.NewReplacer("XCLIP", desktoptest.Tool(t, "xclip"), "HANGING", hanging).Replace(tt.script))
			input := clipText
			if tt.name == "does not read" {
				input = strings.Repeat(clipText, 4000) // more than a pipe takes
			}
			began := time.Now()
			got := outputOf(t, clipboardProcess(d, path, input, tt.verb, args...))
			if !strings.HasPrefix(got, tt.want) || tt.verb != "copy" && got != tt.want {
				t.Errorf("%s = %q, want %q", tt.verb, got, tt.want)
			}
			if strings.Contains(got, "canary") || strings.Contains(got, "TEST_") {
				t.Errorf("%s = %q, which tells what was copied", tt.verb, got)
			}
			if took := time.Since(began); took > patience+clipboardWait {
				t.Errorf("%s took %v", tt.verb, took)
			}
		})
	}
}

// Whether there is a clipboard is known before anything is put there, and what to do where there is none.
func TestR30_CheckClipboard(t *testing.T) {
	none, x11 := t.TempDir(), t.TempDir()
	for _, name := range []string{"xclip", "xsel"} {
		desktoptest.Script(t, x11, name, "exit 1")
	}
	wayland, termux, windows, half := t.TempDir(), t.TempDir(), t.TempDir(), t.TempDir()
	for name, dirs := range map[string][]string{
		"wl-copy": {wayland, half}, "wl-paste": {wayland}, "termux-clipboard-set": {termux}, "termux-clipboard-get": {termux},
		"clip.exe": {windows}, "powershell.exe": {windows},
	} {
		for _, dir := range dirs {
			desktoptest.Script(t, dir, name, "exit 1")
		}
	}
	const noDisplay = "there is no clipboard: neither DISPLAY nor WAYLAND_DISPLAY is set"
	for _, tt := range []struct {
		name, path string
		vars       []string
		want, hint string
	}{
		{"X11", x11, []string{"DISPLAY", ":0"}, "", ""},
		{"X11 forwarded over SSH", x11, []string{"DISPLAY", "localhost:10.0", "SSH_CONNECTION", "a 1 b 22"}, "", ""},
		{"Wayland", wayland, []string{"WAYLAND_DISPLAY", "wayland-1"}, "", ""},
		{"Wayland with the tools of X11", x11, []string{"WAYLAND_DISPLAY", "wayland-1", "DISPLAY", ":0"}, "", ""},
		{"Android", termux, nil, "", ""},
		{"on top of Windows", windows, nil, "", ""},
		{"nothing installed on X11", none, []string{"DISPLAY", ":0"}, "no program that reaches the clipboard is installed", "install xclip, or"},
		{"nothing installed on Wayland", none, []string{"WAYLAND_DISPLAY", "wayland-1"},
			"the programs that reach the clipboard of Wayland are not installed", "install wl-clipboard, or"},
		{"half installed on Wayland", half, []string{"WAYLAND_DISPLAY", "wayland-1"},
			"the programs that reach the clipboard of Wayland are not installed", "install wl-clipboard, or"},
		{"X11's alone on Wayland", x11, []string{"WAYLAND_DISPLAY", "wayland-1"},
			"the programs that reach the clipboard of Wayland are not installed", "install wl-clipboard, or"},
		{"Wayland's alone on X11", wayland, []string{"DISPLAY", ":0"}, "no program that reaches the clipboard is installed", "install xclip, or"},
		{"no display", x11, nil, noDisplay, "run it in a terminal of the desktop, or"},
		{"over SSH", x11, []string{"SSH_CONNECTION", "a 1 b 22"}, noDisplay, "over SSH, --copy=osc52"},
		{"over SSH, nothing installed", none, []string{"SSH_TTY", "/dev/pts/1"}, noDisplay, "over SSH, --copy=osc52"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("PATH", tt.path)
			err := CheckClipboard(env(tt.vars...))
			if tt.want == "" {
				if err != nil {
					t.Errorf("CheckClipboard = %v, want success", err)
				}
				return
			}
			if f := fault.From(err); !fault.Is(err, fault.Unavailable) || f.Message != tt.want || !strings.HasPrefix(f.Hint, tt.hint) ||
				!strings.HasSuffix(f.Hint, otherPlace) {
				t.Errorf("CheckClipboard = %#v, want %s and the hint %s", f, tt.want, tt.hint)
			}
		})
	}
	// The check says yes exactly where there is something to use.
	got := outputOf(t, clipboardProcess(desktoptest.None(t), none, clipText, "copy"))
	if !strings.HasPrefix(got, "unavailable: ") {
		t.Errorf("copying with nothing installed = %s", got)
	}
}
