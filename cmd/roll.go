package cmd

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"keyctl/internal/fault"
	"keyctl/internal/keys"
	"keyctl/internal/term"
)

// rollOptions are the flags of roll.
type rollOptions struct {
	key            string
	expire         string
	finishPrevious bool
	code           codeFlags
	deliver        deliveryFlags
}

// newRoll makes `keyctl roll`, which is also `keyctl keys roll`.
func newRoll(a *app) *cobra.Command {
	var o rollOptions
	c := &cobra.Command{
		Use:   "roll KEY",
		Short: "Give a key a new credential; the old one ends now or later",
		Long: `Give a key a new credential. Name, ranges, datasets and Primary Key stay, so data encrypted before the roll decrypts after it.
The old credential goes on working until the time you choose, up to 30 days, and never beyond the key's own end.

A roll asks for an authenticator code, after everything else was checked. The old credential's time starts to run only when
the new one was delivered; if that fails, nothing has changed. On a terminal it asks what the flags leave open.`,
		Example: `  keyctl roll web-01
  keyctl roll web-01 --expire 24h --otp-file code.txt --out web-01.env
  keyctl roll web-01 --expire now --yes --otp 123456`,
		Args:              args("KEY"),
		ValidArgsFunction: a.completes(keyNames(keys.KeyFilter{States: []keys.KeyState{keys.KeyActive}})),
		RunE: func(c *cobra.Command, args []string) error {
			o.key = args[0]
			return a.roll(c.Context(), o)
		},
	}
	f := c.Flags()
	f.SortFlags = false
	f.Var(nonEmpty(&o.expire), "expire", "when the old credential ends: now, 1h, 24h, 7d, 30d or a date")
	f.BoolVar(&o.finishPrevious, "finish-previous", false, "end the grace of an earlier roll with this one")
	o.code.add(f)
	o.deliver.add(f)
	return c
}

func (a *app) roll(ctx context.Context, o rollOptions) error {
	drawn := startDrawing(a.sys.Rand)
	terms := keys.RollTerms{FinishPrevious: o.finishPrevious}
	asks, err := a.rollGrace(o, &terms)
	if err != nil {
		return err
	}
	service, err := a.open(ctx)
	if err != nil {
		return err
	}
	key, err := a.checkRoll(ctx, service, o.key, nil)
	if err != nil {
		return err
	}
	d, err := a.planDelivery(ctx, o.deliver, key.Name)
	if err != nil {
		return err
	}
	if done, err := a.resume(ctx, service, d, key.Name, true); done || err != nil {
		return err
	}
	if asks {
		if terms.Grace, err = a.askGrace(ctx); err != nil {
			return err
		}
	}
	if _, err = a.checkRoll(ctx, service, o.key, &terms); err != nil {
		return err
	}
	if terms.Grace == (keys.Grace{}) {
		question := fmt.Sprintf("The credential %s of key %q will stop working at once.", orNone(key.AccessKeyID), key.Name)
		if err := a.confirmName(ctx, question, key.Name); err != nil {
			return err
		}
	}
	proven, err := a.issue(ctx, service, drawn, d, func(offer keys.Offer) (pending keys.Pending, err error) {
		err = a.withCode(ctx, o.code, func(code string) error {
			pending, err = service.Roll(ctx, keys.RollRequest{Key: o.key, Terms: terms, Offer: offer, Code: code})
			return err
		})
		return pending, err
	})
	if err != nil {
		return err
	}
	return a.rolled(proven, d)
}

// rollGrace reads --expire, or the configured default; asks says that only a person can tell.
func (a *app) rollGrace(o rollOptions, terms *keys.RollTerms) (asks bool, err error) {
	cfg, err := a.config()
	if err != nil {
		return false, err
	}
	screen, err := a.terminal()
	if err != nil {
		return false, err
	}
	switch {
	case o.expire != "":
		terms.Grace, err = keys.ParseGrace(o.expire, a.now())
		return false, err
	case screen.CanPrompt():
		return true, nil
	case cfg.DefaultGrace != nil:
		terms.Grace = keys.Grace{For: *cfg.DefaultGrace}
		return false, nil
	}
	return false, fault.New(fault.Invalid, "when the old credential ends is not said").
		WithHint("add --expire now, 1h, 24h, 7d, 30d or a date, or set default-grace in the configuration")
}

// graceChoices are what the prompt offers, and how it words them.
var graceChoices = []struct{ grace, words string }{
	{"now", "now"}, {"1h", "in 1 hour"}, {"24h", "in 24 hours"}, {"7d", "in 7 days"}, {"30d", "in 30 days"},
}

// graces are the choices as --expire takes them.
func graces() (list []string) {
	for _, choice := range graceChoices {
		list = append(list, choice.grace)
	}
	return list
}

// graceQuestion lists the choices, on as many lines as a terminal of that many columns needs; 0 is as wide as it gets.
func graceQuestion(width int) string {
	const indent, gap, answer = "  ", "   ", ": 2027-01-31"
	var items, lines []string
	for i, choice := range graceChoices {
		items = append(items, fmt.Sprintf("%d) %s", i+1, choice.words))
	}
	line := indent + items[0]
	items = append(items, "or a date")
	for i, item := range items[1:] {
		room := width - len(line+gap+item)
		if i+2 == len(items) {
			room -= len(answer)
		}
		if width > 0 && room < 0 {
			lines = append(lines, line)
			line = indent + item
		} else {
			line += gap + item
		}
	}
	return strings.Join(append(lines, line), "\n")
}

// askGrace asks when the old credential should stop working, until the answer can be read.
func (a *app) askGrace(ctx context.Context) (keys.Grace, error) {
	screen, err := a.terminal()
	if err != nil {
		return keys.Grace{}, err
	}
	question := "When should the old credential stop working?\n" + graceQuestion(screen.Stderr().Width)
	for {
		answer, err := screen.Ask(ctx, question)
		if err != nil {
			return keys.Grace{}, err
		}
		if len(answer) == 1 && answer[0] >= '1' && int(answer[0]-'0') <= len(graceChoices) {
			answer = graceChoices[answer[0]-'1'].grace
		}
		grace, err := keys.ParseGrace(answer, a.now())
		if err == nil {
			return grace, nil
		}
		f := fault.From(err)
		a.say("%s", f.Message)
		a.hint("%s", f.Hint)
		question = "A number from 1 to 5, or a date"
	}
}

// checkRoll checks a roll up to the code. On a terminal an operator without a second factor can enrol on the spot.
func (a *app) checkRoll(ctx context.Context, service keys.Service, ref string, terms *keys.RollTerms) (keys.KeyView, error) {
	key, err := service.CheckRoll(ctx, ref, terms)
	if !fault.Is(err, fault.OTPNotEnrolled) {
		return key, err
	}
	screen, termErr := a.terminal()
	if termErr != nil || !screen.CanPrompt() {
		return key, err
	}
	a.say("a roll asks for an authenticator code, and you have no authenticator enrolled yet")
	yes, askErr := screen.Confirm(ctx, "Enrol one now?")
	if askErr != nil {
		return key, askErr
	}
	if !yes {
		return key, err
	}
	if err := a.enrollOnTerminal(ctx, service); err != nil {
		return key, err
	}
	a.say("the code you just gave is spent; the roll takes the next one")
	return service.CheckRoll(ctx, ref, terms)
}

// rolled tells a person what became of the old credential.
func (a *app) rolled(proven keys.Proven, d *delivery) error {
	if err := a.issuedKey(proven.Key, d); err != nil {
		return err
	}
	previous := proven.Previous
	if previous == nil {
		return nil
	}
	if !previous.Until.After(a.now()) {
		a.say("the old credential %s no longer works", previous.AccessKeyID)
	} else {
		clamped := ""
		if previous.Clamped {
			clamped = ", when the key itself ends"
		}
		a.say("the old credential %s works until %s (%s)%s", previous.AccessKeyID,
			previous.Until.Format("2006-01-02 15:04 UTC"), term.RelativeTime(previous.Until, a.now().Add(-time.Second)), clamped)
	}
	a.hint("client libraries cache keys for up to 30 minutes; `keyctl rolls show %s` tells when the old one was last used", proven.Key.Name)
	return nil
}
