package term

import (
	"bytes"
	"io"
	"strings"

	"github.com/charmbracelet/lipgloss"
	"github.com/mdp/qrterminal/v3"
)

const (
	// quietZone is the empty margin around a QR code, in modules. The standard asks for four and every reader makes do with
	// two, which lets an enrolment, its prompt below it, fit a terminal of 24 lines.
	quietZone = 2
	maxQRText = 2953 // bytes; the largest code of the lowest level of correction (ISO/IEC 18004, table 7)
)

// QR draws a text as a QR code, two modules to a character, and reports whether it did: it draws nothing where the code is
// wider than the terminal, where blocks cannot be drawn, or for a text that no code holds.
//
// With colour it is black on white whatever the terminal's own colours are. Without, the light modules are drawn in the
// colour of text, as it is right for a dark background; on a light one the code is inverted, which not every app reads.
func QR(w io.Writer, s Surface, text string) (drawn bool, err error) {
	if !s.Unicode || len(text) > maxQRText {
		return false, nil
	}
	var code bytes.Buffer
	qrterminal.GenerateWithConfig(text, qrterminal.Config{
		Level: qrterminal.L, Writer: &code, HalfBlocks: true, QuietZone: quietZone,
	})
	lines := strings.Split(strings.TrimSuffix(code.String(), "\n"), "\n")
	if lipgloss.Width(lines[0]) > s.Width {
		return false, nil
	}
	var p paint
	if s.Color {
		p = newPaint(newRenderer().NewStyle().Foreground(lipgloss.Color("15")).Background(lipgloss.Color("0")))
	}
	var out bytes.Buffer
	for _, line := range lines {
		out.WriteString(p.before + line + p.after + "\n")
	}
	_, err = w.Write(out.Bytes())
	return err == nil, err
}
