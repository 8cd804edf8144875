package cmd

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"keyctl/internal/credential"
	"keyctl/internal/fault"
	"keyctl/internal/keys"
	"keyctl/internal/process"
	"keyctl/internal/safefile"
	"keyctl/internal/term"
)

// streamSink is standard output.
type streamSink struct {
	w       io.Writer
	format  credential.Format
	profile string
	alone   bool           // no other sink takes the credential
	box     *term.Terminal // show the credential on it in a box, instead of writing it in the format
}

func (s *streamSink) place() string { return "standard output" }
func (s *streamSink) where() string { return "" }

// prepare refuses the null device: that is what the Go runtime opens when standard output was closed.
func (s *streamSink) prepare() error {
	if f, ok := s.w.(*os.File); ok && s.alone && process.IsNullDevice(f) {
		return fault.New(fault.Undelivered, "standard output is closed or the null device, and the credential has no other place").
			WithHint("choose one with --out FILE; nothing was made")
	}
	return nil
}

func (s *streamSink) fill(i issued) error {
	text, err := s.render(i)
	if err != nil {
		return err
	}
	if _, err := s.w.Write(text); err != nil {
		return err
	}
	return settle(s.w)
}

// settle brings output that was redirected to a file onto the device, before the credential in it becomes active and an
// old one's clock starts. Pipes and terminals have nothing to sync.
func settle(w io.Writer) error {
	if f, ok := w.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			return f.Sync()
		}
	}
	return nil
}

func (s *streamSink) render(i issued) ([]byte, error) {
	if s.box != nil {
		return i.boxed(s.box.Stdout())
	}
	return i.render(s.format, s.profile)
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
	wait    time.Duration // for another process that changes the same credentials file
	warn    func(string)

	staged  *safefile.Staged
	succeed bool   // there is a file already
	before  []byte // what it holds
	created bool   // the new file is in place
	unlock  func() // set while this process alone may change the credentials file
}

// newFileSink is the sink of --out.
func (a *app) newFileSink(path string, format credential.Format, profile string, replace bool) *fileSink {
	return &fileSink{path: path, format: format, profile: profile, replace: replace, wait: a.cfg.Timeout, warn: a.warn}
}

func (s *fileSink) place() string { return s.path }
func (s *fileSink) where() string { return "in " + s.path }

// prepare refuses a file that would have to be overwritten, and stages the new content beside it, which finds out about
// rights and a full disk.
func (s *fileSink) prepare() error {
	err := s.look()
	if err != nil {
		return err
	}
	if s.staged, err = safefile.Stage(s.path); err != nil {
		return err
	}
	return s.staged.CheckReplace()
}

// look finds out what is there, and refuses what must stay.
func (s *fileSink) look() error {
	existing, err := safefile.ReadPrivate(s.path, maxCredentialFile, s.warn)
	s.succeed, s.before = err == nil, existing
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return s.room()
}

// room refuses an existing file unless it may be replaced, or is a credentials file without the profile.
func (s *fileSink) room() error {
	const hint = "name another, or let --replace swap it once the new credential is proven"
	if s.format != credential.INI {
		if s.replace {
			return nil
		}
		return fault.New(fault.Exists, "there is a file %q already", s.path).WithHint(hint)
	}
	err := credential.CheckAppendINI(s.before, s.profile, s.replace)
	if fault.Is(err, fault.Exists) {
		return fault.New(fault.Exists, "there is a profile %q in %q already", s.profile, s.path).WithHint(hint)
	}
	return err
}

// fill writes the staged content and makes it durable. A new file takes its name at once; the successor of an old one
// waits for the proof, so that the old copy lives until the new credential does. A credentials file, to which other
// processes may be adding profiles, is read again and is this process's alone until finish or abort.
func (s *fileSink) fill(i issued) error {
	var err error
	if s.format == credential.INI {
		if s.unlock, err = safefile.LockDir(filepath.Dir(s.path), s.wait); err != nil {
			return err
		}
		if err := s.look(); err != nil {
			return err
		}
	}
	content, err := s.render(i)
	if err != nil {
		return err
	}
	if _, err := s.staged.Write(content); err != nil {
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

func (s *fileSink) render(i issued) ([]byte, error) {
	if s.format == credential.INI && s.succeed {
		return credential.AppendINI(s.before, i.cred, s.profile, s.replace)
	}
	return i.render(s.format, s.profile)
}

// finish puts the successor in place. It comes after the proof: if it fails, the staged file is the only copy of a
// credential that works, and stays.
func (s *fileSink) finish() error {
	defer s.release()
	if !s.succeed {
		return nil
	}
	err := s.staged.CommitReplace()
	if err == nil || fault.Is(err, fault.OutcomeUnknown) {
		return err
	}
	f := fault.From(err)
	if f == nil {
		f = fault.New(fault.Unavailable, "%q could not be replaced", s.path).WithCause(err)
	}
	f = f.WithHint("the credential is active; it is in %s", s.staged.Temporary())
	s.staged = nil
	return f
}

func (s *fileSink) abort() {
	defer s.release()
	if s.created {
		_ = os.Remove(s.path)
	}
	if s.staged != nil {
		_ = s.staged.Discard()
	}
}

// release lets other processes change the credentials file again.
func (s *fileSink) release() {
	if s.unlock != nil {
		s.unlock()
		s.unlock = nil
	}
}

// held returns the credential that the file holds already, in the profile that would be written.
func (s *fileSink) held() (credential.Credential, bool) {
	text, err := safefile.ReadPrivate(s.path, maxCredentialFile, nil)
	if err != nil {
		return credential.Credential{}, false // prepare finds out and says so
	}
	profile := ""
	if s.format == credential.INI || s.format == credential.K8s {
		profile = s.profile
	}
	cred, err := credential.Parse(bytes.NewReader(text), profile)
	return cred, err == nil
}

// keeper is a sink that can tell what it holds from an earlier run.
type keeper interface {
	sink
	held() (credential.Credential, bool)
}

// resume looks whether every place that keeps credentials holds this very key's pending credential: an earlier run was
// stopped between hand-over and proof. It then proves that one, and reports that it did. rolls says that the run before
// was a roll. With --replace what is there gives way anyhow.
func (a *app) resume(ctx context.Context, service keys.Service, d *delivery, name string, rolls bool) (bool, error) {
	var cred credential.Credential
	if d.replaces {
		return false, nil
	}
	for _, s := range d.sinks {
		k, keeps := s.(keeper)
		if !keeps {
			continue
		}
		held, found := k.held()
		if !found || cred.AccessKeyID != "" && held.AccessKeyID != cred.AccessKeyID {
			return false, nil
		}
		cred = held
	}
	if cred.AccessKeyID == "" {
		return false, nil
	}
	pending, err := service.Pending(ctx, cred.AccessKeyID)
	if err != nil || pending.Proven || pending.Name != name || rolls != (pending.Previous != nil) {
		return false, nil
	}
	if _, err := a.prove(ctx, service, cred, pending); err != nil {
		return false, err
	}
	a.say("the pending credential %s of key %q from an earlier run is %s; it is active now", cred.AccessKeyID, name, d.where())
	return true, nil
}
