package keystest

import (
	"testing"
	"time"

	"keyctl/internal/fault"
	"keyctl/internal/iprange"
	"keyctl/internal/keys"
)

// Suite checks the promises of keys.Service. open makes a new, empty service in the given world; it is called for every
// part, so nothing is carried over from one to the next.
func Suite(t *testing.T, open func(t *testing.T, env keys.Env) keys.Service) {
	for _, part := range []struct {
		name string
		test func(*testing.T, *world)
	}{
		{"Create", testCreate},
		{"CreateRefuses", testCreateRefuses},
		{"R27_CreateAgain", testCreateAgain},
		{"CreateSupersedes", testCreateSupersedes},
		{"Prove", testProve},
		{"Withdraw", testWithdraw},
		{"Purge", testPurge},
		{"ExistingKey", testExistingKey},
		{"CheckKeys", testCheckKeys},
		{"Edit", testEdit},
		{"EditRefuses", testEditRefuses},
		{"EditRanges", testEditRanges},
		{"R33_RepeatsAreNoOps", testRepeatsAreNoOps},
		{"NameIsFreeAfterDelete", testNameIsFreeAfterDelete},
		{"Refs", testRefs},
		{"AmbiguousRefs", testAmbiguousRefs},

		{"KeyStates", testKeyStates},
		{"CredentialStates", testCredentialStates},
		{"KeyStateOrder", testKeyStateOrder},

		{"Roll", testRoll},
		{"RollTerms", testRollTerms},
		{"RollAsksForACode", testRollAsksForACode},
		{"R27_RollAgain", testRollAgain},
		{"RollClamped", testRollClamped},
		{"RollNow", testRollNow},
		{"RollInProgress", testRollInProgress},
		{"RollsSupersede", testRollsSupersede},
		{"RollWithdrawn", testRollWithdrawn},
		{"GraceEnds", testGraceEnds},
		{"ExtendRoll", testExtendRoll},
		{"FinishRoll", testFinishRoll},
		{"CancelRoll", testCancelRoll},
		{"Rolls", testRolls},
		{"LateProofs", testLateProofs},

		{"Datasets", testDatasets},
		{"DatasetRefuses", testDatasetRefuses},
		{"FirstKey", testFirstKey},
		{"R27_CreateDatasetAgain", testCreateDatasetAgain},
		{"FirstKeyEndsUnproven", testFirstKeyEndsUnproven},
		{"FirstKeyDetached", testFirstKeyDetached},
		{"NumberedNames", testNumberedNames},
		{"EditDataset", testEditDataset},
		{"DeleteDataset", testDeleteDataset},
		{"Attach", testAttach},

		{"PrimaryKeys", testPrimaryKeys},
		{"DisablePrimaryKey", testDisablePrimaryKey},

		{"EnrollOTP", testEnrollOTP},
		{"RecoveryCodes", testRecoveryCodes},
		{"OTPCodes", testOTPCodes},
		{"ResetByCode", testResetByCode},

		{"Verify", testVerify},
		{"R22_VerifyAddresses", testVerifyAddresses},
		{"VerifyUnknown", testVerifyUnknown},

		{"KeyFilters", testKeyFilters},
		{"KeyOrders", testKeyOrders},
		{"Cursors", testCursors},
		{"PagesByName", testPagesByName},

		{"AuditRecords", testAuditRecords},
		{"AuditFilters", testAuditFilters},
		{"VerifyAudit", testVerifyAudit},
	} {
		t.Run(part.name, func(t *testing.T) {
			clock := NewClock()
			part.test(t, &world{Service: open(t, clock.Env()), clock: clock})
		})
	}
}

// world is a service with the clock it goes by, and the authenticator of its caller.
type world struct {
	keys.Service
	clock *Clock
	auth  *Authenticator
}

// now is what the clock shows.
func (w *world) now() time.Time { return w.clock.Now() }

// code is the next authenticator code; asking for it takes half a minute.
func (w *world) code(t testing.TB) string {
	t.Helper()
	if w.auth == nil {
		w.auth = Enroll(t, w, w.clock)
	}
	return w.auth.Next()
}

// subject is a key under test: its id and the credentials drawn for it.
type subject struct {
	id       string
	current  Drawn
	previous Drawn // before the last roll
}

// request asks for a key; changes fill in what a test is about.
func request(name string, d Drawn, changes ...func(*keys.NewKey)) keys.NewKey {
	r := keys.NewKey{Name: name, Offer: d.Offer}
	for _, change := range changes {
		change(&r)
	}
	return r
}

func withExpiry(at time.Time) func(*keys.NewKey) {
	return func(r *keys.NewKey) { r.ExpiresAt = at }
}

func withDatasets(names ...string) func(*keys.NewKey) {
	return func(r *keys.NewKey) { r.Datasets = names }
}

func withRanges(t testing.TB, texts ...string) func(*keys.NewKey) {
	list := ranges(t, texts...)
	return func(r *keys.NewKey) { r.IPRanges = list }
}

func ranges(t testing.TB, texts ...string) iprange.List {
	t.Helper()
	list, err := iprange.ParseList(texts)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// create makes a pending key.
func (w *world) create(t testing.TB, name string, changes ...func(*keys.NewKey)) (Drawn, keys.Pending) {
	t.Helper()
	d := Draw(t)
	p, err := w.CreateKey(t.Context(), request(name, d, changes...))
	if err != nil {
		t.Fatalf("CreateKey(%q) = %v", name, err)
	}
	return d, p
}

// prove proves a pending credential, which is answered with the key as it is then.
func (w *world) prove(t testing.TB, d Drawn, p keys.Pending) keys.Proven {
	t.Helper()
	proven, err := w.Prove(t.Context(), d.AccessKeyID, d.Proof(p))
	if err != nil {
		t.Fatalf("Prove(%q) = %v", p.Name, err)
	}
	Diff(t, "the key that Prove answers with", proven.Key, w.key(t, p.KeyID))
	return proven
}

// active makes an active key.
func (w *world) active(t testing.TB, name string, changes ...func(*keys.NewKey)) subject {
	t.Helper()
	d, p := w.create(t, name, changes...)
	w.prove(t, d, p)
	return subject{id: p.KeyID, current: d}
}

// grace is terms that let the old credential work for a while.
func grace(d time.Duration) keys.RollTerms { return keys.RollTerms{Grace: keys.Grace{For: d}} }

const day = 24 * time.Hour

// beginRoll rolls a key up to the proof.
func (w *world) beginRoll(t testing.TB, ref string, terms keys.RollTerms) (Drawn, keys.Pending) {
	t.Helper()
	d := Draw(t)
	p, err := w.Roll(t.Context(), keys.RollRequest{Key: ref, Terms: terms, Offer: d.Offer, Code: w.code(t)})
	if err != nil {
		t.Fatalf("Roll(%q) = %v", ref, err)
	}
	return d, p
}

// roll rolls a key.
func (w *world) roll(t testing.TB, s subject, terms keys.RollTerms) (subject, keys.Proven) {
	t.Helper()
	d, p := w.beginRoll(t, s.id, terms)
	return subject{id: s.id, current: d, previous: s.current}, w.prove(t, d, p)
}

// key reads a key that must be there.
func (w *world) key(t testing.TB, ref string) keys.KeyView {
	t.Helper()
	k, err := w.Key(t.Context(), ref)
	if err != nil {
		t.Fatalf("Key(%q) = %v", ref, err)
	}
	return k
}

// reason is why a credential is let in or not.
func (w *world) reason(t testing.TB, d Drawn) keys.Reason {
	t.Helper()
	v, err := w.Verify(t.Context(), d.Question())
	if err != nil {
		t.Fatalf("Verify() = %v", err)
	}
	if v.Allowed != (v.Reason == keys.ReasonOK) {
		t.Errorf("Verify() = allowed %t for the reason %q", v.Allowed, v.Reason)
	}
	return v.Reason
}

// wantReason checks whether a credential is let in.
func (w *world) wantReason(t testing.TB, what string, d Drawn, want keys.Reason) {
	t.Helper()
	if got := w.reason(t, d); got != want {
		t.Errorf("%s is %q, want %q", what, got, want)
	}
}

// head is the end of the audit log: it stays as it is as long as nothing is changed.
func (w *world) head(t testing.TB) keys.AuditHeadView {
	t.Helper()
	head, err := w.AuditHead(t.Context())
	if err != nil {
		t.Fatalf("AuditHead() = %v", err)
	}
	return head
}

// unchanged runs a call that must fail with a code and leave no trace.
func (w *world) unchanged(t testing.TB, what string, want fault.Code, call func() error) {
	t.Helper()
	before := w.head(t)
	WantCode(t, what, call(), want)
	if after := w.head(t); after != before {
		t.Errorf("%s: the audit log went from record %d to %d", what, before.Seq, after.Seq)
	}
}

// dataset makes a dataset without a key.
func (w *world) dataset(t testing.TB, name string) keys.DatasetView {
	t.Helper()
	d, _, err := w.CreateDataset(t.Context(), keys.NewDataset{Name: name, Type: keys.Unstructured})
	if err != nil {
		t.Fatalf("CreateDataset(%q) = %v", name, err)
	}
	return d
}
