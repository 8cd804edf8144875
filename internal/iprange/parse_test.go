package iprange

import (
	"net/netip"
	"strings"
	"testing"

	"keyctl/internal/fault"
)

func TestR22_Parse(t *testing.T) {
	tests := []struct{ text, want string }{
		{"192.0.2.7", "192.0.2.7/32"},
		{"192.0.2.7/32", "192.0.2.7/32"},
		{"10.0.0.0/8", "10.0.0.0/8"},
		{"0.0.0.0/0", "0.0.0.0/0"},
		{"0.0.0.0", "0.0.0.0/32"},
		{"255.255.255.255", "255.255.255.255/32"},
		{"2001:db8::7", "2001:db8::7/128"},
		{"2001:DB8:0:0:0:0:0:0/32", "2001:db8::/32"},
		{"::", "::/128"},
		{"::/0", "::/0"},
		{"::/64", "::/64"},
		{"::ffff:192.0.2.7", "192.0.2.7/32"},
		{"::ffff:c000:0207", "192.0.2.7/32"},
		{"0:0:0:0:0:FFFF:192.0.2.7", "192.0.2.7/32"},
		{"::192.0.2.7", "::c000:207/128"},
		{"64:ff9b::192.0.2.0/120", "64:ff9b::c000:200/120"},
		{"2001:0db8:1111:2222:3333:4444:255.255.255.254/127", "2001:db8:1111:2222:3333:4444:ffff:fffe/127"},
	}
	for _, test := range tests {
		got, err := Parse(test.text)
		if err != nil || got.String() != test.want {
			t.Errorf("Parse(%q) = %v, %v, want %v", test.text, got, err, test.want)
		}
	}
}

func TestR22_ParseRefusesWithTheRightForm(t *testing.T) {
	tests := []struct{ text, message, hint string }{
		// host bits
		{"10.0.0.1/8", `"10.0.0.1/8" has bits set behind its prefix length`, "10.0.0.0/8 for the network, or 10.0.0.1 for the one address"},
		{"192.0.2.7/31", `"192.0.2.7/31" has bits set behind its prefix length`, "192.0.2.6/31 for the network, or 192.0.2.7 for the one address"},
		{"0.0.0.1/0", `"0.0.0.1/0" has bits set behind its prefix length`, "0.0.0.0/0 for the network, or 0.0.0.1 for the one address"},
		{"2001:db8::1/32", `"2001:db8::1/32" has bits set behind its prefix length`, "2001:db8::/32 for the network, or 2001:db8::1 for the one address"},
		{"::ffff:10.0.0.1/95", `"::ffff:10.0.0.1/95" has bits set behind its prefix length`, "::fffe:0:0/95 for the network, or 10.0.0.1 for the one address"},
		{"::ffff:10.0.0.0/8", `"::ffff:10.0.0.0/8" has bits set behind its prefix length`, "::/8 for the network, or 10.0.0.0 for the one address"},
		// mapped prefixes
		{"::ffff:0:0/96", `"::ffff:0.0.0.0/96" is a prefix of IPv4-mapped addresses, which count as IPv4`, "0.0.0.0/0"},
		{"::ffff:10.0.0.0/104", `"::ffff:10.0.0.0/104" is a prefix of IPv4-mapped addresses, which count as IPv4`, "10.0.0.0/8"},
		{"::ffff:192.0.2.7/128", `"::ffff:192.0.2.7/128" is a prefix of IPv4-mapped addresses, which count as IPv4`, "192.0.2.7"},
		{"::ffff:10.0.0.1/104", `"::ffff:10.0.0.1/104" is a prefix of IPv4-mapped addresses, which count as IPv4`, "10.0.0.0/8 for the network, or 10.0.0.1 for the one address"},
		// leading zeros
		{"010.0.0.1", `"010.0.0.1" has leading zeros, which some programs read as octal`, "10.0.0.1"},
		{"192.000.002.007/32", `"192.000.002.007/32" has leading zeros, which some programs read as octal`, "192.0.2.7"},
		{"010.0.0.1/8", `"010.0.0.1/8" has leading zeros, which some programs read as octal`, "10.0.0.0/8 for the network, or 10.0.0.1 for the one address"},
		{"::ffff:192.000.002.007", `"::ffff:192.000.002.007" has leading zeros, which some programs read as octal`, "192.0.2.7"},
		// zones
		{"fe80::1%eth0", "the given text has a zone, which names an interface of one machine", "fe80::1"},
		{"fe80::1%1", `"fe80::1%1" has a zone, which names an interface of one machine`, "fe80::1"},
		{"fe80::%1/64", `"fe80::%1/64" has a zone, which names an interface of one machine`, "fe80::/64"},
		{"::ffff:192.0.2.7%1", `"::ffff:192.0.2.7%1" has a zone, which names an interface of one machine`, "192.0.2.7"},
		// octets
		{"10/8", "the given text has fewer than four octets", "10.0.0.0/8"},
		{"10.1/16", `"10.1/16" has fewer than four octets`, "10.1.0.0/16"},
		{"192.0.2/24", `"192.0.2/24" has fewer than four octets`, "192.0.2.0/24"},
		{"192.0.2", `"192.0.2" has fewer than four octets`, "192.0.2.0/24"},
		{"10.1/8", `"10.1/8" has fewer than four octets`, "10.0.0.0/8 for the network, or 10.1.0.0 for the one address"},
		// the prefix length
		{"10.0.0.0/08", `"10.0.0.0/08" has a sign or leading zeros in its prefix length`, "10.0.0.0/8"},
		{"10.0.0.0/+8", `"10.0.0.0/+8" has a sign or leading zeros in its prefix length`, "10.0.0.0/8"},
		{"0.0.0.0/00", `"0.0.0.0/00" has a sign or leading zeros in its prefix length`, "0.0.0.0/0"},
		{"10.0.0.0/255.0.0.0", `"10.0.0.0/255.0.0.0" has a netmask in place of the prefix length`, "10.0.0.0/8"},
		{"0.0.0.0/0.0.0.0", `"0.0.0.0/0.0.0.0" has a netmask in place of the prefix length`, "0.0.0.0/0"},
		{"192.0.2.7/255.255.255.255", `"192.0.2.7/255.255.255.255" has a netmask in place of the prefix length`, "192.0.2.7"},
		{"10.0.0.0/255.0.255.0", `"10.0.0.0/255.0.255.0" has no prefix length from 0 to 32`, "10.0.0.0 for the one address, or 10.0.0.0/N with N from 0 to 32"},
		{"10.0.0.0/-8", `"10.0.0.0/-8" has no prefix length from 0 to 32`, "10.0.0.0 for the one address, or 10.0.0.0/N with N from 0 to 32"},
		{"10.0.0.0/33", `"10.0.0.0/33" has no prefix length from 0 to 32`, "10.0.0.0 for the one address, or 10.0.0.0/N with N from 0 to 32"},
		{"10.0.0.0/", `"10.0.0.0/" has no prefix length from 0 to 32`, "10.0.0.0 for the one address, or 10.0.0.0/N with N from 0 to 32"},
		{"10.0.0.0/8/8", `"10.0.0.0/8/8" has no prefix length from 0 to 32`, "10.0.0.0 for the one address, or 10.0.0.0/N with N from 0 to 32"},
		{"::1/129", `"::1/129" has no prefix length from 0 to 128`, "::1 for the one address, or ::1/N with N from 0 to 128"},
		{"10.0.0.0/99999999999999999999", `"10.0.0.0/99999999999999999999" has no prefix length from 0 to 32`, "10.0.0.0 for the one address, or 10.0.0.0/N with N from 0 to 32"},
		// ports, brackets, blanks, several values
		{"192.0.2.7:443", `"192.0.2.7:443" has a port or brackets`, "192.0.2.7"},
		{"[2001:db8::7]", `"[2001:db8::7]" has a port or brackets`, "2001:db8::7"},
		{"[fe80::1%1]:443", `"[fe80::1%1]:443" has a zone, which names an interface of one machine`, "fe80::1"},
		{" 10.0.0.0/8", `" 10.0.0.0/8" has blanks around it`, "10.0.0.0/8"},
		{"10.0.0.0/8\n", "the given text has blanks around it", "10.0.0.0/8"},
		{" 010.1/016 ", `" 010.1/016 " has blanks around it`, "10.1.0.0/16"},
		{"10.0.0.0/8,192.0.2.7", `"10.0.0.0/8,192.0.2.7" is more than one address or prefix`, "10.0.0.0/8 and 192.0.2.7, each as a value of its own"},
		{"::1 ::2", `"::1 ::2" is more than one address or prefix`, "::1 and ::2, each as a value of its own"},
		// nothing to tell
		{"", "an empty text is no IP address", rangeExample},
		{" ", "the given text is not an IP address or prefix", rangeExample},
		{"1 0.0.0.1", `"1 0.0.0.1" is not an IP address or prefix`, rangeExample},
		{"10.0.0.256", `"10.0.0.256" is not an IP address or prefix`, rangeExample},
		{"1.2.3.4.5", `"1.2.3.4.5" is not an IP address or prefix`, rangeExample},
		{"10", "the given text is not an IP address or prefix", rangeExample},
		{"10.", `"10." is not an IP address or prefix`, rangeExample},
		{"167772161", "the given text is not an IP address or prefix", rangeExample},
		{"0x0a.0.0.1", "the given text is not an IP address or prefix", rangeExample},
		{"10.0.0.1-10.0.0.9", `"10.0.0.1-10.0.0.9" is not an IP address or prefix`, rangeExample},
		{"10.0.0.*", "the given text is not an IP address or prefix", rangeExample},
		{"localhost", "the given text is not an IP address or prefix", rangeExample},
		{"any", "the given text is not an IP address or prefix", rangeExample},
		{"/8", "the given text is not an IP address or prefix", rangeExample},
		{":::1", `":::1" is not an IP address or prefix`, rangeExample},
		{"2001:db8::00007", `"2001:db8::00007" is not an IP address or prefix`, rangeExample},
		{"１９２.0.2.7", "the given text is not an IP address or prefix", rangeExample},
		{"192.0.2.7\x00", "the given text is not an IP address or prefix", rangeExample},
		{strings.Repeat("1", 65), "a text of 65 bytes is no IP address", rangeExample},
		{"::1" + strings.Repeat(" ", 62), "a text of 65 bytes is no IP address", rangeExample},
	}
	for _, test := range tests {
		prefix, err := Parse(test.text)
		e := fault.From(err)
		if e == nil || e.Code != fault.Invalid {
			t.Errorf("Parse(%q) = %v, %v, want code %q", test.text, prefix, err, fault.Invalid)
			continue
		}
		if e.Message != test.message {
			t.Errorf("Parse(%q) message %q, want %q", test.text, e.Message, test.message)
		}
		if e.Hint != test.hint {
			t.Errorf("Parse(%q) hint %q, want %q", test.text, e.Hint, test.hint)
		}
	}
}

func TestR22_ParseAddr(t *testing.T) {
	tests := []struct{ text, want string }{
		{"192.0.2.7", "192.0.2.7"},
		{"192.0.2.7:443", "192.0.2.7"},
		{"192.0.2.7:0", "192.0.2.7"},
		{"192.0.2.7:65535", "192.0.2.7"},
		{"2001:DB8::7", "2001:db8::7"},
		{"[2001:db8::7]", "2001:db8::7"},
		{"[2001:db8::7]:443", "2001:db8::7"},
		{"2001:db8::7:443", "2001:db8::7:443"}, // no brackets, so 443 is a part of the address
		{"::ffff:192.0.2.7", "192.0.2.7"},
		{"[::ffff:192.0.2.7]:443", "192.0.2.7"},
		{"[::ffff:c000:207]", "192.0.2.7"},
		{"::", "::"},
		{"64:ff9b::192.0.2.7", "64:ff9b::c000:207"},
	}
	for _, test := range tests {
		got, err := ParseAddr(test.text)
		if err != nil || got.String() != test.want {
			t.Errorf("ParseAddr(%q) = %v, %v, want %v", test.text, got, err, test.want)
		}
	}
}

func TestR22_ParseAddrRefuses(t *testing.T) {
	tests := []struct{ text, message, hint string }{
		{"", "an empty text is no IP address", addrExample},
		{"fe80::1%1", `"fe80::1%1" has a zone, which names an interface of one machine`, "fe80::1"},
		{"[fe80::1%eth0]:443", "the given text has a zone, which names an interface of one machine", "fe80::1"},
		{"::ffff:192.0.2.7%1", `"::ffff:192.0.2.7%1" has a zone, which names an interface of one machine`, "192.0.2.7"},
		{"010.0.0.1", `"010.0.0.1" has leading zeros, which some programs read as octal`, "10.0.0.1"},
		{"192.0.2.007:443", `"192.0.2.007:443" has leading zeros, which some programs read as octal`, "192.0.2.7"},
		{" 192.0.2.7", `" 192.0.2.7" has blanks around it`, "192.0.2.7"},
		{"10.0.0.0/8", `"10.0.0.0/8" is a prefix, not one address`, "10.0.0.0"},
		{"192.0.2.7/32", `"192.0.2.7/32" is a prefix, not one address`, "192.0.2.7"},
		{"::ffff:192.0.2.7/128", `"::ffff:192.0.2.7/128" is a prefix, not one address`, "192.0.2.7"},
		{"192.0.2", `"192.0.2" is not an IP address`, addrExample},
		{"192.0.2.7:", `"192.0.2.7:" is not an IP address`, addrExample},
		{"192.0.2.7:65536", `"192.0.2.7:65536" is not an IP address`, addrExample},
		{"192.0.2.7:000443", `"192.0.2.7:000443" is not an IP address`, addrExample},
		{"192.0.2.7:+443", `"192.0.2.7:+443" is not an IP address`, addrExample},
		{"192.0.2.7:https", "the given text is not an IP address", addrExample},
		{"[192.0.2.7]:443", `"[192.0.2.7]:443" is not an IP address`, addrExample},
		{"[2001:db8::7", `"[2001:db8::7" is not an IP address`, addrExample},
		{"2001:db8::7]", `"2001:db8::7]" is not an IP address`, addrExample},
		{"[2001:db8::7]443", `"[2001:db8::7]443" is not an IP address`, addrExample},
		{"[2001:db8::7]:", `"[2001:db8::7]:" is not an IP address`, addrExample},
		{"[[::1]]", `"[[::1]]" is not an IP address`, addrExample},
		{"[]", "the given text is not an IP address", addrExample},
		{"unknown", "the given text is not an IP address", addrExample}, // RFC 7239 section 6
		{"_hidden", "the given text is not an IP address", addrExample}, // likewise
		{"192.0.2.7, 192.0.2.8", `"192.0.2.7, 192.0.2.8" is not an IP address`, addrExample},
		{"localhost:80", "the given text is not an IP address", addrExample},
		{strings.Repeat("1", 65), "a text of 65 bytes is no IP address", addrExample},
	}
	for _, test := range tests {
		addr, err := ParseAddr(test.text)
		e := fault.From(err)
		if e == nil || e.Code != fault.Invalid {
			t.Errorf("ParseAddr(%q) = %v, %v, want code %q", test.text, addr, err, fault.Invalid)
			continue
		}
		if e.Message != test.message {
			t.Errorf("ParseAddr(%q) message %q, want %q", test.text, e.Message, test.message)
		}
		if e.Hint != test.hint {
			t.Errorf("ParseAddr(%q) hint %q, want %q", test.text, e.Hint, test.hint)
		}
	}
}

// TestR2_ErrorsDoNotRepeatSecrets pastes the shapes of keyctl's secrets where an address belongs.
func TestR2_ErrorsDoNotRepeatSecrets(t *testing.T) {
	shapes := []string{"kcs_TESTTESTTEST", "287082", "287 082", "ABCD-EFGH-2345", "::1,kct_TESTTEST", "fe80::1%kcx_TESTTEST", "10.0.0.1/kcs_TEST"}
	for _, text := range shapes {
		_, listErr := ParseList([]string{"::1", text})
		_, addrErr := ParseAddr(text)
		for _, err := range []error{listErr, addrErr} {
			e := fault.From(err)
			if e == nil {
				t.Errorf("%q was taken for an address", text)
			} else if said := e.Message + e.Hint; strings.Contains(said, text) || strings.Contains(said, "TEST") {
				t.Errorf("error for %q repeats it: %q, hint %q", text, e.Message, e.Hint)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{
		"", "192.0.2.7", "10.0.0.0/8", "10.0.0.1/8", "010.0.0.1", "::ffff:1.2.3.4", "::ffff:0:0/96", "fe80::1%eth0/64", "::/0",
		"10/8", "10.0.0.0/255.0.0.0", "10.0.0.0/+08", "[::1]:443", "1.2.3.4:80", "::1, ::2", " 0010.01/0016 ", "10.0.0.0/33",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		prefix, err := Parse(text)
		if err != nil {
			e := fault.From(err)
			if e == nil || e.Code != fault.Invalid || e.Hint == "" {
				t.Fatalf("Parse(%q) error = %#v, want code %q and a hint", text, e, fault.Invalid)
			}
			if _, err := Parse(e.Hint); err != nil && !strings.Contains(e.Hint, " ") {
				t.Fatalf("Parse(%q) hints at %q, but that gives %v", text, e.Hint, err)
			}
			return
		}
		if prefix != prefix.Masked() || prefix.Addr().Is4In6() || prefix.Addr().Zone() != "" {
			t.Fatalf("Parse(%q) = %v, which has host bits, is mapped or has a zone", text, prefix)
		}
		if again, err := Parse(format(prefix)); err != nil || again != prefix {
			t.Fatalf("Parse(%q) = %v, printed %q, read back %v, %v", text, prefix, format(prefix), again, err)
		}
		list := mustList(t, text)
		if !list.Contains(prefix.Addr()) {
			t.Fatalf("%q does not contain its first address %v", list, prefix.Addr())
		}
	})
}

func FuzzParseAddr(f *testing.F) {
	for _, text := range []string{
		"", "192.0.2.7", "192.0.2.7:443", "[2001:db8::7]:443", "::ffff:1.2.3.4", "[::ffff:1.2.3.4]:1", "fe80::1%eth0",
		"192.0.2.007:443", "10.0.0.0/8", "[[::1]]", "unknown",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		addr, err := ParseAddr(text)
		if err != nil {
			e := fault.From(err)
			if addr != (netip.Addr{}) || e == nil || e.Code != fault.Invalid || e.Hint == "" {
				t.Fatalf("ParseAddr(%q) = %v, %#v, want no address, code %q and a hint", text, addr, e, fault.Invalid)
			}
			if _, err := ParseAddr(e.Hint); err != nil && !strings.Contains(e.Hint, " ") {
				t.Fatalf("ParseAddr(%q) hints at %q, but that gives %v", text, e.Hint, err)
			}
			return
		}
		if !addr.IsValid() || addr.Is4In6() || addr.Zone() != "" {
			t.Fatalf("ParseAddr(%q) = %v, which is invalid, mapped or has a zone", text, addr)
		}
		for _, form := range []string{addr.String(), netip.AddrPortFrom(addr, 443).String()} {
			if again, err := ParseAddr(form); err != nil || again != addr {
				t.Fatalf("ParseAddr(%q) = %v, printed %q, read back %v, %v", text, addr, form, again, err)
			}
		}
	})
}
