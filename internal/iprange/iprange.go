// Package iprange holds allow-lists of IP addresses: reading them, matching an address against them, writing them back.
//
// It is about the textual and numeric rules only (IPv4-mapped addresses, zones, host bits), and every refusal shows the
// right form. It deliberately does not decide which address a request came from when proxies are involved, nor what an
// empty list given by a user means: here the zero List is "any address", and accepting one as input is the caller's choice.
package iprange

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"

	"keyctl/internal/fault"
)

// MaxEntries is the largest number of entries in one List.
const MaxEntries = 256

// List is an allow-list. The zero value restricts nothing: it contains every address. A List never changes after it was
// made, its entries are distinct and stay in the order they were given, and every entry has the properties Parse promises.
type List struct {
	prefixes []netip.Prefix
}

// ParseList reads one entry per element with Parse and drops exact duplicates. No elements at all make the zero List,
// which contains every address; a caller for whom "nothing given" is an error has to say so first. Errors are
// fault.Invalid: an entry that Parse refuses (an empty string among them), named by its position when there are
// several, or more than MaxEntries elements, duplicates included.
func ParseList(texts []string) (List, error) {
	if len(texts) > MaxEntries {
		return List{}, tooMany(len(texts))
	}
	var prefixes []netip.Prefix
	for i, text := range texts {
		prefix, err := Parse(text)
		if err != nil {
			return List{}, atEntry(err, i, len(texts))
		}
		if !slices.Contains(prefixes, prefix) {
			prefixes = append(prefixes, prefix)
		}
	}
	return List{prefixes}, nil
}

// ParseText reads what Text wrote: entries separated by commas without blanks, or nothing at all for any address.
// Errors are fault.Invalid, as from ParseList.
func ParseText(text string) (List, error) {
	if text == "" {
		return List{}, nil
	}
	// One separator more than a full list has is enough to be refused; the rest need not be cut up.
	return ParseList(strings.SplitN(text, ",", MaxEntries+1))
}

// Contains reports whether the list lets addr in. An IPv4-mapped IPv6 address counts as the IPv4 address it carries, as
// dual-stack sockets report IPv4 peers so; beyond that IPv4 entries never match IPv6 addresses nor the reverse, so ::/0
// does not contain 192.0.2.7. An invalid address is in no list, and an address with a zone in none that restricts.
func (l List) Contains(addr netip.Addr) bool {
	if l.IsAny() {
		return addr.IsValid()
	}
	if addr.Zone() != "" {
		return false // Unmap would quietly drop it
	}
	addr = addr.Unmap()
	for _, prefix := range l.prefixes {
		if prefix.Contains(addr) {
			return true
		}
	}
	return false
}

// IsAny reports whether the list restricts nothing.
func (l List) IsAny() bool { return len(l.prefixes) == 0 }

// Equal reports whether both lists have the same entries, in whatever order.
func (l List) Equal(other List) bool {
	if len(l.prefixes) != len(other.prefixes) {
		return false
	}
	for _, prefix := range l.prefixes {
		if !slices.Contains(other.prefixes, prefix) {
			return false
		}
	}
	return true
}

// Prefixes returns a copy of the entries; single addresses are prefixes of 32 or 128 bits. Any address is no entries.
func (l List) Prefixes() []netip.Prefix { return slices.Clone(l.prefixes) }

// Strings returns the entries as text that Parse reads back, single addresses without a prefix length. The result is
// never nil; any address is no entries.
func (l List) Strings() []string {
	texts := make([]string, len(l.prefixes))
	for i, prefix := range l.prefixes {
		texts[i] = format(prefix)
	}
	return texts
}

// String returns the list for people: its entries separated by commas, or "any".
func (l List) String() string {
	if l.IsAny() {
		return "any"
	}
	return l.Text()
}

// Text returns the list for a database column: its entries separated by commas, or nothing for any address. ParseText
// reads it back.
func (l List) Text() string { return strings.Join(l.Strings(), ",") }

// Add returns a list with more entries behind those of l, without duplicates. Adding to the zero List therefore turns
// "any address" into "only these". Errors are fault.Invalid: a prefix that Parse would not have returned, such as one
// with host bits, or a result of more than MaxEntries entries.
func (l List) Add(more ...netip.Prefix) (List, error) {
	prefixes := slices.Clone(l.prefixes)
	for _, prefix := range more {
		if err := refuse(prefix); err != nil {
			return List{}, err
		}
		if !slices.Contains(prefixes, prefix) {
			prefixes = append(prefixes, prefix)
		}
	}
	if len(prefixes) > MaxEntries {
		return List{}, tooMany(len(prefixes))
	}
	return List{prefixes}, nil
}

// Remove returns a list without some of its entries. Entries are compared, not addresses: 10.0.0.1 cannot be taken out
// of 10.0.0.0/8. An entry that l does not have is fault.Invalid (not fault.NotFound, which is about keys and other
// records). Taking out the last entry is fault.NoRestriction, for the empty list would let every address in.
func (l List) Remove(gone ...netip.Prefix) (List, error) {
	prefixes := slices.Clone(l.prefixes)
	for _, prefix := range gone {
		i := slices.Index(prefixes, prefix)
		if i < 0 {
			return List{}, l.lacks(prefix)
		}
		prefixes = slices.Delete(prefixes, i, i+1)
	}
	if len(prefixes) == 0 && !l.IsAny() {
		return List{}, fault.New(fault.NoRestriction, "without %q no entry would be left, and any address would be allowed", List{gone}.Text()).
			WithHint("keep or add an entry; to allow any address, say --any-ip")
	}
	return List{prefixes}, nil
}

// lacks says that prefix is no entry of l, and which wider entry was perhaps meant.
func (l List) lacks(prefix netip.Prefix) error {
	err := fault.New(fault.Invalid, "no entry %q in the list", format(prefix))
	for _, entry := range l.prefixes {
		if entry.Bits() < prefix.Bits() && entry.Contains(prefix.Addr()) {
			return err.WithHint("it is a part of the entry %s", format(entry))
		}
	}
	return err.WithHint("the list is %s", l)
}

// MarshalJSON writes an array of the texts of Strings: [] for any address.
func (l List) MarshalJSON() ([]byte, error) { return json.Marshal(l.Strings()) }

// UnmarshalJSON reads an array of strings with ParseList and leaves l alone when it fails. Errors are fault.Invalid.
// null is refused, so that a value which went missing on its way does not become "any address"; that is spelled [].
func (l *List) UnmarshalJSON(data []byte) error {
	var texts []string
	if err := json.Unmarshal(data, &texts); err != nil || texts == nil {
		return fault.New(fault.Invalid, "the allowed addresses are not an array of strings").
			WithHint(`["192.0.2.7", "10.0.0.0/8"], or [] for any address`)
	}
	list, err := ParseList(texts)
	if err != nil {
		return err
	}
	*l = list
	return nil
}

func tooMany(n int) error {
	return fault.New(fault.Invalid, "%d entries in an allow-list of at most %d", n, MaxEntries).
		WithHint("join neighbouring addresses into prefixes, such as 192.0.2.0/24")
}

// atEntry adds the position to the error of one entry among several. The text itself is not always repeated by Parse,
// so the position may be all there is to find it by.
func atEntry(err error, i, n int) error {
	e := fault.From(err)
	if n == 1 || e == nil {
		return err
	}
	return fault.New(e.Code, "entry %d of %d: %s", i+1, n, e.Message).WithHint("%s", e.Hint)
}

// format writes an entry as people do: a prefix that holds one address is that address.
func format(prefix netip.Prefix) string {
	if prefix.IsSingleIP() {
		return prefix.Addr().String()
	}
	return prefix.String()
}
