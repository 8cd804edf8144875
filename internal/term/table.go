package term

import (
	"bufio"
	"cmp"
	"io"
	"slices"
	"strings"

	"github.com/charmbracelet/lipgloss"
	"github.com/charmbracelet/x/ansi"
	"github.com/muesli/termenv"

	"keyctl/internal/credential"
)

const (
	columnGap      = 2 // blanks between columns
	minShrinkWidth = 8 // a shrinkable column is not cut below this, or below its title
	ellipsis       = "…"
)

// Tone is what a cell says at a glance. It only adds to the words: a table without colour says the same.
type Tone int

// The tones and the colours of the sixteen that every terminal has and its user chose.
const (
	Plain Tone = iota
	Good       // green
	Warn       // yellow
	Bad        // red
	Dim        // grey
)

// Cell is one value of a table. Its text is cleaned when it is drawn.
type Cell struct {
	Text string
	Tone Tone
}

// Column is a column of a table. The text of one that may Shrink can be cut to fit a narrow terminal; ids, names and
// states may not.
type Column struct {
	Title  string
	Shrink bool
}

// Table is rows under titles, aligned to the left, two blanks apart. A row may have fewer cells than there are columns.
//
// A table wider than its terminal gives way in this order: the widest shrinkable columns are cut, ending in "…", down to
// eight characters or their title; then the right-most shrinkable column is left out, and so on leftwards, the others
// taking the room. What remains, ids and names, is never cut or wrapped, even if the terminal has to.
type Table struct {
	Columns  []Column
	Rows     [][]Cell
	NoHeader bool
}

// Render draws the table to w, at most width columns wide; 0 is as wide as it needs. Nothing but colours, and those only
// if color is set, is added to the text; the terminal is asked nothing.
func (t Table) Render(w io.Writer, width int, color bool) error {
	l := t.measure()
	l.fit(width)
	out := bufio.NewWriter(w)
	var palette map[Tone]paint
	if color {
		palette = newPalette()
	}
	for _, row := range l.rows {
		l.draw(out, row, palette)
	}
	return out.Flush()
}

// paint is what stands before and after a coloured text.
type paint struct{ before, after string }

// newPalette returns the paint for each tone but Plain.
func newPalette() map[Tone]paint {
	r := newRenderer()
	palette := make(map[Tone]paint)
	for tone, color := range map[Tone]lipgloss.Color{Good: "2", Warn: "3", Bad: "1", Dim: "8"} {
		palette[tone] = newPaint(r.NewStyle().Foreground(color))
	}
	return palette
}

// newRenderer returns a renderer that is told what the terminal can do: left to itself it would ask the terminal, and wait
// five seconds for one that does not answer.
func newRenderer() *lipgloss.Renderer {
	r := lipgloss.NewRenderer(io.Discard, termenv.WithProfile(termenv.ANSI))
	r.SetColorProfile(termenv.ANSI)
	r.SetHasDarkBackground(true)
	return r
}

// newPaint takes a style apart by painting one letter. Painting every cell is what most of the time of a table went into.
func newPaint(style lipgloss.Style) paint {
	const letter = "x"
	before, after, _ := strings.Cut(style.Render(letter), letter)
	return paint{before, after}
}

// layout is a table with everything in it measured.
type layout struct {
	columns []columnRoom
	rows    [][]measuredCell // the titles, if they are shown, are the first
}

// columnRoom is the room a column needs and has; a width of leftOut is none.
type columnRoom struct {
	shrink  bool
	natural int
	least   int
	width   int
}

const leftOut = -1

// measuredCell is a cell with its text cleaned and the columns that takes.
type measuredCell struct {
	Cell
	width int
}

func (t Table) measure() *layout {
	l := &layout{columns: make([]columnRoom, len(t.Columns)), rows: make([][]measuredCell, 0, len(t.Rows)+1)}
	for i, c := range t.Columns {
		l.columns[i] = columnRoom{shrink: c.Shrink, least: minShrinkWidth}
	}
	if !t.NoHeader {
		titles := make([]Cell, len(t.Columns))
		for i, c := range t.Columns {
			titles[i].Text = c.Title
			l.columns[i].least = max(minShrinkWidth, lipgloss.Width(c.Title))
		}
		l.add(titles)
	}
	for _, row := range t.Rows {
		l.add(row)
	}
	for i := range l.columns {
		l.columns[i].width = l.columns[i].natural
	}
	return l
}

// add cleans and measures a row.
func (l *layout) add(row []Cell) {
	cells := make([]measuredCell, min(len(row), len(l.columns)))
	for i := range cells {
		text := Clean(row[i].Text)
		cells[i] = measuredCell{Cell{text, row[i].Tone}, lipgloss.Width(text)}
		l.columns[i].natural = max(l.columns[i].natural, cells[i].width)
	}
	l.rows = append(l.rows, cells)
}

// fit gives every column its room, by the rules in the comment on Table.
func (l *layout) fit(width int) {
	if width <= 0 {
		return
	}
	for {
		l.shrinkBy(l.total() - width)
		if l.total() <= width || !l.leaveOneOut() {
			return
		}
		for i := range l.columns {
			if c := &l.columns[i]; c.width != leftOut {
				c.width = c.natural
			}
		}
	}
}

func (l *layout) total() int {
	total := -columnGap
	for _, c := range l.columns {
		if c.width != leftOut {
			total += c.width + columnGap
		}
	}
	return total
}

// shrinkBy takes excess columns from the widest shrinkable columns first, so that those in need of little keep it.
func (l *layout) shrinkBy(excess int) {
	var candidates []*columnRoom
	for i := range l.columns {
		if c := &l.columns[i]; c.shrink && c.width > c.least {
			candidates = append(candidates, c)
		}
	}
	for ; excess > 0 && len(candidates) > 0; excess-- {
		widest := slices.MaxFunc(candidates, func(a, b *columnRoom) int { return cmp.Compare(a.width, b.width) })
		widest.width--
		if widest.width == widest.least {
			candidates = slices.DeleteFunc(candidates, func(c *columnRoom) bool { return c == widest })
		}
	}
}

// leaveOneOut drops the right-most shrinkable column and reports whether there was one.
func (l *layout) leaveOneOut() bool {
	for i := len(l.columns) - 1; i >= 0; i-- {
		if c := &l.columns[i]; c.shrink && c.width != leftOut {
			c.width = leftOut
			return true
		}
	}
	return false
}

// draw writes one line. Blanks are written only before the next text, so no line ends in any.
func (l *layout) draw(w *bufio.Writer, row []measuredCell, palette map[Tone]paint) {
	blanks := 0
	for i, cell := range row {
		room := l.columns[i].width
		if room == leftOut {
			continue
		}
		text, width := cell.Text, cell.width
		if width > room {
			text = cut(text, room)
			width = lipgloss.Width(text) // a wide character may have left a column free
		}
		if text != "" {
			w.WriteString(strings.Repeat(" ", blanks))
			paintText(w, text, palette[cell.Tone])
			blanks = 0
		}
		blanks += room - width + columnGap
	}
	w.WriteByte('\n')
}

// cut shortens a text to so many columns, at most. An id in it is left out rather than cut: the beginning of one could be
// taken for another.
func cut(text string, room int) string {
	short := ansi.Truncate(text, room, ellipsis)
	kept, shortened := strings.CutSuffix(short, ellipsis)
	rest, ok := strings.CutPrefix(text, kept)
	if !shortened || !ok {
		return short
	}
	before, after := strings.TrimRightFunc(kept, inID), strings.TrimLeftFunc(rest, inID)
	if len(before) < len(kept) && isID(text[len(before):len(text)-len(after)]) {
		return before + ellipsis
	}
	return short
}

// isID reports whether a word has the form of an access key id, or of the id of anything else: a prefix and as many
// letters and digits.
func isID(word string) bool {
	_, digits, found := strings.Cut(word, "_")
	return credential.IsAccessKeyID(word) || found && credential.IsAccessKeyID("KC"+digits)
}

// inID reports whether a character can be part of an id.
func inID(r rune) bool {
	return r == '_' || '0' <= r && r <= '9' || 'A' <= r && r <= 'Z' || 'a' <= r && r <= 'z'
}
