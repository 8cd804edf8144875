package keystest

import (
	"net/netip"
	"testing"

	"keyctl/internal/credential"
	"keyctl/internal/fault"
	"keyctl/internal/keys"
)

func testVerify(t *testing.T, w *world) {
	w.dataset(t, "files")
	w.dataset(t, "other")
	s := w.active(t, "web-01", withDatasets("files"), withRanges(t, "10.0.0.0/8"))
	s, _ = w.roll(t, s, grace(day))
	waiting, _ := w.create(t, "pending")
	verify := func(q keys.Question) keys.Verdict {
		t.Helper()
		v, err := w.Verify(t.Context(), q)
		WantCode(t, "Verify()", err, "")
		return v
	}
	in, out := netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("192.0.2.7")
	name, current, old := "web-01", "current", "grace"

	// With a credential in hand.
	q := s.current.Question()
	q.Address, q.Dataset = in, "files"
	got := verify(q)
	if len(got.PrivateKeyPEM) == 0 {
		t.Error("a proven credential's private key is missing")
	} else if _, err := credential.OpenPrivateKey(got.PrivateKeyPEM, s.current.CryptoAccessKey); err != nil {
		t.Errorf("the private key does not open: %v", err)
	}
	got.PrivateKeyPEM = nil
	Diff(t, "the current credential", got, keys.Verdict{
		Allowed: true, Reason: keys.ReasonOK, Key: &name, AccessKeyID: &s.current.AccessKeyID, Credential: &current, AddressChecked: true,
	})
	q = s.previous.Question()
	got = verify(q)
	got.PrivateKeyPEM = nil
	Diff(t, "the credential in grace", got, keys.Verdict{
		Allowed: true, Reason: keys.ReasonOK, Key: &name, AccessKeyID: &s.previous.AccessKeyID, Credential: &old,
	})

	// With a name: nothing was proven, so no private key is given away.
	for ref, id := range map[string]string{
		"web-01": s.current.AccessKeyID, s.id: s.current.AccessKeyID,
		s.current.AccessKeyID: s.current.AccessKeyID, s.previous.AccessKeyID: s.previous.AccessKeyID,
	} {
		word := current
		if id == s.previous.AccessKeyID {
			word = old
		}
		Diff(t, "Verify by "+ref, verify(keys.Question{Key: ref, Address: in}), keys.Verdict{
			Allowed: true, Reason: keys.ReasonOK, Key: &name, AccessKeyID: &id, Credential: &word, AddressChecked: true,
		})
	}

	// Reasons, in the order in which they win: key, credential, address, dataset, Primary Key.
	wantReason := func(what string, q keys.Question, want keys.Reason) {
		t.Helper()
		if got := verify(q); got.Reason != want || got.Allowed {
			t.Errorf("%s = %q (allowed: %t), want %q", what, got.Reason, got.Allowed, want)
		}
	}
	wantReason("a pending key", keys.Question{Key: "pending"}, keys.ReasonPending)
	wantReason("a pending credential", waiting.Question(), keys.ReasonPending)
	wantReason("another address", keys.Question{Key: "web-01", Address: out, Dataset: "other"}, keys.ReasonAddressNotAllowed)
	wantReason("another dataset", keys.Question{Key: "web-01", Address: in, Dataset: "other"}, keys.ReasonDatasetNotAttached)
	if _, err := w.DisablePrimaryKey(t.Context(), "files", 0, w.code(t)); err != nil {
		t.Fatal(err)
	}
	wantReason("a disabled Primary Key", keys.Question{Key: "web-01", Address: in, Dataset: "files"}, keys.ReasonPrimaryKeyDisabled)
	if v := verify(keys.Question{Key: "web-01", Address: in}); !v.Allowed {
		t.Errorf("without a dataset the verdict is %q", v.Reason)
	}
	if _, err := w.FinishRoll(t.Context(), s.id); err != nil {
		t.Fatal(err)
	}
	q = s.previous.Question()
	q.Address = out
	wantReason("a retired credential", q, keys.ReasonRetired)
	wantReason("a retired credential by its id", keys.Question{Key: s.previous.AccessKeyID}, keys.ReasonRetired)
	if _, err := w.DisableKey(t.Context(), s.id, false); err != nil {
		t.Fatal(err)
	}
	wantReason("a disabled key's retired credential", q, keys.ReasonDisabled)

	for what, c := range map[string]struct {
		q    keys.Question
		want fault.Code
	}{
		"nothing":            {keys.Question{}, fault.Invalid},
		"both":               {keys.Question{Key: "web-01", AccessKeyID: s.current.AccessKeyID}, fault.Invalid},
		"an unknown key":     {keys.Question{Key: "nope"}, fault.NotFound},
		"an unknown dataset": {keys.Question{Key: w.key(t, w.active(t, "web-02").id).Name, Dataset: "nope"}, fault.NotFound},
	} {
		w.unchanged(t, "Verify with "+what, c.want, func() error { _, err := w.Verify(t.Context(), c.q); return err })
	}
}

func testVerifyAddresses(t *testing.T, w *world) {
	v4 := w.active(t, "v4", withRanges(t, "192.0.2.0/24", "10.0.0.1"))
	v6 := w.active(t, "v6", withRanges(t, "2001:db8::/32"))
	everything := w.active(t, "everything", withRanges(t, "::/0"))
	any := w.active(t, "any")
	for _, c := range []struct {
		s    subject
		addr string
		want bool
	}{
		{v4, "192.0.2.7", true},
		{v4, "::ffff:192.0.2.7", true}, // as a dual-stack socket names the same peer
		{v4, "::ffff:c000:207", true},
		{v4, "10.0.0.1", true},
		{v4, "10.0.0.2", false},
		{v4, "::ffff:10.0.0.2", false},
		{v4, "64:ff9b::192.0.2.7", false}, // NAT64 is another network
		{v4, "::192.0.2.7", false},
		{v4, "2001:db8::1", false},
		{v6, "2001:db8::1", true},
		{v6, "2001:db9::1", false},
		{v6, "2001:db8::1%eth0", false},
		{v6, "192.0.2.7", false},
		{everything, "2001:db9::1", true},
		{everything, "192.0.2.7", false},
		{everything, "::ffff:192.0.2.7", false},
		{any, "192.0.2.7", true},
		{any, "2001:db8::1", true},
	} {
		q := c.s.current.Question()
		q.Address = netip.MustParseAddr(c.addr)
		v, err := w.Verify(t.Context(), q)
		if err != nil || v.Allowed != c.want || !v.AddressChecked {
			t.Errorf("%s from %s = %+v, %v; want allowed %t", w.key(t, c.s.id).Name, c.addr, v, err, c.want)
		}
	}
	for _, c := range []struct {
		s       subject
		checked bool
	}{{v4, false}, {any, true}} {
		v, err := w.Verify(t.Context(), c.s.current.Question())
		if err != nil || !v.Allowed || v.AddressChecked != c.checked {
			t.Errorf("without an address = %+v, %v; want it to say that the address was checked: %t", v, err, c.checked)
		}
	}
}

// What must not be told apart is not: the answers are equal, field by field.
func testVerifyUnknown(t *testing.T, w *world) {
	s := w.active(t, "web-01", withRanges(t, "10.0.0.0/8"))
	deleted := w.active(t, "web-02")
	if _, err := w.DeleteKey(t.Context(), deleted.id); err != nil {
		t.Fatal(err)
	}
	lapsed, _ := w.create(t, "web-03")
	w.clock.Advance(keys.PendingFor)
	wrong, none, swapped := s.current.Question(), s.current.Question(), s.current.Question()
	wrong.SigningKey, none.SigningKey, swapped.SigningKey = Draw(t).SigningKey, credential.Secret{}, s.current.CryptoAccessKey
	disabled := w.active(t, "web-04")
	if _, err := w.DisableKey(t.Context(), disabled.id, true); err != nil {
		t.Fatal(err)
	}
	wrongOfDisabled := disabled.current.Question()
	wrongOfDisabled.SigningKey = wrong.SigningKey
	for _, address := range []netip.Addr{{}, netip.MustParseAddr("192.0.2.7")} {
		for what, q := range map[string]keys.Question{
			"an unknown id":                 Draw(t).Question(),
			"a wrong secret":                wrong,
			"no secret":                     none,
			"the other secret":              swapped,
			"a deleted key":                 deleted.current.Question(),
			"a lapsed credential":           lapsed.Question(),
			"no id at all":                  {AccessKeyID: "x", SigningKey: wrong.SigningKey},
			"a wrong secret of another one": wrongOfDisabled,
		} {
			q.Address, q.Dataset = address, "nope"
			got, err := w.Verify(t.Context(), q)
			WantCode(t, "Verify of "+what, err, "")
			Diff(t, "Verify of "+what, got, keys.Verdict{Reason: keys.ReasonUnknown, AddressChecked: address.IsValid()})
		}
	}
}
