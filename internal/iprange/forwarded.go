package iprange

import (
	"net/netip"
	"slices"
	"strings"

	"keyctl/internal/fault"
)

// maxHops bounds how many proxies a forwarded header may name.
const maxHops = 32

// The headers that proxies name the client in.
const (
	XForwardedFor = "X-Forwarded-For"
	Forwarded     = "Forwarded" // RFC 7239
)

// ClientAddress finds out whose request it is. That is the peer of the connection, unless the peer is a trusted proxy: then
// it is the last address in the lines of the one header that is not a trusted proxy itself. Read from the right, nothing
// that a client made up is believed, however many lines and hops it sends along. header is XForwardedFor or Forwarded.
//
// Errors are fault.Invalid: from a trusted proxy a hop cannot be read, or there are more than 32. Whoever gets one must
// refuse the request, not fall back to the peer.
func ClientAddress(peer netip.Addr, trusted []netip.Prefix, header string, lines []string) (netip.Addr, error) {
	client := peer.Unmap().WithZone("")
	if !isTrusted(client, trusted) || len(lines) == 0 {
		return client, nil
	}
	unreadable := fault.New(fault.Invalid, "the header %s is not a list of addresses", header)
	text, read := strings.Join(lines, ","), readHop
	hops := strings.Split(text, ",")
	if header == Forwarded {
		// A quote that a client opened would take in what the proxy appended, and the client's own address would be the last.
		if strings.Count(text, `"`)%2 != 0 {
			return netip.Addr{}, unreadable
		}
		hops, read = splitQuoted(text, ','), readForwarded
	}
	if len(hops) > maxHops {
		return netip.Addr{}, fault.New(fault.Invalid, "the request came through more than %d proxies", maxHops)
	}
	for _, hop := range slices.Backward(hops) {
		address, ok := read(strings.Trim(hop, " \t"))
		if !ok {
			return netip.Addr{}, unreadable
		}
		if client = address; !isTrusted(client, trusted) {
			break
		}
	}
	return client, nil
}

func isTrusted(address netip.Addr, trusted []netip.Prefix) bool {
	return slices.ContainsFunc(trusted, func(p netip.Prefix) bool { return p.Contains(address) })
}

// readHop reads an address with or without a port: 192.0.2.7, 192.0.2.7:4711, 2001:db8::1, [2001:db8::1]:4711.
func readHop(text string) (netip.Addr, bool) {
	if port, err := netip.ParseAddrPort(text); err == nil {
		return port.Addr().Unmap(), port.Addr().Zone() == ""
	}
	if inner, ok := strings.CutPrefix(text, "["); ok {
		if text, ok = strings.CutSuffix(inner, "]"); !ok {
			return netip.Addr{}, false
		}
	}
	address, err := netip.ParseAddr(text)
	return address.Unmap(), err == nil && address.Zone() == ""
}

// readForwarded reads the one for= of an element (RFC 7239 section 4); unknown and hidden ones are no addresses.
func readForwarded(element string) (address netip.Addr, ok bool) {
	for _, pair := range splitQuoted(element, ';') {
		name, value, found := strings.Cut(strings.Trim(pair, " \t"), "=")
		if !found || !strings.EqualFold(name, "for") {
			continue
		}
		if ok {
			return netip.Addr{}, false // a second one
		}
		if inner, quoted := strings.CutPrefix(value, `"`); quoted {
			if value, quoted = strings.CutSuffix(inner, `"`); !quoted {
				return netip.Addr{}, false
			}
		}
		if address, ok = readHop(value); !ok {
			return netip.Addr{}, false
		}
	}
	return address, ok
}

// splitQuoted splits at a separator that stands outside of double quotes.
func splitQuoted(text string, separator byte) []string {
	var parts []string
	quoted, start := false, 0
	for i := range len(text) {
		switch text[i] {
		case '"':
			quoted = !quoted
		case separator:
			if !quoted {
				parts = append(parts, text[start:i])
				start = i + 1
			}
		}
	}
	return append(parts, text[start:])
}
