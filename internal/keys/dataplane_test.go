package keys_test

import (
	"bytes"
	"context"
	"net/netip"
	"sync"
	"testing"
	"time"

	"keyctl/internal/audit"
	"keyctl/internal/credential"
	"keyctl/internal/fault"
	"keyctl/internal/iprange"
	"keyctl/internal/keys"
	"keyctl/internal/keys/keystest"
)

var inside = keys.Origin{Address: netip.MustParseAddr("10.1.2.3"), RequestID: "req_test"}

// claimOf is the claim of somebody who has the credential.
func claimOf(d keystest.Drawn) keys.Claim {
	return keys.Claim{AccessKeyID: d.AccessKeyID, Proves: d.SigningKey.Equal, From: inside}
}

// dataKey opens a released data key as a client does.
func dataKey(t testing.TB, d keystest.Drawn, released keys.ReleasedKey) string {
	t.Helper()
	private, err := credential.OpenPrivateKey(released.PrivateKeyPEM, d.CryptoAccessKey)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := credential.Unwrap(private, released.Wrapped)
	if err != nil {
		t.Fatal(err)
	}
	return string(plain)
}

// encrypt asks for a new data key.
func encrypt(t testing.TB, p *keys.DataPlane, d keystest.Drawn) keys.ReleasedKey {
	t.Helper()
	released, err := p.NewDataKey(t.Context(), claimOf(d), 1)
	if err != nil {
		t.Fatalf("NewDataKey() = %v", err)
	}
	return released
}

// wantOpens checks that a credential gets the same data key back.
func wantOpens(t testing.TB, what string, p *keys.DataPlane, d keystest.Drawn, made keys.ReleasedKey, plain string) {
	t.Helper()
	opened, err := p.OpenDataKey(t.Context(), claimOf(d), made.Encrypted)
	if err != nil {
		t.Errorf("%s: OpenDataKey() = %v", what, err)
		return
	}
	if dataKey(t, d, opened) != plain {
		t.Errorf("%s: another data key came back", what)
	}
}

func wantRefused(t testing.TB, what string, p *keys.DataPlane, d keystest.Drawn, made keys.ReleasedKey, want fault.Code) {
	t.Helper()
	_, newErr := p.NewDataKey(t.Context(), claimOf(d), 1)
	_, openErr := p.OpenDataKey(t.Context(), claimOf(d), made.Encrypted)
	_, enterErr := p.Enter(t.Context(), claimOf(d), "")
	for method, err := range map[string]error{"NewDataKey": newErr, "OpenDataKey": openErr, "Enter": enterErr} {
		if fault.CodeOf(err) != want {
			t.Errorf("%s: %s() = %v, want %s", what, method, err, want)
		}
	}
}

// What keyctl exists for: whatever happens to credentials and Primary Keys, what was encrypted opens for whoever may decrypt it.
func TestDataKeysOutliveCredentials(t *testing.T) {
	place := newPlace(t)
	l := place.open(t)
	p := keys.NewDataPlane(l)
	newDataset(t, l, "payments")
	web, _ := newKey(t, l, "web-01", "payments")
	other, _ := newKey(t, l, "web-02", "payments")
	phone := keystest.Enroll(t, l, place.clock)

	made := encrypt(t, p, web)
	plain := dataKey(t, web, made)
	if len(plain) != 32 || made.Algorithm != keys.AES256GCM || len(made.Encrypted) > 512 || bytes.Contains(made.Encrypted, []byte(web.AccessKeyID)) {
		t.Errorf("a data key of %d bytes for %s in %d bytes", len(plain), made.Algorithm, len(made.Encrypted))
	}
	if again := encrypt(t, p, web); dataKey(t, web, again) == plain || bytes.Equal(again.Encrypted, made.Encrypted) {
		t.Error("two requests got the same data key")
	}
	wantOpens(t, "the same credential", p, web, made, plain)
	wantOpens(t, "another key of the dataset", p, other, made, plain)

	rolled, pending, err := roll(t, l, "web-01", phone.Next(), keys.RollTerms{Grace: keys.Grace{For: time.Hour}})
	if err != nil {
		t.Fatal(err)
	}
	wantRefused(t, "a pending credential", p, rolled, made, fault.Forbidden)
	if _, err := l.Prove(t.Context(), rolled.AccessKeyID, rolled.Proof(pending)); err != nil {
		t.Fatal(err)
	}
	wantOpens(t, "the new credential", p, rolled, made, plain)
	wantOpens(t, "the old one in grace", p, web, made, plain)

	if _, err := l.RotatePrimaryKey(t.Context(), "payments"); err != nil {
		t.Fatal(err)
	}
	wantOpens(t, "after a rotation", p, rolled, made, plain)
	newer := encrypt(t, p, rolled)
	newerPlain := dataKey(t, rolled, newer)
	wantOpens(t, "a data key under the new version", p, other, newer, newerPlain)
	if _, err := l.DisablePrimaryKey(t.Context(), "payments", 1, phone.Next()); err != nil {
		t.Fatal(err)
	}
	if _, err := p.OpenDataKey(t.Context(), claimOf(rolled), made.Encrypted); !fault.Is(err, fault.Forbidden) {
		t.Errorf("under a disabled version OpenDataKey() = %v, want forbidden", err)
	}
	wantOpens(t, "under the version that is enabled", p, rolled, newer, newerPlain)
	if _, err := l.EnablePrimaryKey(t.Context(), "payments", 1); err != nil {
		t.Fatal(err)
	}

	place.clock.Advance(time.Hour)
	wantRefused(t, "when the grace is over", p, web, made, fault.Forbidden)
	wantOpens(t, "the new credential still", p, rolled, made, plain)

	if _, err := l.DeleteKey(t.Context(), "web-01"); err != nil {
		t.Fatal(err)
	}
	wantRefused(t, "a deleted key", p, rolled, made, fault.Unauthenticated)
	third, _ := newKey(t, l, "web-03", "payments")
	wantOpens(t, "a key that came later", p, third, made, plain)
}

func TestR20_DataPlaneObeysTheNextRequest(t *testing.T) {
	place := newPlace(t)
	l := place.open(t)
	p := keys.NewDataPlane(l)
	newDataset(t, l, "payments")
	d, _ := newKey(t, l, "web-01", "payments")
	made := encrypt(t, p, d)
	plain := dataKey(t, d, made)
	phone := keystest.Enroll(t, l, place.clock)
	elsewhere, err := iprange.ParseList([]string{"192.0.2.0/24"})
	if err != nil {
		t.Fatal(err)
	}
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx := t.Context()

	must(l.DisableKey(ctx, "web-01", false))
	wantRefused(t, "disabled", p, d, made, fault.Forbidden)
	must(l.EnableKey(ctx, "web-01"))
	wantOpens(t, "enabled", p, d, made, plain)

	must(l.EditKey(ctx, "web-01", keys.KeyEdit{IPRanges: &elsewhere}))
	wantRefused(t, "another address", p, d, made, fault.Forbidden)
	nowhere := claimOf(d)
	nowhere.From = keys.Origin{}
	if _, err := p.Enter(ctx, nowhere, ""); !fault.Is(err, fault.Forbidden) {
		t.Errorf("from an unknown address Enter() = %v, want forbidden", err)
	}
	must(l.EditKey(ctx, "web-01", keys.KeyEdit{AnyAddress: true}))
	wantOpens(t, "any address", p, d, made, plain)

	must(l.DisablePrimaryKey(ctx, "payments", 0, phone.Next()))
	if _, err := p.NewDataKey(ctx, claimOf(d), 1); !fault.Is(err, fault.Forbidden) {
		t.Errorf("under a disabled Primary Key NewDataKey() = %v, want forbidden", err)
	}
	if _, err := p.Enter(ctx, claimOf(d), "payments"); !fault.Is(err, fault.Forbidden) {
		t.Errorf("under a disabled Primary Key Enter() for the dataset = %v, want forbidden", err)
	}
	if _, err := p.Enter(ctx, claimOf(d), ""); err != nil {
		t.Errorf("under a disabled Primary Key Enter() = %v", err)
	}
	must(l.EnablePrimaryKey(ctx, "payments", 0))

	must(l.AttachKeys(ctx, "payments", []string{"web-01"}, keys.Grant{Encrypt: true}))
	if _, err := p.OpenDataKey(ctx, claimOf(d), made.Encrypted); !fault.Is(err, fault.Forbidden) {
		t.Errorf("with a grant to encrypt OpenDataKey() = %v, want forbidden", err)
	}
	encrypt(t, p, d)
	must(l.AttachKeys(ctx, "payments", []string{"web-01"}, keys.Grant{Decrypt: true}))
	if _, err := p.NewDataKey(ctx, claimOf(d), 1); !fault.Is(err, fault.Forbidden) {
		t.Errorf("with a grant to decrypt NewDataKey() = %v, want forbidden", err)
	}
	wantOpens(t, "with a grant to decrypt", p, d, made, plain)

	must(l.DetachKeys(ctx, "payments", []string{"web-01"}))
	if _, err := p.OpenDataKey(ctx, claimOf(d), made.Encrypted); !fault.Is(err, fault.NotFound) {
		t.Errorf("detached OpenDataKey() = %v, want not_found", err)
	}
	must(l.DisableKey(ctx, "web-01", true))
	wantRefused(t, "compromised", p, d, made, fault.Forbidden)
}

func TestDamagedDataKeysAreRefused(t *testing.T) {
	place := newPlace(t)
	l := place.open(t)
	p := keys.NewDataPlane(l)
	newDataset(t, l, "payments")
	newDataset(t, l, "other")
	d, _ := newKey(t, l, "web-01", "payments")
	stranger, _ := newKey(t, l, "web-02", "other")
	made := encrypt(t, p, d)
	for i := range made.Encrypted {
		damaged := bytes.Clone(made.Encrypted)
		damaged[i] ^= 1
		_, err := p.OpenDataKey(t.Context(), claimOf(d), damaged)
		if code := fault.CodeOf(err); code != fault.Invalid && code != fault.NotFound {
			t.Fatalf("with byte %d changed OpenDataKey() = %v", i, err)
		}
		if _, err := p.OpenDataKey(t.Context(), claimOf(d), made.Encrypted[:i]); !fault.Is(err, fault.Invalid) && !fault.Is(err, fault.NotFound) {
			t.Fatalf("cut to %d bytes OpenDataKey() = %v", i, err)
		}
	}
	// Of another dataset's: the same whether that is there or not.
	unknown := bytes.Clone(made.Encrypted)
	copy(unknown[1:], "0000000000000000000000")
	_, foreign := p.OpenDataKey(t.Context(), claimOf(stranger), made.Encrypted)
	_, absent := p.OpenDataKey(t.Context(), claimOf(stranger), unknown)
	if !fault.Is(foreign, fault.NotFound) || foreign.Error() != absent.Error() {
		t.Errorf("another's dataset answers %v, one that is not there %v", foreign, absent)
	}
	// Moved into another dataset.
	mine := encrypt(t, p, stranger)
	moved := append(bytes.Clone(mine.Encrypted[:23]), made.Encrypted[23:]...)
	if _, err := p.OpenDataKey(t.Context(), claimOf(stranger), moved); !fault.Is(err, fault.Invalid) {
		t.Errorf("a data key moved to another dataset: %v, want invalid", err)
	}
}

func TestDataPlaneTellsNobodyWhatExists(t *testing.T) {
	place := newPlace(t)
	l := place.open(t)
	p := keys.NewDataPlane(l)
	newDataset(t, l, "payments")
	d, _ := newKey(t, l, "web-01", "payments")
	wrong, unknown := claimOf(d), claimOf(keystest.Draw(t))
	wrong.Proves = func(credential.Secret) bool { return false }
	asked := 0
	unknown.Proves = func(credential.Secret) bool { asked++; return true } // also with the secret that nobody has
	_, wrongErr := p.NewDataKey(t.Context(), wrong, 1)
	_, unknownErr := p.NewDataKey(t.Context(), unknown, 1)
	if !fault.Is(wrongErr, fault.Unauthenticated) || wrongErr.Error() != unknownErr.Error() {
		t.Errorf("a wrong secret answers %v, an unknown id %v", wrongErr, unknownErr)
	}
	if asked != 1 {
		t.Errorf("the proof of an unknown id was looked at %d times, want once", asked)
	}
}

func TestR36_ReleasesAreAuditedFirst(t *testing.T) {
	place := newPlace(t)
	broken := &lossy{Store: place.openStore(t)}
	l := place.on(t, broken)
	p := keys.NewDataPlane(l)
	newDataset(t, l, "payments")
	d, key := newKey(t, l, "web-01", "payments")
	made := encrypt(t, p, d)
	page, err := l.AuditRecords(t.Context(), keys.AuditFilter{})
	if err != nil {
		t.Fatal(err)
	}
	e := page.Items[len(page.Items)-1].Event
	want := audit.Event{
		At: e.At, Actor: audit.Actor{ID: key.KeyID, Name: "web-01"}, Action: "data-keys.encrypt", Object: e.Object, Outcome: audit.OK,
		Address: "10.1.2.3", RequestID: "req_test",
		Detail: map[string]string{"access_key_id": d.AccessKeyID, "uses": "1", "primary_key_version": "1"},
	}
	keystest.Diff(t, "the record", e, want)
	if e.Object.Name != "payments" {
		t.Errorf("the record is of %+v", e.Object)
	}
	view, err := l.Key(t.Context(), "web-01")
	if err != nil || view.LastUsedAt == nil {
		t.Errorf("the last use is %v, %v", view.LastUsedAt, err)
	}

	broken.next = []fate{away, away}
	if _, err := p.NewDataKey(t.Context(), claimOf(d), 1); err == nil {
		t.Error("a data key was handed out without a record")
	}
	if _, err := p.OpenDataKey(t.Context(), claimOf(d), made.Encrypted); err == nil {
		t.Error("a data key was given back without a record")
	}
}

func TestRefusalsNameTheKey(t *testing.T) {
	place := newPlace(t)
	l := place.open(t)
	p := keys.NewDataPlane(l)
	d, key := newKey(t, l, "web-01")
	_, err := p.NewDataKey(t.Context(), claimOf(d), 1)
	if !fault.Is(err, fault.Forbidden) {
		t.Fatalf("NewDataKey() without a dataset = %v, want forbidden", err)
	}
	if err := p.NoteRefusal(t.Context(), keys.NewRefusals(l), inside, "data-keys.encrypt", err); err != nil {
		t.Fatal(err)
	}
	page, err := l.AuditRecords(t.Context(), keys.AuditFilter{})
	if err != nil {
		t.Fatal(err)
	}
	e := page.Items[len(page.Items)-1].Event
	keystest.Diff(t, "the record", e, audit.Event{
		At: e.At, Actor: audit.Actor{ID: key.KeyID, Name: "web-01"}, Action: "data-keys.encrypt", Outcome: audit.Refused,
		Reason: "forbidden", Address: "10.1.2.3", RequestID: "req_test", Detail: map[string]string{},
	})
}

// counting counts transactions.
type counting struct {
	keys.Store
	mu      sync.Mutex
	updates int
}

func (s *counting) Update(ctx context.Context, fn func(keys.Tx) error) error {
	s.mu.Lock()
	s.updates++
	s.mu.Unlock()
	return s.Store.Update(ctx, fn)
}

func TestReleasesShareTransactions(t *testing.T) {
	place := newPlace(t)
	store := &counting{Store: place.openStore(t)}
	l := place.on(t, store)
	p := keys.NewDataPlane(l)
	newDataset(t, l, "payments")
	d, _ := newKey(t, l, "web-01", "payments")
	before, updates := auditCount(t, l), store.updates
	const requests, each = 16, 20
	var all sync.WaitGroup
	for range requests {
		all.Go(func() {
			for range each {
				if _, err := p.NewDataKey(t.Context(), claimOf(d), 1); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if made := auditCount(t, l) - before; made != requests*each {
		t.Errorf("%d records of %d releases", made, requests*each)
	}
	t.Logf("%d releases in %d transactions", requests*each, store.updates-updates)
	if made := store.updates - updates; made >= requests*each {
		t.Errorf("%d releases took %d transactions", requests*each, made)
	}
}

func TestUsage(t *testing.T) {
	place := newPlace(t)
	l := place.open(t)
	p := keys.NewDataPlane(l)
	newDataset(t, l, "payments")
	newDataset(t, l, "other")
	d, _ := newKey(t, l, "web-01", "payments")
	now := place.clock.Now()
	event := keys.UsageEvent{
		Dataset: "payments", Action: keys.ActionEncrypt, Count: 3, FirstAt: now.Add(-time.Hour), LastAt: now.Add(-time.Minute),
		Product: "a library\x1b[31m", Version: "1.0",
	}
	tomorrow, elsewhere, nothing, unknown, unnamed := event, event, event, event, event
	tomorrow.FirstAt, tomorrow.LastAt = now.Add(48*time.Hour), now.Add(48*time.Hour)
	elsewhere.Dataset, nothing.Count, unknown.Action, unnamed.Dataset = "other", 0, "dance", ""
	for range 2 {
		if err := p.Track(t.Context(), claimOf(d), []keys.UsageEvent{event, tomorrow, elsewhere, nothing, unknown, unnamed}); err != nil {
			t.Fatal(err)
		}
	}
	got, err := l.Usage(t.Context(), keys.UsageQuery{Key: "web-01", Dataset: "payments", Since: now})
	if err != nil {
		t.Fatal(err)
	}
	keystest.Diff(t, "Usage()", got, []keys.UsageView{{
		Key: "web-01", Dataset: "payments", Action: keys.ActionEncrypt, Product: "a library[31m", Version: "1.0",
		Day: now.Truncate(24 * time.Hour), Count: 18, FirstAt: now.Add(-time.Hour), LastAt: now,
	}})
	for what, q := range map[string]keys.UsageQuery{"a later day": {Since: now.Add(24 * time.Hour)}, "another dataset": {Dataset: "other"}} {
		if got, err := l.Usage(t.Context(), q); err != nil || len(got) != 0 {
			t.Errorf("Usage() of %s = %v, %v; want none", what, got, err)
		}
	}
	if _, err := l.Usage(t.Context(), keys.UsageQuery{Key: "nope"}); !fault.Is(err, fault.NotFound) {
		t.Errorf("Usage() of no key = %v, want not_found", err)
	}
	if err := p.Track(t.Context(), keys.Claim{AccessKeyID: d.AccessKeyID, Proves: func(credential.Secret) bool { return false }}, nil); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("Track() without a proof = %v, want unauthenticated", err)
	}
}
