package term

import "testing"

// A bar is as long as its share, and anything but nothing is seen.
func TestBar(t *testing.T) {
	for _, c := range []struct {
		value, most int64
		unicode     string
		ascii       string
	}{
		{0, 0, "", ""}, {0, 8, "", ""}, {-1, 8, "", ""},
		{8, 8, "████████", "########"},
		{4, 8, "████", "####"},
		{1, 1 << 62, "▏", "#"},
		{1 << 62, 1 << 62, "████████", "########"},
		{35, 80, "███▌", "####"},
		{79, 80, "███████▉", "########"},
	} {
		if got := Bar(c.value, c.most, 8, true); got != c.unicode {
			t.Errorf("Bar(%d, %d) = %q, want %q", c.value, c.most, got, c.unicode)
		}
		if got := Bar(c.value, c.most, 8, false); got != c.ascii {
			t.Errorf("Bar(%d, %d) in ASCII = %q, want %q", c.value, c.most, got, c.ascii)
		}
	}
}
