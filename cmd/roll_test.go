package cmd

import "testing"

// The choices of a roll take as few lines as the terminal allows, with room for a date behind the last word.
func TestGraceQuestionFits(t *testing.T) {
	const one = "  1) now   2) in 1 hour   3) in 24 hours   4) in 7 days   5) in 30 days   or a date"
	const two = "  1) now   2) in 1 hour   3) in 24 hours   4) in 7 days   5) in 30 days\n  or a date"
	const narrow = "  1) now   2) in 1 hour   3) in 24 hours   4) in 7 days\n  5) in 30 days   or a date"
	for width, want := range map[int]string{0: one, 200: one, 95: one, 94: two, 80: two, 60: narrow} {
		if got := graceQuestion(width); got != want {
			t.Errorf("graceQuestion(%d) = %q, want %q", width, got, want)
		}
	}
}
