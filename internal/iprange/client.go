package iprange

import "net/netip"

// Client is the network that one client is taken to have to itself: its IPv4 address, or the /64 around its IPv6 address
// (RFC 6177 section 2 gives a site no less). Who counts requests by client counts by it. The zero Prefix stands for an
// address that is not known.
func Client(address netip.Addr) netip.Prefix {
	address = address.Unmap().WithZone("")
	bits := 32
	if address.Is6() {
		bits = 64
	}
	network, err := address.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return network
}
