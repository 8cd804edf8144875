package cmd

import (
	"context"
	"strconv"

	"github.com/spf13/cobra"

	"keyctl/internal/credential"
	"keyctl/internal/fault"
	"keyctl/internal/keys"
	"keyctl/internal/term"
)

func newOTP(a *app) *cobra.Command {
	return a.group(&cobra.Command{
		Use:   "otp",
		Short: "Enrol, check and reset the second factor",
		Long: `The second factor is an authenticator app that shows a code of six digits, new every 30 seconds. It guards rolls, their extension
and cancelling, disabling a Primary Key, and its own reset. Disabling or deleting a key and finishing a roll never need it.

On a local store it stops mistakes and runaway scripts; who owns both the store and its master key is not stopped by it.`,
	}, newOTPEnroll, newOTPConfirm, newOTPStatus, newOTPReset, newOTPRecoveryCodes)
}

// otpStatusShape says how the state of the second factor is shown.
var otpStatusShape = shape[keys.OTPStatus]{
	id:   func(s keys.OTPStatus) string { return s.Operator },
	name: func(s keys.OTPStatus) string { return s.Operator },
	details: []column[keys.OTPStatus]{
		{"operator", false, func(_ *printer, s keys.OTPStatus) term.Cell { return text(s.Operator) }},
		{"second factor", false, otpState},
		{"enrolled", false, func(p *printer, s keys.OTPStatus) term.Cell { return text(p.time(s.EnrolledAt)) }},
		{"wrong codes in a row", false, func(_ *printer, s keys.OTPStatus) term.Cell { return text(strconv.Itoa(s.Failures)) }},
		{"locked until", false, func(p *printer, s keys.OTPStatus) term.Cell {
			if s.LockedUntil == nil {
				return text("")
			}
			return text(p.time(s.LockedUntil))
		}},
		{"recovery codes left", false, func(_ *printer, s keys.OTPStatus) term.Cell { return text(strconv.Itoa(s.RecoveryCodesLeft)) }},
	},
}

func otpState(_ *printer, s keys.OTPStatus) term.Cell {
	switch {
	case s.Disabled:
		return term.Cell{Text: "disabled after too many wrong codes", Tone: term.Bad}
	case s.LockedUntil != nil:
		return term.Cell{Text: "locked", Tone: term.Bad}
	case s.Enrolled:
		return term.Cell{Text: "enrolled", Tone: term.Good}
	case s.Unconfirmed:
		return term.Cell{Text: "not confirmed yet", Tone: term.Warn}
	}
	return term.Cell{Text: "not enrolled", Tone: term.Warn}
}

// enrollment is the seed of a new second factor as it is printed, once.
type enrollment struct {
	Secret string `json:"secret"`
	URI    string `json:"uri"`
}

// recoveryCodes are a set of recovery codes as they are printed, once.
type recoveryCodes struct {
	RecoveryCodes []string `json:"recovery_codes"`
}

func revealed(codes []credential.Secret) recoveryCodes {
	r := recoveryCodes{}
	for _, code := range codes {
		r.RecoveryCodes = append(r.RecoveryCodes, code.Reveal())
	}
	return r
}

// onceOnly is a printer for what is shown once: whole, as JSON or YAML, or as text.
func (a *app) onceOnly() (*printer, error) {
	p, err := a.printer()
	if err != nil {
		return nil, err
	}
	if p.quiet || p.form == "csv" || p.form == "name" {
		return nil, fault.New(fault.Invalid, "what is shown only once is not cut short").WithHint("leave out -q, -o csv and -o name")
	}
	return p, nil
}

// drawRecoveryCodes calls for new recovery codes with the authenticator code, and prints them.
func (a *app) drawRecoveryCodes(ctx context.Context, f codeFlags, call func(service keys.Service, code string) ([]credential.Secret, error)) error {
	p, err := a.onceOnly()
	if err != nil {
		return err
	}
	service, err := a.open(ctx)
	if err != nil {
		return err
	}
	var codes []credential.Secret
	err = a.withCode(ctx, f, func(code string) error {
		codes, err = call(service, code)
		return err
	})
	if err != nil {
		return err
	}
	shown := revealed(codes)
	if p.form != "table" {
		return p.document(shown)
	}
	for _, code := range shown.RecoveryCodes {
		if err := p.line(code); err != nil {
			return err
		}
	}
	a.say("these recovery codes are shown once: keep them apart from the authenticator. Each resets it once.")
	return nil
}
