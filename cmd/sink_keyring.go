package cmd

import (
	"context"
	"fmt"

	"keyctl/internal/credential"
	"keyctl/internal/fault"
	"keyctl/internal/login"
)

// keyringSink is a profile of the keyring: a new one, or, with replace, the successor of one that is there.
type keyringSink struct {
	ctx      context.Context // ends the wait for an unlock dialog
	profiles login.Profiles
	profile  string
	replace  bool

	unusable error // what held met, for prepare: nobody waits twice for a keyring that does not answer
	succeeds bool  // there is a profile already, which lives until the new credential is proven
	cred     credential.Credential
	filled   string // the profile that holds the credential now, before finish
}

// newKeyringSink is the sink of --keyring. invalid: the keyring takes no profile of that name.
func (a *app) newKeyringSink(ctx context.Context, profile string, replace bool) (*keyringSink, error) {
	if err := login.CheckName(profile); err != nil {
		return nil, err
	}
	profiles, err := a.profiles()
	if err != nil {
		return nil, err
	}
	return &keyringSink{ctx: ctx, profiles: profiles, profile: profile, replace: replace}, nil
}

func (s *keyringSink) place() string { return fmt.Sprintf("the profile %q of the keyring", s.profile) }
func (s *keyringSink) where() string {
	return fmt.Sprintf("in the keyring under the profile %q", s.profile)
}

// prepare unlocks the keyring, and refuses a profile that would have to be overwritten.
func (s *keyringSink) prepare() error {
	if s.unusable != nil {
		return s.unusable
	}
	exists, err := s.profiles.Exists(s.ctx, s.profile)
	if err != nil {
		return err
	}
	if exists && !s.replace {
		return fault.New(fault.Exists, "there is a profile %q in the keyring already", s.profile).
			WithHint("name another with --keyring=PROFILE, or let --replace swap it once the new credential is proven")
	}
	s.succeeds = exists
	return nil
}

// fill stores the credential: a new profile at once, and the successor of an old one under a name beside it.
func (s *keyringSink) fill(i issued) error {
	s.cred = i.cred
	if !s.succeeds {
		if err := s.profiles.Add(s.ctx, s.profile, s.cred); err != nil {
			return err
		}
		s.filled = s.profile
		return nil
	}
	for n := 1; ; n++ {
		beside := besideProfile(s.profile, n)
		err := s.profiles.Add(s.ctx, beside, s.cred)
		if fault.Is(err, fault.Exists) {
			continue // a run that was stopped left it, and it may be the only copy of a credential that works
		}
		if err == nil {
			s.filled = beside
		}
		return err
	}
}

// besideProfile is the name under which the n-th successor of a profile waits. It is a profile like any other, so that run
// and the credentials commands reach what is left there.
func besideProfile(profile string, n int) string {
	const maxName = 64
	suffix := ".new"
	if n > 1 {
		suffix = fmt.Sprintf(".new%d", n)
	}
	return profile[:min(len(profile), maxName-len(suffix))] + suffix
}

// finish puts the successor in place. It comes after the proof: if it fails, the profile beside holds the only copy of a
// credential that works, and stays.
func (s *keyringSink) finish() error {
	beside := s.filled
	s.filled = ""
	if !s.succeeds {
		return nil
	}
	ctx := context.WithoutCancel(s.ctx) // the credential is in force: an interrupt must not leave it beside
	if err := s.profiles.Put(ctx, s.profile, s.cred); err != nil {
		f := fault.From(err)
		if f == nil {
			f = fault.New(fault.Unavailable, "the profile %q of the keyring could not be replaced", s.profile).WithCause(err)
		}
		return f.WithHint("the credential is active; it is in the keyring under the profile %q", beside)
	}
	if err := s.profiles.Remove(ctx, beside); err != nil {
		s.profiles.Warn(fmt.Sprintf("the keyring also has the credential under the profile %q; `keyctl credentials remove %s` takes it out", beside, beside))
	}
	return nil
}

func (s *keyringSink) abort() {
	if s.filled == "" {
		return
	}
	if err := s.profiles.Remove(context.WithoutCancel(s.ctx), s.filled); err != nil {
		s.profiles.Warn(fmt.Sprintf("a credential that does not work is left in the keyring; `keyctl credentials remove %s` takes it out", s.filled))
	}
	s.filled = ""
}

// held returns the credential that the profile holds, for a run that takes up where an earlier one was stopped between
// hand-over and proof. There is none if it cannot be read; prepare finds out why and says so.
func (s *keyringSink) held() (credential.Credential, bool) {
	cred, err := s.profiles.Load(s.ctx, s.profile)
	if fault.Is(err, fault.Unavailable) {
		s.unusable = err
	}
	return cred, err == nil
}
