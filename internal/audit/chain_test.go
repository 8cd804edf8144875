package audit

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"keyctl/internal/fault"
)

func TestHeadValueReadsBack(t *testing.T) {
	c := testChain(t)
	head := c.Genesis()
	for range 12 {
		seq, hash, err := ParseHeadValue(head.Value())
		if seq != head.Seq || hash != head.Hash || err != nil {
			t.Errorf("ParseHeadValue(%q) = %d, %x, %v", head.Value(), seq, hash, err)
		}
		_, head = mustAppend(t, c, head, testEvent())
	}
}

func TestParseHeadValueIsStrict(t *testing.T) {
	zeros, ones := strings.Repeat("0", 64), strings.Repeat("1", 64)
	for _, text := range []string{
		"", ":", "1", "1:", ":" + ones, "1:" + ones[1:], "1:" + ones + "1", "01:" + ones, "+1:" + ones, "-1:" + ones,
		"1 :" + ones, " 1:" + ones, "1:" + ones + "\n", "1:" + strings.Repeat("A", 64), "1:" + strings.Repeat("g", 64),
		"9223372036854775808:" + ones, "1:" + ones + ":", "0:" + ones, "1:" + zeros, "0x1:" + ones,
	} {
		seq, hash, err := ParseHeadValue(text)
		if !fault.Is(err, fault.Invalid) || seq != 0 || hash != [32]byte{} {
			t.Errorf("ParseHeadValue(%q) = %d, %x, %v, want %s", text, seq, hash, err, fault.Invalid)
		}
		if len(text) > 1 && strings.Contains(fmt.Sprintf("%v %+v", err, *fault.From(err)), text) {
			t.Errorf("ParseHeadValue(%q) repeats it: %v", text, err)
		}
	}
}

func FuzzParseHeadValue(f *testing.F) {
	f.Add("0:" + strings.Repeat("0", 64))
	f.Add("17:" + strings.Repeat("ab", 32))
	f.Add("017:" + strings.Repeat("AB", 32))
	f.Fuzz(func(t *testing.T, text string) {
		seq, hash, err := ParseHeadValue(text)
		if err == nil && (Head{Seq: seq, Hash: hash}).Value() != text {
			t.Errorf("ParseHeadValue(%q) = %d, %x, which prints as another value", text, seq, hash)
		}
	})
}

// A tampered head stops the log instead of being built upon.
func TestR37_AppendRefusesForeignHead(t *testing.T) {
	c := testChain(t)
	_, head := mustAppend(t, c, c.Genesis(), testEvent())
	tests := []struct {
		name   string
		chain  Chain
		change func(*Head)
	}{
		{"number raised", c, func(h *Head) { h.Seq++ }},
		{"number lowered", c, func(h *Head) { h.Seq = 0 }},
		{"hash", c, func(h *Head) { h.Hash[31] ^= 1 }},
		{"MAC", c, func(h *Head) { h.MAC[0] ^= 1 }},
		{"MAC cut", c, func(h *Head) { h.MAC = h.MAC[:31] }},
		{"no head", c, func(h *Head) { *h = Head{} }},
		{"another store", NewChain([]byte("0123456789-test-key-0123456789ab"), "other-store"), func(*Head) {}},
		{"another key", NewChain([]byte("another-9-test-key-0123456789ab!"), "test-store"), func(*Head) {}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := head
			h.MAC = append([]byte(nil), head.MAC...)
			tt.change(&h)
			if err := tt.chain.VerifyHead(h); !fault.Is(err, fault.StoreDamaged) {
				t.Errorf("VerifyHead = %v, want %s", err, fault.StoreDamaged)
			}
			if r, _, err := tt.chain.Append(h, testEvent()); !fault.Is(err, fault.StoreDamaged) || r != nil {
				t.Errorf("Append = %+v, %v, want %s", r, err, fault.StoreDamaged)
			}
		})
	}
	if err := c.VerifyHead(head); err != nil {
		t.Errorf("VerifyHead of the chain's own head = %v", err)
	}
}

func TestNewChainRefusesToWorkWithoutKeyOrStore(t *testing.T) {
	for _, tt := range []struct {
		key     []byte
		storeID string
	}{{nil, "test-store"}, {make([]byte, 31), "test-store"}, {make([]byte, 32), ""}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("NewChain(%d bytes, %q) did not panic", len(tt.key), tt.storeID)
				}
			}()
			NewChain(tt.key, tt.storeID)
		}()
	}
}

// Neither the chain nor a struct around it prints the key, and the chain does not hang on the caller's slice.
func TestChainKeepsItsKeyToItself(t *testing.T) {
	key := []byte(strings.Repeat("K", 32))
	c := NewChain(key, "test-store")
	before := hex.EncodeToString(c.Genesis().MAC)
	clear(key)
	if after := hex.EncodeToString(c.Genesis().MAC); after != before {
		t.Errorf("Genesis().MAC changed from %s to %s with the caller's slice", before, after)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%x", "%s", "%q", "%d"} {
		out := fmt.Sprintf(verb, struct{ c Chain }{c}) + fmt.Sprintf(verb, c) + fmt.Sprintf(verb, c.Verifier())
		for _, leak := range []string{"KKKK", strings.Repeat("4b", 8), "75 75", "75, 75", "0x4b, 0x4b"} {
			if strings.Contains(out, leak) {
				t.Errorf("%s prints the key: %s", verb, out)
			}
		}
	}
}

func TestBrokenNamesItself(t *testing.T) {
	for want, err := range map[string]error{
		"record 17: its bytes were changed":  &Broken{17, whyChanged},
		"head: it is missing or was changed": &Broken{0, whyHead},
	} {
		if got := err.Error(); got != want {
			t.Errorf("Error() = %q, want %q", got, want)
		}
		if broken, ok := errors.AsType[*Broken](fmt.Errorf("verifying: %w", err)); !ok || broken != err {
			t.Errorf("AsType(%v) = %v, %t", err, broken, ok)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	c := testChain(b)
	head, e := c.Genesis(), testEvent()
	b.ReportAllocs()
	for b.Loop() {
		_, head = mustAppend(b, c, head, e)
	}
}
