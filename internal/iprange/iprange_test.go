package iprange

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"keyctl/internal/fault"
)

// matchedPrefixes are the entries of TestR22_ContainsAgreesWithOracle: every kind of length on both families, and the
// IPv6 ranges that carry IPv4 addresses in one way or another.
var matchedPrefixes = []string{
	"0.0.0.0/0", "0.0.0.0", "10.0.0.0/8", "10.0.0.0/9", "10.128.0.0/9", "100.64.0.0/10", "127.0.0.0/8", "128.0.0.0/1",
	"169.254.0.0/16", "172.16.0.0/12", "192.0.2.0/24", "192.0.2.0/31", "192.0.2.7", "192.0.2.128/25", "192.168.0.0/16",
	"198.18.0.0/15", "203.0.113.248/29", "224.0.0.0/4", "255.255.255.255",
	"::/0", "::", "::1", "::/64", "::/80", "::/96", "::fffe:0:0/95", "::fffe:0:0/96", "::1:0:0:0/80",
	"64:ff9b::/96", "64:ff9b:1::/48", "2001:db8::/32",
	"2001:db8::/33", "2001:db8:8000::/33", "2001:db8:0:1::/64", "2001:db8::7", "2001:db8::8/127", "2002::/16",
	"2002:c000:207::/48", "8000::/1", "fc00::/7", "fe80::/10", "ff00::/8", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
}

// matchedAddrs are single addresses of note; TestR22_ContainsAgreesWithOracle adds the edges of every prefix.
var matchedAddrs = []string{
	"10.20.30.40", "1.2.3.4", "192.0.2.7", "192.0.2.129", "198.51.100.1", "203.0.113.255", "8.8.8.8",
	"::ffff:10.20.30.40", "::ffff:a14:1e28", "::ffff:192.0.2.7", "::ffff:0.0.0.0", "::ffff:255.255.255.255", "::FFFF:127.0.0.1",
	"0:0:0:0:0:ffff:c000:207", "::10.20.30.40", "::192.0.2.7", "::fffe:192.0.2.7", "::1:ffff:192.0.2.7", "::ffff:0:192.0.2.7",
	"64:ff9b::192.0.2.7", "64:ff9b::10.20.30.40", "64:ff9b:1::192.0.2.7", "2002:c000:207::1", "2001:0:c000:207::1", "2001:db8::192.0.2.7",
	"2001:DB8::7", "2001:0db8:0000:0000:0000:0000:0000:0007", "2001:db8:8000::", "fe80::1", "fe80::5efe:192.0.2.7", "fd00::1", "ff02::1",
}

func TestR22_ContainsAgreesWithOracle(t *testing.T) {
	addrs := slices.Clone(matchedAddrs)
	for _, prefix := range matchedPrefixes {
		addrs = append(addrs, edges(t, prefix)...)
	}
	if len(addrs) < 180 {
		t.Fatalf("only %d addresses in the table", len(addrs))
	}
	inside := 0
	for _, prefixText := range matchedPrefixes {
		list := mustList(t, prefixText)
		for _, addrText := range addrs {
			want := oracleContains(t, prefixText, addrText)
			if got := list.Contains(netip.MustParseAddr(addrText)); got != want {
				t.Errorf("%q contains %q = %v, want %v", prefixText, addrText, got, want)
			}
			if want {
				inside++
			}
		}
	}
	if all := len(matchedPrefixes) * len(addrs); inside < 300 || inside > all-300 {
		t.Errorf("%d of %d pairs match: the table says little", inside, all)
	}
}

// TestR22_Families spells out what the oracle, too, could have wrong.
func TestR22_Families(t *testing.T) {
	tests := []struct {
		list, addr string
		want       bool
	}{
		{"192.0.2.7", "::ffff:192.0.2.7", true},        // a dual-stack socket's way to say 192.0.2.7
		{"::ffff:192.0.2.7", "192.0.2.7", true},        // stored unmapped
		{"::ffff:192.0.2.7", "::ffff:c000:207", true},  // the same address in other letters
		{"0.0.0.0/0", "::ffff:192.0.2.7", true},        // IPv4, however it arrives
		{"0.0.0.0/0", "2001:db8::7", false},            // IPv4 only
		{"0.0.0.0/0", "64:ff9b::192.0.2.7", false},     // NAT64 is IPv6 (RFC 6052)
		{"0.0.0.0/0", "::192.0.2.7", false},            // IPv4-compatible is IPv6 (RFC 4291 section 2.5.5.1)
		{"0.0.0.0/0", "2002:c000:207::1", false},       // 6to4 is IPv6 (RFC 3056)
		{"64:ff9b::/96", "64:ff9b::192.0.2.7", true},   // so it is listed as IPv6
		{"64:ff9b::/96", "192.0.2.7", false},           // and means nothing for IPv4
		{"::/0", "192.0.2.7", false},                   // IPv6 only
		{"::/0", "::ffff:192.0.2.7", false},            // though ::/0 covers the mapped range
		{"::/64", "::ffff:192.0.2.7", false},           // likewise
		{"::/0", "2001:db8::7", true},                  //
		{"fe80::/10", "fe80::1%eth0", false},           // a zone matches nothing
		{"0.0.0.0/0", "::ffff:192.0.2.7%eth0", false},  // not even where unmapping would lose it
		{"192.0.2.0/24 ::1", "::ffff:192.0.2.9", true}, // both families in one list
		{"192.0.2.0/24 ::1", "::1", true},              //
		{"192.0.2.0/24 ::1", "127.0.0.1", false},       //
	}
	for _, test := range tests {
		list := mustList(t, strings.Fields(test.list)...)
		if got := list.Contains(netip.MustParseAddr(test.addr)); got != test.want {
			t.Errorf("%q contains %q = %v, want %v", test.list, test.addr, got, test.want)
		}
	}
}

func TestR22_ZeroListAndInvalidAddr(t *testing.T) {
	var anywhere List
	for _, text := range []string{"192.0.2.7", "2001:db8::7", "::ffff:192.0.2.7", "fe80::1%eth0"} {
		if !anywhere.Contains(netip.MustParseAddr(text)) {
			t.Errorf("List{} contains %q = false, want true", text)
		}
	}
	for _, list := range []List{{}, mustList(t, "0.0.0.0/0", "::/0")} {
		if list.Contains(netip.Addr{}) {
			t.Errorf("%q contains the invalid address, want not", list)
		}
	}
}

func TestParseList(t *testing.T) {
	list := mustList(t, "192.0.2.7", "10.0.0.0/8", "192.0.2.7/32", "::ffff:192.0.2.7", "2001:DB8::0/32", "10.0.0.1")
	want := []string{"192.0.2.7", "10.0.0.0/8", "2001:db8::/32", "10.0.0.1"}
	if got := list.Strings(); !slices.Equal(got, want) {
		t.Errorf("Strings() = %q, want %q", got, want)
	}
	if got, want := list.String(), strings.Join(want, ","); got != want {
		t.Errorf("String() = %q, want %q", got, want)
	}
	if got := (List{}).String(); got != "any" {
		t.Errorf("String() of the zero List = %q, want %q", got, "any")
	}
	if empty, err := ParseList(nil); err != nil || !empty.IsAny() {
		t.Errorf("ParseList(nil) = %v, %v, want any", empty, err)
	}
	if list.IsAny() {
		t.Errorf("IsAny() of %q = true, want false", list)
	}
}

func TestParseListRefuses(t *testing.T) {
	tests := []struct {
		texts   []string
		message string
	}{
		{[]string{""}, "an empty text is no IP address"},
		{[]string{"192.0.2.7", "", "::1"}, "entry 2 of 3: an empty text is no IP address"},
		{[]string{"10.0.0.1/8"}, `"10.0.0.1/8" has bits set behind its prefix length`},
		{[]string{"::1", "10.0.0.1/8"}, `entry 2 of 2: "10.0.0.1/8" has bits set behind its prefix length`},
		{manyTexts(MaxEntries + 1), "257 entries in an allow-list of at most 256"},
	}
	for _, test := range tests {
		_, err := ParseList(test.texts)
		e := fault.From(err)
		if e == nil || e.Code != fault.Invalid || e.Message != test.message || e.Hint == "" {
			t.Errorf("ParseList(%.60q) error = %#v, want %q with a hint", test.texts, e, test.message)
		}
	}
	if _, err := ParseList(manyTexts(MaxEntries)); err != nil {
		t.Errorf("ParseList of %d entries: %v", MaxEntries, err)
	}
}

func TestListsDoNotShareEntries(t *testing.T) {
	list := mustList(t, "192.0.2.7", "10.0.0.0/8")
	list.Prefixes()[0] = netip.MustParsePrefix("0.0.0.0/0")
	list.Strings()[1] = "changed"
	if _, err := list.Add(netip.MustParsePrefix("::1/128")); err != nil {
		t.Fatal(err)
	}
	if _, err := list.Remove(netip.MustParsePrefix("192.0.2.7/32")); err != nil {
		t.Fatal(err)
	}
	if got, want := list.Text(), "192.0.2.7,10.0.0.0/8"; got != want {
		t.Errorf("Text() = %q after work on its copies, want %q", got, want)
	}
}

func TestAddAndRemove(t *testing.T) {
	tests := []struct {
		list, add, remove string // entries separated by blanks
		want              string // Text of the outcome, or
		code              fault.Code
	}{
		{list: "10.0.0.0/8", add: "::1", want: "10.0.0.0/8,::1"},
		{list: "10.0.0.0/8", add: "10.0.0.0/8 ::1 10.0.0.1", want: "10.0.0.0/8,::1,10.0.0.1"},
		{list: "", add: "::1", want: "::1"},
		{list: "::1", add: "", want: "::1"},
		{list: "10.0.0.0/8 ::1 192.0.2.7", remove: "::1", want: "10.0.0.0/8,192.0.2.7"},
		{list: "10.0.0.0/8 ::1 192.0.2.7", remove: "192.0.2.7 10.0.0.0/8", want: "::1"},
		{list: "10.0.0.0/8", remove: "", want: "10.0.0.0/8"},
		{list: "", remove: "", want: ""},
		{list: "10.0.0.0/8 ::1", remove: "10.0.0.1", code: fault.Invalid},
		{list: "10.0.0.0/8 ::1", remove: "192.0.2.7", code: fault.Invalid},
		{list: "", remove: "192.0.2.7", code: fault.Invalid},
		{list: "10.0.0.0/8", remove: "10.0.0.0/8", code: fault.NoRestriction},
		{list: "10.0.0.0/8 ::1", remove: "10.0.0.0/8 ::1", code: fault.NoRestriction},
		{list: strings.Join(manyTexts(MaxEntries), " "), add: "::1", code: fault.Invalid},
	}
	for _, test := range tests {
		got, err := mustList(t, strings.Fields(test.list)...).Add(mustList(t, strings.Fields(test.add)...).Prefixes()...)
		if err == nil {
			got, err = got.Remove(mustList(t, strings.Fields(test.remove)...).Prefixes()...)
		}
		if fault.CodeOf(err) != test.code || got.Text() != test.want {
			t.Errorf("%.40q add %q remove %q = %q, %v, want %q, code %q",
				test.list, test.add, test.remove, got.Text(), err, test.want, test.code)
		}
	}
}

// TestR22_AddRefuses adds prefixes that did not come from Parse, but from a decoder that knows netip.Prefix only.
func TestR22_AddRefuses(t *testing.T) {
	for _, prefix := range []netip.Prefix{
		{},
		netip.PrefixFrom(netip.MustParseAddr("10.0.0.1"), 8),
		netip.PrefixFrom(netip.MustParseAddr("10.0.0.1"), 33),
		netip.PrefixFrom(netip.MustParseAddr("::ffff:10.0.0.1"), 128),
		netip.PrefixFrom(netip.MustParseAddr("::ffff:0.0.0.0"), 96),
	} {
		if list, err := mustList(t, "::1").Add(prefix); !fault.Is(err, fault.Invalid) {
			t.Errorf("Add(%v) = %v, %v, want code %q", prefix, list, err, fault.Invalid)
		}
	}
}

func TestRemoveExplainsWhatIsThere(t *testing.T) {
	list := mustList(t, "::1", "10.0.0.0/8")
	tests := []struct{ gone, message, hint string }{
		{"10.1.0.0/16", `no entry "10.1.0.0/16" in the list`, "it is a part of the entry 10.0.0.0/8"},
		{"10.0.0.1/32", `no entry "10.0.0.1" in the list`, "it is a part of the entry 10.0.0.0/8"},
		{"10.0.0.0/7", `no entry "10.0.0.0/7" in the list`, "the list is ::1,10.0.0.0/8"},
		{"192.0.2.0/24", `no entry "192.0.2.0/24" in the list`, "the list is ::1,10.0.0.0/8"},
	}
	for _, test := range tests {
		_, err := list.Remove(netip.MustParsePrefix(test.gone))
		if e := fault.From(err); e == nil || e.Message != test.message || e.Hint != test.hint {
			t.Errorf("Remove(%s) error = %#v, want %q, hint %q", test.gone, e, test.message, test.hint)
		}
	}
}

func TestEqual(t *testing.T) {
	tests := []struct {
		a, b string
		want bool
	}{
		{"", "", true},
		{"", "0.0.0.0/0 ::/0", false},
		{"::1 10.0.0.0/8", "10.0.0.0/8 ::1", true},
		{"::1 10.0.0.0/8", "::1", false},
		{"::1 10.0.0.0/8", "::1 10.0.0.0/9", false},
	}
	for _, test := range tests {
		a, b := mustList(t, strings.Fields(test.a)...), mustList(t, strings.Fields(test.b)...)
		if a.Equal(b) != test.want || b.Equal(a) != test.want {
			t.Errorf("Equal(%q, %q) = %v and reversed %v, want %v", a, b, a.Equal(b), b.Equal(a), test.want)
		}
	}
}

func TestTextAndJSONRoundTrip(t *testing.T) {
	tests := []struct {
		list       List
		text, json string
	}{
		{List{}, "", `[]`},
		{mustList(t, "192.0.2.7"), "192.0.2.7", `["192.0.2.7"]`},
		{mustList(t, "::ffff:192.0.2.7", "2001:DB8::/32"), "192.0.2.7,2001:db8::/32", `["192.0.2.7","2001:db8::/32"]`},
	}
	for _, test := range tests {
		if got := test.list.Text(); got != test.text {
			t.Errorf("Text() = %q, want %q", got, test.text)
		}
		if got, err := ParseText(test.text); err != nil || !got.Equal(test.list) {
			t.Errorf("ParseText(%q) = %v, %v, want %v", test.text, got, err, test.list)
		}
		data, err := json.Marshal(test.list)
		if err != nil || string(data) != test.json {
			t.Errorf("Marshal(%v) = %s, %v, want %s", test.list, data, err, test.json)
		}
		got := mustList(t, "203.0.113.1")
		if err := json.Unmarshal(data, &got); err != nil || !got.Equal(test.list) {
			t.Errorf("Unmarshal(%s) = %v, %v, want %v", data, got, err, test.list)
		}
	}
}

func TestUnmarshalRefuses(t *testing.T) {
	for _, data := range []string{
		`null`, `"192.0.2.7"`, `{}`, `[1]`, `[null]`, `[""]`, `["10.0.0.1/8"]`, `[["::1"]]`, `["::1", "x"]`, `true`,
	} {
		list := mustList(t, "203.0.113.1")
		err := json.Unmarshal([]byte(data), &list)
		if !fault.Is(err, fault.Invalid) || list.Text() != "203.0.113.1" {
			t.Errorf("Unmarshal(%s) = %v, %v, want the list left alone and code %q", data, list, err, fault.Invalid)
		}
	}
}

func TestParseTextRefuses(t *testing.T) {
	for _, text := range []string{
		",", "::1,", ",::1", "::1,,::2", "::1, ::2", "any", " ", "10.0.0.1/8", strings.Repeat("::1,", 9999),
	} {
		if list, err := ParseText(text); !fault.Is(err, fault.Invalid) {
			t.Errorf("ParseText(%.20q) = %v, %v, want code %q", text, list, err, fault.Invalid)
		}
	}
}

func BenchmarkContains(b *testing.B) {
	list := mustList(b, "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "192.0.2.7",
		"2001:db8::/32", "fd00::/8", "2001:db8:1::7", "203.0.113.0/24")
	addrs := map[string]netip.Addr{
		"last":   netip.MustParseAddr("203.0.113.9"),
		"mapped": netip.MustParseAddr("::ffff:203.0.113.9"),
		"none":   netip.MustParseAddr("2a00::1"),
	}
	for name, addr := range addrs {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				list.Contains(addr)
			}
		})
	}
}

func mustList(t testing.TB, texts ...string) List {
	t.Helper()
	list, err := ParseList(texts)
	if err != nil {
		t.Fatalf("ParseList(%q): %v", texts, err)
	}
	return list
}

// manyTexts returns n different addresses.
func manyTexts(n int) []string {
	texts := make([]string, n)
	for i := range texts {
		texts[i] = fmt.Sprintf("10.0.%d.%d", i/256, i%256)
	}
	return texts
}
