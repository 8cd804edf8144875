package iprange

import (
	"net/netip"
	"strings"
	"testing"
)

func TestR21_ClientAddress(t *testing.T) {
	const proxy, other, client = "10.0.0.1", "192.0.2.99", "203.0.113.5"
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8:ffff::/48")}
	tests := []struct {
		name, peer, header string
		lines              []string
		want               string // empty: refused
	}{
		{"no header", client, XForwardedFor, nil, client},
		{"a header from anybody", other, XForwardedFor, []string{"203.0.113.5"}, other},
		{"a header from nobody trusted, malformed", other, XForwardedFor, []string{"garbage"}, other},
		{"no header from a proxy", proxy, XForwardedFor, nil, proxy},
		{"one hop", proxy, XForwardedFor, []string{client}, client},
		{"appended to a made up one", proxy, XForwardedFor, []string{"10.9.9.9, 198.51.100.1, " + client}, client},
		{"made up on a line of its own", proxy, XForwardedFor, []string{"198.51.100.1", client}, client},
		{"through two proxies", proxy, XForwardedFor, []string{client + ", 10.1.1.1"}, client},
		{"only proxies", proxy, XForwardedFor, []string{"10.2.2.2, 10.1.1.1"}, "10.2.2.2"},
		{"with a port", proxy, XForwardedFor, []string{client + ":4711"}, client},
		{"IPv6", proxy, XForwardedFor, []string{"2001:db8::7"}, "2001:db8::7"},
		{"IPv6 in brackets", proxy, XForwardedFor, []string{"[2001:db8::7]"}, "2001:db8::7"},
		{"IPv6 with a port", proxy, XForwardedFor, []string{"[2001:db8::7]:4711"}, "2001:db8::7"},
		{"mapped IPv4", proxy, XForwardedFor, []string{"::ffff:203.0.113.5"}, client},
		{"mapped proxy", "::ffff:10.0.0.1", XForwardedFor, []string{client}, client},
		{"mapped peer", "::ffff:203.0.113.5", XForwardedFor, nil, client},
		{"proxy over IPv6", "2001:db8:ffff::1", XForwardedFor, []string{client}, client},
		{"garbage to the left of the client", proxy, XForwardedFor, []string{"<script>, " + client}, client},
		{"garbage where the client should be", proxy, XForwardedFor, []string{client + ", <script>"}, ""},
		{"an empty hop", proxy, XForwardedFor, []string{client + ","}, ""},
		{"an empty header", proxy, XForwardedFor, []string{""}, ""},
		{"a name", proxy, XForwardedFor, []string{"localhost"}, ""},
		{"a zone", proxy, XForwardedFor, []string{"fe80::1%eth0"}, ""},
		{"leading zeros", proxy, XForwardedFor, []string{"203.0.113.005"}, ""},
		{"an open bracket", proxy, XForwardedFor, []string{"[2001:db8::7"}, ""},
		{"32 hops", proxy, XForwardedFor, []string{client + strings.Repeat(", 10.0.0.2", 31)}, client},
		{"33 hops", proxy, XForwardedFor, []string{client + strings.Repeat(", 10.0.0.2", 32)}, ""},

		{"Forwarded", proxy, Forwarded, []string{"for=203.0.113.5;proto=https"}, client},
		{"Forwarded, quoted", proxy, Forwarded, []string{`proto=https;For="203.0.113.5:4711"`}, client},
		{"Forwarded, IPv6", proxy, Forwarded, []string{`for="[2001:db8::7]:4711"`}, "2001:db8::7"},
		{"Forwarded, appended", proxy, Forwarded, []string{`for=198.51.100.1, for=203.0.113.5`}, client},
		{"Forwarded, a comma in quotes", proxy, Forwarded, []string{`for=198.51.100.1;by="a,b", for=203.0.113.5;by="c,for=10.1.1.1"`}, client},
		{"Forwarded, unknown", proxy, Forwarded, []string{"for=unknown"}, ""},
		{"Forwarded, hidden", proxy, Forwarded, []string{"for=_secret"}, ""},
		{"Forwarded, no for", proxy, Forwarded, []string{"proto=https"}, ""},
		{"Forwarded, two of them", proxy, Forwarded, []string{"for=203.0.113.5;for=10.1.1.1"}, ""},
		{"Forwarded, open quotes", proxy, Forwarded, []string{`for="203.0.113.5`}, ""},
		{"Forwarded, a quote that takes in the client", proxy, Forwarded, []string{`for=198.51.100.1;by=", for=203.0.113.5`}, ""},
		{"Forwarded, a quote on a line before", proxy, Forwarded, []string{`for=198.51.100.1;by="`, `for=203.0.113.5`}, ""},
		{"Forwarded, a quote that ends in the client's", proxy, Forwarded, []string{`for=198.51.100.1;by=", for="[2001:db8::7]:1"`}, ""},
		{"Forwarded, a quoted quote", proxy, Forwarded, []string{`for=198.51.100.1;by="\"", for=203.0.113.5`}, ""},
		{"a quote to the left of the client", proxy, XForwardedFor, []string{`198.51.100.1", ` + client}, client},
	}
	for _, test := range tests {
		got, err := ClientAddress(netip.MustParseAddr(test.peer), trusted, test.header, test.lines)
		switch {
		case test.want == "" && err == nil:
			t.Errorf("%s: %v, want it refused", test.name, got)
		case test.want != "" && (err != nil || got.String() != test.want):
			t.Errorf("%s: %v, %v, want %s", test.name, got, err, test.want)
		}
	}
	if got, err := ClientAddress(netip.MustParseAddr(proxy), nil, XForwardedFor, []string{client}); err != nil || got.String() != proxy {
		t.Errorf("with no proxy trusted: %v, %v, want the peer", got, err)
	}
}

// FuzzClientAddress: what stands to the left of an address that a trusted proxy appended never decides.
func FuzzClientAddress(f *testing.F) {
	for _, text := range []string{"", "198.51.100.1", "garbage", `for="`, "10.0.0.1, 10.0.0.2", "[::1]:80", `for=198.51.100.1;by="`, `for=10.0.0.1;by="\`, `for="[::1]`} {
		f.Add(text)
	}
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	proxy, client := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("203.0.113.5")
	f.Fuzz(func(t *testing.T, made string) {
		got, err := ClientAddress(proxy, trusted, XForwardedFor, []string{made, client.String()})
		if err == nil && got != client {
			t.Fatalf("%q made the client %v", made, got)
		}
		for _, appended := range []string{"for=203.0.113.5", `for="203.0.113.5:4711"`, `by="a,b;c";for=203.0.113.5;proto=https`} {
			for _, lines := range [][]string{{made, appended}, {made + ", " + appended}} {
				if got, err := ClientAddress(proxy, trusted, Forwarded, lines); err == nil && got != client {
					t.Fatalf("%q made the client %v", lines, got)
				}
			}
		}
		if _, err := ClientAddress(proxy, trusted, Forwarded, []string{made}); err != nil && strings.Contains(err.Error(), made) && len(made) > 9 {
			t.Fatalf("the error repeats %q", made)
		}
	})
}
