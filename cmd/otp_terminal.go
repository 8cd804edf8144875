package cmd

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"

	"keyctl/internal/credential"
	"keyctl/internal/fault"
	"keyctl/internal/keys"
	"keyctl/internal/term"
)

// enrollOnTerminal enrols a second factor in one go: seed, first code, recovery codes.
func (a *app) enrollOnTerminal(ctx context.Context, service keys.Service) error {
	screen, err := a.terminal()
	if err != nil {
		return err
	}
	enrolled, err := service.EnrollOTP(ctx)
	if err != nil {
		return err
	}
	if err := a.showSeed(screen.Stderr(), enrolled); err != nil {
		return err
	}
	for tries := 1; ; tries++ {
		code, err := a.askCode(ctx, screen)
		if err != nil {
			return err
		}
		codes, err := service.ConfirmOTP(ctx, code)
		switch fault.CodeOf(err) {
		case "":
			return a.showRecoveryCodes(screen.Stderr(), codes)
		case fault.OTPRequired, fault.OTPWrong, fault.OTPUsed:
			if tries == promptedCodes {
				return err
			}
			a.say("%s", err)
		default:
			return err
		}
	}
}

// showSeed tells a person how to add the seed to an app. The QR code comes last, so that it is still in view on a terminal of
// 24 lines when the code is asked for. All of it goes beside other output, which may be a credential in a pipe.
func (a *app) showSeed(s term.Surface, enrolled keys.Enrollment) error {
	var code, out bytes.Buffer
	drawn, err := term.QR(&code, s, enrolled.URI.Reveal())
	if err != nil {
		return err
	}
	first := "1. Add the secret to your app, by hand or by its URI."
	if drawn {
		first = "1. Scan the QR code with your app, or type the secret."
	}
	fmt.Fprintf(&out, "\nEnrol an authenticator app:\n\n  %s\n  2. Type the six digits that the app then shows.\n\n", first)
	fmt.Fprintf(&out, "  Secret  %s\n  URI     %s\n\n%s", grouped(enrolled.Secret.Reveal()), enrolled.URI.Reveal(), &code)
	_, err = a.sys.Stderr.Write(out.Bytes())
	return err
}

// grouped writes a seed as apps ask for it, four characters at a time; they pass over the blanks.
func grouped(seed string) string {
	const group = 4
	var groups []string
	for part := range slices.Chunk([]byte(seed), group) {
		groups = append(groups, string(part))
	}
	return strings.Join(groups, " ")
}

// showRecoveryCodes tells a person the recovery codes beside other output, in two columns where there is room.
func (a *app) showRecoveryCodes(s term.Surface, codes []credential.Secret) error {
	const indent, gap = "  ", "   "
	var out bytes.Buffer
	out.WriteString("\nYour second factor is enrolled. Should you lose it, each of\n" +
		"these recovery codes resets it once. They are not shown\nagain: keep them apart from the app.\n\n")
	shown := revealed(codes).RecoveryCodes
	half := (len(shown) + 1) / 2
	if half > 0 && len(indent)+2*len(shown[0])+len(gap) > s.Width {
		half = len(shown)
	}
	for i, code := range shown[:half] {
		out.WriteString(indent + code)
		if i+half < len(shown) {
			out.WriteString(gap + shown[i+half])
		}
		out.WriteByte('\n')
	}
	out.WriteByte('\n')
	_, err := a.sys.Stderr.Write(out.Bytes())
	return err
}
