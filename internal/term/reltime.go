package term

import (
	"math"
	"strconv"
	"time"
)

// day is 24 hours: relative times know no calendar.
const day = 24 * time.Hour

// RelativeTime says how far t is from now, in the nearest whole unit: "2m ago", "in 24h", "9d ago", "now" for less than
// a second, and "never" for the zero time. Hours reach to two days and days to two years, so that a grace period of 24
// hours and a life of 90 or 365 days read as they were given.
func RelativeTime(t, now time.Time) string {
	if t.IsZero() {
		return "never"
	}
	distance := t.Sub(now) // saturates at 292 years
	future := distance > 0
	if !future {
		distance = max(distance, -math.MaxInt64) // the smallest Duration has no opposite
		distance = -distance
	}
	if distance < time.Second {
		return "now"
	}
	amount := inUnits(distance)
	if future {
		return "in " + amount
	}
	return amount + " ago"
}

func inUnits(d time.Duration) string {
	units := []struct {
		size   time.Duration
		suffix string
		below  int64 // the next unit begins here
	}{
		{time.Second, "s", 60},
		{time.Minute, "m", 60},
		{time.Hour, "h", 48},
		{day, "d", 730},
	}
	for _, u := range units {
		if n := nearest(d, u.size); n < u.below {
			return strconv.FormatInt(n, 10) + u.suffix
		}
	}
	return strconv.FormatInt(nearest(d, 365*day), 10) + "y"
}

// nearest returns d in units, rounded half up.
func nearest(d, unit time.Duration) int64 {
	n := int64(d / unit)
	if d%unit >= unit-unit/2 {
		n++
	}
	return n
}
