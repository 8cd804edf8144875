package cmd

import (
	"context"
	"fmt"
	"io"

	"keyctl/internal/config"
	"keyctl/internal/credential"
	"keyctl/internal/fault"
	"keyctl/internal/process"
	"keyctl/internal/term"
)

// newClipboardSink is the sink of --copy: of --copy=osc52 when how says so.
func (a *app) newClipboardSink(how string, format credential.Format, profile string) (sink, error) {
	screen, err := a.terminal()
	switch {
	case err != nil:
		return nil, err
	case how == "osc52":
		return &osc52Sink{screen: screen, format: format, profile: profile}, nil
	case how == "":
		return &clipboardSink{cfg: *a.cfg, getenv: a.sys.Getenv, rand: a.sys.Rand, format: format, profile: profile, warn: a.warn}, nil
	}
	return nil, fault.New(fault.Invalid, "--copy does not take that value").WithHint("write --copy, or --copy=osc52 for the clipboard of the terminal")
}

// clipboardSink is the clipboard of the desktop.
type clipboardSink struct {
	cfg     config.Config
	getenv  func(string) string
	rand    io.Reader // for the salt of the mark
	format  credential.Format
	profile string
	warn    func(string)

	mark     term.ClipMark // of what is there; zero before anything is
	clearing bool          // a process waits to clear it
}

func (s *clipboardSink) place() string { return "the clipboard" }

func (s *clipboardSink) where() string {
	if !s.clearing {
		return "on the clipboard, until something else is"
	}
	return fmt.Sprintf("on the clipboard, which is cleared in %d s", int(clipboardTime.Seconds()))
}

// prepare finds out whether there is a clipboard. What is on it stays there until there is a credential.
func (s *clipboardSink) prepare() error { return term.CheckClipboard(s.getenv) }

// fill puts the credential on the clipboard and starts what clears it. The programs that reach the clipboard inherit the
// environment, so before they are run the variable of the master key goes out of it; that key was read long ago (R30).
func (s *clipboardSink) fill(i issued) error {
	text, err := i.render(s.format, s.profile)
	if err != nil {
		return err
	}
	secret := credential.NewSecret(string(text))
	if s.mark, err = term.NewClipMark(s.rand, secret); err != nil {
		return err
	}
	process.HideEnv(s.cfg.SecretVariables()...)
	if err := term.CopyToClipboard(context.Background(), secret); err != nil {
		return err
	}
	if err := startClearing(s.cfg.ChildEnviron(), s.mark, clipboardTime); err != nil {
		s.warn(fmt.Sprintf("the clipboard will not be cleared, for no process could be started that does (%v)", err))
		return nil
	}
	s.clearing = true
	return nil
}

// finish has nothing to add: what is on the clipboard is there.
func (s *clipboardSink) finish() error {
	s.mark = term.ClipMark{}
	return nil
}

// abort clears the clipboard at once, unless something else is on it by now. Nothing is said of a clipboard that does not
// let itself be cleared: what is on it is withdrawn, and the process that fill started tries again.
func (s *clipboardSink) abort() {
	if s.mark == (term.ClipMark{}) {
		return
	}
	_ = term.ClearClipboard(context.Background(), s.mark)
	s.mark = term.ClipMark{}
}

// osc52Sink is the clipboard of the terminal, which may be on another machine. What went there cannot be seen, and not be
// taken back.
type osc52Sink struct {
	screen  *term.Terminal
	format  credential.Format
	profile string
}

func (s *osc52Sink) place() string { return "the terminal's clipboard" }
func (s *osc52Sink) where() string { return "on its way to the terminal's clipboard" }

func (s *osc52Sink) prepare() error { return s.screen.CheckOSC52() }

func (s *osc52Sink) fill(i issued) error {
	text, err := i.render(s.format, s.profile)
	if err != nil {
		return err
	}
	return s.screen.CopyOSC52(credential.NewSecret(string(text)))
}

func (s *osc52Sink) finish() error { return nil }
func (s *osc52Sink) abort()        {}

// notice tells a person what keyctl does not know and does not do.
func (s *osc52Sink) notice() string {
	return "paste it to see that it is there, for not every terminal takes it (and tmux hands it on only with allow-passthrough); " +
		"copy something else afterwards: keyctl does not clear it"
}
