package access

import (
	"strings"
	"testing"
	"time"

	"keyctl/internal/fault"
)

var start = time.Date(2026, 2, 28, 23, 59, 59, 999_999_000, time.UTC)

func TestR12_LockAfterEachFailure(t *testing.T) {
	const minute, hour = time.Minute, time.Hour
	locks := map[int]time.Duration{
		1: 0, 2: 0, 3: 0, 4: 0, 5: 15 * minute, 6: 30 * minute, 7: hour, 8: 2 * hour, 9: 4 * hour, 10: 8 * hour,
		11: 16 * hour, 12: 24 * hour, 13: 24 * hour, 50: 24 * hour, 99: 24 * hour, 100: 24 * hour,
	}
	var throttle Throttle
	now := start
	for failure := 1; failure <= 100; failure++ {
		if throttle.Locked(now) {
			t.Fatalf("locked before failure %d, at the end of the lock", failure)
		}
		throttle = throttle.Count(now)
		if throttle.Failures != failure || throttle.Disabled != (failure == 100) {
			t.Fatalf("after failure %d: %+v", failure, throttle)
		}
		want, listed := locks[failure]
		if !listed {
			want = 24 * hour
		}
		if want == 0 {
			if !throttle.LockedUntil.IsZero() || throttle.Err(now) != nil {
				t.Errorf("after failure %d: %+v, want no lock", failure, throttle)
			}
			continue
		}
		if got := throttle.LockedUntil.Sub(now); got != want {
			t.Errorf("failure %d locks for %v, want %v", failure, got, want)
		}
		now = throttle.LockedUntil
	}
	if century := now.AddDate(100, 0, 0); !throttle.Locked(century) || !fault.Is(throttle.Err(century), fault.OTPLocked) {
		t.Error("after 100 failures the second factor works again some day, want never")
	}
}

func TestLockedIsHalfOpen(t *testing.T) {
	throttle := Throttle{Failures: 5, LockedUntil: start}
	tests := []struct {
		now    time.Time
		locked bool
	}{
		{start.Add(-24 * time.Hour), true},
		{start.Add(-time.Microsecond), true},
		{start, false},
		{start.In(time.FixedZone("west", -36000)), false},
		{start.Add(time.Microsecond), false},
	}
	for _, test := range tests {
		if got := throttle.Locked(test.now); got != test.locked {
			t.Errorf("Locked(%v) = %v, want %v", test.now, got, test.locked)
		}
		if err := throttle.Err(test.now); fault.Is(err, fault.OTPLocked) != test.locked || (err == nil) == test.locked {
			t.Errorf("Err(%v) = %v, want locked: %v", test.now, err, test.locked)
		}
	}
}

func TestErrSaysUntilWhen(t *testing.T) {
	const locked = "too many wrong codes: the second factor is locked until "
	tests := []struct {
		throttle Throttle
		want     string
	}{
		{Throttle{Failures: 5, LockedUntil: start}, locked + "2026-03-01T00:00:00Z"},
		{Throttle{Failures: 5, LockedUntil: start.Add(time.Microsecond)}, locked + "2026-03-01T00:00:00Z"},
		{Throttle{Failures: 5, LockedUntil: start.Add(2 * time.Microsecond)}, locked + "2026-03-01T00:00:01Z"},
		{Throttle{Failures: 100, LockedUntil: start, Disabled: true}, "the second factor is disabled after 100 wrong codes in a row"},
	}
	for _, test := range tests {
		e := fault.From(test.throttle.Err(start.Add(-time.Minute)))
		if e == nil || e.Code != fault.OTPLocked || e.Message != test.want || e.Hint == "" {
			t.Errorf("Err of %+v = %#v, want %q with a hint", test.throttle, e, test.want)
		}
	}
	if e := fault.From((Throttle{Failures: 100, Disabled: true}).Err(start)); !strings.Contains(e.Hint, "keyctl otp reset") {
		t.Errorf("hint of a disabled second factor = %q, want the way out", e.Hint)
	}
}

func TestUncountAndReset(t *testing.T) {
	count := func(n int) Throttle {
		var throttle Throttle
		for range n {
			throttle = throttle.Count(start)
		}
		return throttle
	}
	tests := []struct {
		name      string
		got, want Throttle
	}{
		{"the only attempt", count(1).Uncount(), Throttle{}},
		{"one of three", count(3).Uncount(), Throttle{Failures: 2}},
		{"the one that locked", count(5).Uncount(), Throttle{Failures: 4}},
		{"the first after a lock", count(6).Uncount(), Throttle{Failures: 5}},
		{"the one that disabled", count(100).Uncount(), Throttle{Failures: 99}},
		{"one that a success took back", count(4).Reset().Uncount(), Throttle{}},
		{"a success after a lock", count(7).Reset(), Throttle{}},
	}
	for _, test := range tests {
		if test.got != test.want {
			t.Errorf("%s: %+v, want %+v", test.name, test.got, test.want)
		}
	}
	if again := count(5).Uncount().Count(start); again != count(5) {
		t.Errorf("a wrong code after a taken back one: %+v, want %+v", again, count(5))
	}
}

// TestR12_BurstComparesFive plays 200 requests that each follow the order in Throttle's comment, interleaved at will: all
// of them count before the first one compares.
func TestR12_BurstComparesFive(t *testing.T) {
	var stored Throttle
	compared := 0
	for range 200 {
		if stored.Err(start) != nil {
			continue
		}
		stored = stored.Count(start)
		compared++
	}
	if compared != 5 || !stored.Locked(start) {
		t.Errorf("%d of 200 wrong codes were compared, locked: %v; want 5, true", compared, stored.Locked(start))
	}
}

// TestR12_ReplaysBuyNoGuesses mixes a used code into guesses: it neither counts nor takes back what others counted.
func TestR12_ReplaysBuyNoGuesses(t *testing.T) {
	var stored Throttle
	guesses := 0
	for guesses < 100 && stored.Err(start) == nil {
		replay := stored.Count(start)
		if replay.Err(start) != nil {
			stored = replay.Uncount() // nothing can be counted between
		} else {
			stored = replay.Count(start).Uncount() // a guess is counted between
			guesses++
		}
		if stored.Err(start) == nil {
			stored = stored.Count(start)
			guesses++
		}
	}
	if guesses != 5 || stored.Failures != 5 {
		t.Errorf("%d guesses before the lock and %d counted, want 5 and 5", guesses, stored.Failures)
	}
}
