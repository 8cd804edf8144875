package term

import (
	"strings"
	"time"

	"github.com/aymanbagabas/go-osc52/v2"

	"keyctl/internal/credential"
	"keyctl/internal/fault"
)

// maxOSC52 is how many bytes of text terminals take: as many as fit, in base64, into a sequence of 100,000 bytes.
const maxOSC52 = 74994

// CheckOSC52 reports whether there is a terminal that CopyOSC52 could write to. It writes nothing to it. Errors are
// fault.Unavailable.
func (t *Terminal) CheckOSC52() error {
	tty, err := t.openForOSC52()
	if err != nil {
		return err
	}
	return tty.Close()
}

// CopyOSC52 asks the terminal to put a secret on its clipboard, with the control sequence OSC 52: over SSH that is the
// clipboard of the person's own machine. Terminals do not answer, so nobody knows whether this one did, and nothing of
// it can be taken back.
//
// The sequence goes to the terminal itself, wherever the streams lead. Inside tmux and screen it is wrapped so that they
// hand it on and keep nothing of it; tmux does that only with its option allow-passthrough. Errors are fault.Unavailable,
// and fault.Invalid for more text than terminals take.
func (t *Terminal) CopyOSC52(secret credential.Secret) error {
	if len(secret.Reveal()) > maxOSC52 {
		return fault.New(fault.Invalid, "a terminal's clipboard takes no more than %d bytes", maxOSC52)
	}
	tty, err := t.openForOSC52()
	if err != nil {
		return err
	}
	defer tty.Close()
	_ = tty.Out.SetWriteDeadline(time.Now().Add(clipboardWait)) // output may be stopped, as with Ctrl-S
	if _, err := osc52.New(secret.Reveal()).Mode(t.osc52Mode()).WriteTo(tty.Out); err != nil {
		return fault.New(fault.Unavailable, "the terminal took nothing for its clipboard").WithCause(err)
	}
	return nil
}

func (t *Terminal) openForOSC52() (TTY, error) {
	if name := t.getenv("TERM"); name == "dumb" || name == "linux" {
		return TTY{}, fault.New(fault.Unavailable, "the terminal has no clipboard (TERM is %q)", name).
			WithHint(otherPlace)
	}
	tty, err := t.openTTY()
	if err != nil {
		return TTY{}, fault.New(fault.Unavailable, "there is no terminal whose clipboard could be used").
			WithHint(otherPlace).WithCause(err)
	}
	if !enableColor(tty.Out) {
		_ = tty.Close()
		return TTY{}, fault.New(fault.Unavailable, "the terminal understands no control sequences, and has no clipboard for them").
			WithHint(otherPlace)
	}
	return tty, nil
}

// osc52Mode tells what stands between keyctl and the terminal. On the far end of an SSH connection only the name of the
// terminal does.
func (t *Terminal) osc52Mode() osc52.Mode {
	name := t.getenv("TERM")
	switch {
	case t.getenv("TMUX") != "" || strings.HasPrefix(name, "tmux"):
		return osc52.TmuxMode
	case t.getenv("STY") != "" || strings.HasPrefix(name, "screen"):
		return osc52.ScreenMode
	}
	return osc52.DefaultMode
}
