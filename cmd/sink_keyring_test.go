//go:build linux

package cmd

import (
	"context"
	"crypto/rand"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"keyctl/internal/credential"
	"keyctl/internal/fault"
	"keyctl/internal/keyringtest"
	"keyctl/internal/keys"
	"keyctl/internal/login"
)

// keyringUser is a user of this process with a home and a keyring.
type keyringUser struct {
	t *testing.T
	*app
	words *strings.Builder
}

// newKeyringUser gives a user the session that an environment names.
func newKeyringUser(t *testing.T, session string) *keyringUser {
	t.Helper()
	keyringtest.Use(t, session)
	home, words := t.TempDir(), &strings.Builder{}
	a := newApp(&System{
		Args: []string{"keys"}, Stdin: strings.NewReader(""), Stdout: io.Discard, Stderr: words, Now: time.Now, Rand: rand.Reader,
		Getenv: func(name string) string { return map[string]string{"HOME": home}[name] },
	})
	newRoot(a)
	t.Cleanup(func() { _ = a.close() })
	return &keyringUser{t, a, words}
}

// sink makes a sink whose operations may take as long as a loaded machine needs.
func (u *keyringUser) sink(profile string, replace bool) *keyringSink {
	u.t.Helper()
	s, err := u.newKeyringSink(u.t.Context(), profile, replace)
	if err != nil {
		u.t.Fatal(err)
	}
	s.profiles.Ring = login.Open(true)
	return s
}

// holds compares what a profile holds; empty is nothing.
func (u *keyringUser) holds(profile, accessKeyID string) {
	u.t.Helper()
	cred, err := u.sink(profile, false).profiles.Load(u.t.Context(), profile)
	if err != nil && !fault.Is(err, fault.NotFound) || cred.AccessKeyID != accessKeyID {
		u.t.Errorf("the profile %s holds %q, %v, want %q", profile, cred.AccessKeyID, err, accessKeyID)
	}
}

// lists compares the profiles on the list.
func (u *keyringUser) lists(want ...string) {
	u.t.Helper()
	var got []string
	for _, s := range u.sink("any", false).profiles.List() {
		got = append(got, s.Profile)
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		u.t.Errorf("the list has %q, want %q", got, want)
	}
}

// drawn is a credential on its way out.
func drawnCredential(t *testing.T, name string) issued {
	t.Helper()
	cred, err := credential.Draw(rand.Reader)
	succeed(t, err)
	cred.Name = name
	return issued{cred: cred}
}

// must ends the test with an error.
func succeed(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestKeyringSink(t *testing.T) {
	u := newKeyringUser(t, keyringtest.New(t).Env())
	first, second := drawnCredential(t, "web-01"), drawnCredential(t, "web-01")

	s := u.sink("web-01", false)
	succeed(t, s.prepare())
	succeed(t, s.fill(first))
	u.holds("web-01", first.cred.AccessKeyID)
	s.abort()
	u.holds("web-01", "")
	u.lists()

	s = u.sink("web-01", false)
	succeed(t, s.prepare())
	succeed(t, s.fill(first))
	succeed(t, s.finish())
	s.abort() // after finish it does nothing
	u.holds("web-01", first.cred.AccessKeyID)
	u.lists("web-01")
	if held, ok := u.sink("web-01", false).held(); !ok || !held.SigningKey.Equal(first.cred.SigningKey) || held.Name != "web-01" {
		t.Error("held does not return the credential")
	}
	if _, ok := u.sink("web-02", false).held(); ok {
		t.Error("held returns a credential that is not there")
	}

	// R29: a profile that is there is neither overwritten nor, with replace, lost before the new credential is proven.
	err := u.sink("web-01", false).prepare()
	if !fault.Is(err, fault.Exists) || !strings.Contains(fault.From(err).Hint, "--replace") {
		t.Errorf("prepare over a profile = %v, want exists with a hint", err)
	}
	for _, finishes := range []bool{false, true} {
		s = u.sink("web-01", true)
		succeed(t, s.prepare())
		succeed(t, s.fill(second))
		u.holds("web-01", first.cred.AccessKeyID)
		u.holds("web-01.new", second.cred.AccessKeyID)
		u.lists("web-01", "web-01.new")
		if finishes {
			succeed(t, s.finish())
		}
		s.abort()
		u.holds("web-01.new", "")
		u.lists("web-01")
		if !finishes {
			u.holds("web-01", first.cred.AccessKeyID)
		}
	}
	u.holds("web-01", second.cred.AccessKeyID)
	if u.words.Len() > 0 {
		t.Errorf("it said %q", u.words)
	}
}

// With replace there need be nothing to replace.
func TestKeyringSinkReplacesNothing(t *testing.T) {
	u := newKeyringUser(t, keyringtest.New(t).Env())
	i := drawnCredential(t, "web-01")
	s := u.sink("web-01", true)
	succeed(t, s.prepare())
	succeed(t, s.fill(i))
	succeed(t, s.finish())
	u.holds("web-01", i.cred.AccessKeyID)
	u.lists("web-01")
}

// A profile that appears between prepare and fill is not overwritten either.
func TestR29_KeyringProfileIsNotOverwritten(t *testing.T) {
	u := newKeyringUser(t, keyringtest.New(t).Env())
	mine, theirs := drawnCredential(t, "web-01"), drawnCredential(t, "web-01")
	s, other := u.sink("web-01", false), u.sink("web-01", false)
	succeed(t, s.prepare())
	succeed(t, other.prepare())
	succeed(t, other.fill(theirs))
	if err := s.fill(mine); !fault.Is(err, fault.Exists) {
		t.Errorf("fill over a profile = %v, want exists", err)
	}
	s.abort()
	u.holds("web-01", theirs.cred.AccessKeyID)
}

// What a run that was killed left beside a profile may be the only copy of a credential that works.
func TestR29_KeyringLeftoverIsKept(t *testing.T) {
	u := newKeyringUser(t, keyringtest.New(t).Env())
	old, killed, last := drawnCredential(t, "web-01"), drawnCredential(t, "web-01"), drawnCredential(t, "web-01")
	succeed(t, u.sink("web-01", false).fill(old))
	s := u.sink("web-01", true)
	succeed(t, s.prepare())
	succeed(t, s.fill(killed))
	s = u.sink("web-01", true)
	succeed(t, s.prepare())
	succeed(t, s.fill(last))
	u.holds("web-01.new2", last.cred.AccessKeyID)
	succeed(t, s.finish())
	u.holds("web-01", last.cred.AccessKeyID)
	u.holds("web-01.new", killed.cred.AccessKeyID)
	u.holds("web-01.new2", "")
	u.lists("web-01", "web-01.new")
}

// The names beside a profile are profiles, also those of the longest.
func TestBesideProfile(t *testing.T) {
	for _, profile := range []string{"a", "web-01", strings.Repeat("x", 61), strings.Repeat("x", 64)} {
		for _, n := range []int{1, 2, 10} {
			if beside := besideProfile(profile, n); login.CheckName(beside) != nil || beside == profile || beside == besideProfile(profile, n+1) {
				t.Errorf("besideProfile(%q, %d) = %q", profile, n, beside)
			}
		}
	}
}

// R28: when the old profile cannot be replaced after the proof, the new credential is the one that works: it stays, and
// the message says where.
func TestR28_AProvenCredentialStaysInTheKeyring(t *testing.T) {
	session, times := keyringtest.NewWithout(t), 0
	fake := &keyringtest.Fake{Keep: func(value []byte) []byte {
		if times++; times == 3 { // the old one, the new one beside it, the new one in its place
			return []byte("half of it")
		}
		return value
	}}
	fake.Serve(t, session)
	u := newKeyringUser(t, session.Env())
	old, proven := drawnCredential(t, "web-01"), drawnCredential(t, "web-01")
	succeed(t, u.sink("web-01", false).fill(old))
	s := u.sink("web-01", true)
	succeed(t, s.prepare())
	succeed(t, s.fill(proven))
	err := s.finish()
	if f := fault.From(err); f == nil || f.Code != fault.Unavailable || !strings.Contains(f.Hint, `the credential is active; it is in the keyring under the profile "web-01.new"`) {
		t.Errorf("finish = %v, want it to say where the credential is", err)
	}
	s.abort()
	u.holds("web-01.new", proven.cred.AccessKeyID)
	u.holds("web-01", old.cred.AccessKeyID)
}

// R30: a keyring that forgets, or that cannot be used, is found out before anything is in force.
func TestR30_KeyringSinkFails(t *testing.T) {
	session := keyringtest.NewWithout(t)
	(&keyringtest.Fake{Keep: func([]byte) []byte { return nil }}).Serve(t, session)
	u := newKeyringUser(t, session.Env())
	s := u.sink("web-01", false)
	succeed(t, s.prepare())
	if err := s.fill(drawnCredential(t, "web-01")); !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "does not give it back") {
		t.Errorf("fill of a keyring that forgets = %v, want unavailable", err)
	}
	s.abort()
	u.lists()
	for _, name := range []string{"", "-x", "a b"} {
		if _, err := u.newKeyringSink(t.Context(), name, false); !fault.Is(err, fault.Invalid) {
			t.Errorf("a sink for %q = %v, want invalid", name, err)
		}
	}
}

func TestR30_KeyringSinkWithoutKeyring(t *testing.T) {
	u := newKeyringUser(t, keyringtest.Nowhere)
	if err := u.sink("web-01", false).prepare(); !fault.Is(err, fault.Unavailable) || !strings.Contains(fault.From(err).Hint, "--out FILE") {
		t.Errorf("prepare without a keyring = %v, want unavailable and a way around it", err)
	}
}

// From its commit to its proof a credential goes into the keyring as into any other place: what is there works, and what
// was not stored was never in force.
func TestKeyringDelivery(t *testing.T) {
	u := newKeyringUser(t, keyringtest.New(t).Env())
	service, err := u.openOrCreate(t.Context())
	succeed(t, err)
	deliver := func(ctx context.Context, name, profile string) error {
		request := keys.NewKey{Name: name}
		d := &delivery{sinks: []sink{u.sink(profile, false)}}
		_, err := u.issue(ctx, service, startDrawing(rand.Reader), d, func(offer keys.Offer) (keys.Pending, error) {
			request.Offer = offer
			return service.CreateKey(ctx, request)
		})
		return err
	}
	succeed(t, deliver(t.Context(), "web-01", "web"))
	cred, ok := u.sink("web", false).held()
	if !ok {
		t.Fatal("the keyring has no credential")
	}
	verdict, err := service.Verify(t.Context(), keys.Question{AccessKeyID: cred.AccessKeyID, SigningKey: cred.SigningKey})
	if err != nil || !checkCrypto(verdict, cred).Allowed {
		t.Errorf("what is in the keyring is answered with %+v, %v", verdict, err)
	}
	if err := deliver(t.Context(), "web-02", "web"); !fault.Is(err, fault.Exists) {
		t.Errorf("a delivery over a profile = %v, want exists", err)
	}
	if _, err := service.Key(t.Context(), "web-02"); !fault.Is(err, fault.NotFound) {
		t.Errorf("the key that was not delivered = %v, want not_found", err)
	}
	if info, err := os.Stat(u.cfg.CredentialsPath); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the list: %v, want mode 0600", err)
	}
}

// R28: what the keyring did not keep is withdrawn, and the command says so.
func TestR28_KeyringThatForgets(t *testing.T) {
	session := keyringtest.NewWithout(t)
	(&keyringtest.Fake{Keep: func([]byte) []byte { return nil }}).Serve(t, session)
	u := newKeyringUser(t, session.Env())
	service, err := u.openOrCreate(t.Context())
	succeed(t, err)
	request := keys.NewKey{Name: "web-01"}
	d := &delivery{sinks: []sink{u.sink("web-01", false)}}
	_, err = u.issue(t.Context(), service, startDrawing(rand.Reader), d, func(offer keys.Offer) (keys.Pending, error) {
		request.Offer = offer
		return service.CreateKey(t.Context(), request)
	})
	if !fault.Is(err, fault.Undelivered) || !strings.Contains(err.Error(), `to the profile "web-01" of the keyring`) {
		t.Errorf("the delivery = %v, want undelivered", err)
	}
	if _, err := service.Key(t.Context(), "web-01"); !fault.Is(err, fault.NotFound) {
		t.Errorf("the key = %v, want not_found", err)
	}
}
