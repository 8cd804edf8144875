package cmd

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"keyctl/internal/config"
	"keyctl/internal/credential"
	"keyctl/internal/fault"
	"keyctl/internal/keys"
	"keyctl/internal/login"
	"keyctl/internal/safefile"
	"keyctl/internal/transport"
)

// loginOptions are the flags of login, as typed.
type loginOptions struct{ name, out string }

func newLogin(a *app) *cobra.Command {
	var o loginOptions
	c := &cobra.Command{
		Use:   "login SERVER",
		Short: "Send commands to a server from now on",
		Long: `Take a token, try it on the server, keep it, and make a context of the two that is in use from then on. The token is asked for on a
terminal, or read from standard input. It is kept in the keyring of this system, or with --out in a file of mode 0600.

On the server's machine keyctl tokens create makes tokens.`,
		Example: `  keyctl login https://keys.example.com
  keyctl login https://keys.example.com --name prod --ca-file ca.pem --out ~/.config/keyctl/prod.token < token
  keyctl tokens create | keyctl login http://127.0.0.1:8420`,
		Args: args("SERVER"),
		RunE: func(c *cobra.Command, args []string) error {
			p, err := a.printer()
			if err != nil {
				return err
			}
			who, err := a.login(c.Context(), args[0], o)
			if err != nil {
				return err
			}
			return printOne(p, identityShape, who)
		},
		ValidArgsFunction: noCompletion,
	}
	c.Flags().SortFlags = false
	c.Flags().Var(nonEmpty(&o.name), "name", "the name of the context (default: the server's host)")
	c.Flags().Var(nonEmpty(&o.out), "out", "keep the token in this file, mode 0600, instead of the keyring")
	return c
}

// noCompletion completes an argument that only its user knows.
func noCompletion(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveNoFileComp
}

// login keeps a token that works, and nothing else. Before it takes one it finds out where that can stay, and the context
// comes last: what is in use is there.
func (a *app) login(ctx context.Context, server string, o loginOptions) (keys.Identity, error) {
	base, err := transport.ParseServer(server)
	if err != nil {
		return keys.Identity{}, err
	}
	if o.name == "" {
		o.name = contextName(base)
	}
	cfg, err := a.config()
	if err != nil {
		return keys.Identity{}, err
	}
	caFile := cmp.Or(a.flags.Lookup("ca-file").Value.String(), a.sys.Getenv("KEYCTL_CA_FILE"))
	if caFile != "" {
		if caFile, err = filepath.Abs(caFile); err != nil {
			return keys.Identity{}, err
		}
	}
	if _, err := authorities(caFile); err != nil {
		return keys.Identity{}, err
	}
	if err := config.CheckContext(a.inputs(), o.name, base.String()); err != nil {
		return keys.Identity{}, err
	}
	keeper, err := a.tokenKeeper(ctx, o)
	if err != nil {
		return keys.Identity{}, err
	}
	defer keeper.discard()
	token, err := a.takeToken(ctx)
	if err != nil {
		return keys.Identity{}, err
	}
	client, err := newClient(base.String(), caFile, token, cfg.Timeout)
	if err != nil {
		return keys.Identity{}, err
	}
	defer client.Close()
	who, err := client.Whoami(ctx)
	if err != nil {
		return who, err
	}
	place := config.Place{Server: base.String(), CAFile: caFile, Token: keeper.source}
	if err := keeper.keep(ctx, token); err != nil {
		return who, err
	}
	if err := config.LogIn(a.inputs(), o.name, place); err != nil {
		return who, err
	}
	a.say("logged in to %s; commands go there from now on (context %q)", base, o.name)
	a.hint("`keyctl context use --none` goes back to the store on this machine")
	for _, variable := range []string{"KEYCTL_STORE", "KEYCTL_SERVER", "KEYCTL_CONTEXT", "KEYCTL_TOKEN", "KEYCTL_TOKEN_FILE"} {
		if a.sys.Getenv(variable) != "" {
			a.warn(variable + " is set, and wins over the context in use")
		}
	}
	return who, nil
}

// contextName makes a name of a server's host and port.
func contextName(base *url.URL) string {
	name := strings.Map(func(r rune) rune {
		if strings.ContainsRune("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-", r) {
			return r
		}
		return '-'
	}, base.Host)
	return strings.Trim(name[:min(len(name), 64)], "-.")
}

// takeToken asks for the token on a terminal, and else reads the first line of standard input.
func (a *app) takeToken(ctx context.Context) (credential.Secret, error) {
	screen, err := a.terminal()
	if err != nil {
		return credential.Secret{}, err
	}
	var token credential.Secret
	switch {
	case screen.CanPrompt():
		if token, err = screen.AskSecret(ctx, "Token"); err != nil {
			return token, err
		}
	case !screen.StdinIsTerminal(): // who types there would see no question
		line, err := bufio.NewReader(io.LimitReader(a.sys.Stdin, maxTokenLine)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return token, err
		}
		token = credential.NewSecret(line)
	}
	if token = credential.NewSecret(strings.TrimSpace(token.Reveal())); token.IsZero() {
		return token, fault.New(fault.Unauthenticated, "there is no token on standard input").
			WithHint("on the server's machine: keyctl tokens create; then give it to this command, as in `keyctl login SERVER < token`")
	}
	_, err = credential.OperatorTokenID(token)
	return token, err
}

// maxTokenLine bounds what is read as a token.
const maxTokenLine = 4096

// tokenKeeper is the place that a token is going to stay in.
type tokenKeeper struct {
	source string // as the configuration names it
	ring   login.Ring
	name   string           // in the keyring
	file   *safefile.Staged // or the file; nil: the keyring
	again  bool             // the file holds a token already, which gives way
}

// tokenKeeper finds out what could go wrong with the place of a token, before there is one.
func (a *app) tokenKeeper(ctx context.Context, o loginOptions) (*tokenKeeper, error) {
	if o.out == "" {
		ring, err := a.keyring()
		if err != nil {
			return nil, err
		}
		return &tokenKeeper{source: "keyring:" + o.name, ring: ring, name: o.name}, ring.Check(ctx, login.Token)
	}
	path, err := filepath.Abs(o.out)
	if err != nil {
		return nil, err
	}
	again := a.isTokenFile(path)
	if _, err := os.Lstat(path); err == nil && !again {
		return nil, fault.New(fault.Exists, "there is a file %q already, and it holds no token", path).WithHint("name another")
	}
	file, err := safefile.Stage(path)
	return &tokenKeeper{source: "file:" + path, file: file, again: again}, err
}

// keep puts the token where it stays.
func (k *tokenKeeper) keep(ctx context.Context, token credential.Secret) error {
	if k.file == nil {
		return k.ring.Store(ctx, login.Token, k.name, token)
	}
	if _, err := io.WriteString(k.file, token.Reveal()+"\n"); err != nil {
		return err
	}
	if k.again {
		return k.file.CommitReplace()
	}
	return k.file.CommitNew()
}

// discard removes what a failure left staged.
func (k *tokenKeeper) discard() {
	if k.file != nil {
		_ = k.file.Discard()
	}
}

// isTokenFile reports whether a file holds a token already: a new login may replace that, and nothing else.
func (a *app) isTokenFile(path string) bool {
	text, err := safefile.ReadPrivate(path, maxTokenLine, func(string) {})
	if err != nil {
		return false
	}
	_, err = credential.OperatorTokenID(credential.NewSecret(strings.TrimSpace(string(text))))
	return err == nil
}

// forget takes a token out of where login put it. One that is gone already is no failure.
func (a *app) forget(ctx context.Context, source config.Source) error {
	if name, inKeyring := source.Keyring(); inKeyring {
		ring, err := a.keyring()
		if err != nil {
			return err
		}
		if err = ring.Remove(ctx, login.Token, name); fault.Is(err, fault.NotFound) {
			err = nil
		}
		return err
	}
	if path, isFile := source.Path(); isFile && a.isTokenFile(path) {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return safefile.Explain(path, err)
		}
	}
	return nil
}
