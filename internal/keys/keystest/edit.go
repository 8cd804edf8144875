package keystest

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"keyctl/internal/fault"
	"keyctl/internal/iprange"
	"keyctl/internal/keys"
)

func ptr[T any](v T) *T { return &v }

func testEdit(t *testing.T, w *world) {
	s := w.active(t, "web-01", withRanges(t, "10.0.0.0/8"), withExpiry(w.now().Add(day)))
	want := w.key(t, s.id)
	later := w.now().Add(60 * day)
	for _, e := range []struct {
		what   string
		edit   keys.KeyEdit
		expect func()
	}{
		{"name", keys.KeyEdit{Name: ptr("web-02")}, func() { want.Name = "web-02" }},
		{"description", keys.KeyEdit{Description: ptr("größer")}, func() { want.Description = "größer" }},
		{"later end", keys.KeyEdit{ExpiresAt: &later}, func() { want.ExpiresAt = &later }},
		{"no end", keys.KeyEdit{ExpiresAt: &time.Time{}}, func() { want.ExpiresAt = nil }},
		{"labels set", keys.KeyEdit{SetLabels: map[string]string{"a": "1", "b": ""}}, func() { want.Labels = map[string]string{"a": "1", "b": ""} }},
		{"labels changed", keys.KeyEdit{SetLabels: map[string]string{"c": "3"}, RemoveLabels: []string{"a", "absent"}},
			func() { want.Labels = map[string]string{"b": "", "c": "3"} }},
		{"everything at once", keys.KeyEdit{Name: ptr("web-01"), Description: ptr(""), AnyAddress: true, RemoveLabels: []string{"b", "c"}},
			func() {
				want.Name, want.Description, want.IPRanges, want.Labels = "web-01", "", iprange.List{}, map[string]string{}
			}},
	} {
		before := w.head(t)
		_, err := w.CheckEdit(t.Context(), s.id, e.edit)
		WantCode(t, "CheckEdit of "+e.what, err, "")
		Diff(t, "the key after CheckEdit of "+e.what, w.key(t, s.id), want)
		if w.head(t) != before {
			t.Errorf("CheckEdit of %s changed the audit log", e.what)
		}
		got, err := w.EditKey(t.Context(), s.id, e.edit)
		WantCode(t, "EditKey of "+e.what, err, "")
		e.expect()
		Diff(t, "EditKey of "+e.what, got, want)
		Diff(t, "the key after an edit of "+e.what, w.key(t, s.id), want)
	}
	w.wantReason(t, "the credential after all edits", s.current, keys.ReasonOK)

	before := w.head(t).Seq
	if _, err := w.EditKey(t.Context(), s.id, keys.KeyEdit{Name: ptr("web-01"), SetLabels: map[string]string{}}); err != nil {
		t.Errorf("an edit that changes nothing = %v", err)
	}
	wantNoOp(t, w, before, "keys.edit")

	got, err := w.EditKey(t.Context(), s.id, keys.KeyEdit{ExpiresAt: ptr(later.Add(1).In(time.FixedZone("elsewhere", 3600)))})
	if err != nil || got.ExpiresAt.Location() != time.UTC || !got.ExpiresAt.Equal(later) {
		t.Errorf("the edited end is %v (%v), want %v", got.ExpiresAt, err, later)
	}
}

func testEditRefuses(t *testing.T, w *world) {
	s := w.active(t, "web-01", withRanges(t, "10.0.0.0/8"))
	w.active(t, "taken")
	w.create(t, "pending")
	for _, e := range []struct {
		what string
		edit keys.KeyEdit
		want fault.Code
	}{
		{"a malformed name", keys.KeyEdit{Name: ptr("-x")}, fault.Invalid},
		{"a taken name", keys.KeyEdit{Name: ptr("taken")}, fault.Exists},
		{"the name of a pending key", keys.KeyEdit{Name: ptr("pending")}, fault.Exists},
		{"a name like an id", keys.KeyEdit{Name: &s.current.AccessKeyID}, fault.Invalid},
		{"a long description", keys.KeyEdit{Description: ptr(strings.Repeat("x", 257))}, fault.Invalid},
		{"a malformed label", keys.KeyEdit{SetLabels: map[string]string{"a b": "1"}}, fault.Invalid},
		{"too many labels", keys.KeyEdit{SetLabels: manyLabels(33)}, fault.Invalid},
		{"an end that is now", keys.KeyEdit{ExpiresAt: ptr(w.now())}, fault.Invalid},
		{"an end less than a microsecond away", keys.KeyEdit{ExpiresAt: ptr(w.now().Add(999))}, fault.Invalid},
		{"an end nobody can write", keys.KeyEdit{ExpiresAt: ptr(time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC))}, fault.Invalid},
		{"an empty list", keys.KeyEdit{IPRanges: &iprange.List{}}, fault.NoRestriction},
		{"the last range", keys.KeyEdit{RemoveRanges: ranges(t, "10.0.0.0/8").Prefixes()}, fault.NoRestriction},
		{"a range that is not there", keys.KeyEdit{RemoveRanges: ranges(t, "10.0.0.0/9").Prefixes()}, fault.Invalid},
		{"host bits", keys.KeyEdit{AddRanges: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/8")}}, fault.Invalid},
		{"two ways at once", keys.KeyEdit{AnyAddress: true, AddRanges: ranges(t, "192.0.2.7").Prefixes()}, fault.Invalid},
		{"other two ways", keys.KeyEdit{AnyAddress: true, IPRanges: ptr(ranges(t, "192.0.2.7"))}, fault.Invalid},
		{"a list and an addition", keys.KeyEdit{IPRanges: ptr(ranges(t, "192.0.2.7")), AddRanges: ranges(t, "192.0.2.8").Prefixes()}, fault.Invalid},
	} {
		for name, call := range map[string]func() error{
			"EditKey":   func() error { _, err := w.EditKey(t.Context(), s.id, e.edit); return err },
			"CheckEdit": func() error { _, err := w.CheckEdit(t.Context(), s.id, e.edit); return err },
		} {
			w.unchanged(t, name+" with "+e.what, e.want, call)
		}
	}
	_, err := w.EditKey(t.Context(), "nope", keys.KeyEdit{})
	WantCode(t, "EditKey of an unknown key", err, fault.NotFound)
}

func testEditRanges(t *testing.T, w *world) {
	s := w.active(t, "web-01")
	for _, e := range []struct {
		edit keys.KeyEdit
		want []string
	}{
		{keys.KeyEdit{AddRanges: ranges(t, "192.0.2.7").Prefixes()}, []string{"192.0.2.7"}}, // from any address to one
		{keys.KeyEdit{AddRanges: ranges(t, "10.0.0.0/8", "192.0.2.7").Prefixes()}, []string{"192.0.2.7", "10.0.0.0/8"}},
		{keys.KeyEdit{AddRanges: ranges(t, "2001:db8::/32").Prefixes(), RemoveRanges: ranges(t, "192.0.2.7").Prefixes()},
			[]string{"10.0.0.0/8", "2001:db8::/32"}},
		{keys.KeyEdit{IPRanges: ptr(ranges(t, "198.51.100.0/24"))}, []string{"198.51.100.0/24"}},
		{keys.KeyEdit{AnyAddress: true}, []string{}},
	} {
		got, err := w.EditKey(t.Context(), s.id, e.edit)
		WantCode(t, "EditKey()", err, "")
		Diff(t, "the ranges", got.IPRanges.Strings(), e.want)
	}
}

func testRepeatsAreNoOps(t *testing.T, w *world) {
	s := w.active(t, "web-01")
	for _, op := range []struct {
		action string
		do     func() (keys.KeyView, error)
		repeat int
	}{
		{"keys.enable", func() (keys.KeyView, error) { return w.EnableKey(t.Context(), s.id) }, 1}, // it is active already
		{"keys.disable", func() (keys.KeyView, error) { return w.DisableKey(t.Context(), s.id, false) }, 2},
		{"keys.enable", func() (keys.KeyView, error) { return w.EnableKey(t.Context(), s.id) }, 2},
		{"keys.disable", func() (keys.KeyView, error) { return w.DisableKey(t.Context(), s.id, true) }, 2},
		{"keys.disable", func() (keys.KeyView, error) { return w.DisableKey(t.Context(), s.id, false) }, 1},
		{"keys.delete", func() (keys.KeyView, error) { return w.DeleteKey(t.Context(), s.id) }, 2},
		{"keys.delete", func() (keys.KeyView, error) { return w.DeleteKey(t.Context(), s.current.AccessKeyID) }, 1},
	} {
		var first keys.KeyView
		var err error
		if op.repeat == 2 {
			before := w.head(t).Seq
			if first, err = op.do(); err != nil {
				t.Fatalf("%s = %v", op.action, err)
			}
			if after := w.head(t).Seq; after != before+1 {
				t.Errorf("%s left %d records, want 1", op.action, after-before)
			}
		}
		before := w.head(t).Seq
		again, err := op.do()
		WantCode(t, op.action+" again", err, "")
		if op.repeat == 2 {
			Diff(t, op.action+" again", again, first)
		}
		wantNoOp(t, w, before, op.action)
	}
}

func testNameIsFreeAfterDelete(t *testing.T, w *world) {
	old := w.active(t, "web-01")
	if _, err := w.DeleteKey(t.Context(), "web-01"); err != nil {
		t.Fatal(err)
	}
	w.wantReason(t, "the deleted key's credential", old.current, keys.ReasonUnknown)
	_, err := w.DeleteKey(t.Context(), "web-01")
	WantCode(t, "DeleteKey again by name", err, fault.NotFound)
	s := w.active(t, "web-01")
	if got := w.key(t, "web-01").ID; got != s.id {
		t.Errorf("web-01 is %s, want the new key %s", got, s.id)
	}
	// The tombstone is found by its ids, and a delete by its id does not touch the new key.
	if got := w.key(t, old.id); got.State != keys.KeyDeleted || got.Name != "web-01" || got.AccessKeyID != nil {
		t.Errorf("the tombstone is %+v", got)
	}
	if got := w.key(t, old.current.AccessKeyID).ID; got != old.id {
		t.Errorf("the old access key id names %s, want %s", got, old.id)
	}
	if _, err := w.DeleteKey(t.Context(), old.id); err != nil {
		t.Fatal(err)
	}
	w.wantReason(t, "the new key's credential", s.current, keys.ReasonOK)
	_, err = w.Key(t.Context(), old.id[:len(old.id)-1])
	WantCode(t, "Key() by a prefix of a deleted id", err, fault.NotFound)
}

func testRefs(t *testing.T, w *world) {
	s := w.active(t, "web-01")
	pending, p := w.create(t, "pending")
	// The name wins over the beginning of an id.
	shadow := w.active(t, s.id[:12])
	for _, c := range []struct{ ref, want string }{
		{"web-01", s.id},
		{s.id, s.id},
		{s.id[:25], s.id},
		{s.current.AccessKeyID, s.id},
		{s.current.AccessKeyID[:8], s.id},
		{s.current.AccessKeyID[:6], s.id},
		{pending.AccessKeyID, p.KeyID},
		{pending.AccessKeyID[:8], p.KeyID},
		{s.id[:12], shadow.id},
	} {
		k, err := w.Key(t.Context(), c.ref)
		if err != nil || k.ID != c.want {
			t.Errorf("Key(%q) = %s, %v; want %s", c.ref, k.ID, err, c.want)
		}
	}
	other := Draw(t)
	for _, ref := range []string{
		"", "web-02", "WEB-01", "web-01 ", "eb-01", s.current.AccessKeyID[:5], "key_", "key_0", "KC", "key_%%%%%%", "key_______",
		strings.ToLower(s.current.AccessKeyID[:8]), s.id + "x", other.AccessKeyID, "%", "*",
	} {
		if _, err := w.Key(t.Context(), ref); !fault.Is(err, fault.NotFound) {
			t.Errorf("Key(%q) = %v, want not_found", ref, err)
		}
	}
	// Every way of naming a key leads to the same one, in changes too.
	rolled, _ := w.roll(t, s, grace(day))
	for _, ref := range []string{rolled.previous.AccessKeyID, rolled.previous.AccessKeyID[:8], rolled.current.AccessKeyID[:8]} {
		if k := w.key(t, ref); k.ID != s.id {
			t.Errorf("Key(%q) = %s, want %s", ref, k.ID, s.id)
		}
	}
	for secret := range map[string]bool{s.current.SigningKey.Reveal(): true, s.current.CryptoAccessKey.Reveal(): true} {
		_, err := w.Key(t.Context(), secret)
		WantCode(t, "Key() with a secret", err, fault.NotFound)
		if e := fault.From(err); strings.Contains(e.Message+e.Hint, secret[4:20]) {
			t.Error("R2: the refusal repeats the secret")
		}
	}
}

func testAmbiguousRefs(t *testing.T, w *world) {
	a, b := Draw(t), Draw(t)
	b.AccessKeyID = a.AccessKeyID[:10] + b.AccessKeyID[10:]
	b.Offer.AccessKeyID = b.AccessKeyID
	for name, d := range map[string]Drawn{"web-01": a, "web-02": b} {
		p, err := w.CreateKey(t.Context(), request(name, d))
		WantCode(t, "CreateKey()", err, "")
		w.prove(t, d, p)
	}
	for _, call := range []func() error{
		func() error { _, err := w.Key(t.Context(), a.AccessKeyID[:10]); return err },
		func() error { _, err := w.DisableKey(t.Context(), a.AccessKeyID[:10], false); return err },
	} {
		w.unchanged(t, "an ambiguous prefix", fault.Invalid, func() error {
			err := call()
			for _, name := range []string{"web-01", "web-02"} {
				if !strings.Contains(err.Error(), name) {
					t.Errorf("%q does not name the candidate %s", err, name)
				}
			}
			return err
		})
	}
	if _, err := w.DeleteKey(t.Context(), "web-02"); err != nil {
		t.Fatal(err)
	}
	if k := w.key(t, a.AccessKeyID[:10]); k.Name != "web-01" {
		t.Errorf("the prefix names %s, want web-01, the only key left", k.Name)
	}
}
