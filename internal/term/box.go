package term

import (
	"bufio"
	"io"
	"strings"

	"github.com/charmbracelet/lipgloss"
	"github.com/charmbracelet/x/ansi"
)

// maxBoxWidth is how wide a box gets on a wide terminal, in columns.
const maxBoxWidth = 80

// border is what a box is drawn with.
type border struct{ topLeft, topRight, bottomLeft, bottomRight, line, ellipsis string }

var (
	unicodeBorder = border{"╭", "╮", "╰", "╯", "─", ellipsis}
	asciiBorder   = border{"+", "+", "+", "+", "-", "..."}
)

// Box draws lines between two borders, the upper one with a title and the lower one with a remark. It is open at its sides:
// one blank stands before a line's text and nothing after it, so that a double click selects a word of it whole and the
// longest line of a credential just fits 80 columns. The borders are as wide as the terminal, and at most 80 columns; a
// title or remark that is longer is cut. Lines are never cut: the terminal wraps what is wider than it is.
func Box(w io.Writer, s Surface, title string, lines []string, remark string) error {
	width := maxBoxWidth
	if s.Width > 0 {
		width = min(width, s.Width)
	}
	b := asciiBorder
	if s.Unicode {
		b = unicodeBorder
	}
	var palette map[Tone]paint
	if s.Color {
		palette = newPalette()
	}
	out := bufio.NewWriter(w)
	b.draw(out, b.topLeft, b.topRight, Cell{Text: title}, width, palette)
	for _, line := range lines {
		out.WriteString(" " + Clean(line) + "\n")
	}
	b.draw(out, b.bottomLeft, b.bottomRight, Cell{Text: remark, Tone: Warn}, width, palette)
	return out.Flush()
}

// draw writes a border with a text in it, in grey but for the text.
func (b border) draw(w *bufio.Writer, left, right string, c Cell, width int, palette map[Tone]paint) {
	const around = 6 // the corners, a line and a blank before the text, a blank and a line after it
	text := ansi.Truncate(Clean(c.Text), max(0, width-around), b.ellipsis)
	rest := strings.Repeat(b.line, max(1, width-around+1-lipgloss.Width(text)))
	paintText(w, left+b.line, palette[Dim])
	w.WriteByte(' ')
	paintText(w, text, palette[c.Tone])
	w.WriteByte(' ')
	paintText(w, rest+right, palette[Dim])
	w.WriteByte('\n')
}

// paintText writes a text in a colour; the zero paint is none.
func paintText(w *bufio.Writer, text string, p paint) {
	w.WriteString(p.before)
	w.WriteString(text)
	w.WriteString(p.after)
}
