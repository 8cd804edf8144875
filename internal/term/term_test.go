package term

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"keyctl/internal/fault"
)

func env(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

func TestWantsColor(t *testing.T) {
	for _, tt := range []struct {
		flag     string
		terminal bool
		getenv   func(string) string
		want     bool
	}{
		{"auto", true, env(), true},
		{"", true, env("TERM", "xterm-256color"), true},
		{"auto", false, env(), false},
		{"auto", true, env("TERM", "dumb"), false},
		{"auto", true, env("NO_COLOR", "0"), false},
		{"auto", true, env("NO_COLOR", "1", "CLICOLOR_FORCE", "1"), false},
		{"auto", false, env("CLICOLOR_FORCE", "1"), true},
		{"auto", false, env("CLICOLOR_FORCE", "0"), false},
		{"auto", true, env("CLICOLOR_FORCE", "1", "TERM", "dumb"), true},
		{"never", true, env("CLICOLOR_FORCE", "1"), false},
		{"always", false, env("NO_COLOR", "1", "TERM", "dumb"), true},
	} {
		if got := wantsColor(tt.flag, tt.terminal, tt.getenv); got != tt.want {
			t.Errorf("wantsColor(%q, terminal %v, NO_COLOR=%q CLICOLOR_FORCE=%q TERM=%q) = %v, want %v", tt.flag, tt.terminal,
				tt.getenv("NO_COLOR"), tt.getenv("CLICOLOR_FORCE"), tt.getenv("TERM"), got, tt.want)
		}
	}
}

func TestDrawsUnicode(t *testing.T) {
	for _, tt := range []struct {
		getenv func(string) string
		want   bool
	}{
		{env(), runtime.GOOS == "windows"},
		{env("LANG", "C"), false},
		{env("LANG", "en_US.UTF-8"), true},
		{env("LANG", "C.utf8"), true},
		{env("LANG", "de_DE.UTF-8@euro"), true},
		{env("LANG", "en_US.ISO-8859-1"), false},
		{env("LC_CTYPE", "C.UTF-8", "LANG", "C"), true},
		{env("LC_ALL", "C", "LC_CTYPE", "C.UTF-8", "LANG", "C.UTF-8"), false},
		{env("LC_ALL", "POSIX", "LANG", "C.UTF-8"), false},
		{env("LANG", "C.UTF-8", "TERM", "dumb"), false},
	} {
		if got := drawsUnicode(tt.getenv); got != tt.want {
			t.Errorf("drawsUnicode(LC_ALL=%q LC_CTYPE=%q LANG=%q TERM=%q) = %v, want %v", tt.getenv("LC_ALL"), tt.getenv("LC_CTYPE"),
				tt.getenv("LANG"), tt.getenv("TERM"), got, tt.want)
		}
	}
}

func TestWithoutTerminal(t *testing.T) {
	var out bytes.Buffer
	pipe, _, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	term := New(pipe, &out, &out, Options{OpenTTY: func() (TTY, error) {
		t.Error("a prompt opened the terminal")
		return TTY{}, io.ErrUnexpectedEOF
	}})
	if term.CanPrompt() || term.StdoutIsTerminal() || term.Stdout() != (Surface{}) || term.Stderr() != (Surface{}) {
		t.Errorf("buffers: CanPrompt %v, StdoutIsTerminal %v, Stdout %+v, Stderr %+v, want none of it",
			term.CanPrompt(), term.StdoutIsTerminal(), term.Stdout(), term.Stderr())
	}
	ctx := context.Background()
	_, askErr := term.Ask(ctx, "name")
	_, secretErr := term.AskSecret(ctx, "secret")
	_, confirmErr := term.Confirm(ctx, "sure?")
	nameErr := term.ConfirmName(ctx, "sure?", "web-01")
	for _, err := range []error{askErr, secretErr, confirmErr, nameErr} {
		if !errors.Is(err, ErrNotTerminal) {
			t.Errorf("a prompt without a terminal = %v, want ErrNotTerminal", err)
		}
	}
}

func TestR26_Clean(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"", ""},
		{"web-01", "web-01"},
		{"Grüße, 世界 ✓", "Grüße, 世界 ✓"},
		{"👩\u200d💻", "👩\u200d💻"},
		{"\x1b[31mred\x1b]0;title\a", `\x1b[31mred\x1b]0;title\a`},
		{"two\r\nlines\t", `two\r\nlines\t`},
		{"\x7f\u0085\u009b", `\x7f\u0085\u009b`},
		{"abc\u202egpj.exe", `abc\u202egpj.exe`},
		{"\u2066x\u2069\u200f\u061c", `\u2066x\u2069\u200f\u061c`},
		{"zero\u200bwidth\ufeff", `zero\u200bwidth\ufeff`},
		{"a\u2028b\u2029c", `a\u2028b\u2029c`},
		{"tag\U000e0041", `tag\U000e0041`},
		{"bad\xff\xc3", `bad\xff\xc3`},
	} {
		if got := Clean(tt.in); got != tt.want {
			t.Errorf("Clean(%q) = %s, want %s", tt.in, got, tt.want)
		}
	}
}

func FuzzClean(f *testing.F) {
	for _, s := range []string{"web-01", "\x1b]0;x\a", "\u202e", "\xff", "👩\u200d💻", `\n`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := Clean(s)
		if !utf8.ValidString(got) || strings.IndexFunc(got, hostile) >= 0 {
			t.Errorf("Clean(%q) = %q, which is not clean", s, got)
		}
		if again := Clean(got); again != got {
			t.Errorf("Clean(Clean(%q)) = %q, want %q", s, again, got)
		}
	})
}

func TestReadSecret(t *testing.T) {
	long := strings.Repeat("x", maxAnswerBytes)
	for _, tt := range []struct {
		in, want string
		err      error
	}{
		{"secret\r", "secret", nil},
		{"secret\nrest", "secret", nil},
		{"\r", "", nil},
		{"secx\x7fret\r", "secret", nil},
		{"sé\x08ecret\r", "secret", nil}, // one key takes away one character, not one byte
		{"\x7f\x7fa\r", "a", nil},
		{"wrong\x15right\r", "right", nil},
		{"a\x1b[Db\x1b[1;5Cc\x1bOPd\x1bxe\r", "abcde", nil},
		{"a\x00\x01\tb\r", "ab", nil},
		{"a\x04b\r", "ab", nil},
		{"\x1b\r", "", nil},
		{long + "\r", long, nil},
		{"\x04", "", ErrAborted},
		{"unfinished", "", ErrAborted},
		{"secret\x03", "", context.Canceled},
		{"\x1b[\x03", "", context.Canceled},
	} {
		got, err := readSecret(strings.NewReader(tt.in))
		if got != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("readSecret(%q) = %q, %v, want %q, %v", tt.in, got, err, tt.want, tt.err)
		}
	}
	if _, err := readSecret(strings.NewReader(long + "x\r")); fault.CodeOf(err) != fault.Invalid {
		t.Errorf("readSecret of %d bytes = %v, want code invalid", maxAnswerBytes+1, err)
	}
}

func TestReadLine(t *testing.T) {
	for _, tt := range []struct {
		in, want string
		err      error
	}{
		{"answer\n", "answer", nil},
		{"answer\r\n", "answer", nil},
		{"\n", "", nil},
		{"answer", "answer", nil}, // Ctrl-D after some text
		{"", "", ErrAborted},
	} {
		got, err := readLine(strings.NewReader(tt.in))
		if got != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("readLine(%q) = %q, %v, want %q, %v", tt.in, got, err, tt.want, tt.err)
		}
	}
	rest := strings.NewReader("first\nsecond\n")
	if _, err := readLine(rest); err != nil || rest.Len() != len("second\n") {
		t.Errorf("readLine left %d bytes, %v, want the whole second line", rest.Len(), err)
	}
	if _, err := readLine(strings.NewReader(strings.Repeat("x", maxAnswerBytes+1))); fault.CodeOf(err) != fault.Invalid {
		t.Errorf("readLine of %d bytes = %v, want code invalid", maxAnswerBytes+1, err)
	}
}

func FuzzReadSecret(f *testing.F) {
	for _, s := range []string{"secret\r", "a\x7f\r", "\x1b[A\r", "\x03", "\x04", "é\x08\r"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		got, err := readSecret(bytes.NewReader(in))
		if err != nil && got != "" {
			t.Errorf("readSecret(%q) = %q with %v, want nothing with an error", in, got, err)
		}
		if len(got) > maxAnswerBytes || strings.IndexFunc(got, func(r rune) bool { return r < blank || r == del }) >= 0 {
			t.Errorf("readSecret(%q) = %q, want no control characters and at most %d bytes", in, got, maxAnswerBytes)
		}
	})
}

func TestRelativeTime(t *testing.T) {
	now := time.Date(2026, 2, 28, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		d    time.Duration
		want string
	}{
		{0, "now"},
		{-999 * time.Millisecond, "now"},
		{999 * time.Millisecond, "now"},
		{-time.Second, "1s ago"},
		{5 * time.Second, "in 5s"},
		{-59*time.Second - 600*time.Millisecond, "1m ago"},
		{-2 * time.Minute, "2m ago"},
		{59*time.Minute + 31*time.Second, "in 1h"},
		{24 * time.Hour, "in 24h"},
		{24*time.Hour - time.Microsecond, "in 24h"},
		{47 * time.Hour, "in 47h"},
		{48 * time.Hour, "in 2d"},
		{-9 * day, "9d ago"},
		{90 * day, "in 90d"},
		{-365 * day, "365d ago"},
		{730 * day, "in 2y"},
		{-10 * 365 * day, "10y ago"},
	} {
		if got := RelativeTime(now.Add(tt.d), now); got != tt.want {
			t.Errorf("RelativeTime(now%+v) = %q, want %q", tt.d, got, tt.want)
		}
	}
	if got := RelativeTime(time.Time{}, now); got != "never" {
		t.Errorf("RelativeTime(zero) = %q, want never", got)
	}
	if got := RelativeTime(time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), now); got != "in 292y" {
		t.Errorf("RelativeTime(year 9999) = %q, want in 292y", got)
	}
	if got := RelativeTime(time.Date(1, 1, 2, 0, 0, 0, 0, time.UTC), now); got != "292y ago" {
		t.Errorf("RelativeTime(year 1) = %q, want 292y ago", got)
	}
}
