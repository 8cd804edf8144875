package term

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/charmbracelet/lipgloss"
)

// clocked is a progress bar on a buffer, with a clock that the test moves.
type clocked struct {
	*Progress
	screen bytes.Buffer
	at     time.Time
}

func newClocked(total int64, what string, s Surface) *clocked {
	c := &clocked{at: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	c.Progress = &Progress{
		w: &c.screen, surface: func() Surface { return s }, now: func() time.Time { return c.at },
		count: func(n int64) string { return fmt.Sprint(n) }, what: what, total: total, began: c.at,
	}
	return c
}

// shows plays the screen to a terminal of one line, which is wide enough, and returns the line and those above it.
func shows(screen string) (above []string, line string) {
	var cells []rune
	at := 0
	for _, r := range screen {
		switch r {
		case '\r':
			at = 0
		case '\n':
			above, cells, at = append(above, strings.TrimRight(string(cells), " ")), nil, 0
		default:
			if at == len(cells) {
				cells = append(cells, r)
			} else {
				cells[at] = r
			}
			at++
		}
	}
	return above, strings.TrimRight(string(cells), " ")
}

// The line appears after a moment, tells how far the work is, is drawn at most ten times a second, and leaves nothing.
func TestProgress(t *testing.T) {
	c := newClocked(1000, "keys", Surface{Width: 80, Unicode: true})
	for range 10 {
		c.at = c.at.Add(29 * time.Millisecond)
		c.Add(1)
	}
	if c.screen.Len() > 0 {
		t.Errorf("after %v the screen shows %q, want nothing yet", c.at.Sub(c.began), &c.screen)
	}
	c.at = c.began.Add(time.Second)
	c.Add(240)
	const quarter = "keys  250 of 1000  25 %  [███████░░░░░░░░░░░░░░░░░░░░░░░]  3s left"
	if _, line := shows(c.screen.String()); line != quarter {
		t.Errorf("the line is %q, want %q", line, quarter)
	}
	drawn := c.screen.Len()
	for range 99 {
		c.at = c.at.Add(time.Millisecond)
		c.Add(1)
	}
	if c.screen.Len() != drawn {
		t.Errorf("the line was drawn again within a tenth of a second: %q", &c.screen)
	}
	c.Above(func() { _, _ = c.screen.WriteString("web-01: a name that is taken\n") })
	above, line := shows(c.screen.String())
	if len(above) != 1 || above[0] != "web-01: a name that is taken" || !strings.HasPrefix(line, "keys  349 of 1000  34 %") {
		t.Errorf("the screen shows %q and the line %q, want the words above the line", above, line)
	}
	c.Done()
	c.Done()
	c.at = c.at.Add(time.Minute)
	c.Add(1)
	c.Above(func() { _, _ = c.screen.WriteString("done\n") })
	if above, line := shows(c.screen.String()); len(above) != 2 || above[1] != "done" || line != "" {
		t.Errorf("after the end the screen shows %q and the line %q, want only words", above, line)
	}
}

// What is too wide gives way: the time left, the bar, and in the end the words.
func TestProgressFits(t *testing.T) {
	for _, tt := range []struct {
		s     Surface
		total int64
		want  string
	}{
		{Surface{Width: 200}, 1000, "keys  250 of 1000  25 %  [#######.......................]  3s left"},
		{Surface{Width: 60}, 1000, "keys  250 of 1000  25 %  [#####..................]  3s left"},
		{Surface{Width: 40}, 1000, "keys  250 of 1000  25 %  [###.........]"},
		{Surface{Width: 30}, 1000, "keys  250 of 1000  25 %"},
		{Surface{Width: 10}, 1000, "keys  250"},
		{Surface{}, 1000, ""},
		{Surface{Width: 60}, 0, "keys  250"},
		{Surface{Width: 60}, 200, "keys  200 of 200  100 %  [#######################]  0s left"}, // 50 more than was said
	} {
		c := newClocked(tt.total, "keys", tt.s)
		c.at = c.began.Add(time.Second)
		c.Add(250)
		_, line := shows(c.screen.String())
		if line != tt.want || tt.s.Width > 0 && lipgloss.Width(line) >= tt.s.Width {
			t.Errorf("%d of %d on %+v shows %q, want %q", 250, tt.total, tt.s, line, tt.want)
		}
	}
}

// Bytes are counted as they pass, by several goroutines at once.
func TestProgressCountsBytes(t *testing.T) {
	c := newClocked(8_000_000, "copying", Surface{Width: 100})
	c.count = megabytes
	c.at = c.began.Add(time.Second)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if n, err := io.Copy(io.MultiWriter(io.Discard, c.Progress), strings.NewReader(strings.Repeat("x", 500_000))); n != 500_000 || err != nil {
				t.Errorf("a copy = %d, %v", n, err)
			}
		})
	}
	all.Wait()
	c.Above(func() {})
	if _, line := shows(c.screen.String()); !strings.HasPrefix(line, "copying  4.0 MB of 8.0 MB  50 %") {
		t.Errorf("the line is %q", line)
	}
}

// Where nobody would see it there is no progress, and everything that is done with it goes on.
func TestNoProgress(t *testing.T) {
	var out bytes.Buffer
	term := New(strings.NewReader(""), &out, &out, Options{})
	p := term.NewProgress(10, "keys")
	if p != nil || term.NewByteProgress(10, "copying") != nil {
		t.Error("there is a progress bar in a buffer")
	}
	p.Add(5)
	p.Above(func() { out.WriteString("words\n") })
	if n, err := p.Write([]byte("abc")); n != 3 || err != nil {
		t.Errorf("Write = %d, %v, want 3", n, err)
	}
	p.Done()
	if out.String() != "words\n" {
		t.Errorf("the output is %q, want only the words", &out)
	}
}
