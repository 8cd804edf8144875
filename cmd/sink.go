package cmd

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"

	"keyctl/internal/credential"
	"keyctl/internal/fault"
	"keyctl/internal/keys"
	"keyctl/internal/process"
	"keyctl/internal/safefile"
)

// streamSink is standard output.
type streamSink struct {
	w       io.Writer
	format  credential.Format
	profile string
	alone   bool // no other sink takes the credential
}

func (s *streamSink) place() string { return "standard output" }

// prepare refuses the null device: that is what the Go runtime opens when standard output was closed.
func (s *streamSink) prepare() error {
	if f, ok := s.w.(*os.File); ok && s.alone && process.IsNullDevice(f) {
		return fault.New(fault.Undelivered, "standard output is closed or the null device, and the credential has no other place").
			WithHint("choose one with --out FILE; nothing was made")
	}
	return nil
}

func (s *streamSink) fill(i issued) error {
	text, err := i.render(s.format, s.profile)
	if err != nil {
		return err
	}
	if _, err := s.w.Write(text); err != nil {
		return err
	}
	// Output that was redirected to a file is on the device before the old credential's clock starts; pipes and
	// terminals have nothing to sync.
	if f, ok := s.w.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			return f.Sync()
		}
	}
	return nil
}

func (s *streamSink) finish() error { return nil }
func (s *streamSink) abort()        {}

// maxCredentialFile bounds a credentials file that is read.
const maxCredentialFile = 1 << 20

// fileSink is the file of --out: a new one, or, with --replace, or with a profile more, the successor of an old one.
type fileSink struct {
	path    string
	format  credential.Format
	profile string
	replace bool
	warn    func(string)

	staged  *safefile.Staged
	content []byte // what the successor holds, and of which file
	before  []byte
	succeed bool // there is a file already
	created bool // the new file is in place
}

func (s *fileSink) place() string { return s.path }

// prepare refuses a file that would have to be overwritten, and stages the new content beside it, which finds out about
// rights and a full disk.
func (s *fileSink) prepare() error {
	existing, err := safefile.ReadPrivate(s.path, maxCredentialFile, s.warn)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	default:
		s.succeed, s.before = true, existing
		if err := s.room(existing); err != nil {
			return err
		}
	}
	s.staged, err = safefile.Stage(s.path)
	return err
}

// room refuses an existing file unless it may be replaced, or is a credentials file without the profile.
func (s *fileSink) room(existing []byte) error {
	if s.replace {
		return nil
	}
	hint := "name another, or let --replace swap it once the new credential is proven"
	if s.format != credential.INI {
		return fault.New(fault.Exists, "there is a file %q already", s.path).WithHint("%s", hint)
	}
	if len(bytes.TrimSpace(existing)) == 0 {
		return nil
	}
	if _, err := credential.Parse(bytes.NewReader(existing), s.profile); !fault.Is(err, fault.NotFound) {
		return fault.New(fault.Exists, "there is a profile %q in %q already", s.profile, s.path).WithHint("%s", hint)
	}
	return nil
}

// fill writes the staged content and makes it durable. A new file takes its name at once; the successor of an old one
// waits for the proof, so that the old copy lives until the new credential does.
func (s *fileSink) fill(i issued) error {
	var err error
	if s.format == credential.INI && s.succeed {
		s.content, err = credential.AppendINI(s.before, i.cred, s.profile, s.replace)
	} else {
		s.content, err = i.render(s.format, s.profile)
	}
	if err != nil {
		return err
	}
	if _, err := s.staged.Write(s.content); err != nil {
		return err
	}
	if s.succeed {
		return s.staged.Sync()
	}
	if err := s.staged.CommitNew(); err != nil {
		return err
	}
	s.created = true
	return nil
}

// finish puts the successor in place. It comes after the proof: if it fails, the staged file is the only copy of a
// credential that works, and stays.
func (s *fileSink) finish() error {
	if !s.succeed {
		return nil
	}
	if err := s.staged.CommitReplace(); err != nil {
		f := fault.From(err)
		if f == nil {
			f = fault.New(fault.Unavailable, "%q could not be replaced", s.path).WithCause(err)
		}
		return f.WithHint("the credential is active; it is in %s", s.staged.Temporary())
	}
	return nil
}

func (s *fileSink) abort() {
	if s.created {
		_ = os.Remove(s.path)
	}
	if s.staged != nil {
		_ = s.staged.Discard()
	}
}

// resume looks whether the file of --out holds this very key's pending credential: an earlier run was stopped between
// hand-over and proof. It then proves that one, and reports that it did. rolls says that the run before was a roll.
func (a *app) resume(ctx context.Context, service keys.Service, f deliveryFlags, name string, rolls bool) (bool, error) {
	if f.out == "" || f.replace {
		return false, nil
	}
	text, err := safefile.ReadPrivate(f.out, maxCredentialFile, nil)
	if err != nil {
		return false, nil // prepare finds out and says so
	}
	cred, err := credential.Parse(bytes.NewReader(text), f.profile)
	if err != nil {
		return false, nil
	}
	pending, err := service.Pending(ctx, cred.AccessKeyID)
	if err != nil || pending.Proven || pending.Name != name || rolls != (pending.Previous != nil) {
		return false, nil
	}
	if _, err := a.prove(ctx, service, cred, pending); err != nil {
		return false, err
	}
	a.say("%s holds the pending credential %s of key %q from an earlier run; it is active now", f.out, cred.AccessKeyID, name)
	return true, nil
}
