package login

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"keyctl/internal/credential"
	"keyctl/internal/fault"
)

// Profiles are the credentials that are stored in a keyring, each under the name of its profile.
type Profiles struct {
	Ring      Ring
	IndexPath string               // of the file that lists them; empty where there is no place for one
	Wait      time.Duration        // for other processes that change profiles
	Now       func() time.Time     // when something is stored
	Warn      func(message string) // takes what is wrong with the list; required
}

func (p Profiles) index() index { return index{path: p.IndexPath, wait: p.Wait, warn: p.Warn} }

// Load returns the credential of a profile. fault.NotFound: the keyring has none; fault.Invalid: what it has is none.
func (p Profiles) Load(ctx context.Context, profile string) (credential.Credential, error) {
	text, err := p.Ring.Load(ctx, Credential, profile)
	if fault.Is(err, fault.NotFound) {
		return credential.Credential{}, fault.From(err).WithHint("`keyctl credentials list` shows what is stored")
	}
	if err != nil {
		return credential.Credential{}, err
	}
	cred, err := credential.Parse(strings.NewReader(text.Reveal()), "")
	if err != nil {
		return cred, fault.New(fault.Invalid, "what the keyring has under the profile %q is no credential", profile).
			WithHint("`keyctl credentials remove %s` takes it out", profile).WithCause(err)
	}
	return cred, nil
}

// Find returns the credential that ref means, and its profile: the profile of that name, else the one that the list has
// for an access key id or a key of that name. fault.NotFound: none; fault.Invalid: several.
func (p Profiles) Find(ctx context.Context, ref string) (profile string, cred credential.Credential, err error) {
	var notFound error = fault.New(fault.NotFound, "no credential of that access key id in the keyring").
		WithHint("`keyctl credentials list` shows what is stored")
	if !credential.IsAccessKeyID(ref) {
		if cred, err = p.Load(ctx, ref); !fault.Is(err, fault.NotFound) {
			return ref, cred, err
		}
		notFound = err
	}
	found := slices.DeleteFunc(p.List(), func(s Stored) bool { return s.AccessKeyID != ref && (s.Key == nil || *s.Key != ref) })
	switch len(found) {
	case 0:
		return "", cred, notFound
	case 1:
		profile = found[0].Profile
		if cred, err = p.Load(ctx, profile); err == nil && cred.AccessKeyID != ref && cred.Name != ref {
			err = notFound // the profile has got another credential since
		}
		return profile, cred, err
	}
	return "", cred, fault.New(fault.Invalid, "the keyring has several credentials of the key %q", ref).
		WithHint("name a profile: %s", names(found))
}

// List returns what is on the list, in the order of profiles. The keyring is not asked.
func (p Profiles) List() []Stored { return p.index().list() }

// Show returns what the keyring has under a profile, without the secrets, and puts it on the list if that says otherwise.
// Its errors are Load's.
func (p Profiles) Show(ctx context.Context, profile string) (Stored, error) {
	cred, err := p.Load(ctx, profile)
	if err != nil {
		return Stored{}, err
	}
	s := describe(profile, cred)
	if known, listed := p.listed(profile); listed && known.AccessKeyID == s.AccessKeyID {
		s.StoredAt = known.StoredAt
		return s, nil
	}
	unlock, err := p.index().lock()
	if err != nil {
		return s, err
	}
	defer unlock()
	p.index().add(s)
	return s, nil
}

// Removable returns what Remove would take away, as far as that can be told. fault.NotFound: nothing.
func (p Profiles) Removable(ctx context.Context, profile string) (Stored, error) {
	cred, err := p.Load(ctx, profile)
	known, listed := p.listed(profile)
	switch {
	case err == nil:
		s := describe(profile, cred)
		s.StoredAt = known.StoredAt
		return s, nil
	case fault.Is(err, fault.NotFound) && listed:
		return known, nil
	case fault.Is(err, fault.Invalid) && CheckName(profile) == nil:
		return Stored{Profile: profile, AccessKeyID: known.AccessKeyID, Key: known.Key}, nil
	}
	return Stored{}, err
}

// listed returns the profile's entry on the list.
func (p Profiles) listed(profile string) (Stored, bool) {
	entries, _ := p.index().read()
	at := slices.IndexFunc(entries, func(s Stored) bool { return s.Profile == profile })
	if at < 0 {
		return Stored{}, false
	}
	return entries[at], true
}

// Exists reports whether the keyring has anything under a profile.
func (p Profiles) Exists(ctx context.Context, profile string) (bool, error) {
	_, err := p.Ring.Load(ctx, Credential, profile)
	if fault.Is(err, fault.NotFound) {
		return false, nil
	}
	return err == nil, err
}

// Add stores a credential under a profile that is not there yet: else fault.Exists. Of processes that add the same
// profile at once one succeeds. Other errors are those of Ring.Store.
func (p Profiles) Add(ctx context.Context, profile string, cred credential.Credential) error {
	return p.store(ctx, profile, cred, func() error {
		exists, err := p.Exists(ctx, profile)
		if err == nil && exists {
			err = fault.New(fault.Exists, "there is a profile %q in the keyring already", profile)
		}
		return err
	})
}

// Put stores a credential under a profile, in the place of what it holds. Its errors are those of Ring.Store.
func (p Profiles) Put(ctx context.Context, profile string, cred credential.Credential) error {
	return p.store(ctx, profile, cred, func() error { return nil })
}

func (p Profiles) store(ctx context.Context, profile string, cred credential.Credential, check func() error) error {
	cred.Datasets = nil // there may be any number of them, and what the keyring takes has a limit
	text, err := json.Marshal(credential.Document{Credential: cred})
	if err != nil {
		return err
	}
	unlock, err := p.index().lock()
	if err != nil {
		return err
	}
	defer unlock()
	if err := check(); err != nil {
		return err
	}
	if err := p.Ring.Store(ctx, Credential, profile, credential.NewSecret(string(text))); err != nil {
		return err
	}
	s, now := describe(profile, cred), p.Now().UTC()
	s.StoredAt = &now
	p.index().add(s)
	return nil
}

// Remove takes a profile out of the keyring and off the list. fault.NotFound: it was in neither.
func (p Profiles) Remove(ctx context.Context, profile string) error {
	unlock, err := p.index().lock()
	if err != nil {
		return err
	}
	defer unlock()
	err = p.Ring.Remove(ctx, Credential, profile)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return err
	}
	if _, listed := p.listed(profile); listed {
		p.index().drop(profile)
		return nil
	}
	return err
}

// describe is what can be said about a stored credential.
func describe(profile string, cred credential.Credential) Stored {
	s := Stored{Profile: profile, AccessKeyID: cred.AccessKeyID}
	if cred.Name != "" {
		s.Key = &cred.Name
	}
	if cred.Server != "" {
		s.Server = &cred.Server
	}
	return s
}
