package term

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/charmbracelet/lipgloss"
	"github.com/charmbracelet/x/ansi"
)

const (
	drawPause    = 100 * time.Millisecond // between two drawings of a progress bar
	quietTime    = 300 * time.Millisecond // work that is done by then shows no bar
	barWidth     = 30                     // columns, where there is room
	minBarWidth  = 5
	progressWide = 100 // columns, at most, for all of it
)

// Progress is a line at the bottom of a terminal that tells how far long work has come. A nil Progress is one that nobody
// would see: all its methods do nothing, but for Above, which calls its function. Its methods may be called by several
// goroutines at once.
type Progress struct {
	mu      sync.Mutex
	w       io.Writer
	surface func() Surface
	now     func() time.Time
	count   func(n int64) string // how an amount is written
	what    string
	total   int64
	done    int64
	began   time.Time
	drawn   time.Time // when the line was last drawn
	width   int       // of what stands on the line now
	ended   bool
}

// NewProgress begins a progress bar on standard error for a number of things, called what in the plural; 0 is a number
// that is not known, and shows no bar but the count. The bar appears when the work has taken a moment, so that short work
// does not flicker. It is nil, and costs nothing, where standard error is no terminal, or one that cannot go back in a line.
// Done must be called at the end, also when the work has failed.
func (t *Terminal) NewProgress(total int, what string) *Progress {
	return t.newProgress(int64(total), what, func(n int64) string { return fmt.Sprint(n) })
}

// NewByteProgress is NewProgress for a number of bytes; what says what is done to them.
func (t *Terminal) NewByteProgress(total int64, what string) *Progress {
	return t.newProgress(total, what, megabytes)
}

func (t *Terminal) newProgress(total int64, what string, count func(int64) string) *Progress {
	if !t.stderr.redraws {
		return nil
	}
	return &Progress{
		w: t.stderr.w, surface: t.Stderr, now: time.Now, count: count, what: Clean(what), total: total, began: time.Now(),
	}
}

// megabytes writes a number of bytes, a megabyte being a million of them.
func megabytes(n int64) string {
	const mega = 1e6
	return fmt.Sprintf("%.1f MB", float64(n)/mega)
}

// Add says that n more are done. The line is drawn again at most ten times a second.
func (p *Progress) Add(n int) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done += int64(n)
	if now := p.now(); !p.ended && now.Sub(p.began) >= quietTime && now.Sub(p.drawn) >= drawPause {
		p.draw(now)
	}
}

// Above calls say, which writes to standard error, with the line out of its way: what it writes stands above the line.
func (p *Progress) Above(say func()) {
	if p == nil {
		say()
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	visible := p.width > 0
	p.clear()
	say()
	if visible && !p.ended {
		p.draw(p.now())
	}
}

// Done ends the line and leaves none of it on the terminal. It may be called again.
func (p *Progress) Done() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	p.ended = true
}

// Write is Add for as many bytes as text has, so that a copy can go through it. It never fails.
func (p *Progress) Write(text []byte) (int, error) {
	p.Add(len(text))
	return len(text), nil
}

// clear takes the line off the terminal, with nothing but what every terminal understands.
func (p *Progress) clear() {
	if p.width > 0 {
		_, _ = io.WriteString(p.w, "\r"+strings.Repeat(" ", p.width)+"\r")
		p.width = 0
	}
}

// draw writes the line over the one that stands there.
func (p *Progress) draw(now time.Time) {
	surface := p.surface()
	// The last column stays free: some terminals go to the next line when it is taken.
	line := p.line(now.Sub(p.began), min(surface.Width, progressWide)-1, surface.Unicode)
	width := lipgloss.Width(line)
	_, _ = io.WriteString(p.w, "\r"+line+strings.Repeat(" ", max(0, p.width-width)))
	p.width, p.drawn = width, now
}

// line says how far the work has come after some time, in at most width columns: the time left and then the bar give way
// on a narrow terminal.
func (p *Progress) line(took time.Duration, width int, unicode bool) string {
	if p.total <= 0 {
		return ansi.Truncate(p.what+"  "+p.count(p.done), max(0, width), "")
	}
	done := min(p.done, p.total)
	head := fmt.Sprintf("%s  %s of %s  %d %%", p.what, p.count(done), p.count(p.total), done*100/p.total)
	tail := "  " + p.timeLeft(done, took)
	room := width - lipgloss.Width(head) - len(tail) - len("  []")
	if room < minBarWidth {
		tail = ""
		room = width - lipgloss.Width(head) - len("  []")
	}
	if room < minBarWidth {
		return ansi.Truncate(head, max(0, width), "")
	}
	return head + "  " + bar(done, p.total, min(room, barWidth), unicode) + tail
}

// timeLeft says how long it will take, if it goes on as it did.
func (p *Progress) timeLeft(done int64, took time.Duration) string {
	if done == 0 {
		return ""
	}
	left := time.Duration(float64(took) * float64(p.total-done) / float64(done))
	return left.Round(time.Second).String() + " left"
}

// bar draws done of total in a bar of so many columns.
func bar(done, total int64, width int, unicode bool) string {
	full, empty := "#", "."
	if unicode {
		full, empty = "█", "░"
	}
	n := int(done * int64(width) / total)
	return "[" + strings.Repeat(full, n) + strings.Repeat(empty, width-n) + "]"
}

// Bar draws value, of at most most, as a bar of at most so many columns. Anything but nothing is seen.
func Bar(value, most int64, width int, unicode bool) string {
	if value <= 0 || most <= 0 {
		return ""
	}
	share := float64(value) / float64(most)
	if !unicode {
		return strings.Repeat("#", max(1, int(share*float64(width)+0.5)))
	}
	const parts = 8 // of a column
	n := max(1, int(share*float64(width*parts)+0.5))
	whole := strings.Repeat("█", n/parts)
	if n%parts == 0 {
		return whole
	}
	return whole + string([]rune("▏▎▍▌▋▊▉")[n%parts-1])
}
