package cmd

import (
	"context"

	"github.com/spf13/cobra"

	"keyctl/internal/credential"
	"keyctl/internal/fault"
	"keyctl/internal/iprange"
	"keyctl/internal/keys"
	"keyctl/internal/term"
)

// verifyOptions are the flags of verify.
type verifyOptions struct {
	key, address, dataset string
	from                  fromFlags
}

func newVerify(a *app) *cobra.Command {
	var o verifyOptions
	c := &cobra.Command{
		Use:   "verify [KEY]",
		Short: "Would a key or credential be let in, and why (not)?",
		Long: `Answer whether a key, or a credential in hand, would be let in: by its state, by --ip from that address, by --dataset to that
dataset. The exit status is 0 for yes and 8 for no; the reason is one word.

With --from the credential itself is checked, both secrets. Without --ip a key's address ranges are not looked at.`,
		Annotations: onlyReads(),
		Example: `  keyctl verify web-01 --ip 10.1.2.3 --dataset payments
  keyctl verify --from web-01.env -o json`,
		Args:              optionalArg("KEY"),
		ValidArgsFunction: a.completes(keyNames(keys.KeyFilter{})),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 1 {
				o.key = args[0]
			}
			return a.verify(c.Context(), o)
		},
	}
	f := c.Flags()
	f.SortFlags = false
	o.from.add(f)
	f.Var(nonEmpty(&o.address), "ip", "the address the request comes from")
	f.Var(nonEmpty(&o.dataset), "dataset", "the dataset it is for")
	return c
}

// verdictShape says how a verdict is shown.
var verdictShape = shape[keys.Verdict]{
	id:   func(v keys.Verdict) string { return orNone(v.AccessKeyID) },
	name: func(v keys.Verdict) string { return string(v.Reason) },
	details: []column[keys.Verdict]{
		{"allowed", false, func(_ *printer, v keys.Verdict) term.Cell {
			if v.Allowed {
				return term.Cell{Text: "yes", Tone: term.Good}
			}
			return term.Cell{Text: "no", Tone: term.Bad}
		}},
		{"reason", false, func(_ *printer, v keys.Verdict) term.Cell { return text(string(v.Reason)) }},
		{"key", false, func(_ *printer, v keys.Verdict) term.Cell { return text(orNone(v.Key)) }},
		{"access key id", false, func(_ *printer, v keys.Verdict) term.Cell { return text(orNone(v.AccessKeyID)) }},
		{"credential", false, func(_ *printer, v keys.Verdict) term.Cell { return text(orNone(v.Credential)) }},
	},
}

func (a *app) verify(ctx context.Context, o verifyOptions) error {
	question := keys.Question{Key: o.key, Dataset: o.dataset}
	if (o.key == "") == (o.from.file == "") {
		return fault.New(fault.Invalid, "verify needs a key or a credential, and not both").WithHint("name a KEY, or pass a credential with --from FILE")
	}
	var err error
	if o.address != "" {
		if question.Address, err = iprange.ParseAddr(o.address); err != nil {
			return err
		}
	}
	var cred credential.Credential
	if o.from.file != "" {
		if cred, err = o.from.read(a); err != nil {
			return err
		}
		question.AccessKeyID, question.SigningKey = cred.AccessKeyID, cred.SigningKey
	}
	p, service, err := a.begin(ctx)
	if err != nil {
		return err
	}
	verdict, err := a.answer(ctx, p, service, question, cred)
	if err == nil && !verdict.AddressChecked {
		a.say("the key's address ranges were not looked at: say --ip ADDRESS")
	}
	return err
}

// answer asks the store whether a key, or a credential, would be let in, and prints what it says. No is errNegative.
func (a *app) answer(ctx context.Context, p *printer, service keys.Service, question keys.Question, cred credential.Credential) (keys.Verdict, error) {
	question.PrivateKey = question.AccessKeyID != ""
	verdict, err := service.Verify(ctx, question)
	if err != nil {
		return verdict, err
	}
	verdict = checkCrypto(verdict, cred)
	if err := printOne(p, verdictShape, verdict); err != nil {
		return verdict, err
	}
	if !verdict.Allowed {
		return verdict, errNegative
	}
	return verdict, nil
}

// checkCrypto checks the half of a credential that only its holder can: whether the secret crypto access key opens the
// private key. A wrong one is answered like any wrong secret.
func checkCrypto(verdict keys.Verdict, cred credential.Credential) keys.Verdict {
	if verdict.PrivateKeyPEM == nil {
		return verdict
	}
	if _, err := credential.OpenPrivateKey(verdict.PrivateKeyPEM, cred.CryptoAccessKey); err != nil {
		return keys.Verdict{Reason: keys.ReasonUnknown, AddressChecked: verdict.AddressChecked}
	}
	return verdict
}
