package process

import (
	"runtime/debug"
	"testing"
)

func TestCollectLater(t *testing.T) {
	for before, want := range map[int]int{100: collectAfter, 50: 50, -1: -1} {
		own := debug.SetGCPercent(before)
		CollectLater()
		if got := debug.SetGCPercent(own); got != want {
			t.Errorf("GOGC=%d becomes %d, want %d", before, got, want)
		}
	}
}
