package iprange

import (
	"net/netip"
	"testing"
)

func TestClient(t *testing.T) {
	tests := []struct{ address, want string }{
		{"192.0.2.7", "192.0.2.7/32"},
		{"::ffff:192.0.2.7", "192.0.2.7/32"},
		{"2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"},
		{"fe80::1%eth0", "fe80::/64"},
	}
	for _, test := range tests {
		if got := Client(netip.MustParseAddr(test.address)); got.String() != test.want {
			t.Errorf("Client(%s) = %v, want %s", test.address, got, test.want)
		}
	}
	if got := Client(netip.Addr{}); got.IsValid() {
		t.Errorf("Client of no address = %v, want the zero Prefix", got)
	}
}
