package transport

import (
	"strings"
	"testing"

	"keyctl/internal/fault"
)

// TestR24_ParseServer says which addresses something is sent to.
func TestR24_ParseServer(t *testing.T) {
	for _, good := range []string{
		"https://keys.example.com", "https://keys.example.com:8420", "https://192.0.2.1", "https://[2001:db8::1]:8420", "https://h/keyctl/",
		"http://127.0.0.1:8420", "http://127.9.9.9", "http://[::1]:8420", "http://localhost:8420", "http://[::ffff:127.0.0.1]",
	} {
		if u, err := ParseServer(good); err != nil || strings.HasSuffix(u.String(), "/") {
			t.Errorf("ParseServer(%q) = %v, %v", good, u, err)
		}
	}
	for _, bad := range []string{
		"", "keys.example.com", "keys.example.com:8420", "https://", "https:///v1", "//keys.example.com", "https:keys.example.com",
		"http://keys.example.com", "http://10.0.0.1", "http://0.0.0.0:8420", "http://127.0.0.1.example.com", "http://localhost.example.com",
		"http://[::ffff:10.0.0.1]", "http://[fe80::1]", "http://2130706433", "http://0x7f.1",
		"ftp://keys.example.com", "unix:///run/keyctl.sock", "https://user@keys.example.com", "https://user:word@keys.example.com",
		"https://keys.example.com?token=kct_1", "https://keys.example.com#x", "https://keys.example.com:port", "https://keys example.com", "https://h\n",
	} {
		if u, err := ParseServer(bad); !fault.Is(err, fault.Invalid) {
			t.Errorf("ParseServer(%q) = %v, %v, want invalid", bad, u, err)
		}
	}
}
