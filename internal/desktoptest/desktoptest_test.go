//go:build unix

package desktoptest

import "testing"

// What one tool copies another pastes, and on another desktop nothing of it is seen.
func TestDesktops(t *testing.T) {
	const text = "some text\nin two lines\n"
	one, other, wayland := X11(t), X11(t), Wayland(t)
	one.Copy("xclip", text)
	wayland.Copy("wl-copy", text+text)
	for _, tool := range []string{"xclip", "xsel"} {
		if got := one.Paste(tool); got != text {
			t.Errorf("%s pastes %q, want %q", tool, got, text)
		}
	}
	if got := wayland.Paste("wl-paste"); got != text+text {
		t.Errorf("wl-paste pastes %q, want %q", got, text+text)
	}
	if got := other.Paste("xclip") + other.Paste("xsel"); got != "" {
		t.Errorf("another desktop's clipboard holds %q, want nothing", got)
	}
}
