package term

import (
	"image"
	"image/color"
	"image/png"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/charmbracelet/lipgloss"
)

// testURI is as long as what an enrolment shows.
const testURI = "otpauth://totp/keyctl:operator?secret=AAAABBBBCCCCDDDDEEEEFFFFGGGG2222&issuer=keyctl&algorithm=SHA1&digits=6&period=30"

func drawQR(t *testing.T, s Surface, text string) string {
	t.Helper()
	var b strings.Builder
	drawn, err := QR(&b, s, text)
	if err != nil || drawn != (b.Len() > 0) {
		t.Fatalf("QR = %v, %v, and wrote %d bytes", drawn, err, b.Len())
	}
	return b.String()
}

// photograph paints what a terminal shows to a picture, two dots to a character, on the terminal's own background.
func photograph(t *testing.T, screen string, text, background color.Gray) image.Image {
	t.Helper()
	const dot, margin = 8, 6
	lines := strings.Split(strings.TrimSuffix(screen, "\n"), "\n")
	width := (lipgloss.Width(lines[0]) + 2*margin) * dot
	picture := image.NewGray(image.Rect(0, 0, width, (2*len(lines)+2*margin)*dot))
	for i := range picture.Pix {
		picture.Pix[i] = background.Y
	}
	for y, line := range lines {
		ink, paper := text, background
		if rest, painted := strings.CutPrefix(line, "\x1b[97;40m"); painted {
			line, painted = strings.CutSuffix(rest, "\x1b[0m")
			if !painted {
				t.Fatalf("the line %q does not end its colours", line)
			}
			ink, paper = color.Gray{Y: 0xff}, color.Gray{}
		}
		for x, r := range []rune(line) {
			halves, known := map[rune][2]color.Gray{
				'█': {ink, ink}, '▀': {ink, paper}, '▄': {paper, ink}, ' ': {paper, paper},
			}[r]
			if !known {
				t.Fatalf("%q is no part of a code", r)
			}
			for i, c := range halves {
				for n := range dot * dot {
					picture.SetGray((x+margin)*dot+n%dot, (2*y+i+margin)*dot+n/dot, c)
				}
			}
		}
	}
	return picture
}

// scan reads a picture with a program that knows nothing of keyctl.
func scan(t *testing.T, picture image.Image) string {
	t.Helper()
	zbarimg, err := exec.LookPath("zbarimg")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	path := filepath.Join(t.TempDir(), "code.png")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := png.Encode(f, picture); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	text, err := exec.Command(zbarimg, "--quiet", "--raw", path).Output()
	if err != nil {
		t.Fatalf("zbarimg: %v", err)
	}
	return strings.TrimSuffix(string(text), "\n")
}

// With colour the code scans on any background, without on a dark one. A grey terminal is the hard case: its own colour
// borders on the code.
func TestQRScans(t *testing.T) {
	black, grey, white := color.Gray{}, color.Gray{Y: 0x60}, color.Gray{Y: 0xff}
	for _, tt := range []struct {
		name             string
		colour           bool
		text, background color.Gray
	}{
		{"coloured on black", true, white, black},
		{"coloured on white", true, black, white},
		{"coloured on grey", true, white, grey},
		{"plain on black", false, white, black},
	} {
		t.Run(tt.name, func(t *testing.T) {
			screen := drawQR(t, Surface{Width: 80, Color: tt.colour, Unicode: true}, testURI)
			if got := scan(t, photograph(t, screen, tt.text, tt.background)); got != testURI {
				t.Errorf("the code reads %q, want %q", got, testURI)
			}
		})
	}
}

// The code looks the same on every terminal that is wide enough; on others there is none, and neither where blocks are
// not drawn or no code holds the text.
func TestQRFits(t *testing.T) {
	whole := drawQR(t, Surface{Width: 200, Unicode: true}, testURI)
	golden(t, "qr", whole)
	width := lipgloss.Width(strings.Split(whole, "\n")[0])
	if lines := strings.Count(whole, "\n"); width > 60 || lines > 23 {
		t.Errorf("the code takes %d columns and %d lines, want room for a prompt in 60 by 24", width, lines)
	}
	for _, tt := range []struct {
		s    Surface
		text string
		want string
	}{
		{Surface{Width: 60, Unicode: true}, testURI, whole},
		{Surface{Width: width, Unicode: true}, testURI, whole},
		{Surface{Width: width - 1, Unicode: true}, testURI, ""},
		{Surface{Unicode: true}, testURI, ""},
		{Surface{Width: 200}, testURI, ""},
		{Surface{Width: 100_000, Unicode: true}, strings.Repeat("x", maxQRText+1), ""},
	} {
		if got := drawQR(t, tt.s, tt.text); got != tt.want {
			t.Errorf("QR(%+v, %d bytes) drew %d bytes, want %d", tt.s, len(tt.text), len(got), len(tt.want))
		}
	}
	if largest := drawQR(t, Surface{Width: 200, Unicode: true}, strings.Repeat("x", maxQRText)); largest == "" {
		t.Error("the largest code is not drawn")
	}
	if drawn, err := QR(failingWriter{io.ErrClosedPipe}, Surface{Width: 200, Unicode: true}, testURI); drawn || err == nil {
		t.Errorf("QR to a writer that fails = %v, %v", drawn, err)
	}
}
