package audit

import (
	"crypto/hmac"
	"hash"
)

// What can be wrong, as Broken.Why says it.
const (
	whyMissing    = "it is missing"
	whyFirst      = "a record with a lower number stands before it"
	whyOrder      = "it is out of order or there twice"
	whyChanged    = "its bytes were changed"
	whyUnreadable = "its body cannot be read"
	whyNumber     = "its body has another number"
	whyLink       = "it does not follow from the record before it"
	whyCut        = "it is missing, and the head is there to show that it was written"
	whyBeyond     = "it lies beyond the head"
	whyNotHead    = "it is not the last record that was written"
	whyNotKept    = "it is not the record that the kept head value names"
	whyKeptCut    = "it is missing, and the kept head value shows that it was written"
	whyHead       = "it is missing or was changed"
)

// Verifier reads a whole log once, from its first record to its head, and keeps nothing but its place. Use it so:
// Expect if there is a kept head value, Next for each record in the order of the stored numbers, Finish. The first
// error ends it: it is always a *Broken, and every later call returns the same one.
//
// Records and head must be read from one snapshot, or an append in between looks like tampering.
type Verifier struct {
	chain  Chain
	mac    hash.Hash
	seq    int64    // of the last good record
	hash   [32]byte // its hash
	kept   *Head    // what Expect was given
	broken *Broken
}

// Verifier returns a Verifier at the beginning of the log.
func (c Chain) Verifier() *Verifier { return &Verifier{chain: c, mac: c.newMAC()} }

// Expect makes the log answer to a head value that was kept elsewhere (ParseHeadValue): the record with that number
// must be there and have that hash. It shows what the stored head cannot, a store that was put back whole to an
// earlier day. Call it once, before Next; later it panics, since the record may have passed unchecked.
func (v *Verifier) Expect(seq int64, hash [32]byte) {
	if v.kept != nil || v.seq != 0 || v.broken != nil {
		panic("audit: Expect is called once and before Next")
	}
	v.kept = &Head{Seq: seq, Hash: hash}
}

// Next checks the next record.
func (v *Verifier) Next(r Record) error {
	if v.broken == nil {
		v.broken = v.check(r)
	}
	if v.broken != nil {
		return v.broken
	}
	v.seq, v.hash = r.Seq, r.Hash()
	return nil
}

// check returns what is wrong with r. The MAC comes before the body, so that nothing is parsed that keyctl did not
// write. After it a wrong number or link takes records that are genuine but mixed from two copies of the store.
func (v *Verifier) check(r Record) *Broken {
	switch next := v.seq + 1; {
	case r.Seq > next:
		return &Broken{next, whyMissing}
	case r.Seq < 1:
		return &Broken{1, whyFirst}
	case r.Seq < next:
		return &Broken{r.Seq, whyOrder}
	}
	v.mac.Reset()
	if !hmac.Equal(r.MAC, v.chain.recordMAC(v.mac, r)) {
		return &Broken{r.Seq, whyChanged}
	}
	entry, err := decode(r.Body)
	switch {
	case err != nil:
		return &Broken{r.Seq, whyUnreadable}
	case entry.Seq != r.Seq:
		return &Broken{r.Seq, whyNumber}
	case entry.Prev != v.hash:
		return &Broken{r.Seq, whyLink}
	case v.kept != nil && v.kept.Seq == r.Seq && v.kept.Hash != r.Hash():
		return &Broken{r.Seq, whyNotKept}
	}
	return nil
}

// Finish checks that the log ends where the kept head value allows and where the stored head says.
func (v *Verifier) Finish(head Head) error {
	if v.broken == nil {
		v.broken = v.checkEnd(head)
	}
	if v.broken != nil {
		return v.broken
	}
	return nil
}

func (v *Verifier) checkEnd(head Head) *Broken {
	switch {
	case v.kept != nil && v.kept.Seq > v.seq:
		return &Broken{v.seq + 1, whyKeptCut}
	case !v.chain.ownHead(head):
		return &Broken{0, whyHead}
	case head.Seq > v.seq:
		return &Broken{v.seq + 1, whyCut}
	case head.Seq < v.seq:
		return &Broken{head.Seq + 1, whyBeyond}
	case head.Hash != v.hash:
		return &Broken{head.Seq, whyNotHead}
	}
	return nil
}
