package keystest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"keyctl/internal/credential"
	"keyctl/internal/fault"
	"keyctl/internal/keys"
)

func testCreate(t *testing.T, w *world) {
	w.dataset(t, "payments")
	d := Draw(t)
	expires := w.now().Add(90 * day)
	full := request("web-01", d, withRanges(t, "10.0.0.0/8", "192.0.2.7"), withDatasets("payments"), withExpiry(expires))
	full.Description, full.Labels = "the first one", map[string]string{"env": "prod"}
	pending, err := w.CreateKey(t.Context(), full)
	if err != nil {
		t.Fatalf("CreateKey() = %v", err)
	}
	if !strings.HasPrefix(pending.KeyID, "key_") || len(pending.KeyID) != 26 || len(pending.Challenge) < 16 {
		t.Errorf("the pending key has the id %q and a challenge of %d bytes", pending.KeyID, len(pending.Challenge))
	}
	Diff(t, "CreateKey()", pending, keys.Pending{
		KeyID: pending.KeyID, Name: "web-01", AccessKeyID: d.AccessKeyID, Generation: 1, Challenge: pending.Challenge,
		Until: w.now().Add(10 * time.Minute), Datasets: []string{"payments"},
	})
	want := keys.KeyView{
		ID: pending.KeyID, Name: "web-01", Description: "the first one", State: keys.KeyPending, Generation: 1,
		Datasets: []string{"payments"}, IPRanges: full.IPRanges, Labels: full.Labels, CreatedAt: w.now(), CreatedBy: "alex",
		ExpiresAt: &expires, Grants: map[string]keys.Grant{"payments": keys.FullGrant},
	}
	Diff(t, "the pending key", w.key(t, "web-01"), want)
	w.wantReason(t, "the pending credential", d, keys.ReasonPending)

	again, err := w.Pending(t.Context(), d.AccessKeyID)
	WantCode(t, "Pending()", err, "")
	Diff(t, "Pending()", again, pending)

	w.clock.Advance(time.Minute)
	proven := w.prove(t, d, pending)
	want.State, want.AccessKeyID = keys.KeyActive, &d.AccessKeyID
	Diff(t, "Prove()", proven, keys.Proven{Key: want})
	Diff(t, "the active key", w.key(t, "web-01"), want)
	w.wantReason(t, "the current credential", d, keys.ReasonOK)

	// Instants are kept in UTC and whole microseconds, however they came in.
	elsewhere := time.FixedZone("elsewhere", 5*3600)
	w.active(t, "web-02", withExpiry(expires.Add(789*time.Nanosecond).In(elsewhere)))
	if got := *w.key(t, "web-02").ExpiresAt; got.Location() != time.UTC || !got.Equal(expires) {
		t.Errorf("the key's end is %v, want %v", got, expires)
	}
}

func testCreateRefuses(t *testing.T, w *world) {
	w.dataset(t, "files")
	w.dataset(t, "more-files")
	other := Draw(t)
	for what, spoil := range map[string]func(*keys.NewKey){
		"no name":                   func(r *keys.NewKey) { r.Name = "" },
		"a name with a blank":       func(r *keys.NewKey) { r.Name = "web 01" },
		"a name like an id":         func(r *keys.NewKey) { r.Name = other.AccessKeyID },
		"a long description":        func(r *keys.NewKey) { r.Description = strings.Repeat("ä", 257) },
		"a control character":       func(r *keys.NewKey) { r.Description = "red \x1b[31m" },
		"a label without a name":    func(r *keys.NewKey) { r.Labels = map[string]string{"": "x"} },
		"a label with a line":       func(r *keys.NewKey) { r.Labels = map[string]string{"env": "a\nb"} },
		"too many labels":           func(r *keys.NewKey) { r.Labels = manyLabels(33) },
		"an end in the past":        withExpiry(w.now().Add(-time.Second)),
		"an end that is now":        withExpiry(w.now()),
		"an end nobody can write":   withExpiry(time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)),
		"two unstructured datasets": withDatasets("files", "more-files"),
		"a dataset twice":           withDatasets("files", "files"),
		"no access key id":          func(r *keys.NewKey) { r.Offer.AccessKeyID = "" },
		"a malformed access key id": func(r *keys.NewKey) { r.Offer.AccessKeyID = other.AccessKeyID + "x" },
		"no signing key":            func(r *keys.NewKey) { r.Offer.SigningKey = credential.Secret{} },
		"the other secret":          func(r *keys.NewKey) { r.Offer.SigningKey = other.CryptoAccessKey },
		"no public key":             func(r *keys.NewKey) { r.Offer.PublicKey = nil },
		"no private key":            func(r *keys.NewKey) { r.Offer.PrivateKeyPEM = nil },
	} {
		w.unchanged(t, "CreateKey with "+what, fault.Invalid, func() error {
			_, err := w.CreateKey(t.Context(), request("web-01", Draw(t), spoil))
			return err
		})
	}
	w.unchanged(t, "CreateKey with an unknown dataset", fault.NotFound, func() error {
		_, err := w.CreateKey(t.Context(), request("web-01", Draw(t), withDatasets("nope")))
		return err
	})
	if _, err := w.Key(t.Context(), "web-01"); !fault.Is(err, fault.NotFound) {
		t.Errorf("after all these refusals, Key() = %v", err)
	}
}

func manyLabels(n int) map[string]string {
	labels := map[string]string{}
	for i := range n {
		labels[fmt.Sprintf("label-%d", i)] = "x"
	}
	return labels
}

func testCreateAgain(t *testing.T, w *world) {
	w.dataset(t, "files")
	d := Draw(t)
	r := request("web-01", d, withDatasets("files"), withRanges(t, "10.0.0.0/8"), withExpiry(w.now().Add(day)))
	r.Description, r.Labels = "one", map[string]string{"a": "1", "b": "2"}
	first, err := w.CreateKey(t.Context(), r)
	WantCode(t, "CreateKey()", err, "")

	// The same id with anything else is a conflict, while it is pending, in force and over alike.
	different := func(when string) {
		t.Helper()
		for what, change := range map[string]func(*keys.NewKey){
			"name":        func(r *keys.NewKey) { r.Name = "web-02" },
			"description": func(r *keys.NewKey) { r.Description = "two" },
			"labels":      func(r *keys.NewKey) { r.Labels = map[string]string{"a": "1"} },
			"ranges":      withRanges(t, "10.0.0.0/9"),
			"datasets":    withDatasets(),
			"end":         withExpiry(r.ExpiresAt.Add(time.Microsecond)),
			"signing key": func(r *keys.NewKey) { r.Offer.SigningKey = Draw(t).SigningKey },
			"key pair": func(r *keys.NewKey) {
				for string(r.Offer.PublicKey) == string(d.Offer.PublicKey) {
					r.Offer.Material = Draw(t).Offer.Material
				}
			},
		} {
			other := r
			change(&other)
			w.unchanged(t, fmt.Sprintf("CreateKey with another %s, %s", what, when), fault.IDConflict, func() error {
				_, err := w.CreateKey(t.Context(), other)
				return err
			})
		}
		_, _, err := w.CreateDataset(t.Context(), keys.NewDataset{Name: "web-01", Type: keys.Unstructured, FirstKey: &d.Offer})
		WantCode(t, "CreateDataset with the id of a key, "+when, err, fault.IDConflict)
		_, err = w.Roll(t.Context(), keys.RollRequest{Key: "web-01", Offer: d.Offer, Code: w.code(t)})
		WantCode(t, "Roll with the id of a key, "+when, err, fault.IDConflict)
	}
	w.code(t) // enrol before the clock matters
	again, err := w.CreateKey(t.Context(), r)
	WantCode(t, "CreateKey again", err, "")
	Diff(t, "CreateKey again", again, first)
	different("while pending")

	w.prove(t, d, first)
	again, err = w.CreateKey(t.Context(), r)
	WantCode(t, "CreateKey after the proof", err, "")
	proven := first
	proven.Proven = true
	Diff(t, "CreateKey after the proof", again, proven)
	different("after the proof")
	page, err := w.Keys(t.Context(), keys.KeyFilter{States: keys.KeyStates()})
	if err != nil || len(page.Items) != 1 {
		t.Errorf("%d keys were made (%v), want 1", len(page.Items), err)
	}

	for _, end := range []struct {
		what string
		do   func() (keys.KeyView, error)
		want fault.Code
	}{
		{"disabled", func() (keys.KeyView, error) { return w.DisableKey(t.Context(), first.KeyID, false) }, fault.KeyDisabled},
		{"deleted", func() (keys.KeyView, error) { return w.DeleteKey(t.Context(), first.KeyID) }, fault.KeyDeleted},
	} {
		if _, err := end.do(); err != nil {
			t.Fatal(err)
		}
		w.unchanged(t, "CreateKey again when "+end.what, end.want, func() error {
			_, err := w.CreateKey(t.Context(), r)
			return err
		})
	}
	different("after the delete")
}

func testCreateSupersedes(t *testing.T, w *world) {
	d1, p1 := w.create(t, "web-01")
	d2, p2 := w.create(t, "web-01")
	if p1.KeyID == p2.KeyID {
		t.Error("the new key has the id of the one that gave way")
	}
	_, err := w.Prove(t.Context(), d1.AccessKeyID, d1.Proof(p1))
	WantCode(t, "the loser's late proof", err, fault.Superseded)
	_, err = w.Pending(t.Context(), d1.AccessKeyID)
	WantCode(t, "Pending() of the loser", err, fault.Superseded)
	_, err = w.CreateKey(t.Context(), request("web-01", d1))
	WantCode(t, "the loser's repeated request", err, fault.Superseded)
	w.wantReason(t, "the loser", d1, keys.ReasonUnknown)
	if got := w.key(t, "web-01").ID; got != p2.KeyID {
		t.Errorf("web-01 is %s, want the winner %s", got, p2.KeyID)
	}
	w.prove(t, d2, p2)
	w.wantReason(t, "the winner", d2, keys.ReasonOK)
	for _, e := range Events(t, w, keys.AuditFilter{Action: "keys.supersede"}) {
		if e.Event.Object.ID != p1.KeyID || e.Event.Detail["access_key_id"] != d1.AccessKeyID {
			t.Errorf("the audit log says that %s was superseded", e.Event.Object.ID)
		}
	}
	if n := len(Events(t, w, keys.AuditFilter{Action: "keys.supersede"})); n != 1 {
		t.Errorf("%d supersessions in the audit log, want 1", n)
	}

	// Only a pending key gives way: not an active, a disabled or an expired one.
	w.active(t, "expiring", withExpiry(w.now().Add(time.Hour)))
	w.active(t, "off")
	if _, err := w.DisableKey(t.Context(), "off", true); err != nil {
		t.Fatal(err)
	}
	w.clock.Advance(time.Hour)
	for _, name := range []string{"web-01", "expiring", "off"} {
		w.unchanged(t, "CreateKey over "+name, fault.Exists, func() error {
			_, err := w.CreateKey(t.Context(), request(name, Draw(t)))
			return err
		})
	}
}

func testProve(t *testing.T, w *world) {
	d, p := w.create(t, "web-01")
	other := Draw(t)
	for what, proof := range map[string][]byte{
		"nothing":              nil,
		"half a proof":         d.Proof(p)[:16],
		"another signing key":  other.Proof(p),
		"another challenge":    d.Proof(keys.Pending{KeyID: p.KeyID, AccessKeyID: p.AccessKeyID, Challenge: []byte("made up")}),
		"another access key":   d.Proof(keys.Pending{KeyID: p.KeyID, AccessKeyID: other.AccessKeyID, Challenge: p.Challenge}),
		"another key":          d.Proof(keys.Pending{KeyID: "key_0123456789012345678901", AccessKeyID: p.AccessKeyID, Challenge: p.Challenge}),
		"the challenge itself": p.Challenge,
	} {
		w.unchanged(t, "Prove with "+what, fault.Unauthenticated, func() error {
			_, err := w.Prove(t.Context(), d.AccessKeyID, proof)
			return err
		})
	}
	w.unchanged(t, "Prove of an unknown credential", fault.NotFound, func() error {
		_, err := w.Prove(t.Context(), other.AccessKeyID, other.Proof(p))
		return err
	})
	w.unchanged(t, "Prove of what is no access key id", fault.Invalid, func() error {
		_, err := w.Prove(t.Context(), "web-01", d.Proof(p))
		return err
	})
	first := w.prove(t, d, p)
	w.clock.Advance(time.Hour)
	w.unchanged(t, "Prove again", "", func() error {
		again, err := w.Prove(t.Context(), d.AccessKeyID, d.Proof(p))
		Diff(t, "the second answer", again, first)
		return err
	})
	w.unchanged(t, "a wrong proof of a current credential", fault.Unauthenticated, func() error {
		_, err := w.Prove(t.Context(), d.AccessKeyID, other.Proof(p))
		return err
	})
}

func testWithdraw(t *testing.T, w *world) {
	d, p := w.create(t, "web-01")
	WantCode(t, "Withdraw()", w.Withdraw(t.Context(), d.AccessKeyID), "")
	if _, err := w.Key(t.Context(), "web-01"); !fault.Is(err, fault.NotFound) {
		t.Errorf("after the withdrawal, Key() = %v", err)
	}
	w.wantReason(t, "the withdrawn credential", d, keys.ReasonUnknown)
	_, err := w.Prove(t.Context(), d.AccessKeyID, d.Proof(p))
	WantCode(t, "Prove after the withdrawal", err, fault.Superseded)
	before := w.head(t).Seq
	WantCode(t, "Withdraw() again", w.Withdraw(t.Context(), d.AccessKeyID), "")
	wantNoOp(t, w, before, "keys.withdraw")
	WantCode(t, "Withdraw of an unknown one", w.Withdraw(t.Context(), Draw(t).AccessKeyID), fault.NotFound)

	s := w.active(t, "web-01") // the name is free again
	w.unchanged(t, "Withdraw of a proven one", fault.Superseded, func() error {
		return w.Withdraw(t.Context(), s.current.AccessKeyID)
	})
	w.wantReason(t, "the proven credential", s.current, keys.ReasonOK)
}

// wantNoOp checks that exactly one record was added, and that it says that nothing had to be done.
func wantNoOp(t testing.TB, w *world, before int64, action string) {
	t.Helper()
	var added []keys.AuditRecord
	for _, e := range Events(t, w, keys.AuditFilter{}) {
		if e.Record.Seq > before {
			added = append(added, e)
		}
	}
	if len(added) != 1 || added[0].Event.Action != action || added[0].Event.Outcome != "noop" {
		t.Errorf("a repeated %s left %+v, want one record marked noop", action, added)
	}
}

func testPurge(t *testing.T, w *world) {
	inTime, p := w.create(t, "in-time")
	w.clock.Advance(keys.PendingFor - time.Microsecond)
	w.prove(t, inTime, p)

	d, p := w.create(t, "web-01")
	w.clock.Advance(keys.PendingFor)
	// Reads know it from the time alone.
	w.unchanged(t, "reading", "", func() error {
		_, err := w.Key(t.Context(), "web-01")
		WantCode(t, "Key() of a lapsed key", err, fault.NotFound)
		_, err = w.Key(t.Context(), p.KeyID)
		WantCode(t, "Key() of a lapsed key by its id", err, fault.NotFound)
		_, err = w.Pending(t.Context(), d.AccessKeyID)
		WantCode(t, "Pending() of a lapsed credential", err, fault.Superseded)
		_, err = w.Verify(t.Context(), keys.Question{Key: "web-01"})
		WantCode(t, "Verify() of a lapsed key", err, fault.NotFound)
		w.wantReason(t, "a lapsed credential", d, keys.ReasonUnknown)
		for _, states := range [][]keys.KeyState{nil, {keys.KeyPending}, keys.KeyStates()} {
			page, err := w.Keys(t.Context(), keys.KeyFilter{States: states})
			for _, k := range page.Items {
				if k.ID == p.KeyID {
					t.Errorf("a list of %v shows the lapsed key as %s", states, k.State)
				}
			}
			WantCode(t, "Keys()", err, "")
		}
		return nil
	})
	w.unchanged(t, "Prove of a lapsed credential", fault.Superseded, func() error {
		_, err := w.Prove(t.Context(), d.AccessKeyID, d.Proof(p))
		return err
	})
	// The next change writes it down, and whatever comes later finds the same.
	w.active(t, "web-01")
	purged := Events(t, w, keys.AuditFilter{Action: "keys.purge"})
	if len(purged) != 1 || purged[0].Event.Object.ID != p.KeyID {
		t.Errorf("the audit log has %d purges, want the one of %s", len(purged), p.KeyID)
	}
	_, err := w.Prove(t.Context(), d.AccessKeyID, d.Proof(p))
	WantCode(t, "Prove of a purged credential", err, fault.Superseded)
	w.wantReason(t, "a purged credential", d, keys.ReasonUnknown)
}

func testExistingKey(t *testing.T, w *world) {
	w.dataset(t, "files")
	existing := func(name string, changes ...func(*keys.NewKey)) ([]string, error) {
		_, differences, err := w.ExistingKey(t.Context(), request(name, Drawn{}, changes...))
		return differences, err
	}
	s := w.active(t, "web-01", withDatasets("files"), withRanges(t, "10.0.0.0/8", "192.0.2.7"), withExpiry(w.now().Add(day)))
	w.create(t, "new")
	for _, c := range []struct {
		what    string
		changes []func(*keys.NewKey)
		want    []string
	}{
		{"the same", []func(*keys.NewKey){withDatasets("files"), withRanges(t, "192.0.2.7", "10.0.0.0/8")}, nil},
		{"other ranges", []func(*keys.NewKey){withDatasets("files"), withRanges(t, "192.0.2.7")}, []string{"ranges"}},
		{"nothing said", nil, []string{"ranges", "datasets"}},
	} {
		w.unchanged(t, c.what, "", func() error {
			got, err := existing("web-01", c.changes...)
			Diff(t, c.what, got, c.want)
			return err
		})
	}
	wantExisting := func(what, name string, want fault.Code) {
		t.Helper()
		_, err := existing(name)
		WantCode(t, "ExistingKey() of "+what, err, want)
	}
	wantExisting("none", "nope", fault.NotFound)
	wantExisting("a pending one", "new", fault.NotFound)
	wantExisting("a malformed name", "web 01", fault.Invalid)
	for _, compromised := range []bool{false, true} {
		if _, err := w.DisableKey(t.Context(), s.id, compromised); err != nil {
			t.Fatal(err)
		}
		wantExisting("a disabled one", "web-01", fault.KeyDisabled)
	}
	w.active(t, "web-02", withExpiry(w.now().Add(day)))
	w.clock.Advance(day)
	wantExisting("an expired one", "web-02", fault.KeyExpired)
	wantExisting("a lapsed one", "new", fault.NotFound)
	if _, err := w.DeleteKey(t.Context(), s.id); err != nil {
		t.Fatal(err)
	}
	wantExisting("a deleted one", "web-01", fault.NotFound)
}

// What CheckKeys says of a request is what CreateKey then does with it.
func testCheckKeys(t *testing.T, w *world) {
	w.dataset(t, "files")
	w.dataset(t, "blobs")
	w.active(t, "taken")
	w.create(t, "pending")
	cases := []struct {
		name    string
		changes []func(*keys.NewKey)
		want    fault.Code
	}{
		{"free", []func(*keys.NewKey){withDatasets("files")}, ""},
		{"pending", nil, ""},
		{"taken", nil, fault.Exists},
		{"no name", nil, fault.Invalid},
		{"no-dataset", []func(*keys.NewKey){withDatasets("nope")}, fault.NotFound},
		{"two-unstructured", []func(*keys.NewKey){withDatasets("files", "blobs")}, fault.Invalid},
		{"over", []func(*keys.NewKey){withExpiry(w.now())}, fault.Invalid},
	}
	var requests []keys.NewKey
	for _, c := range cases {
		requests = append(requests, request(c.name, Drawn{}, c.changes...))
	}
	var refusals []error
	w.unchanged(t, "CheckKeys", "", func() (err error) {
		refusals, err = w.CheckKeys(t.Context(), requests)
		return err
	})
	if len(refusals) != len(cases) {
		t.Fatalf("CheckKeys of %d requests = %d answers", len(cases), len(refusals))
	}
	for i, c := range cases {
		WantCode(t, "CheckKeys of "+c.name, refusals[i], c.want)
		_, err := w.CreateKey(t.Context(), request(c.name, Draw(t), c.changes...))
		WantCode(t, "CreateKey of "+c.name, err, c.want)
	}
	if refusals, err := w.CheckKeys(t.Context(), nil); err != nil || len(refusals) != 0 {
		t.Errorf("CheckKeys of nothing = %v, %v", refusals, err)
	}
}
