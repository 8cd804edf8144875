package audit

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"strconv"
	"strings"

	"keyctl/internal/fault"
)

// Head says where the chain ends: the number and hash of its last record. It is stored with each append, in the same
// transaction, so that records cannot be cut from the end unseen.
type Head struct {
	Seq  int64    // 0 if there is no record yet
	Hash [32]byte // Record.Hash of that record; zero if there is none
	MAC  []byte   // 32 bytes, see Chain
}

// Value returns the head in a form to print and keep elsewhere: "SEQ:HASH", the hash in hex. It is not secret.
func (h Head) Value() string {
	return strconv.FormatInt(h.Seq, 10) + ":" + hex.EncodeToString(h.Hash[:])
}

// ParseHeadValue reads what Value printed, and only that form; anything else is invalid.
func ParseHeadValue(text string) (seq int64, hash [32]byte, err error) {
	number, digits, _ := strings.Cut(text, ":")
	seq, err = strconv.ParseInt(number, 10, 64)
	if err == nil {
		hash, err = parseHash(digits)
	}
	h := Head{Seq: seq, Hash: hash}
	if err != nil || seq < 0 || h.Value() != text || (seq == 0) != (hash == [32]byte{}) {
		return 0, [32]byte{}, fault.New(fault.Invalid, "that is no audit head value").
			WithHint("give it as `keyctl audit head` printed it: a number, a colon and 64 lower-case hex digits")
	}
	return seq, hash, nil
}

// Chain makes and checks the MACs of one store's records and heads, HMAC-SHA-256 under the audit key:
//
//	record: "keyctl-audit-v1"      ‖ store id ‖ seq ‖ body
//	head:   "keyctl-audit-head-v1" ‖ store id ‖ seq ‖ hash
//
// The store id stands after its length, 32 bits big-endian, and seq is 64 bits big-endian, so both readings are
// unambiguous, and a record counts for one place in one store only. A Chain may be used from several goroutines.
type Chain struct {
	newMAC  func() hash.Hash // instead of the key, so that printing a Chain cannot print the key
	storeID string
}

// NewChain returns the chain of a store. The key must have 32 bytes and the id must not be empty; it panics otherwise,
// since a MAC under a missing key would protect nothing.
func NewChain(key []byte, storeID string) Chain {
	if len(key) != sha256.Size || storeID == "" {
		panic("audit: a chain needs a 32-byte key and a store id")
	}
	key = bytes.Clone(key)
	return Chain{newMAC: func() hash.Hash { return hmac.New(sha256.New, key) }, storeID: storeID}
}

// Genesis returns the head of a log without records, which a new store begins with.
func (c Chain) Genesis() Head { return c.sealHead(Head{}) }

// maxBody bounds a record. With text cut as Event says, only very many details can reach it.
const maxBody = 256 << 10

// Append makes the records of events, which follow head, and the head to store in head's place. Events are cleaned as Event
// says. A head that does not verify is store_damaged, so a tampered log is not continued; an event unfit for recording
// is internal. The caller stores all results in the transaction of the change, or none.
func (c Chain) Append(head Head, events ...Event) ([]Record, Head, error) {
	if err := c.VerifyHead(head); err != nil {
		return nil, Head{}, err
	}
	records := make([]Record, len(events))
	for i, e := range events {
		var err error
		if records[i], err = c.record(head, e); err != nil {
			return nil, Head{}, err
		}
		head = Head{Seq: records[i].Seq, Hash: records[i].Hash()}
	}
	return records, c.sealHead(head), nil
}

// record makes the record of an event, which follows head.
func (c Chain) record(head Head, e Event) (Record, error) {
	e, err := e.cleaned()
	if err != nil {
		return Record{}, err
	}
	body, err := encode(Entry{Seq: head.Seq + 1, Prev: head.Hash, Event: e})
	if err != nil {
		return Record{}, fmt.Errorf("encoding audit event %q: %w", e.Action, err)
	}
	if len(body) > maxBody {
		return Record{}, unfit(e, "is too long")
	}
	r := Record{Seq: head.Seq + 1, Body: body}
	r.MAC = c.recordMAC(c.newMAC(), r)
	return r, nil
}

// VerifyHead reports whether the head is one this chain made: store_damaged if not. It says nothing about the records.
func (c Chain) VerifyHead(head Head) error {
	if !c.ownHead(head) {
		return fault.New(fault.StoreDamaged, "the head of the audit log was changed").
			WithHint("run `keyctl audit verify`, then restore the store from a backup")
	}
	return nil
}

func (c Chain) ownHead(head Head) bool { return hmac.Equal(head.MAC, c.sealHead(head).MAC) }

// sealHead returns h with its MAC.
func (c Chain) sealHead(h Head) Head {
	h.MAC = c.mac(c.newMAC(), "keyctl-audit-head-v1", h.Seq, h.Hash[:])
	return h
}

func (c Chain) recordMAC(m hash.Hash, r Record) []byte {
	return c.mac(m, "keyctl-audit-v1", r.Seq, r.Body)
}

// mac computes a MAC with m, which is keyed and empty.
func (c Chain) mac(m hash.Hash, label string, seq int64, content []byte) []byte {
	prefix := make([]byte, 0, 128)
	prefix = append(prefix, label...)
	prefix = binary.BigEndian.AppendUint32(prefix, uint32(len(c.storeID)))
	prefix = append(prefix, c.storeID...)
	prefix = binary.BigEndian.AppendUint64(prefix, uint64(seq))
	m.Write(prefix)
	m.Write(content)
	return m.Sum(nil)
}
