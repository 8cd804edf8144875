package audit

import (
	"maps"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"keyctl/internal/fault"
)

var testTime = time.Date(2026, 11, 23, 6, 7, 8, 9_000, time.UTC)

func testEvent() Event {
	return Event{
		At: testTime, Actor: Actor{ID: "op_test", Name: "test-operator"}, Action: "keys.edit",
		Object: Object{Type: "key", ID: "key_test", Name: "web-01"}, Outcome: OK,
		Address: "192.0.2.7", RequestID: "req_test", Detail: map[string]string{"ip": "10.0.0.0/8", "description": "a < b"},
	}
}

func testChain(t testing.TB) Chain {
	t.Helper()
	return NewChain([]byte("0123456789-test-key-0123456789ab"), "test-store")
}

// mustAppend appends e and returns the record and the new head.
func mustAppend(t testing.TB, c Chain, head Head, e Event) (Record, Head) {
	t.Helper()
	records, next, err := c.Append(head, e)
	if err != nil {
		t.Fatalf("Append(%q, %+v) = %v", head.Value(), e, err)
	}
	return records[0], next
}

func TestAppendedEventReadsBack(t *testing.T) {
	bare := Event{At: testTime, Action: "init", Outcome: NoOp}
	for _, e := range []Event{testEvent(), bare} {
		r, _ := mustAppend(t, testChain(t), testChain(t).Genesis(), e)
		got, err := r.Event()
		if err != nil {
			t.Fatalf("Event() of %s = %v", r.Body, err)
		}
		if diff := cmp.Diff(e, got); diff != "" {
			t.Errorf("event changed on its way (-appended +read):\n%s", diff)
		}
	}
}

// Time is stored in UTC and to the microsecond, whatever the caller's clock gives.
func TestAppendNormalisesTime(t *testing.T) {
	e := testEvent()
	e.At = time.Date(2026, 1, 2, 1, 4, 5, 123_456_789, time.FixedZone("test", 2*60*60))
	r, _ := mustAppend(t, testChain(t), testChain(t).Genesis(), e)
	const want = `"at":"2026-01-01T23:04:05.123456Z"`
	if !strings.Contains(string(r.Body), want) {
		t.Errorf("body = %s, want it to contain %s", r.Body, want)
	}
}

func TestClean(t *testing.T) {
	long := strings.Repeat("x", maxText)
	for _, tt := range []struct{ name, in, want string }{
		{"plain", "web-01 naïve 鍵", "web-01 naïve 鍵"},
		{"empty", "", ""},
		{"escape sequence", "a\x1b[2Jb", "a\ufffd[2Jb"},
		{"line ends", "a\r\nb", "a\ufffd\ufffdb"},
		{"delete and C1", "a\x7f\u009bb", "a\ufffd\ufffdb"},
		{"bidi override", "a\u202eb\u2066c", "a\ufffdb\ufffdc"},
		{"not UTF-8", "a\xff\xc3b", "a\ufffd\ufffdb"},
		{"at the limit", long, long},
		{"over the limit", long + "x", long[3:] + "…"},
		{"cut inside a character", long[:maxText-4] + "鍵鍵", long[:maxText-4] + "…"},
		{"grows past the limit when cleaned", strings.Repeat("\x00", maxText), strings.Repeat("\ufffd", 340) + "…"},
		{"far over the limit", strings.Repeat("é", 1<<20), strings.Repeat("é", 510) + "…"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := clean(tt.in, maxText)
			if got != tt.want {
				t.Errorf("clean(%.40q…) = %d bytes %.40q…, want %d bytes %.40q…", tt.in, len(got), got, len(tt.want), tt.want)
			}
			if len(got) > maxText || !utf8.ValidString(got) || clean(got, maxText) != got {
				t.Errorf("clean(%.40q…) = %.40q…, which is too long or not clean", tt.in, got)
			}
		})
	}
}

// Every text field is cleaned, and each detail's value keeps more than the other fields do.
func TestAppendCleansEveryField(t *testing.T) {
	e := testEvent()
	for _, text := range e.texts() {
		*text = "a\x1bb"
	}
	e.Detail = map[string]string{"bad": "a\x1bb", "long": strings.Repeat("x", maxDetail+1)}
	passed := maps.Clone(e.Detail)
	r, _ := mustAppend(t, testChain(t), testChain(t).Genesis(), e)
	got, err := r.Event()
	if err != nil {
		t.Fatal(err)
	}
	for i, text := range got.texts() {
		if *text != "a\ufffdb" {
			t.Errorf("text field %d = %q, want it cleaned", i, *text)
		}
	}
	if got.Detail["bad"] != "a\ufffdb" || len(got.Detail["long"]) != maxDetail {
		t.Errorf("details = %q and %d bytes, want them cleaned and cut", got.Detail["bad"], len(got.Detail["long"]))
	}
	if diff := cmp.Diff(passed, e.Detail); diff != "" {
		t.Errorf("Append changed the caller's map (-before +after):\n%s", diff)
	}
}

func TestAppendRefusesUnfitEvents(t *testing.T) {
	huge := map[string]string{}
	for _, name := range strings.Split("abcdefghijklmnopqrstuvwxyz", "") {
		huge[name] = strings.Repeat("x", maxDetail)
	}
	for _, tt := range []struct {
		name   string
		change func(*Event)
	}{
		{"no time", func(e *Event) { e.At = time.Time{} }},
		{"no time but nanoseconds", func(e *Event) { e.At = time.Time{}.Add(999) }},
		{"year 0", func(e *Event) { e.At = testTime.AddDate(-2026, 0, 0) }},
		{"year 10000", func(e *Event) { e.At = testTime.AddDate(10000-2026, 0, 0) }},
		{"no action", func(e *Event) { e.Action = "" }},
		{"no outcome", func(e *Event) { e.Outcome = "" }},
		{"unknown outcome", func(e *Event) { e.Outcome = "OK" }},
		{"unnamed detail", func(e *Event) { e.Detail = map[string]string{"": "x"} }},
		{"unclean detail name", func(e *Event) { e.Detail = map[string]string{"a\nb": "x"} }},
		{"too long", func(e *Event) { e.Detail = huge }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := testEvent()
			tt.change(&e)
			if _, _, err := testChain(t).Append(testChain(t).Genesis(), e); !fault.Is(err, fault.Internal) || fault.From(err) == nil {
				t.Errorf("Append = %v, want %s", err, fault.Internal)
			}
		})
	}
}
