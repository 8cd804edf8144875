//go:build linux

package login

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"keyctl/internal/credential"
	"keyctl/internal/fault"
	"keyctl/internal/keyringtest"
)

// onRing starts a keyring and uses it.
func onRing(t *testing.T) (*keyringtest.Session, Ring) {
	t.Helper()
	s := keyringtest.New(t)
	keyringtest.Use(t, s.Env())
	return s, patient
}

// patient waits long enough for a loaded machine.
var patient = Ring{wait: 30 * time.Second}

// onFake serves a keyring that misbehaves.
func onFake(t *testing.T, f *keyringtest.Fake) Ring {
	t.Helper()
	s := keyringtest.NewWithout(t)
	keyringtest.Use(t, s.Env())
	f.Serve(t, s)
	return patient
}

func whole(value []byte) []byte { return value }

func secretOf(text string) credential.Secret { return credential.NewSecret(text) }

func TestItems(t *testing.T) {
	_, ring := onRing(t)
	ctx := t.Context()
	if err := ring.Check(ctx, Credential); err != nil {
		t.Fatalf("Check = %v", err)
	}
	if _, err := ring.Load(ctx, MasterKey, "prod"); !fault.Is(err, fault.NotFound) {
		t.Errorf("Load of nothing = %v, want not_found", err)
	}
	if err := ring.Remove(ctx, MasterKey, "prod"); !fault.Is(err, fault.NotFound) {
		t.Errorf("Remove of nothing = %v, want not_found", err)
	}
	for _, text := range []string{"first", "second", strings.Repeat("x", maxSecret), "two\nlines and ünïcode\n"} {
		if err := ring.Store(ctx, MasterKey, "prod", secretOf(text)); err != nil {
			t.Fatalf("Store of %d bytes = %v", len(text), err)
		}
		got, err := ring.Load(ctx, MasterKey, "prod")
		if err != nil || got.Reveal() != text {
			t.Errorf("Load after Store of %d bytes = %d bytes, %v", len(text), len(got.Reveal()), err)
		}
	}
	// The same name of another kind is another item.
	if err := ring.Store(ctx, Credential, "prod", secretOf("of another kind")); err != nil {
		t.Fatal(err)
	}
	if err := ring.Remove(ctx, MasterKey, "prod"); err != nil {
		t.Errorf("Remove = %v", err)
	}
	if _, err := ring.Load(ctx, MasterKey, "prod"); !fault.Is(err, fault.NotFound) {
		t.Errorf("Load after Remove = %v, want not_found", err)
	}
	if got, err := ring.Load(ctx, Credential, "prod"); err != nil || got.Reveal() != "of another kind" {
		t.Errorf("Load of the other kind = %v", err)
	}
}

// The names under which items are stored are those of the package comment: secret-tool finds and makes the same ones.
func TestItemNames(t *testing.T) {
	s, ring := onRing(t)
	run := func(input string, args ...string) string {
		t.Helper()
		c := exec.Command("secret-tool", args...)
		c.Env, c.Stdin = append(c.Environ(), s.Env()), strings.NewReader(input)
		out, err := c.Output()
		if err != nil {
			t.Fatalf("secret-tool %q: %v", args, err)
		}
		return string(out)
	}
	if err := ring.Store(t.Context(), Credential, "web-01", secretOf("stored")); err != nil {
		t.Fatal(err)
	}
	if got := run("", "lookup", "service", "keyctl-credential", "username", "web-01"); got != "stored" {
		t.Errorf("secret-tool finds %q", got)
	}
	run("by hand", "store", "--label=keyctl", "service", "keyctl-master-key", "username", "prod")
	if got, err := ring.Load(t.Context(), MasterKey, "prod"); err != nil || got.Reveal() != "by hand" {
		t.Errorf("Load of what secret-tool stored = %q, %v", got.Reveal(), err)
	}
	// Two items may bear the same names; Remove leaves neither.
	run("twice", "store", "--label=keyctl", "service", "keyctl-credential", "username", "web-01", "more", "attributes")
	if err := ring.Remove(t.Context(), Credential, "web-01"); err != nil {
		t.Fatal(err)
	}
	if _, err := ring.Load(t.Context(), Credential, "web-01"); !fault.Is(err, fault.NotFound) {
		t.Errorf("Load after Remove of two = %v, want not_found", err)
	}
}

func TestRefusedItems(t *testing.T) {
	_, ring := onRing(t)
	for _, name := range []string{"", "?", "-x", "a b", strings.Repeat("x", 65), "KC0123456789012345678901", "a/../b"} {
		for op, err := range map[string]error{
			"Store":  ring.Store(t.Context(), Credential, name, secretOf("x")),
			"Remove": ring.Remove(t.Context(), Credential, name),
		} {
			if !fault.Is(err, fault.Invalid) {
				t.Errorf("%s(%q) = %v, want invalid", op, name, err)
			}
		}
		if _, err := ring.Load(t.Context(), Credential, name); !fault.Is(err, fault.Invalid) {
			t.Errorf("Load(%q) = %v, want invalid", name, err)
		}
	}
	for _, size := range []int{0, maxSecret + 1} {
		if err := ring.Store(t.Context(), Credential, "web-01", secretOf(strings.Repeat("x", size))); !fault.Is(err, fault.Invalid) {
			t.Errorf("Store of %d bytes = %v, want invalid", size, err)
		}
	}
	if _, err := ring.Load(t.Context(), Credential, "web-01"); !fault.Is(err, fault.NotFound) {
		t.Errorf("after refusals Load = %v, want not_found", err)
	}
}

// The longest item keeps within the line of 4096 bytes that go-keyring passes to security on macOS.
func TestLongestItemOnMacOS(t *testing.T) {
	encoded := (maxSecret + 2) / 3 * 4
	line := "add-generic-password -U -s " + string(Credential) + " -a " + strings.Repeat("x", 64) + " -w go-keyring-base64:" + strings.Repeat("x", encoded) + "\n"
	if len(line) > 4096 {
		t.Errorf("the longest item makes a line of %d bytes", len(line))
	}
}

// Look tells what there is, also the second time: it unlocks nothing.
func TestR30_Look(t *testing.T) {
	s, ring := onRing(t)
	if err := ring.Look(t.Context(), Credential); err != nil {
		t.Errorf("Look at an unlocked keyring = %v", err)
	}
	if err := s.Lock(); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []Kind{Credential, MasterKey} {
		err := ring.Look(t.Context(), kind)
		f := fault.From(err)
		if !fault.Is(err, fault.Unavailable) || !errors.Is(err, ErrLocked) || !strings.Contains(f.Message, "the keyring is locked") || !strings.Contains(f.Hint, kind.instead()) {
			t.Errorf("Look at a locked keyring = %v, want unavailable because of ErrLocked", err)
		}
	}
}

// Where a dialog would open, Look does not wait for the end of one.
func TestR30_LookOpensNoDialog(t *testing.T) {
	fake := &keyringtest.Fake{Unanswered: true}
	ring := onFake(t, fake)
	if err := ring.Look(t.Context(), Credential); !errors.Is(err, ErrLocked) {
		t.Errorf("Look = %v, want ErrLocked", err)
	}
	if n := fake.Unlocks(); n != 0 {
		t.Errorf("it was asked %d times to unlock", n)
	}
	ring.wait = 100 * time.Millisecond
	if err := ring.Check(t.Context(), Credential); errors.Is(err, ErrLocked) || fake.Unlocks() == 0 {
		t.Errorf("Check = %v after %d requests to unlock: the test proves nothing", err, fake.Unlocks())
	}
}

func TestR30_LookStartsNothing(t *testing.T) {
	s, started := keyringtest.NewWithout(t), t.TempDir()+"/started"
	keyringtest.Use(t, s.Env())
	program := t.TempDir() + "/keyring"
	writeProgram(t, program, "#!/bin/sh\ntouch "+started+"\nexit 1\n")
	if err := s.StartOnDemand(program); err != nil {
		t.Fatal(err)
	}
	if err := patient.Look(t.Context(), Credential); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), "does not run yet") {
		t.Errorf("Look = %v, want ErrLocked", err)
	}
	if exists(started) {
		t.Error("the service was started")
	}
	if err := patient.Check(t.Context(), Credential); !fault.Is(err, fault.Unavailable) || !exists(started) {
		t.Errorf("Check = %v, and started the service: %v: the test proves nothing", err, exists(started))
	}
}

// A keyring without a collection has nothing that could be unlocked: a dialog would make one.
func TestR30_LookWithoutCollection(t *testing.T) {
	ring := onFake(t, &keyringtest.Fake{Empty: true})
	if err := ring.Look(t.Context(), Credential); !errors.Is(err, ErrLocked) {
		t.Errorf("Look = %v, want ErrLocked", err)
	}
}

// every runs each operation and hands the errors to check.
func every(t *testing.T, ring Ring, check func(operation string, err error)) {
	t.Helper()
	check("Check", ring.Check(t.Context(), Credential))
	if !strings.Contains(t.Name(), "dialog") { // which Look does not wait for
		check("Look", ring.Look(t.Context(), Credential))
	}
	check("Store", ring.Store(t.Context(), Credential, "web-01", secretOf("kept")))
	_, err := ring.Load(t.Context(), Credential, "web-01")
	check("Load", err)
	check("Remove", ring.Remove(t.Context(), Credential, "web-01"))
}

// R30: a keyring that cannot be used is told apart from an item that is not there, and it is said why.
func TestR30_Unavailable(t *testing.T) {
	for _, tt := range []struct {
		name  string
		setUp func(t *testing.T) Ring
		want  string
	}{
		{"no session", func(t *testing.T) Ring {
			keyringtest.Use(t, keyringtest.Nowhere)
			return patient
		}, "no D-Bus session"},
		{"no service", func(t *testing.T) Ring {
			keyringtest.Use(t, keyringtest.NewWithout(t).Env())
			return patient
		}, "nothing on the D-Bus session offers the Secret Service"},
		{"locked", func(t *testing.T) Ring {
			s, ring := onRing(t)
			if err := ring.Store(t.Context(), Credential, "web-01", secretOf("kept")); err != nil {
				t.Fatal(err)
			}
			if err := s.Lock(); err != nil {
				t.Fatal(err)
			}
			return ring
		}, "the keyring is locked"},
		{"unanswered dialog", func(t *testing.T) Ring {
			onFake(t, &keyringtest.Fake{Unanswered: true})
			return Ring{wait: 100 * time.Millisecond}
		}, "did not answer within 100ms"},
		{"nonsense", func(t *testing.T) Ring {
			return onFake(t, &keyringtest.Fake{Nonsense: true})
		}, "makes no sense"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			every(t, tt.setUp(t), func(operation string, err error) {
				f := fault.From(err)
				if f == nil || f.Code != fault.Unavailable || !strings.Contains(f.Message, tt.want) || !strings.Contains(f.Hint, "--out FILE") {
					t.Errorf("%s = %v, want unavailable with %q and a way around it", operation, err, tt.want)
				}
			})
		})
	}
}

// Where there is no session none is started: dbus-launch, which go-keyring would run, leaves one behind for good.
func TestNoSessionIsStarted(t *testing.T) {
	dir := t.TempDir()
	launched := dir + "/launched"
	script := "#!/bin/sh\ntouch " + launched + "\n"
	writeProgram(t, dir+"/dbus-launch", script)
	t.Setenv("PATH", dir)
	keyringtest.Use(t, "DBUS_SESSION_BUS_ADDRESS=autolaunch:")
	if err := patient.Check(t.Context(), Credential); !fault.Is(err, fault.Unavailable) {
		if os.Getenv("CI") == "true" {
			t.Fatalf("this machine has a session that is found without its address: %v", err)
		}
		t.Skipf("this machine has a session that is found without its address: %v", err)
	}
	if exists(launched) {
		t.Error("dbus-launch was run")
	}
}

// R30: a keyring that says yes and stores nothing, or half of it, is found out, and leaves nothing behind.
func TestR30_StoreReadsBack(t *testing.T) {
	for name, keep := range map[string]func([]byte) []byte{
		"nothing": func([]byte) []byte { return nil },
		"half":    func(value []byte) []byte { return value[:len(value)/2] },
		"empty":   func([]byte) []byte { return []byte{} },
		"other":   func([]byte) []byte { return []byte("something else of some length") },
	} {
		t.Run(name, func(t *testing.T) {
			fake := &keyringtest.Fake{Keep: keep}
			ring := onFake(t, fake)
			err := ring.Store(t.Context(), Credential, "web-01", secretOf("a secret of some length"))
			if !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "does not give it back") {
				t.Errorf("Store = %v, want unavailable", err)
			}
			if left := fake.Values(); len(left) != 0 {
				t.Errorf("the keyring still has %q", left)
			}
		})
	}
}

// After a Store that failed, what was there before is there again.
func TestR30_FailedStoreKeepsTheOldItem(t *testing.T) {
	times := 0
	ring := onFake(t, &keyringtest.Fake{Keep: func(value []byte) []byte {
		if times++; times == 2 {
			return value[:4]
		}
		return value
	}})
	if err := ring.Store(t.Context(), Credential, "web-01", secretOf("the old secret")); err != nil {
		t.Fatal(err)
	}
	if err := ring.Store(t.Context(), Credential, "web-01", secretOf("the new secret")); !fault.Is(err, fault.Unavailable) {
		t.Errorf("Store = %v, want unavailable", err)
	}
	if got, err := ring.Load(t.Context(), Credential, "web-01"); err != nil || got.Reveal() != "the old secret" {
		t.Errorf("after a failed Store Load = %q, %v, want the old secret", got.Reveal(), err)
	}
}

// A removal that did not happen is no success.
func TestRemoveMakesSure(t *testing.T) {
	ring := onFake(t, &keyringtest.Fake{Keep: whole, Stubborn: true})
	if err := ring.Store(t.Context(), Credential, "web-01", secretOf("a secret")); err != nil {
		t.Fatal(err)
	}
	if err := ring.Remove(t.Context(), Credential, "web-01"); !fault.Is(err, fault.Unavailable) {
		t.Errorf("Remove = %v, want unavailable", err)
	}
}

// An interrupt ends the wait for a dialog.
func TestInterrupt(t *testing.T) {
	ring := onFake(t, &keyringtest.Fake{Unanswered: true})
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	if err := ring.Check(ctx, Credential); !errors.Is(err, context.Canceled) {
		t.Errorf("Check = %v, want context.Canceled", err)
	}
}

// A person gets the time to answer a dialog, a script a quick answer.
func TestR30_Bounds(t *testing.T) {
	if got := Open(true).wait; got != 60*time.Second {
		t.Errorf("with a person an operation takes up to %v", got)
	}
	if got := Open(false).wait; got != 3*time.Second {
		t.Errorf("without a person an operation takes up to %v", got)
	}
}
