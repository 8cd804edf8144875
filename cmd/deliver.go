package cmd

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"keyctl/internal/credential"
	"keyctl/internal/fault"
	"keyctl/internal/keys"
)

// deliveryFlags say where a credential goes and in which format.
type deliveryFlags struct {
	format  string
	profile string
	out     string
	copy    place
	keyring place
	replace bool
	print   bool
}

func (d *deliveryFlags) add(f *pflag.FlagSet) {
	f.Var(nonEmpty(&d.format), "format", "write the credential as text, env, dotenv, json, ini or k8s; github: hand it to a job's next steps")
	f.Var(nonEmpty(&d.profile), "profile", "profile of --format ini, name of --format k8s (default: the key's name)")
	f.Var(nonEmpty(&d.out), "out", "write the credential to this new file, mode 0600, instead of standard output")
	d.copy.add(f, "copy", "put the credential on the clipboard for 45 s (--copy=osc52: on that of the terminal, as over SSH)")
	d.keyring.add(f, "keyring", "keep the credential in the OS keyring (--keyring=PROFILE: under another name than the key's)")
	f.BoolVar(&d.replace, "replace", false, "let --out or --keyring replace an old copy, once the new credential is proven")
	f.BoolVar(&d.print, "print", false, "write the credential to standard output, also beside other places or under CI")
}

// place is a flag that chooses a place for a credential, with or without a value.
type place struct {
	chosen bool
	value  string // empty for the flag alone
}

// bare is what pflag passes for a flag without a value.
const bare = "true"

// add defines the flag. Its type is called bool so that help shows no value, and that none is taken from the next argument.
func (p *place) add(f *pflag.FlagSet, name, usage string) {
	f.VarPF(p, name, "", usage).NoOptDefVal = bare
}

func (p *place) String() string { return p.value }
func (p *place) Type() string   { return "bool" }
func (p *place) Set(text string) error {
	if text == "" {
		return errEmptyValue
	}
	p.chosen, p.value = true, text
	if text == bare {
		p.value = ""
	}
	return nil
}

// formatGitHub is the value of --format that is no text but a place: the environment of a GitHub Actions job.
const formatGitHub = "github"

// sink is a place a credential goes to.
type sink interface {
	// prepare finds out, before anything is committed, what could go wrong later.
	prepare() error
	// fill hands the credential over, durably, before possession of it is proven.
	fill(issued) error
	// finish completes the hand-over after the proof.
	finish() error
	// abort takes back what fill did; after finish it does nothing.
	abort()
	// place names the sink in messages.
	place() string
	// where says where the credential is then, after "the credential is"; empty where everybody sees it.
	where() string
}

// noticer is a sink that has more to tell a person than where the credential is.
type noticer interface{ notice() string }

// issued is a credential on its way out.
type issued struct {
	cred    credential.Credential
	pending keys.Pending // what the store made of it
}

// delivery is the way of one credential out of keyctl.
type delivery struct {
	sinks  []sink
	stdout bool // secrets go to standard output
	boxed  bool // there they are shown to a person, in a box

	replaces bool // what the places hold of old gives way
}

// planDelivery chooses the sinks by the flags, and the format by the flags and by who reads standard output. It refuses
// what would print a secret where nobody asked for one. name is the key's, and the default profile.
func (a *app) planDelivery(ctx context.Context, f deliveryFlags, name string) (*delivery, error) {
	screen, err := a.terminal()
	if err != nil {
		return nil, err
	}
	if f.format == formatGitHub {
		return a.planGitHub(f)
	}
	format, chosen, err := a.credentialFormat(f)
	if err != nil {
		return nil, err
	}
	profile := cmp.Or(f.profile, name)
	if err := credential.CheckProfile(format, profile); err != nil {
		return nil, err
	}
	elsewhere := f.out != "" || f.copy.chosen || f.keyring.chosen
	d := &delivery{stdout: !elsewhere || f.print, replaces: f.replace}
	if f.replace && f.out == "" && !f.keyring.chosen {
		return nil, fault.New(fault.Invalid, "--replace goes with --out or --keyring").WithHint("name the file to replace with --out FILE")
	}
	if d.stdout {
		const places = "choose --out FILE, or ask for it with --format env, -o json or --print"
		if err := a.mayPrint(chosen || f.print, places); err != nil {
			return nil, err
		}
	}
	if f.out != "" {
		d.sinks = append(d.sinks, a.newFileSink(f.out, cmp.Or(format, credential.Env), profile, f.replace))
	}
	if f.keyring.chosen {
		s, err := a.newKeyringSink(ctx, cmp.Or(f.keyring.value, name), f.replace)
		if err != nil {
			return nil, err
		}
		d.sinks = append(d.sinks, s)
	}
	if f.copy.chosen {
		s, err := a.newClipboardSink(f.copy.value, cmp.Or(format, credential.Env), f.profile)
		if err != nil {
			return nil, err
		}
		d.sinks = append(d.sinks, s)
	}
	if d.stdout {
		s := &streamSink{w: a.sys.Stdout, format: cmp.Or(format, credential.Env), profile: f.profile, alone: !elsewhere}
		if format == "" && screen.StdoutIsTerminal() {
			s.box, d.boxed = screen, true
		}
		d.sinks = append(d.sinks, s)
	}
	return d, nil
}

// credentialFormat reads --format, or -o where that names a format a credential has. chosen says that one was asked for.
func (a *app) credentialFormat(f deliveryFlags) (format credential.Format, chosen bool, err error) {
	if f.format != "" {
		format, err = credential.ParseFormat(f.format)
		if f := fault.From(err); f != nil {
			err = f.WithHint("%s and %s", f.Hint, formatGitHub)
		}
		return format, true, err
	}
	if _, err := a.config(); err != nil {
		return "", false, err
	}
	switch {
	case a.fields != "" || a.jq != "":
		return "", false, fault.New(fault.Invalid, "a credential is written whole: --json and --jq do not apply").WithHint("use --format json")
	case a.output == "json":
		return credential.JSON, true, nil
	case a.output != "table" && a.flags.Changed("output"): // a form that is only configured is meant for lists
		return "", false, fault.New(fault.Invalid, "a credential is not written as %s", a.output).
			WithHint("use -o json, or --format text, env, dotenv, json, ini or k8s")
	}
	return "", false, nil
}

// mayPrint refuses to print a credential where it would be lost, or kept in a job's log without anybody having asked for
// it. hint says what else to do.
func (a *app) mayPrint(asked bool, hint string) error {
	screen, err := a.terminal()
	switch {
	case err != nil:
		return err
	case a.quiet:
		return fault.New(fault.Invalid, "with -q the credential would go nowhere").WithHint("%s", hint)
	case !asked && !screen.StdoutIsTerminal() && a.sys.Getenv("CI") != "":
		return fault.New(fault.Invalid, "under CI a credential is not printed by default: job logs keep it").WithHint("%s", hint)
	}
	return nil
}

// where says where the credential is, for a person; empty if that is only standard output.
func (d *delivery) where() string {
	var places []string
	for _, s := range d.sinks {
		if at := s.where(); at != "" {
			places = append(places, at)
		}
	}
	return strings.Join(places, " and ")
}

// notices are what the sinks have to tell besides.
func (d *delivery) notices() (list []string) {
	for _, s := range d.sinks {
		if finished, ok := s.(done); ok {
			s = finished.sink
		}
		if n, ok := s.(noticer); ok {
			list = append(list, n.notice())
		}
	}
	return list
}

// issue carries a drawn credential from its commit to its proof (docs/states.md): commit it as pending, hand it over, prove
// possession. A hand-over that fails withdraws it, so nothing the sinks did not take is ever live; and the old credential
// of a roll outlives every failure before the proof.
func (a *app) issue(ctx context.Context, service keys.Service, drawn *drawing, d *delivery, commit func(keys.Offer) (keys.Pending, error)) (keys.Proven, error) {
	defer d.abort()
	if err := d.prepare(); err != nil {
		return keys.Proven{}, err
	}
	cred, offer, err := drawn.wait(ctx)
	if err != nil {
		return keys.Proven{}, err
	}
	pending, err := commit(offer)
	if fault.Is(err, fault.OutcomeUnknown) { // at most it is pending, which lets nobody in, is in nobody's way, and lapses
		return keys.Proven{}, fault.From(err).WithHint("no credential was handed out, and none was activated: run the command again")
	}
	if err != nil {
		return keys.Proven{}, err
	}
	cred.Name, cred.Datasets, cred.Server = pending.Name, pending.Datasets, serverOf(a.cfg)
	a.tell("committed %s of key %q as pending", cred.AccessKeyID, cred.Name)
	if err := d.fill(issued{cred, pending}); err != nil {
		return keys.Proven{}, a.withdraw(ctx, service, cred, err)
	}
	if ctx.Err() != nil {
		return keys.Proven{}, a.withdraw(ctx, service, cred, ctx.Err())
	}
	proven, err := a.prove(ctx, service, cred, pending)
	switch {
	case fault.Is(err, fault.OutcomeUnknown):
		d.keep()
		return proven, err
	case err != nil:
		return proven, a.withdraw(ctx, service, cred, err)
	}
	a.tell("proved possession of %s", cred.AccessKeyID)
	failed := d.finish()
	for _, err := range failed[min(1, len(failed)):] {
		a.warn(err.Error())
		if f := fault.From(err); f != nil && f.Hint != "" {
			a.hint("%s", f.Hint)
		}
	}
	if len(failed) > 0 {
		return proven, failed[0]
	}
	return proven, nil
}

// withdraw ends a pending credential that was not handed over or not proven, and words why.
func (a *app) withdraw(ctx context.Context, service keys.Service, cred credential.Credential, why error) error {
	err := service.Withdraw(context.WithoutCancel(ctx), cred.AccessKeyID)
	if err != nil {
		a.warn(fmt.Sprintf("the pending credential %s could not be withdrawn and lapses in %d minutes", cred.AccessKeyID, int(keys.PendingFor.Minutes())))
	}
	return why
}

// proofRetry is the pause between two attempts to prove.
const proofRetry = 100 * time.Millisecond

// prove shows the store that the credential is in hand. An attempt that the store could not answer is repeated as long as
// --timeout allows; a proof may be repeated safely.
func (a *app) prove(ctx context.Context, service keys.Service, cred credential.Credential, pending keys.Pending) (keys.Proven, error) {
	cfg, err := a.config()
	if err != nil {
		return keys.Proven{}, err
	}
	proof := credential.Proof(cred.SigningKey, pending.KeyID, cred.AccessKeyID, pending.Challenge)
	for deadline := time.Now().Add(cfg.Timeout); ; {
		proven, err := service.Prove(ctx, cred.AccessKeyID, proof)
		if err == nil || !fault.CodeOf(err).Retryable() {
			return proven, err
		}
		if !time.Now().Before(deadline) || ctx.Err() != nil {
			return proven, fault.New(fault.OutcomeUnknown, "the credential %s of key %q was delivered, but whether it is active is not known", cred.AccessKeyID, pending.Name).
				WithHint("`keyctl keys show %s` tells; if it is not, `keyctl keys activate --from FILE` within %d minutes", pending.Name, int(keys.PendingFor.Minutes())).
				WithCause(err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(proofRetry):
		}
	}
}

func (d *delivery) prepare() error {
	for _, s := range d.sinks {
		if err := s.prepare(); err != nil {
			return err
		}
	}
	return nil
}

func (d *delivery) fill(i issued) error {
	for _, s := range d.sinks {
		if err := s.fill(i); err != nil {
			return undelivered(i.cred, s, err)
		}
	}
	return nil
}

func undelivered(cred credential.Credential, s sink, err error) error {
	return fault.New(fault.Undelivered, "the credential %s of key %q could not be delivered to %s: %s", cred.AccessKeyID, cred.Name, s.place(), whyUndelivered(err)).
		WithHint("nothing was activated; run the command again").WithCause(err)
}

// whyUndelivered says in a few words what was wrong with a place for a secret.
func whyUndelivered(err error) string {
	switch f := fault.From(err); {
	case f != nil:
		return f.Message
	case errors.Is(err, syscall.EPIPE):
		return "it went away"
	}
	return err.Error()
}

// finish completes the hand-over in every place. The credential is in force: that one place fails takes it from no other.
func (d *delivery) finish() (failed []error) {
	for i, s := range d.sinks {
		if err := s.finish(); err != nil {
			failed = append(failed, err)
		}
		d.sinks[i] = done{s}
	}
	return failed
}

// keep leaves what was handed over where it is.
func (d *delivery) keep() {
	for i, s := range d.sinks {
		d.sinks[i] = done{s}
	}
}

// abort takes back what was handed over, unless finish or keep was called.
func (d *delivery) abort() {
	for _, s := range d.sinks {
		s.abort()
	}
}

// done is a sink that has nothing left to take back.
type done struct{ sink }

func (done) abort() {}

// render writes a credential in a format.
func (i issued) render(format credential.Format, profile string) ([]byte, error) {
	var b bytes.Buffer
	if format == credential.JSON {
		encoded, err := encodeJSON(credential.Document{Credential: i.cred, Previous: i.pending.Previous})
		if err != nil {
			return nil, err
		}
		err = json.Indent(&b, encoded, "", "  ")
		b.WriteByte('\n')
		return b.Bytes(), err
	}
	err := i.cred.Write(&b, format, credential.WriteOptions{Profile: profile})
	return b.Bytes(), err
}
