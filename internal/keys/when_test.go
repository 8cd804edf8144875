package keys_test

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"keyctl/internal/fault"
	"keyctl/internal/keys"
	"keyctl/internal/keys/keystest"
)

func TestParseDuration(t *testing.T) {
	const d = 24 * time.Hour
	for text, want := range map[string]time.Duration{
		"0s": 0, "1s": time.Second, "30m": 30 * time.Minute, "24h": d, "7d": 7 * d, "2w": 14 * d, "90d": 90 * d, "007d": 7 * d,
		"106751d": 106751 * d, "15250w": 15250 * 7 * d, "9223372036s": 9223372036 * time.Second,
	} {
		if got, err := keys.ParseDuration(text); err != nil || got != want {
			t.Errorf("ParseDuration(%q) = %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", "24", "d", "h", "1y", "1y2", "1D", "1H", "1ms", "1us", "1ns", "1M", "1.5h", "1h30m", "-1h", "+1h", " 1h", "1h ", "1 h", "1_0h",
		"0x1h", "1e3s", "１d", "1д", "d1", "now", "never", "106752d", "15251w", "9223372037s", "9223372036854775807w",
		"9223372036854775808s", "18446744073709551617s", strings.Repeat("9", 30) + "d", strings.Repeat("0", 30) + "1d",
	} {
		_, err := keys.ParseDuration(text)
		if !fault.Is(err, fault.Invalid) || fault.From(err).Hint == "" {
			t.Errorf("ParseDuration(%q) = %v, want invalid with the right form", text, err)
		}
	}
}

func TestParseDate(t *testing.T) {
	utc := func(year int, month time.Month, day, hour, minute, second, nanos int) time.Time {
		return time.Date(year, month, day, hour, minute, second, nanos, time.UTC)
	}
	for text, want := range map[string]time.Time{
		"2027-01-31":                          utc(2027, 1, 31, 0, 0, 0, 0),
		"2028-02-29":                          utc(2028, 2, 29, 0, 0, 0, 0),
		"2000-02-29T23:59:59Z":                utc(2000, 2, 29, 23, 59, 59, 0),
		"2027-01-31T12:00:00Z":                utc(2027, 1, 31, 12, 0, 0, 0),
		"2027-01-31T12:00:00+05:30":           utc(2027, 1, 31, 6, 30, 0, 0),
		"2027-01-31T12:00:00.123456789-01:00": utc(2027, 1, 31, 13, 0, 0, 123456000),
		"2038-01-19T03:14:08Z":                utc(2038, 1, 19, 3, 14, 8, 0),
		"0001-01-01":                          utc(1, 1, 1, 0, 0, 0, 0),
		"9999-12-31T23:59:59Z":                utc(9999, 12, 31, 23, 59, 59, 0),
	} {
		if got, err := keys.ParseDate(text); err != nil || !got.Equal(want) || got.Location() != time.UTC {
			t.Errorf("ParseDate(%q) = %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", "2027", "2027-01", "27-01-31", "2027-1-31", "2027-13-01", "2027-02-29", "2100-02-29", "2027-04-31", "31.01.2027", "01/31/2027",
		"2027-01-31 12:00:00Z", "2027-01-31T12:00Z", "2027-01-31T12:00:00", "2027-01-31T24:00:00Z", "2027-01-31T12:60:00Z", "2016-12-31T23:59:60Z",
		"0000-01-01", "10000-01-01", "+2027-01-31", "-0001-01-01", "9999-12-31T23:59:59-00:01", " 2027-01-31", "2027-01-31\n", "tomorrow", "7d",
	} {
		_, err := keys.ParseDate(text)
		if !fault.Is(err, fault.Invalid) || fault.From(err).Hint == "" {
			t.Errorf("ParseDate(%q) = %v, want invalid with the right form", text, err)
		}
	}
}

func TestParseExpiry(t *testing.T) {
	now := time.Date(2028, 2, 28, 12, 0, 0, 0, time.UTC) // the day before a leap day
	for text, want := range map[string]time.Time{
		"never":                {},
		"1s":                   now.Add(time.Second),
		"24h":                  time.Date(2028, 2, 29, 12, 0, 0, 0, time.UTC),
		"2d":                   time.Date(2028, 3, 1, 12, 0, 0, 0, time.UTC),
		"366d":                 time.Date(2029, 2, 28, 12, 0, 0, 0, time.UTC),
		"106751d":              now.Add(106751 * 24 * time.Hour),
		"2028-02-29":           time.Date(2028, 2, 29, 0, 0, 0, 0, time.UTC),
		"2028-02-28T12:00:01Z": now.Add(time.Second),
		"9999-12-31T23:59:59Z": time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
	} {
		if got, err := keys.ParseExpiry(text, now); err != nil || !got.Equal(want) {
			t.Errorf("ParseExpiry(%q) = %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", "now", "Never", "0s", "0d", "90", "1y", "-1d", "1h30m", "106752d", "2028-02-28", "2028-02-28T12:00:00Z", "2028-02-28T11:59:59Z",
		"1999-01-01", "2028-02-30", "10000-01-01",
	} {
		_, err := keys.ParseExpiry(text, now)
		if !fault.Is(err, fault.Invalid) || fault.From(err).Hint == "" {
			t.Errorf("ParseExpiry(%q) = %v, want invalid with the right form", text, err)
		}
	}
	late := time.Date(9999, 12, 1, 0, 0, 0, 0, time.UTC)
	if got, err := keys.ParseExpiry("30d", late); err != nil || got.Year() != 9999 {
		t.Errorf("ParseExpiry of a day in the year 9999 = %v, %v", got, err)
	}
	if _, err := keys.ParseExpiry("31d", late); !fault.Is(err, fault.Invalid) {
		t.Errorf("ParseExpiry of a day in the year 10000 = %v, want invalid", err)
	}
}

func TestParseGrace(t *testing.T) {
	now := keystest.Morning
	for text, want := range map[string]keys.Grace{
		"now": {}, "0s": {}, "1h": {For: time.Hour}, "24h": {For: 24 * time.Hour}, "7d": {For: 7 * 24 * time.Hour}, "30d": {For: keys.MaxGrace},
		"720h":                        {For: keys.MaxGrace},
		"2026-03-31":                  {At: time.Date(2026, 3, 31, 0, 0, 0, 0, time.UTC)},
		"2026-03-31T08:00:00Z":        {At: now.Add(keys.MaxGrace)},
		"2026-03-01T08:00:00.000001Z": {At: now.Add(time.Microsecond)},
	} {
		if got, err := keys.ParseGrace(text, now); err != nil || got != want {
			t.Errorf("ParseGrace(%q) = %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", "Now", "never", "24", "31d", "721h", "106751d", "-1h", "2026-03-31T08:00:00.000001Z", "2026-04-01", "2026-03-01",
		"2026-03-01T08:00:00Z", "2026-02-30", "1y",
	} {
		_, err := keys.ParseGrace(text, now)
		if !fault.Is(err, fault.Invalid) || fault.From(err).Hint == "" {
			t.Errorf("ParseGrace(%q) = %v, want invalid with the right form", text, err)
		}
	}
}

func FuzzParseDuration(f *testing.F) {
	for _, seed := range []string{"30m", "24", "1y2", "-1h", "1h30m", "106752d", "9223372036854775808s", "007d", "１d"} {
		f.Add(seed)
	}
	form := regexp.MustCompile(`\A[0-9]+[smhdw]\z`)
	f.Fuzz(func(t *testing.T, text string) {
		got, err := keys.ParseDuration(text)
		if err != nil {
			if !fault.Is(err, fault.Invalid) || got != 0 {
				t.Fatalf("ParseDuration(%q) = %v, %v", text, got, err)
			}
			return
		}
		if !form.MatchString(text) || got < 0 || got%time.Second != 0 {
			t.Fatalf("ParseDuration(%q) = %v", text, got)
		}
		// Where the standard library knows the unit, it agrees.
		if !strings.ContainsAny(text, "dw") {
			if want, err := time.ParseDuration(text); err != nil || got != want {
				t.Errorf("ParseDuration(%q) = %v, time.ParseDuration says %v, %v", text, got, want, err)
			}
		}
	})
}

func FuzzParseDate(f *testing.F) {
	for _, seed := range []string{"2027-01-31", "2027-01-31T12:00:00+05:30", "2027-02-29", "9999-12-31T23:59:59-00:01", "0000-01-01", "2027-01-31T12:00:00,5Z"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := keys.ParseDate(text)
		if err != nil {
			if !fault.Is(err, fault.Invalid) || !got.IsZero() {
				t.Fatalf("ParseDate(%q) = %v, %v", text, got, err)
			}
			return
		}
		if got.Location() != time.UTC || got.Nanosecond()%1000 != 0 || got.Year() < 1 || got.Year() > 9999 {
			t.Fatalf("ParseDate(%q) = %v", text, got)
		}
		if again, err := keys.ParseDate(got.Format(time.RFC3339Nano)); err != nil || !again.Equal(got) {
			t.Errorf("ParseDate(%q) = %v, which reads back as %v, %v", text, got, again, err)
		}
	})
}

func FuzzParseExpiry(f *testing.F) {
	for _, seed := range []string{"never", "90d", "0s", "106751d", "2027-01-31", "2026-03-01T08:00:00Z", "now"} {
		f.Add(seed)
	}
	now := keystest.Morning
	f.Fuzz(func(t *testing.T, text string) {
		got, err := keys.ParseExpiry(text, now)
		switch {
		case err != nil && (!fault.Is(err, fault.Invalid) || !got.IsZero()):
			t.Fatalf("ParseExpiry(%q) = %v, %v", text, got, err)
		case err == nil && got.IsZero() != (text == "never"):
			t.Fatalf("ParseExpiry(%q) = no end", text)
		case err == nil && !got.IsZero() && (!got.After(now) || got.Year() > 9999):
			t.Fatalf("ParseExpiry(%q) = %v", text, got)
		}
		grace, err := keys.ParseGrace(text, now)
		switch {
		case err != nil && !fault.Is(err, fault.Invalid):
			t.Fatalf("ParseGrace(%q) = %v", text, err)
		case err == nil && (grace.For < 0 || grace.For > keys.MaxGrace || grace.At.After(now.Add(keys.MaxGrace))):
			t.Fatalf("ParseGrace(%q) = %+v", text, grace)
		}
	})
}
