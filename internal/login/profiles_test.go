//go:build linux

package login

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"keyctl/internal/credential"
	"keyctl/internal/fault"
)

func writeProgram(t *testing.T, path, script string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// drawn returns a new credential of a key.
func drawn(t *testing.T, name string) credential.Credential {
	t.Helper()
	cred, err := credential.Draw(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cred.Name, cred.Datasets = name, []string{"payments"}
	return cred
}

// user has profiles in a keyring, and remembers what was warned of.
type user struct {
	Profiles
	mu       sync.Mutex
	warnings []string
}

var at = time.Date(2027, 1, 31, 9, 0, 0, 0, time.UTC)

func newUser(t *testing.T, ring Ring) *user {
	t.Helper()
	u := &user{}
	u.Profiles = Profiles{
		Ring: ring, IndexPath: filepath.Join(t.TempDir(), "share", "keyctl", "credentials.json"), Wait: 30 * time.Second,
		Now: func() time.Time { return at },
		Warn: func(message string) {
			u.mu.Lock()
			defer u.mu.Unlock()
			u.warnings = append(u.warnings, message)
		},
	}
	return u
}

func profilesOf(entries []Stored) (profiles []string) {
	for _, s := range entries {
		profiles = append(profiles, s.Profile)
	}
	return profiles
}

func TestProfiles(t *testing.T) {
	_, ring := onRing(t)
	u, ctx := newUser(t, ring), t.Context()
	web, db := drawn(t, "web-01"), drawn(t, "db-01")
	web.Server = "https://keys.example.com"
	if err := u.Add(ctx, "web", web); err != nil {
		t.Fatal(err)
	}
	if err := u.Put(ctx, "db-01", db); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(u.IndexPath); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the list has mode %v, %v, want 0600", info.Mode(), err)
	}
	text, err := os.ReadFile(u.IndexPath)
	if err != nil || strings.Contains(string(text), "kcs_") || strings.Contains(string(text), "kcx_") {
		t.Errorf("the list is %q, %v, want no secret in it", text, err)
	}
	got, err := u.Load(ctx, "web")
	if err != nil || got.Name != "web-01" || got.AccessKeyID != web.AccessKeyID || got.Server != web.Server ||
		!got.SigningKey.Equal(web.SigningKey) || !got.CryptoAccessKey.Equal(web.CryptoAccessKey) || got.Datasets != nil {
		t.Errorf("Load = %+v, %v, want what was stored, without its datasets", got, err)
	}
	want := []Stored{
		{Profile: "db-01", Key: &db.Name, AccessKeyID: db.AccessKeyID, StoredAt: &at},
		{Profile: "web", Key: &web.Name, AccessKeyID: web.AccessKeyID, Server: &web.Server, StoredAt: &at},
	}
	if diff := cmp.Diff(want, u.List()); diff != "" {
		t.Errorf("List differs (-want +got):\n%s", diff)
	}
	if s, err := u.Show(ctx, "web"); err != nil || cmp.Diff(want[1], s) != "" {
		t.Errorf("Show = %+v, %v", s, err)
	}
	if err := u.Add(ctx, "web", drawn(t, "web-01")); !fault.Is(err, fault.Exists) {
		t.Errorf("Add of what is there = %v, want exists", err)
	}
	for ref, profile := range map[string]string{"web": "web", "web-01": "web", web.AccessKeyID: "web", "db-01": "db-01"} {
		if found, cred, err := u.Find(ctx, ref); err != nil || found != profile || cred.AccessKeyID == "" {
			t.Errorf("Find(%s) = %s, %v, want %s", ref, found, err, profile)
		}
	}
	for _, ref := range []string{"nope", drawn(t, "x").AccessKeyID} {
		if _, _, err := u.Find(ctx, ref); !fault.Is(err, fault.NotFound) || fault.From(err).Hint == "" {
			t.Errorf("Find(%s) = %v, want not_found and a hint", ref, err)
		}
	}
	if err := u.Add(ctx, "web-b", drawn(t, "web-01")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := u.Find(ctx, "web-01"); !fault.Is(err, fault.Invalid) || !strings.Contains(fault.From(err).Hint, "web, web-b") {
		t.Errorf("Find of a key with two profiles = %v, want them named", err)
	}
	for _, profile := range []string{"web", "web-b", "db-01"} {
		if err := u.Remove(ctx, profile); err != nil {
			t.Errorf("Remove(%s) = %v", profile, err)
		}
	}
	if err := u.Remove(ctx, "web"); !fault.Is(err, fault.NotFound) {
		t.Errorf("the second Remove = %v, want not_found", err)
	}
	if left := u.List(); len(left) != 0 || len(u.warnings) != 0 {
		t.Errorf("the list still has %v; warnings: %q", left, u.warnings)
	}
}

// The list is an aid: without it, or with a damaged one, or where it cannot be written, everything with a name is there.
func TestListIsAnAid(t *testing.T) {
	_, ring := onRing(t)
	ctx := t.Context()
	for name, spoil := range map[string]func(t *testing.T, u *user){
		"missing": func(t *testing.T, u *user) {
			if err := os.Remove(u.IndexPath); err != nil {
				t.Fatal(err)
			}
		},
		"damaged":  func(t *testing.T, u *user) { overwrite(t, u.IndexPath, `{"credentials": [`) },
		"nonsense": func(t *testing.T, u *user) { overwrite(t, u.IndexPath, `{"credentials": [{"profile": "../x"}]}`) },
		"no place": func(_ *testing.T, u *user) { u.IndexPath = "" },
		"below a file": func(t *testing.T, u *user) {
			overwrite(t, filepath.Join(filepath.Dir(u.IndexPath), "file"), "")
			u.IndexPath = filepath.Join(filepath.Dir(u.IndexPath), "file", "keyctl", "credentials.json")
		},
	} {
		t.Run(name, func(t *testing.T) {
			u := newUser(t, ring)
			cred := drawn(t, "web-01")
			if err := u.Put(ctx, "web-01", cred); err != nil {
				t.Fatal(err)
			}
			spoil(t, u)
			damaged, listable := name == "damaged" || name == "nonsense", name != "no place" && name != "below a file"
			if entries := u.List(); len(entries) != 0 || damaged && len(u.warnings) == 0 {
				t.Errorf("List = %v with warnings %q", entries, u.warnings)
			}
			if found, got, err := u.Find(ctx, "web-01"); err != nil || found != "web-01" || got.AccessKeyID != cred.AccessKeyID {
				t.Errorf("Find = %s, %v", found, err)
			}
			// Show puts it on the list again.
			if s, err := u.Show(ctx, "web-01"); err != nil || s.AccessKeyID != cred.AccessKeyID || s.StoredAt != nil {
				t.Errorf("Show = %+v, %v, want it without a time", s, err)
			}
			if entries := profilesOf(u.List()); slices.Equal(entries, []string{"web-01"}) != listable {
				t.Errorf("after Show the list has %q", entries)
			}
			if err := u.Put(ctx, "other", drawn(t, "other")); err != nil {
				t.Errorf("Put = %v, want the keyring to decide alone", err)
			}
			if err := u.Remove(ctx, "web-01"); err != nil {
				t.Errorf("Remove = %v", err)
			}
			if !listable && len(u.warnings) == 0 {
				t.Error("there was no warning")
			}
			if damaged {
				kept, err := os.ReadFile(u.IndexPath + ".damaged-1")
				if err != nil || !strings.Contains(string(kept), `"credentials": [`) {
					t.Errorf("the damaged list is not kept: %v", err)
				}
			}
			_ = u.Remove(ctx, "other")
		})
	}
}

func overwrite(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// What the list has and the keyring has not is found out, and can be taken off the list.
func TestListIsOutOfDate(t *testing.T) {
	_, ring := onRing(t)
	u, ctx := newUser(t, ring), t.Context()
	first, second := drawn(t, "web-01"), drawn(t, "web-01")
	if err := u.Put(ctx, "web", first); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(u.IndexPath)
	if err != nil {
		t.Fatal(err)
	}
	if err := u.Put(ctx, "web", second); err != nil {
		t.Fatal(err)
	}
	overwrite(t, u.IndexPath, string(text))
	if _, _, err := u.Find(ctx, first.AccessKeyID); !fault.Is(err, fault.NotFound) {
		t.Errorf("Find of a credential that gave way to another = %v, want not_found", err)
	}
	if s, err := u.Show(ctx, "web"); err != nil || s.AccessKeyID != second.AccessKeyID {
		t.Errorf("Show = %+v, %v, want what the keyring has", s, err)
	}
	if entries := u.List(); len(entries) != 1 || entries[0].AccessKeyID != second.AccessKeyID {
		t.Errorf("after Show the list has %+v", entries)
	}
	if err := ring.Remove(ctx, Credential, "web"); err != nil {
		t.Fatal(err)
	}
	if _, err := u.Show(ctx, "web"); !fault.Is(err, fault.NotFound) {
		t.Errorf("Show = %v, want not_found", err)
	}
	if err := u.Remove(ctx, "web"); err != nil || len(u.List()) != 0 {
		t.Errorf("Remove of what only the list has = %v; it has %v", err, u.List())
	}
	if err := ring.Store(ctx, Credential, "odd", secretOf("no credential")); err != nil {
		t.Fatal(err)
	}
	if _, err := u.Load(ctx, "odd"); !fault.Is(err, fault.Invalid) || strings.Contains(err.Error(), "no credential at all") {
		t.Errorf("Load of something else = %v, want invalid", err)
	}
}

// Of many that add the same profile one succeeds, and of many that add different ones none is missing from the list.
func TestR29_ProfilesAreAddedOnce(t *testing.T) {
	_, ring := onRing(t)
	u := newUser(t, ring)
	const workers = 8
	var all sync.WaitGroup
	creds, errs := make([]credential.Credential, workers), make([]error, workers)
	for i := range workers {
		creds[i] = drawn(t, "web-01")
		all.Go(func() {
			errs[i] = u.Add(t.Context(), "contested", creds[i])
			if err := u.Add(t.Context(), fmt.Sprintf("own-%d", i), creds[i]); err != nil {
				t.Errorf("Add of an own profile = %v", err)
			}
		})
	}
	all.Wait()
	won := slices.Index(errs, nil)
	for i, err := range errs {
		if i != won && !fault.Is(err, fault.Exists) {
			t.Errorf("Add %d = %v, want exists", i, err)
		}
	}
	got, err := u.Load(t.Context(), "contested")
	if won < 0 || err != nil || got.AccessKeyID != creds[won].AccessKeyID {
		t.Errorf("the profile holds %s, %v, want that of the one who succeeded", got.AccessKeyID, err)
	}
	if entries := u.List(); len(entries) != workers+1 {
		t.Errorf("the list has %q", profilesOf(entries))
	}
}
