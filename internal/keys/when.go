package keys

import (
	"strconv"
	"time"

	"keyctl/internal/fault"
)

// Instant truncates t to what the store keeps: UTC, whole microseconds. Everything that is stored or compared with
// something stored goes through it once, so that equal instants compare equal.
func Instant(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

// latest is the end of the years that RFC 3339 can write.
var latest = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

// encodable refuses an instant outside the years that can be stored and shown.
func encodable(at time.Time) error {
	if at.After(latest) || at.Year() < 1 {
		return fault.New(fault.Invalid, "a date outside the years 1 to 9999").WithHint("for no end, say never")
	}
	return nil
}

const durationForms = "write a number and a unit: 30m, 24h, 7d, 2w or 90d"

var durationUnits = map[byte]time.Duration{
	's': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour, 'w': 7 * 24 * time.Hour,
}

// ParseDuration reads one whole number with one unit: s, m, h, d (24 h) or w (7 d). A bare number, a sign, a fraction, a
// compound such as 1h30m and anything beyond about 292 years is fault.Invalid.
func ParseDuration(text string) (time.Duration, error) {
	invalid := fault.New(fault.Invalid, "%q is not a duration", text).WithHint(durationForms)
	if len(text) < 2 || len(text) > 20 {
		return 0, invalid
	}
	unit, known := durationUnits[text[len(text)-1]]
	digits := text[:len(text)-1]
	if !known || digits[0] < '0' || digits[0] > '9' {
		return 0, invalid
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return 0, invalid
	}
	d := time.Duration(n) * unit
	if d/unit != time.Duration(n) || d < 0 {
		return 0, fault.New(fault.Invalid, "the duration %q is too long", text).WithHint("the longest is about 292 years, 106751d")
	}
	return d, nil
}

// ParseDate reads an instant: RFC 3339, or YYYY-MM-DD for that day's 00:00 UTC. Anything else is fault.Invalid.
func ParseDate(text string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339Nano, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil && t.Year() >= 1 && !t.After(latest) {
			return Instant(t), nil
		}
	}
	return time.Time{}, fault.New(fault.Invalid, "%q is not a date", text).
		WithHint("write 2027-01-31 (00:00 UTC) or 2027-01-31T12:00:00Z")
}

// ParseExpiry reads a key's end: "never" (the zero time), a duration from now, or a date in the future.
func ParseExpiry(text string, now time.Time) (time.Time, error) {
	if text == "never" {
		return time.Time{}, nil
	}
	d, at, err := parseDurationOrDate(text, now, "write 90d, 2027-01-31, 2027-01-31T12:00:00Z or never")
	if err != nil {
		return time.Time{}, err
	}
	if at.IsZero() {
		if d == 0 {
			return time.Time{}, fault.New(fault.Invalid, "an expiry of %q would be over at once", text).WithHint(durationForms)
		}
		if d > latest.Sub(now) {
			return time.Time{}, fault.New(fault.Invalid, "an expiry of %q is beyond the year 9999", text).WithHint("for no end, say never")
		}
		return Instant(now.Add(d)), nil
	}
	return at, nil
}

// ParseGrace reads how long a rolled credential keeps working: "now", a duration up to MaxGrace, or a date in the future
// and within MaxGrace.
func ParseGrace(text string, now time.Time) (Grace, error) {
	if text == "now" {
		return Grace{}, nil
	}
	d, at, err := parseDurationOrDate(text, now, "write now, 1h, 24h, 7d, 30d or a date such as 2027-01-31T12:00:00Z")
	if err != nil {
		return Grace{}, err
	}
	grace := Grace{For: d, At: at}
	return grace, grace.validate(now)
}

// validate refuses a grace longer than MaxGrace, or one that ends in the past.
func (g Grace) validate(now time.Time) error {
	tooLong := g.For > MaxGrace || !g.At.IsZero() && g.At.After(now.Add(MaxGrace))
	switch {
	case g.For < 0 || g.For > 0 && !g.At.IsZero():
		return fault.New(fault.Invalid, "a grace is one duration or one date").WithHint(durationForms)
	case tooLong:
		return fault.New(fault.Invalid, "a rolled credential works for 30 days at most").WithHint("the longest grace is 30d")
	case !g.At.IsZero() && !g.At.After(now):
		return pastDate(g.At)
	}
	return nil
}

// parseDurationOrDate tells the two apart by their ends: a duration ends in its unit and has no dash.
func parseDurationOrDate(text string, now time.Time, forms string) (time.Duration, time.Time, error) {
	if d, err := ParseDuration(text); err == nil {
		return d, time.Time{}, nil
	} else if len(text) > 0 && len(text) < 8 {
		return 0, time.Time{}, fault.From(err).WithHint("%s", forms)
	}
	at, err := ParseDate(text)
	if err != nil {
		return 0, time.Time{}, fault.New(fault.Invalid, "%q is neither a duration nor a date", text).WithHint("%s", forms)
	}
	if !at.After(now) {
		return 0, time.Time{}, pastDate(at)
	}
	return 0, at, nil
}

func pastDate(at time.Time) error {
	return fault.New(fault.Invalid, "the date %s is in the past", at.Format(time.RFC3339)).WithHint("name a time to come, or a duration such as 7d")
}
