package access

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"
)

func TestR23_FailuresAreLimitedByClient(t *testing.T) {
	f := NewFailures()
	now := time.Unix(1_000_000, 0)
	one, other := netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("2001:db8::/64")
	count := func(client netip.Prefix, times int) (refused int) {
		for range times {
			if f.Count(client, now) {
				refused++
			}
		}
		return refused
	}
	if got := count(one, FailureBurst); got != 0 {
		t.Errorf("%d of the first %d failures were too many", got, FailureBurst)
	}
	if got := count(one, 5); got != 5 {
		t.Errorf("%d of 5 more were too many, want all", got)
	}
	if got := count(other, 1); got != 0 {
		t.Error("another client's first failure was too many")
	}
	now = now.Add(FailureEvery)
	if got := count(one, 2); got != 1 {
		t.Errorf("after %v %d of 2 were too many, want 1", FailureEvery, got)
	}
	now = now.Add(time.Hour)
	if got := count(one, FailureBurst+1); got != 1 {
		t.Errorf("after an hour %d of %d were too many, want 1", got, FailureBurst+1)
	}
}

// TestR23_MemoryIsBounded lets more clients fail than are remembered: the quiet ones are forgotten, the loud one is not.
func TestR23_MemoryIsBounded(t *testing.T) {
	f := NewFailures()
	now := time.Unix(1_000_000, 0)
	loud := netip.MustParsePrefix("192.0.2.1/32")
	for range FailureBurst {
		f.Count(loud, now)
	}
	for i := range uint32(trackedClients + 1000) {
		var raw [4]byte
		binary.BigEndian.PutUint32(raw[:], 10<<24+i)
		f.Count(netip.PrefixFrom(netip.AddrFrom4(raw), 32), now)
		if i%(trackedClients/2) == 0 && !f.Count(loud, now) {
			t.Fatalf("after %d others a client that fails all the time was forgotten", i)
		}
	}
	if got := f.clients.Len(); got != trackedClients {
		t.Errorf("%d clients are remembered, want %d", got, trackedClients)
	}
}

func BenchmarkFailures(b *testing.B) {
	f, now, client := NewFailures(), time.Unix(1_000_000, 0), netip.MustParsePrefix("192.0.2.1/32")
	b.ReportAllocs()
	for b.Loop() {
		f.Count(client, now)
	}
}
