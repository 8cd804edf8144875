package cmd

import (
	"context"
	"errors"

	"keyctl/internal/fault"
)

// errDeclined ends a command whose confirmation was answered with no.
var errDeclined = errors.New("not confirmed: nothing was changed")

// confirm asks before something that can be undone. Without a terminal it wants --yes.
func (a *app) confirm(ctx context.Context, question string) error {
	return a.ladder(ctx, func(ask asker) error {
		yes, err := ask.Confirm(ctx, question)
		if err == nil && !yes {
			err = errDeclined
		}
		return err
	})
}

// confirmName asks to type a name before something that cannot be undone, or that cuts somebody off.
func (a *app) confirmName(ctx context.Context, question, name string) error {
	return a.ladder(ctx, func(ask asker) error { return ask.ConfirmName(ctx, question, name) })
}

// asker is the part of the terminal that asks for confirmation.
type asker interface {
	Confirm(ctx context.Context, question string) (bool, error)
	ConfirmName(ctx context.Context, question, name string) error
}

// ladder asks on a terminal, is content with --yes anywhere, and refuses elsewhere, naming the flag.
func (a *app) ladder(ctx context.Context, ask func(asker) error) error {
	if a.yes {
		return nil
	}
	screen, err := a.terminal()
	if err != nil {
		return err
	}
	if !screen.CanPrompt() {
		return fault.New(fault.Invalid, "this needs a confirmation, and there is no terminal to ask on").WithHint("add --yes")
	}
	return ask(screen)
}
