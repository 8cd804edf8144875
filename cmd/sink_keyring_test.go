//go:build unix

package cmd

import (
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"keyctl/internal/credential"
	"keyctl/internal/desktoptest"
	"keyctl/internal/keyringtest"
	"keyctl/internal/login"
)

// keyringOf makes a Secret Service that misbehaves the keyring of the world.
func (w *world) keyringOf(fake *keyringtest.Fake) {
	w.t.Helper()
	session := keyringtest.NewWithout(w.t)
	fake.Serve(w.t, session)
	w.env = append(slices.Clone(w.env), session.Env())
}

// stored reads a profile of the keyring.
func (w *world) stored(profile string) credential.Credential {
	w.t.Helper()
	return parseCredential(w.t, w.ok("run", "--key", profile, "--", "env"), "")
}

// wantProfiles compares the profiles on the list, and asks the keyring for each.
func (w *world) wantProfiles(want ...string) {
	w.t.Helper()
	got := strings.Fields(w.ok("credentials", "list", "-o", "name"))
	if !slices.Equal(got, want) {
		w.t.Errorf("the list has %q, want %q", got, want)
	}
	for _, profile := range want {
		w.ok("credentials", "show", profile)
	}
}

// The old copy lives until the new credential is proven: here the key is switched off in between.
func TestR29_KeyringKeepsTheOldCopyUntilTheProof(t *testing.T) {
	w := newWorld(t)
	w.keyring()
	phone := w.enrol()
	w.ok("keys", "create", "web-01", "--keyring")
	before := w.stored("web-01")
	args := []string{"roll", "web-01", "--expire", "1h", "--otp", phone.code(), "--keyring", "--replace", "--print"}
	c, reader, words := w.stopAtOutput(args...)
	for deadline := time.Now().Add(hang); w.run("credentials", "show", "web-01.new").status != exitOK; {
		if time.Now().After(deadline) {
			t.Fatal("the new credential never came into the keyring")
		}
	}
	if now := w.stored("web-01"); !now.SigningKey.Equal(before.SigningKey) {
		t.Errorf("before the proof the profile holds %s, want the old copy", now.AccessKeyID)
	}
	w.ok("keys", "disable", "web-01", "--yes")
	go func() { _, _ = io.Copy(io.Discard, reader) }()
	w.wait(c)
	result{err: words.String(), status: c.ProcessState.ExitCode()}.wants(t, exitConflict, args...)
	w.wantProfiles("web-01")
	if now := w.stored("web-01"); !now.SigningKey.Equal(before.SigningKey) {
		t.Errorf("after a roll that was not proven the profile holds %s, want the old copy", now.AccessKeyID)
	}
	w.ok("keys", "enable", "web-01")
	w.ok("credentials", "check", "web-01")

	w.ok("roll", "web-01", "--expire", "1h", "--otp", phone.code(), "--keyring", "--replace")
	w.wantProfiles("web-01")
	if now := w.stored("web-01"); now.AccessKeyID == before.AccessKeyID || now.AccessKeyID != w.keys()["web-01"].AccessKeyID {
		t.Errorf("a proven roll left %s in the profile", now.AccessKeyID)
	}
	if out := w.ok("credentials", "check", "web-01", "--jq", ".credential"); out != "current\n" {
		t.Errorf("credentials check says %q of the new one", out)
	}
}

// A profile that appears while a person looks for a code is not overwritten either.
func TestR29_KeyringProfileIsNotOverwritten(t *testing.T) {
	w := newWorld(t)
	w.keyring()
	phone := w.enrol()
	w.ok("keys", "create", "web-01", "--out", "web-01.env")
	w.write("code", phone.code())
	roll := w.command("roll", "web-01", "--expire", "1h", "--keyring", "--otp-command", "touch here; while [ ! -e go ]; do sleep 0.01; done; cat code")
	words := newWatcher("\x00 never")
	roll.Stderr = words
	if err := roll.Start(); err != nil {
		t.Fatal(err)
	}
	waitForFile(t, w.path("here"))
	w.ok("keys", "create", "web-02", "--keyring=web-01")
	w.write("go", "")
	w.wait(roll)
	result{err: words.String(), status: roll.ProcessState.ExitCode()}.wants(t, exitUndelivered, "roll")
	if !strings.Contains(words.String(), `to the profile "web-01" of the keyring: there is a profile "web-01" in the keyring already`) {
		t.Errorf("the roll says %q", words)
	}
	if got := w.stored("web-01").AccessKeyID; got != w.keys()["web-02"].AccessKeyID {
		t.Errorf("the profile holds %s, want what was stored first", got)
	}
	w.ok("verify", "--from", "web-01.env")
}

// What a run that was killed left beside a profile may be the only copy of a credential that works.
func TestR29_KeyringLeftoverIsKept(t *testing.T) {
	w := newWorld(t)
	w.keyring()
	phone := w.enrol()
	w.ok("keys", "create", "web-01", "--keyring")
	c, _, _ := w.stopAtOutput("roll", "web-01", "--expire", "1h", "--otp", phone.code(), "--keyring", "--replace", "--print")
	for deadline := time.Now().Add(hang); w.run("credentials", "show", "web-01.new").status != exitOK; {
		if time.Now().After(deadline) {
			t.Fatal("the new credential never came into the keyring")
		}
	}
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	w.wait(c)
	killed := w.stored("web-01.new")
	w.write("killed", w.ok("run", "--key", "web-01.new", "--", "env"))
	w.ok("keys", "activate", "--from", "killed")
	w.ok("roll", "web-01", "--expire", "1h", "--otp", phone.code(), "--finish-previous", "--keyring", "--replace")
	w.wantProfiles("web-01", "web-01.new")
	if got := w.stored("web-01").AccessKeyID; got != w.keys()["web-01"].AccessKeyID {
		t.Errorf("the profile holds %s, want the current credential", got)
	}
	if got := w.stored("web-01.new"); !got.SigningKey.Equal(killed.SigningKey) {
		t.Errorf("the profile beside holds %s, want what was left there", got.AccessKeyID)
	}
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

// R28: when the old profile cannot be replaced after the proof, the new credential is the one that works: it stays where it
// is, the message says where, and no other place loses it.
func TestR28_AProvenCredentialStaysInTheKeyring(t *testing.T) {
	d, w := desktoptest.X11(t), newWorld(t)
	w.atDesktop(d)
	times := 0
	w.keyringOf(&keyringtest.Fake{Keep: func(value []byte) []byte {
		if times++; times == 3 { // the old one, the new one beside it, the new one in its place
			return []byte("half of it")
		}
		return value
	}})
	phone := w.enrol()
	w.ok("keys", "create", "web-01", "--keyring")
	old := w.stored("web-01")
	args := []string{"roll", "web-01", "--expire", "1h", "--otp", phone.code(), "--keyring", "--replace", "--copy"}
	r := w.run(args...)
	r.wants(t, exitUnavailable, args...)
	if !strings.Contains(r.err, `hint: the credential is active; it is in the keyring under the profile "web-01.new"`) {
		t.Errorf("stderr = %q, want it to say where the credential is", r.err)
	}
	current := w.keys()["web-01"].AccessKeyID
	if got := w.stored("web-01.new").AccessKeyID; got != current {
		t.Errorf("the profile beside holds %s, want the current %s", got, current)
	}
	if got := w.pasted(d).AccessKeyID; got != current {
		t.Errorf("the clipboard holds %q, want the current %s", got, current)
	}
	if got := w.stored("web-01").AccessKeyID; got != old.AccessKeyID {
		t.Errorf("the profile holds %s, want the old copy", got)
	}
}

// R28: the same the other way round. What stays in the keyring is no less in force because a file could not be replaced.
func TestR28_AProvenCredentialStaysInOtherPlaces(t *testing.T) {
	w := newWorld(t)
	w.keyring()
	phone := w.enrol()
	if err := os.Mkdir(w.path("out"), 0o700); err != nil {
		t.Fatal(err)
	}
	w.ok("keys", "create", "web-01", "--out", "out/web-01", "--keyring=old")
	args := []string{"roll", "web-01", "--expire", "1h", "--otp", phone.code(), "--out", "out/web-01", "--replace", "--keyring", "--print"}
	c, reader, words := w.stopAtOutput(args...)
	if err := os.Rename(w.path("out", "web-01"), w.path("moved")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(w.path("moved"), w.path("out", "web-01")); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, reader) }()
	w.wait(c)
	result{err: words.String(), status: c.ProcessState.ExitCode()}.wants(t, exitForbidden, args...)
	w.wantProfiles("old", "web-01")
	if got := w.stored("web-01").AccessKeyID; got != w.keys()["web-01"].AccessKeyID {
		t.Errorf("the keyring holds %s, want the current credential", got)
	}
}

// R30: a keyring that waits for a dialog that nobody answers is waited for once. Nothing is made, and no code is spent.
func TestR30_KeyringIsAskedOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	fake := &keyringtest.Fake{Unanswered: true}
	w.keyringOf(fake)
	phone := w.enrol()
	w.ok("keys", "create", "web-01", "--out", "web-01.env")
	before, code := w.head(), phone.code()
	for i, args := range []string{
		"keys create web-02 --keyring --out web-02.env", "keys create web-02 --keyring",
		"roll web-01 --expire 1h --keyring --otp " + code,
	} {
		r := w.run(strings.Fields(args)...)
		r.wants(t, exitUnavailable, args)
		if !strings.Contains(r.err, "the keyring did not answer within 3s") || !strings.Contains(r.err, "--out FILE") || r.out != "" {
			t.Errorf("%q says %q and %q, want why and what else to do", args, r.out, r.err)
		}
		if n := fake.Unlocks(); n != i+1 {
			t.Errorf("after %q the keyring was asked to unlock %d times, want once for each command", args, n)
		}
	}
	if w.head() != before || exists(w.path("web-02.env")) {
		t.Error("something was made")
	}
	w.ok("roll", "web-01", "--expire", "1h", "--out", "rolled.env", "--otp", code)
}
