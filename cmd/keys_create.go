package cmd

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"keyctl/internal/fault"
	"keyctl/internal/iprange"
	"keyctl/internal/keys"
)

// createOptions are the flags of keys create.
type createOptions struct {
	name        string
	description string
	ranges      []string
	datasets    []string
	labels      []string
	expires     string
	ifNotExists bool
	file        string
	outDir      string
	deliver     deliveryFlags
}

func newKeysCreate(a *app) *cobra.Command {
	var o createOptions
	c := &cobra.Command{
		Use:   "create NAME | create -f FILE",
		Short: "Create a key, or many, and hand out each credential once",
		Long: `Create a key, one for each server or job, and hand out its credential. This is the only time the credential is shown: it is
drawn on this machine, and the secret crypto access key never leaves it.

The key becomes active only after the credential was delivered. If that fails, nothing was created. With --if-not-exists a
provisioning script can run again and again: an active key of that name is left as it is, and no secret is printed.

With -f many keys are made from a list: CSV with a header line, or JSON, one object a line. The columns are name, description,
ip, dataset, expires and labels; several values in a cell are separated by semicolons. Nothing is made before the whole list
was found right. What became of each line is written to standard output as it happens, with its credential, as JSON (or with
-o csv as CSV), one line a key; with --out-dir the credentials go to a file of mode 0600 for each key instead. If a line is
repeated as failed, that counts. After an interruption the same command with --if-not-exists makes what is missing.`,
		Example: `  keyctl keys create web-01 --dataset payments --ip 10.0.0.0/8 --ip 192.0.2.7
  keyctl keys create ci-tmp --expires 7d --format dotenv --out .env
  keyctl keys create web-02 --if-not-exists --out /etc/web/keyctl.env
  keyctl keys create -f servers.csv --out-dir credentials --if-not-exists`,
		Args: func(c *cobra.Command, given []string) error {
			if o.file == "" {
				return args("NAME")(c, given)
			}
			if len(given) > 0 {
				return fault.New(fault.Invalid, "with --file the names are in the list").WithHint("leave out %q, or --file", given[0])
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			if o.file != "" {
				return a.createKeys(c.Context(), o)
			}
			o.name = args[0]
			return a.createKey(c.Context(), o)
		},
	}
	f := c.Flags()
	f.SortFlags = false
	f.StringVar(&o.description, "description", "", "what the key is for")
	f.Var(list(&o.ranges), "ip", "an address or range that may use the key, as 10.0.0.0/8 (repeatable; none: any address)")
	f.Var(list(&o.datasets), "dataset", "a dataset the key reaches (repeatable; at most one unstructured)")
	f.Var(list(&o.labels), "label", "a label, as name=value (repeatable)")
	f.Var(nonEmpty(&o.expires), "expires", "when the key ends: 90d, 2027-01-31 or never")
	f.BoolVar(&o.ifNotExists, "if-not-exists", false, "succeed without a credential if an active key has that name")
	f.VarP(nonEmpty(&o.file), "file", "f", "create the keys of this list, - for standard input")
	f.Var(nonEmpty(&o.outDir), "out-dir", "with --file, write each credential to a file of its own in this folder")
	o.deliver.add(f)
	return c
}

func (a *app) createKey(ctx context.Context, o createOptions) error {
	if o.outDir != "" {
		return fault.New(fault.Invalid, "--out-dir goes with --file").WithHint("for one key there is --out FILE")
	}
	drawn := startDrawing(a.sys.Rand)
	request, err := a.newKey(o)
	if err != nil {
		return err
	}
	return a.handOut(ctx, drawn, o.deliver, o.name, func(service keys.Service) (bool, error) {
		if !o.ifNotExists {
			return false, nil
		}
		return a.keyExists(ctx, service, request)
	}, func(service keys.Service, offer keys.Offer) (keys.Pending, error) {
		request.Offer = offer
		return service.CreateKey(ctx, request)
	})
}

// handOut makes a key and hands out its first credential. exists tells that nothing is to be made, and commit makes the
// key, pending.
func (a *app) handOut(ctx context.Context, drawn *drawing, f deliveryFlags, name string,
	exists func(keys.Service) (bool, error), commit func(keys.Service, keys.Offer) (keys.Pending, error),
) error {
	d, err := a.planDelivery(ctx, f, name)
	if err != nil {
		return err
	}
	service, err := a.openOrCreate(ctx)
	if err != nil {
		return err
	}
	if done, err := exists(service); done || err != nil {
		return err
	}
	if done, err := a.resume(ctx, service, d, name, false); done || err != nil {
		return err
	}
	proven, err := a.issue(ctx, service, drawn, d, func(offer keys.Offer) (keys.Pending, error) { return commit(service, offer) })
	if err != nil {
		return err
	}
	return a.issuedKey(proven.Key, d)
}

// newKey reads what the flags ask for.
func (a *app) newKey(o createOptions) (keys.NewKey, error) {
	request := keys.NewKey{Name: o.name, Description: o.description, Datasets: o.datasets}
	var err error
	if request.IPRanges, err = iprange.ParseList(o.ranges); err != nil {
		return request, err
	}
	if request.Labels, err = parseLabels(o.labels); err != nil {
		return request, err
	}
	if o.expires != "" {
		if request.ExpiresAt, err = keys.ParseExpiry(o.expires, a.now()); err != nil {
			return request, err
		}
	}
	return request, request.Validate()
}

// parseLabels reads name=value pairs.
func parseLabels(texts []string) (map[string]string, error) {
	labels := map[string]string{}
	for _, text := range texts {
		name, value, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return nil, fault.New(fault.Invalid, "%q is not a label", text).WithHint("write name=value: --label env=prod")
		}
		labels[name] = value
	}
	return labels, nil
}

// keyExists answers --if-not-exists: an active key of that name is left alone and told about.
func (a *app) keyExists(ctx context.Context, service keys.Service, request keys.NewKey) (bool, error) {
	key, differences, err := service.ExistingKey(ctx, request)
	if fault.Is(err, fault.NotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	a.say("the key %q exists and is active; nothing was changed, and its credential is not shown again", key.Name)
	if len(differences) > 0 {
		a.warn("its " + strings.Join(differences, " and ") + " differ from what was asked for: see `keyctl keys show " + key.Name + "`")
	}
	if a.quiet {
		p, err := a.printer()
		if err != nil {
			return true, err
		}
		return true, p.line(key.ID)
	}
	return true, nil
}

// issuedKey says what happened to a person; with -q it prints the key's id.
func (a *app) issuedKey(key keys.KeyView, d *delivery) error {
	if a.quiet {
		p, err := a.printer()
		if err != nil {
			return err
		}
		return p.line(key.ID)
	}
	if at := d.where(); at != "" {
		a.say("the credential %s of key %q is %s; the key is active", orNone(key.AccessKeyID), key.Name, at)
	}
	for _, notice := range d.notices() {
		a.hint("%s", notice)
	}
	screen, err := a.terminal()
	switch {
	case err != nil:
		return err
	case d.boxed && d.where() == "" && key.Generation == 1: // the box says that it is shown once, and a roll what became of the old one
		a.say("the key %q is active", key.Name)
	case d.stdout && !d.boxed && screen.StdoutIsTerminal():
		a.say("this is shown once: keep it in your secret store now. The key %q is active.", key.Name)
	}
	return nil
}
