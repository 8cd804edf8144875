package iprange

import (
	"net/netip"
	"strings"

	"keyctl/internal/fault"
)

// maxTextBytes bounds what is examined at all. The longest right form, an IPv6 prefix that ends in dotted octets, has 49.
const maxTextBytes = 64

// mappedBits is the length of ::ffff:0:0/96, the prefix of IPv4-mapped addresses (RFC 4291 section 2.5.5.2).
const mappedBits = 96

// Parse reads an IP address or a prefix in CIDR notation. An address becomes the prefix of its full length, after
// ::ffff:a.b.c.d has become a.b.c.d. The result has no host bits, no zone and is not IPv4-mapped; an IPv6 prefix that
// happens to cover the mapped range, such as ::/0, is an ordinary IPv6 prefix and matches no IPv4 address.
//
// Every other text is fault.Invalid, with the right form of this very input as the hint where it can be told: host bits,
// leading zeros, zones, mapped prefixes, netmasks, missing octets, ports, blanks, signs. Text that could not be
// part of an address is not repeated, for it may be a secret pasted into the wrong place.
func Parse(text string) (netip.Prefix, error) {
	prefix, ok := decode(text)
	if !ok {
		return netip.Prefix{}, notRange(text)
	}
	if err := refuse(prefix); err != nil {
		return netip.Prefix{}, err
	}
	return prefix, nil
}

// ParseAddr reads one address, as people, sockets and proxies write it: 192.0.2.7, 192.0.2.7:443, 2001:db8::7,
// [2001:db8::7] or [2001:db8::7]:443. Port and brackets are dropped and ::ffff:a.b.c.d becomes a.b.c.d. Zones, leading
// zeros, blanks, prefixes and everything else are fault.Invalid with the right form as the hint where it can be told.
func ParseAddr(text string) (netip.Addr, error) {
	if len(text) > maxTextBytes {
		return netip.Addr{}, notAddr(text)
	}
	addr, err := netip.ParseAddr(withoutPort(text))
	if err != nil || addr.Zone() != "" {
		return netip.Addr{}, notAddr(text)
	}
	return addr.Unmap(), nil
}

// decode reads the notations that net/netip knows, except zones. The result can still be a prefix that refuse refuses.
func decode(text string) (netip.Prefix, bool) {
	if len(text) > maxTextBytes {
		return netip.Prefix{}, false
	}
	if strings.Contains(text, "/") {
		prefix, err := netip.ParsePrefix(text)
		return prefix, err == nil
	}
	addr, err := netip.ParseAddr(text)
	if err != nil || addr.Zone() != "" {
		return netip.Prefix{}, false
	}
	addr = addr.Unmap()
	return netip.PrefixFrom(addr, addr.BitLen()), true
}

// refuse returns a fault.Invalid error for a prefix that must not stand in a list, else nil.
func refuse(prefix netip.Prefix) error {
	if !prefix.IsValid() {
		return fault.New(fault.Invalid, "a prefix without an address").WithHint(rangeExample)
	}
	addr, bits := prefix.Addr(), prefix.Bits()
	// A mapped address in front of fewer than 96 bits has host bits, so the second case deals with it.
	if addr.Is4In6() && bits >= mappedBits {
		ipv4 := netip.PrefixFrom(addr.Unmap(), bits-mappedBits)
		return fault.New(fault.Invalid, "%q is a prefix of IPv4-mapped addresses, which count as IPv4", prefix.String()).
			WithHint("%s", rightForm(ipv4))
	}
	if prefix != prefix.Masked() {
		return fault.New(fault.Invalid, "%q has bits set behind its prefix length", prefix.String()).
			WithHint("%s for the network, or %s for the one address", format(prefix.Masked()), addr.Unmap())
	}
	return nil
}

// rightForm is the hint for a text that was meant to be prefix.
func rightForm(prefix netip.Prefix) string {
	if e := fault.From(refuse(prefix)); e != nil {
		return e.Hint
	}
	return format(prefix)
}

// withoutPort drops a port from an IPv4 address, and brackets and a port from an IPv6 address. Any other text comes back
// as it is. Brackets belong to IPv6 only (RFC 3986 section 3.2.2).
func withoutPort(text string) string {
	if inner, bracketed := strings.CutPrefix(text, "["); bracketed {
		host, rest, closed := strings.Cut(inner, "]")
		if closed && strings.Contains(host, ":") && (rest == "" || isPort(rest)) {
			return host
		}
		return text
	}
	// One colon means IPv4 with a port, for an IPv6 address has at least two.
	if i := strings.IndexByte(text, ':'); i >= 0 && isPort(text[i:]) {
		return text[:i]
	}
	return text
}

// isPort reports whether text is a colon and a decimal number from 0 to 65535 of at most five digits.
func isPort(text string) bool {
	digits, ok := strings.CutPrefix(text, ":")
	if !ok || len(digits) > 5 || !isDigits(digits) {
		return false
	}
	port := 0
	for _, digit := range []byte(digits) {
		port = port*10 + int(digit-'0')
	}
	return port <= 65535
}

// isDigits reports whether text consists of ASCII digits, at least one.
func isDigits(text string) bool {
	return text != "" && strings.Trim(text, "0123456789") == ""
}
