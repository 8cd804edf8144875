package cmd

import (
	"bytes"
	"cmp"
	"context"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"keyctl/internal/ciphertext"
	"keyctl/internal/credential"
	"keyctl/internal/dataplane"
	"keyctl/internal/fault"
	"keyctl/internal/keys"
	"keyctl/internal/safefile"
	"keyctl/internal/term"
)

// cipherOptions are the flags and arguments of encrypt and decrypt.
type cipherOptions struct {
	decrypts bool
	file     string // empty for standard input
	held     heldFlags
	out      string
}

func (o *cipherOptions) add(c *cobra.Command) {
	f := c.Flags()
	f.SortFlags = false
	o.held.add(f)
	f.Var(nonEmpty(&o.out), "out", "write to this new file, mode 0600, - for standard output even if it is a terminal")
}

// on are the options with the argument.
func (o cipherOptions) on(args []string) cipherOptions {
	if len(args) == 1 && args[0] != "-" {
		o.file = args[0]
	}
	return o
}

// dataKeys is what encrypt and decrypt ask: a server, or the store itself.
type dataKeys interface {
	NewDataKey(ctx context.Context, uses int) (keys.ReleasedKey, error)
	OpenDataKey(ctx context.Context, encrypted []byte) (keys.ReleasedKey, error)
	Track(ctx context.Context, events []keys.UsageEvent) error
}

// holder is who has a credential, and whom he asks for data keys with it.
type holder struct {
	dataKeys
	a    *app
	cred credential.Credential
}

// cipher turns the input into the output. Both are whole in memory: nothing of the output is written before all of the input
// has proven good.
func (a *app) cipher(ctx context.Context, o cipherOptions, most int64, turn func(ctx context.Context, h holder, data []byte) ([]byte, error)) error {
	write, discard, err := a.cipherOutput(o)
	if err != nil {
		return err
	}
	defer discard()
	cred, err := o.held.credential(ctx, a)
	if err != nil {
		return err
	}
	data, err := a.cipherInput(ctx, o.file, most)
	if err != nil {
		return err
	}
	h := holder{a: a, cred: cred}
	if h.dataKeys, err = a.dataKeys(ctx, cred); err != nil {
		return err
	}
	if data, err = turn(ctx, h, data); err != nil {
		return err
	}
	return write(data)
}

// cipherOutput finds out where the output goes, and what speaks against that, before there is any.
func (a *app) cipherOutput(o cipherOptions) (write func([]byte) error, discard func(), err error) {
	if err := a.printsNothing(o.name()); err != nil {
		return nil, nil, err
	}
	screen, err := a.terminal()
	if err != nil {
		return nil, nil, err
	}
	const hint = "name a file with --out FILE, or force it with --out -"
	switch {
	case o.file == "" && o.held.from.file == "-":
		return nil, nil, fault.New(fault.Invalid, "the credential and the data cannot both come from standard input").WithHint("name the data's FILE")
	case o.file == "" && screen.StdinIsTerminal():
		return nil, nil, fault.New(fault.Invalid, "there is nothing to %s: standard input is a terminal", o.name()).
			WithHint("name a FILE, or pass the data through a pipe")
	case o.out == "" && !o.decrypts && screen.StdoutIsTerminal():
		return nil, nil, fault.New(fault.Invalid, "a ciphertext is not text, and is not written to a terminal").WithHint(hint)
	case o.out != "" && o.out != "-":
		staged, err := safefile.Stage(o.out)
		if err != nil {
			return nil, nil, err
		}
		if err := missing(o.out); err != nil {
			_ = staged.Discard()
			return nil, nil, err
		}
		return func(data []byte) error {
			if _, err := staged.Write(data); err != nil {
				return err
			}
			return staged.CommitNew()
		}, func() { _ = staged.Discard() }, nil
	}
	return func(data []byte) error {
		if o.out == "" && screen.StdoutIsTerminal() && !isReadable(data) {
			return fault.New(fault.Invalid, "what was decrypted is not plain text, and is not written to a terminal").WithHint(hint)
		}
		_, err := a.sys.Stdout.Write(data)
		return safefile.Explain("standard output", err)
	}, func() {}, nil
}

func (o cipherOptions) name() string {
	if o.decrypts {
		return "decrypt"
	}
	return "encrypt"
}

// isReadable reports whether data can do no more on a terminal than be read.
func isReadable(data []byte) bool {
	text := strings.NewReplacer("\r\n", "", "\n", "", "\t", "").Replace(string(data))
	return term.Clean(text) == text
}

// fewBytes is how much is read before there is a buffer for all that is expected.
const fewBytes = 1 << 20

// cipherInput reads the data: as much as there may be, and one byte more. A pipe that says nothing does not keep an interrupted
// command from ending.
func (a *app) cipherInput(ctx context.Context, name string, most int64) ([]byte, error) {
	var b bytes.Buffer
	r, from, room := a.sys.Stdin, "standard input", most // how much is expected
	if name != "" {
		file, err := os.Open(name)
		if err != nil {
			return nil, safefile.Explain(name, err)
		}
		defer file.Close()
		if info, err := file.Stat(); err == nil && info.Mode().IsRegular() {
			if info.Size() > most {
				return nil, ciphertext.TooLong()
			}
			room = info.Size()
		}
		r, from = file, name
	}
	read := make(chan error, 1)
	go func() {
		_, err := b.ReadFrom(io.LimitReader(r, fewBytes))
		if err == nil && b.Len() == fewBytes {
			// A buffer that grows step by step leaves as much behind as it has in the end. Memory that nobody has written to is not
			// there yet.
			b = *bytes.NewBuffer(append(make([]byte, 0, room+1+bytes.MinRead), b.Bytes()...))
			_, err = b.ReadFrom(io.LimitReader(r, most+1-fewBytes))
		}
		read <- err
	}()
	select {
	case err := <-read:
		return b.Bytes(), safefile.Explain(from, err)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// dataKeys finds out whom to ask for data keys: by the flags, else the server that the credential names, else by configuration.
func (a *app) dataKeys(ctx context.Context, cred credential.Credential) (dataKeys, error) {
	cfg, err := a.config()
	if err != nil {
		return nil, err
	}
	server := cmp.Or(cred.Server, cfg.Server)
	if a.flags.Changed("server") || a.flags.Changed("store") || a.flags.Changed("context") {
		server = cfg.Server
	}
	if server == "" {
		if err := a.openStore(ctx, cfg); err != nil {
			return nil, err
		}
		return storeDataKeys{keys.NewDataPlane(a.local), keys.Claim{AccessKeyID: cred.AccessKeyID, Proves: cred.SigningKey.Equal}}, nil
	}
	roots, err := authorities(cfg.CAFile)
	if err != nil {
		return nil, err
	}
	a.tell("data keys come from %s", server)
	return dataplane.NewClient(dataplane.ClientOptions{
		Server: server, AccessKeyID: cred.AccessKeyID, SigningKey: cred.SigningKey, Roots: roots, Timeout: cfg.Timeout,
		Version: thisBuild().Version, Now: a.sys.Now,
	})
}

// storeDataKeys asks the store for data keys, with one claim.
type storeDataKeys struct {
	plane *keys.DataPlane
	claim keys.Claim
}

func (s storeDataKeys) NewDataKey(ctx context.Context, uses int) (keys.ReleasedKey, error) {
	return s.plane.NewDataKey(ctx, s.claim, uses)
}

func (s storeDataKeys) OpenDataKey(ctx context.Context, encrypted []byte) (keys.ReleasedKey, error) {
	return s.plane.OpenDataKey(ctx, s.claim, encrypted)
}

func (s storeDataKeys) Track(ctx context.Context, events []keys.UsageEvent) error {
	return s.plane.Track(ctx, s.claim, events)
}

// open opens a data key with the credential. A wrong secret crypto access key is no credential, like any wrong secret.
func (h holder) open(released keys.ReleasedKey) ([]byte, error) {
	private, err := credential.OpenPrivateKey(released.PrivateKeyPEM, h.cred.CryptoAccessKey)
	if err != nil {
		return nil, fault.New(fault.Unauthenticated, "the secret crypto access key does not open the private key of %s", h.cred.AccessKeyID).
			WithHint("it belongs to another credential; the other secret is right").WithCause(err)
	}
	return credential.Unwrap(private, released.Wrapped)
}

// track tells of the use, as client libraries do. The data is done, so a failure is only said.
func (h holder) track(ctx context.Context, action keys.Action) error {
	now := h.a.now()
	err := h.Track(ctx, []keys.UsageEvent{{
		Action: action, Count: 1, FirstAt: now, LastAt: now, Product: "keyctl", Version: thisBuild().Version,
	}})
	if err != nil && ctx.Err() == nil {
		h.a.warn("this use will be missing in `keyctl usage`: " + err.Error())
	}
	return ctx.Err()
}
