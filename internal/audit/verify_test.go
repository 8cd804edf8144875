package audit

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"
)

// history is a log as a store would hand it over.
type history struct {
	records []Record
	head    Head
}

const historyLen = 5

// newHistory appends n records to an empty log. The text tells two histories of one store apart.
func newHistory(t testing.TB, c Chain, n int, text string) history {
	t.Helper()
	return history{head: c.Genesis()}.extend(t, c, n, text)
}

func (h history) extend(t testing.TB, c Chain, n int, text string) history {
	t.Helper()
	h = h.clone()
	for range n {
		e := testEvent()
		e.Reason = text
		var r Record
		r, h.head = mustAppend(t, c, h.head, e)
		h.records = append(h.records, r)
	}
	return h
}

func (h history) clone() history {
	c := history{records: slices.Clone(h.records), head: h.head}
	for i, r := range c.records {
		c.records[i].Body, c.records[i].MAC = bytes.Clone(r.Body), bytes.Clone(r.MAC)
	}
	c.head.MAC = bytes.Clone(c.head.MAC)
	return c
}

// verify reads all of h. kept may be nil.
func (h history) verify(c Chain, kept *Head) error {
	v := c.Verifier()
	if kept != nil {
		v.Expect(kept.Seq, kept.Hash)
	}
	for _, r := range h.records {
		if err := v.Next(r); err != nil {
			return err
		}
	}
	return v.Finish(h.head)
}

// wantBroken fails unless err names this record and this reason.
func wantBroken(t *testing.T, doing string, err error, seq int64, why string) {
	t.Helper()
	broken, ok := errors.AsType[*Broken](err)
	if !ok || broken.Seq != seq || broken.Why != why {
		t.Errorf("%s: verify = %v, want record %d: %s", doing, err, seq, why)
	}
}

func TestVerifyAcceptsWhatWasWritten(t *testing.T) {
	c := testChain(t)
	for n := range historyLen {
		h := newHistory(t, c, n, "")
		if err := h.verify(c, nil); err != nil {
			t.Errorf("%d records: verify = %v", n, err)
		}
		if err := h.verify(c, &h.head); err != nil {
			t.Errorf("%d records against their own head value: verify = %v", n, err)
		}
		if err := h.extend(t, c, 2, "").verify(c, &h.head); err != nil {
			t.Errorf("%d records against an earlier head value: verify = %v", n+2, err)
		}
	}
}

// Whatever byte of body or MAC is changed, that record is named.
func TestR37_Edit(t *testing.T) {
	c := testChain(t)
	h := newHistory(t, c, historyLen, "")
	for i := range h.records {
		for at := range h.records[i].Body {
			edited := h.clone()
			edited.records[i].Body[at] ^= 1
			wantBroken(t, fmt.Sprintf("body byte %d", at), edited.verify(c, nil), int64(i)+1, whyChanged)
		}
		for at := range h.records[i].MAC {
			edited := h.clone()
			edited.records[i].MAC[at] ^= 1
			wantBroken(t, fmt.Sprintf("MAC byte %d", at), edited.verify(c, nil), int64(i)+1, whyChanged)
		}
		spaced := h.clone() // the same JSON in other bytes
		spaced.records[i].Body = append([]byte(" "), spaced.records[i].Body...)
		wantBroken(t, "re-serialised body", spaced.verify(c, nil), int64(i)+1, whyChanged)
	}
}

func TestR37_DeleteInsertSwap(t *testing.T) {
	c := testChain(t)
	h := newHistory(t, c, historyLen, "")
	last := int64(historyLen)
	for i := range h.records {
		seq := int64(i) + 1

		deleted := h.clone()
		deleted.records = slices.Delete(deleted.records, i, i+1)
		why := whyMissing
		if seq == last {
			why = whyCut
		}
		wantBroken(t, "delete", deleted.verify(c, nil), seq, why)

		closed := deleted.clone() // the gap is closed by renumbering the rows after it
		for k := i; k < len(closed.records); k++ {
			closed.records[k].Seq--
		}
		why = whyChanged
		if seq == last {
			why = whyCut
		}
		wantBroken(t, "delete and renumber", closed.verify(c, nil), seq, why)

		twice := h.clone()
		twice.records = slices.Insert(twice.records, i, h.records[i])
		wantBroken(t, "the same row twice", twice.verify(c, nil), seq, whyOrder)

		inserted := h.clone()
		inserted.records = slices.Insert(inserted.records, i, h.records[i])
		for k := i + 1; k < len(inserted.records); k++ {
			inserted.records[k].Seq++
		}
		wantBroken(t, "insert a copy and renumber", inserted.verify(c, nil), seq+1, whyChanged)

		for j := i + 1; j < len(h.records); j++ {
			swapped := h.clone()
			a, b := &swapped.records[i], &swapped.records[j]
			a.Body, b.Body, a.MAC, b.MAC = b.Body, a.Body, b.MAC, a.MAC
			wantBroken(t, fmt.Sprintf("swap with %d", j+1), swapped.verify(c, nil), seq, whyChanged)
		}
	}
	zeroth := h.clone()
	zeroth.records = slices.Insert(zeroth.records, 0, Record{Seq: 0, Body: h.records[0].Body, MAC: h.records[0].MAC})
	wantBroken(t, "insert row 0", zeroth.verify(c, nil), 1, whyFirst)
}

func TestR37_Truncate(t *testing.T) {
	c := testChain(t)
	h := newHistory(t, c, historyLen, "")
	for n := range historyLen {
		cut := h.clone()
		cut.records = cut.records[:n]
		wantBroken(t, "tail cut", cut.verify(c, nil), int64(n)+1, whyCut)

		forged := cut.clone() // the head row is set back without the key
		forged.head.Seq = int64(n)
		forged.head.Hash = [32]byte{}
		if n > 0 {
			forged.head.Hash = forged.records[n-1].Hash()
		}
		wantBroken(t, "tail cut and head forged", forged.verify(c, nil), 0, whyHead)

		older := h.clone() // the head row is a genuine one from an earlier day
		older.head = newHistory(t, c, n, "").head
		wantBroken(t, "head set back", older.verify(c, nil), int64(n)+1, whyBeyond)

		rolledBack := newHistory(t, c, n, "") // records and head are genuine and too old
		wantBroken(t, "all set back", rolledBack.verify(c, &h.head), int64(n)+1, whyKeptCut)
	}
	headless := h.clone()
	headless.head = Head{}
	wantBroken(t, "head deleted", headless.verify(c, nil), 0, whyHead)
}

func TestR37_ReplayFromAnotherStore(t *testing.T) {
	c := testChain(t)
	h := newHistory(t, c, historyLen, "")
	for name, other := range map[string]Chain{
		"same key, other store": NewChain([]byte("0123456789-test-key-0123456789ab"), "other-store"),
		"other key, same store": NewChain([]byte("another-9-test-key-0123456789ab!"), "test-store"),
	} {
		foreign := newHistory(t, other, historyLen, "")
		wantBroken(t, name+": whole log", foreign.verify(c, nil), 1, whyChanged)
		for i := range h.records {
			mixed := h.clone()
			mixed.records[i] = foreign.records[i]
			wantBroken(t, name+": one record", mixed.verify(c, nil), int64(i)+1, whyChanged)
		}
		headed := h.clone()
		headed.head = foreign.head
		wantBroken(t, name+": head", headed.verify(c, nil), 0, whyHead)
	}
}

// Two copies of one store, run on separately, write records that are all genuine. Mixed, their links do not fit.
func TestR37_MixedCopiesOfOneStore(t *testing.T) {
	c := testChain(t)
	common := newHistory(t, c, 3, "common")
	ours, theirs := common.extend(t, c, 4, "ours"), common.extend(t, c, 4, "theirs")

	mixed := ours.clone()
	mixed.records[4] = theirs.records[4]
	wantBroken(t, "record 5 of the copy", mixed.verify(c, nil), 5, whyLink)

	// The first record after the copies part follows from the same one in both; its successor tells.
	mixed = ours.clone()
	mixed.records[3] = theirs.records[3]
	wantBroken(t, "record 4 of the copy", mixed.verify(c, nil), 5, whyLink)

	mixed = ours.clone()
	mixed.head = theirs.head
	wantBroken(t, "head of the copy", mixed.verify(c, nil), 7, whyNotHead)

	kept := newHistory(t, c, 0, "").head
	kept.Seq, kept.Hash = 4, ours.records[3].Hash()
	wantBroken(t, "the copy against our head value", theirs.verify(c, &kept), 4, whyNotKept)
	kept.Hash = theirs.records[3].Hash()
	if err := theirs.verify(c, &kept); err != nil {
		t.Errorf("the copy against its own head value: verify = %v", err)
	}
}

// Even a holder of the audit key cannot give a row a body that belongs elsewhere or is no body.
func TestR37_GenuineMACOverWrongBody(t *testing.T) {
	c := testChain(t)
	h := newHistory(t, c, historyLen, "")
	for _, tt := range []struct {
		body []byte
		why  string
	}{
		{h.records[2].Body, whyNumber},
		{[]byte("{}"), whyUnreadable},
		{nil, whyUnreadable},
	} {
		forged := h.clone()
		r := &forged.records[4]
		r.Body = tt.body
		r.MAC = c.recordMAC(c.newMAC(), *r)
		wantBroken(t, fmt.Sprintf("body %q", tt.body), forged.verify(c, nil), 5, tt.why)
	}
}

// The first finding stands: a caller that reads on gets no second opinion.
func TestVerifierKeepsItsFirstFinding(t *testing.T) {
	c := testChain(t)
	h := newHistory(t, c, historyLen, "")
	v := c.Verifier()
	wantBroken(t, "record 2 first", v.Next(h.records[1]), 1, whyMissing)
	wantBroken(t, "then record 1", v.Next(h.records[0]), 1, whyMissing)
	wantBroken(t, "then the head", v.Finish(h.head), 1, whyMissing)
}

func TestExpectAfterNextPanics(t *testing.T) {
	c := testChain(t)
	h := newHistory(t, c, 1, "")
	v := c.Verifier()
	if err := v.Next(h.records[0]); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if recover() == nil {
			t.Error("Expect after Next did not panic")
		}
	}()
	v.Expect(h.head.Seq, h.head.Hash)
}

func BenchmarkVerify(b *testing.B) {
	c := testChain(b)
	h := newHistory(b, c, 1000, "")
	v, at := c.Verifier(), 0
	b.ReportAllocs()
	for b.Loop() {
		if at == len(h.records) {
			v, at = c.Verifier(), 0
		}
		if err := v.Next(h.records[at]); err != nil {
			b.Fatal(err)
		}
		at++
	}
}
