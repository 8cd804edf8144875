package cmd

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"keyctl/internal/credential"
	"keyctl/internal/fault"
	"keyctl/internal/keys"
	"keyctl/internal/safefile"
)

// defaultTokenLife is how long a token lasts unless its maker says otherwise.
const defaultTokenLife = "90d"

// tokenOptions are the flags of tokens create, as typed.
type tokenOptions struct {
	operator, description, expires, out string
	datasets                            []string
}

func newTokensCreate(a *app) *cobra.Command {
	var o tokenOptions
	c := &cobra.Command{
		Use:   "create",
		Short: "Make a token",
		Long: `Make a token and print it, once: on standard output, or into a new file with --out. It is for the operator you are, or with --operator
for another. An owner makes tokens for everybody; an admin for itself and the roles below it.

The token of a ci operator creates keys for the datasets it names, and for no other; without --dataset for keys that have none.`,
		Example: `  keyctl tokens create --description "my laptop"
  keyctl tokens create --operator build --dataset payments --expires 30d --out build.token`,
		Args: args(),
		RunE: func(c *cobra.Command, _ []string) error { return a.createToken(c.Context(), o) },
	}
	f := c.Flags()
	f.SortFlags = false
	f.Var(nonEmpty(&o.operator), "operator", "whom the token lets in (default: you)")
	f.StringVar(&o.description, "description", "", "what the token is for")
	f.Var(list(&o.datasets), "dataset", "a dataset the token creates keys for, for a ci operator (repeatable)")
	f.StringVar(&o.expires, "expires", defaultTokenLife, "when the token ends: 30d, 2027-01-31 or never")
	f.Var(nonEmpty(&o.out), "out", "write the token to this new file, mode 0600, instead of standard output")
	return c
}

// madeToken is the JSON of a token, the one time it is shown.
type madeToken struct {
	Token string `json:"token"`
	keys.TokenView
}

func (a *app) createToken(ctx context.Context, o tokenOptions) error {
	expires, err := keys.ParseExpiry(o.expires, a.now())
	if err != nil {
		return err
	}
	out, err := a.tokenOutput(o.out)
	if err != nil {
		return err
	}
	defer out.discard()
	token, err := credential.DrawOperatorToken(a.sys.Rand)
	if err != nil {
		return err
	}
	service, err := a.openOrCreate(ctx)
	if err != nil {
		return err
	}
	made, err := service.CreateToken(ctx, keys.NewToken{
		Token: token, Operator: o.operator, Description: o.description, Datasets: o.datasets, ExpiresAt: expires,
	})
	if err != nil {
		return err
	}
	if err := out.hand(token, made); err != nil {
		if _, revokeErr := service.RevokeToken(context.WithoutCancel(ctx), made.ID); revokeErr != nil {
			a.warn(fmt.Sprintf("the token %s could not be revoked", made.ID))
		}
		return fault.New(fault.Undelivered, "the token %s could not be delivered: %s", made.ID, whyUndelivered(err)).
			WithHint("it is revoked; run the command again").WithCause(err)
	}
	end := "for ever"
	if made.ExpiresAt != nil {
		end = "until " + made.ExpiresAt.UTC().Format("2006-01-02 15:04 UTC")
	}
	a.say("the token %s lets %q in, as %s, %s; it is not shown again", made.ID, made.Operator, string(made.Role), end)
	if out.file == nil {
		return nil
	}
	return printOne(out.p, tokenShape, made)
}

// tokenOutput is where a new token goes.
type tokenOutput struct {
	p    *printer
	file *safefile.Staged // nil: standard output
}

// tokenOutput finds out what could go wrong with the place of a token, before there is a token.
func (a *app) tokenOutput(path string) (*tokenOutput, error) {
	if path == "" {
		p, err := a.onceOnly()
		if err != nil {
			return nil, err
		}
		if err := a.mayPrint(a.flags.Changed("output"), "choose --out FILE, or ask for it with -o json"); err != nil {
			return nil, err
		}
		return &tokenOutput{p: p}, (&streamSink{w: a.sys.Stdout, alone: true}).prepare()
	}
	p, err := a.printer()
	if err != nil {
		return nil, err
	}
	if _, err := os.Lstat(path); err == nil {
		return nil, fault.New(fault.Exists, "there is a file %q already", path).WithHint("name another")
	}
	file, err := safefile.Stage(path)
	return &tokenOutput{p: p, file: file}, err
}

// hand writes the token where it goes, durably.
func (t *tokenOutput) hand(token credential.Secret, made keys.TokenView) error {
	if t.file != nil {
		if _, err := fmt.Fprintln(t.file, token.Reveal()); err != nil {
			return err
		}
		return t.file.CommitNew()
	}
	if t.p.form == "table" {
		if err := t.p.line(token.Reveal()); err != nil {
			return err
		}
	} else if err := t.p.document(madeToken{token.Reveal(), made}); err != nil {
		return err
	}
	return settle(t.p.out)
}

// discard removes what a failure left staged.
func (t *tokenOutput) discard() {
	if t.file != nil {
		_ = t.file.Discard()
	}
}
