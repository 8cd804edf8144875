package iprange

import (
	"fmt"
	"math/bits"
	"net/netip"
	"strconv"
	"strings"

	"keyctl/internal/fault"
)

// Hints for texts from which no right form can be told.
const (
	rangeExample = "an address such as 192.0.2.7, or a prefix such as 10.0.0.0/8 or 2001:db8::/32"
	addrExample  = "an address such as 192.0.2.7 or 2001:db8::7"
)

// flaw is a mistake whose correction is known.
type flaw struct {
	claim  string                   // what is wrong, said of the text
	repair func(text string) string // the text without this flaw; a text that does not have it comes back unchanged
}

// flaws are repaired one after the other, so that a text with several of them still leads to its right form.
var flaws = []flaw{
	{"has blanks around it", withoutBlanks},
	{"has a zone, which names an interface of one machine", withoutZone},
	{"has a port or brackets", withoutPort},
	{"has a netmask in place of the prefix length", withLengthForMask},
	{"has a sign or leading zeros in its prefix length", withPlainLength},
	{"has leading zeros, which some programs read as octal", withoutLeadingZeros},
	{"has fewer than four octets", withFourOctets},
}

// repaired corrects text's flaws. The claim is the first of them; ok is false when the outcome is no address or prefix.
func repaired(text string) (prefix netip.Prefix, claim string, ok bool) {
	for _, f := range flaws {
		better := f.repair(text)
		if better != text && claim == "" {
			claim = f.claim
		}
		text = better
	}
	prefix, ok = decode(text)
	return prefix, claim, ok
}

// notRange explains why decode did not take text for an address or a prefix.
func notRange(text string) error {
	if err := notText(text); err != nil {
		return err.WithHint(rangeExample)
	}
	if forms := severalRanges(text); forms != "" {
		return fault.New(fault.Invalid, "%s is more than one address or prefix", named(text)).
			WithHint("%s, each as a value of its own", forms)
	}
	if prefix, claim, ok := repaired(text); ok {
		return fault.New(fault.Invalid, "%s %s", named(text), claim).WithHint("%s", rightForm(prefix))
	}
	if addr, ok := addrBeforeSlash(text); ok {
		return fault.New(fault.Invalid, "%s has no prefix length from 0 to %d", named(text), addr.BitLen()).
			WithHint("%s for the one address, or %s/N with N from 0 to %d", addr, addr, addr.BitLen())
	}
	return fault.New(fault.Invalid, "%s is not an IP address or prefix", named(text)).WithHint(rangeExample)
}

// notAddr explains why ParseAddr did not take text for an address.
func notAddr(text string) error {
	if err := notText(text); err != nil {
		return err.WithHint(addrExample)
	}
	if prefix, ok := decode(text); ok {
		return fault.New(fault.Invalid, "%s is a prefix, not one address", named(text)).
			WithHint("%s", prefix.Addr().Unmap())
	}
	// A port is no mistake here, so it must not be the one that is reported.
	if prefix, claim, ok := repaired(withoutPort(text)); ok && claim != "" && prefix.IsSingleIP() {
		return fault.New(fault.Invalid, "%s %s", named(text), claim).WithHint("%s", prefix.Addr().Unmap())
	}
	return fault.New(fault.Invalid, "%s is not an IP address", named(text)).WithHint(addrExample)
}

// notText returns an error, still without a hint, for a text that is not worth a closer look, else nil.
func notText(text string) *fault.Error {
	switch {
	case text == "":
		return fault.New(fault.Invalid, "an empty text is no IP address")
	case len(text) > maxTextBytes:
		return fault.New(fault.Invalid, "a text of %d bytes is no IP address", len(text))
	}
	return nil
}

// named quotes text for a message if it consists of what addresses consist of. None of keyctl's secrets does: codes have
// no dots or colons, everything else has letters beyond f.
func named(text string) string {
	foreign := func(r rune) bool { return !strings.ContainsRune("0123456789abcdefABCDEF.:/[]%+-, ", r) }
	if !strings.ContainsAny(text, ".:") || strings.ContainsFunc(text, foreign) {
		return "the given text"
	}
	return strconv.Quote(text)
}

// severalRanges returns the right forms of a text that holds two or more, separated by commas, semicolons or blanks, and
// otherwise nothing.
func severalRanges(text string) string {
	fields := strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(",; \t\r\n", r) })
	if len(fields) < 2 {
		return ""
	}
	for i, field := range fields {
		prefix, ok := decode(field)
		if !ok {
			return ""
		}
		fields[i] = rightForm(prefix)
	}
	return strings.Join(fields, " and ")
}

// addrBeforeSlash returns the address of a text that is right up to its slash.
func addrBeforeSlash(text string) (netip.Addr, bool) {
	host, _, slash := strings.Cut(text, "/")
	addr, err := netip.ParseAddr(host)
	return addr.Unmap(), slash && err == nil && addr.Zone() == ""
}

func withoutBlanks(text string) string { return strings.Trim(text, " \t\r\n") }

// withoutZone drops what stands between a percent sign and the end of the address.
func withoutZone(text string) string {
	start := strings.IndexByte(text, '%')
	if start < 0 {
		return text
	}
	if end := strings.IndexAny(text[start:], "]/"); end >= 0 {
		return text[:start] + text[start+end:]
	}
	return text[:start]
}

// withLengthForMask turns the netmask of 10.0.0.0/255.0.0.0 into a length, if its ones are contiguous.
func withLengthForMask(text string) string {
	host, maskText, _ := strings.Cut(text, "/")
	mask, err := netip.ParseAddr(maskText)
	if err != nil || !mask.Is4() {
		return text
	}
	octets := mask.As4()
	inverse := ^(uint32(octets[0])<<24 | uint32(octets[1])<<16 | uint32(octets[2])<<8 | uint32(octets[3]))
	if inverse&(inverse+1) != 0 {
		return text
	}
	return fmt.Sprintf("%s/%d", host, bits.LeadingZeros32(inverse))
}

// withPlainLength drops a plus sign and leading zeros from the prefix length.
func withPlainLength(text string) string {
	host, length, _ := strings.Cut(text, "/")
	plain := strings.TrimPrefix(length, "+")
	if !isDigits(plain) {
		return text
	}
	return host + "/" + withoutZeros(plain)
}

// withoutLeadingZeros drops leading zeros from dotted octets, also from those at the end of an IPv6 address.
func withoutLeadingZeros(text string) string {
	host, tail, slash := strings.Cut(text, "/")
	if slash {
		tail = "/" + tail
	}
	start := strings.LastIndexByte(host, ':') + 1
	octets := strings.Split(host[start:], ".")
	if len(octets) < 2 {
		return text // a group of an IPv6 address may well begin with zeros
	}
	for i, octet := range octets {
		if isDigits(octet) {
			octets[i] = withoutZeros(octet)
		}
	}
	return host[:start] + strings.Join(octets, ".") + tail
}

// withFourOctets completes 10.1/16 to 10.1.0.0/16, and 10.1 likewise: routers print networks so. Reading 10.1 as 10.0.0.1,
// as inet_aton does, would be the other guess; a hint is there to be looked at.
func withFourOctets(text string) string {
	host, length, slash := strings.Cut(text, "/")
	octets := strings.Split(host, ".")
	n := len(octets)
	if n > 3 || (n == 1 && !slash) {
		return text
	}
	for _, octet := range octets {
		if !isDigits(octet) {
			return text
		}
	}
	if !slash {
		length = strconv.Itoa(8 * n)
	}
	return host + strings.Repeat(".0", 4-n) + "/" + length
}

// withoutZeros drops leading zeros from a decimal number but keeps its last digit.
func withoutZeros(digits string) string {
	if plain := strings.TrimLeft(digits, "0"); plain != "" {
		return plain
	}
	return "0"
}
