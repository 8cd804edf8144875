//go:build unix && !darwin

package term

import (
	"os/exec"

	"keyctl/internal/fault"
)

// clipboardTool names the program that reaches the clipboard, in the order in which atotto/clipboard takes what is
// there, or is empty.
func clipboardTool(getenv func(string) string) string {
	found := func(names ...string) bool {
		for _, name := range names {
			if _, err := exec.LookPath(name); err != nil {
				return false
			}
		}
		return true
	}
	switch {
	case getenv("WAYLAND_DISPLAY") != "" && found("wl-copy", "wl-paste"):
		return "wl-copy"
	case found("xclip"):
		return "xclip"
	case found("xsel"):
		return "xsel"
	case found("termux-clipboard-set", "termux-clipboard-get"):
		return "termux-clipboard-set"
	case found("clip.exe", "powershell.exe"):
		return "clip.exe"
	}
	return ""
}

func checkClipboard(getenv func(string) string) error {
	tool := clipboardTool(getenv)
	needsX11 := tool == "xclip" || tool == "xsel"
	x11, wayland := getenv("DISPLAY") != "", getenv("WAYLAND_DISPLAY") != ""
	switch {
	case tool != "" && (x11 || !needsX11):
		return nil
	case wayland:
		return fault.New(fault.Unavailable, "the programs that reach the clipboard of Wayland are not installed").
			WithHint("install wl-clipboard, or %s", otherPlace)
	case x11:
		return fault.New(fault.Unavailable, "no program that reaches the clipboard is installed").
			WithHint("install xclip, or %s", otherPlace)
	}
	err := fault.New(fault.Unavailable, "there is no clipboard: neither DISPLAY nor WAYLAND_DISPLAY is set")
	if getenv("SSH_CONNECTION") != "" || getenv("SSH_TTY") != "" {
		return err.WithHint("over SSH, --copy=osc52 hands the credential to your own terminal; or %s", otherPlace)
	}
	return err.WithHint("run it in a terminal of the desktop, or %s", otherPlace)
}
