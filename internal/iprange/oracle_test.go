package iprange

import (
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"testing"
)

// point is an address as a number: the oracle's view, which shares no code with net/netip.
type point struct {
	length int // 32 or 128 bits
	value  *big.Int
}

// readPoint computes the number behind an address from the digits of its text (RFC 4291 section 2.2), then applies the
// one rule of its own: ::ffff:a.b.c.d is a.b.c.d.
func readPoint(t testing.TB, text string) point {
	t.Helper()
	if !strings.Contains(text, ":") {
		return point{32, readOctets(t, text)}
	}
	head, tail, elided := strings.Cut(text, "::")
	front, back := readGroups(t, head), readGroups(t, tail)
	if missing := 8 - len(front) - len(back); elided {
		front = append(front, make([]uint64, missing)...)
	}
	value := new(big.Int)
	for _, group := range append(front, back...) {
		value.Lsh(value, 16).Or(value, new(big.Int).SetUint64(group))
	}
	if new(big.Int).Rsh(value, 32).Cmp(big.NewInt(0xffff)) == 0 {
		return point{32, value.And(value, big.NewInt(0xffffffff))}
	}
	return point{128, value}
}

func readGroups(t testing.TB, text string) []uint64 {
	t.Helper()
	if text == "" {
		return nil
	}
	var groups []uint64
	for field := range strings.SplitSeq(text, ":") {
		if strings.Contains(field, ".") {
			ipv4 := readOctets(t, field).Uint64()
			groups = append(groups, ipv4>>16, ipv4&0xffff)
			continue
		}
		group, err := strconv.ParseUint(field, 16, 16)
		if err != nil {
			t.Fatalf("oracle: group %q of %q: %v", field, text, err)
		}
		groups = append(groups, group)
	}
	return groups
}

func readOctets(t testing.TB, text string) *big.Int {
	t.Helper()
	value := new(big.Int)
	for field := range strings.SplitSeq(text, ".") {
		octet, err := strconv.ParseUint(field, 10, 8)
		if err != nil {
			t.Fatalf("oracle: octet %q of %q: %v", field, text, err)
		}
		value.Lsh(value, 8).Or(value, new(big.Int).SetUint64(octet))
	}
	return value
}

// write spells the number out, IPv6 in eight full groups.
func (p point) write() string {
	var raw [16]byte
	p.value.FillBytes(raw[:p.length/8])
	if p.length == 32 {
		return fmt.Sprintf("%d.%d.%d.%d", raw[0], raw[1], raw[2], raw[3])
	}
	groups := make([]string, 8)
	for i := range groups {
		groups[i] = fmt.Sprintf("%02x%02x", raw[2*i], raw[2*i+1])
	}
	return strings.Join(groups, ":")
}

// oracleContains compares the leading bits of two numbers of the same family.
func oracleContains(t testing.TB, prefixText, addrText string) bool {
	t.Helper()
	base, bits := readPrefix(t, prefixText)
	addr := readPoint(t, addrText)
	if base.length != addr.length {
		return false
	}
	difference := new(big.Int).Xor(base.value, addr.value)
	return difference.Rsh(difference, uint(base.length-bits)).Sign() == 0
}

func readPrefix(t testing.TB, text string) (base point, bits int) {
	t.Helper()
	host, lengthText, isPrefix := strings.Cut(text, "/")
	base = readPoint(t, host)
	if !isPrefix {
		return base, base.length
	}
	bits, err := strconv.Atoi(lengthText)
	if err != nil {
		t.Fatalf("oracle: length %q: %v", lengthText, err)
	}
	return base, bits
}

// edges returns the first and last address of a prefix and their neighbours outside, as far as those exist.
func edges(t testing.TB, prefixText string) []string {
	t.Helper()
	base, bits := readPrefix(t, prefixText)
	one := big.NewInt(1)
	size := new(big.Int).Lsh(one, uint(base.length-bits))
	limit := new(big.Int).Lsh(one, uint(base.length))
	after := new(big.Int).Add(base.value, size)
	var texts []string
	for _, value := range []*big.Int{
		new(big.Int).Sub(base.value, one), base.value, new(big.Int).Sub(after, one), after,
	} {
		if value.Sign() >= 0 && value.Cmp(limit) < 0 {
			texts = append(texts, point{base.length, value}.write())
		}
	}
	return texts
}
