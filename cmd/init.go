package cmd

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"keyctl/internal/config"
	"keyctl/internal/envelope"
	"keyctl/internal/fault"
	"keyctl/internal/keys"
	"keyctl/internal/login"
	"keyctl/internal/safefile"
	"keyctl/internal/store"
	"keyctl/internal/term"
)

func newInit(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "init",
		Short: "Create a store and its master key, and print where they are",
		Long: `Create an empty store, and a master key unless there is one: in its file, or with keyring:NAME in the keyring of this system.
The first create on the default paths does the same by itself; init is for other paths, or for a master key from another
source.`,
		Example: `  keyctl init
  keyctl init --store sqlite:/srv/keyctl/keyctl.db --master-key file:/srv/secrets/keyctl.key
  keyctl init --master-key keyring:keyctl
  keyctl init --master-key 'command:vault read -field=key secret/keyctl'`,
		Args: args(),
		RunE: func(c *cobra.Command, _ []string) error {
			p, err := a.printer()
			if err != nil {
				return err
			}
			cfg, err := a.config()
			if err != nil {
				return err
			}
			if cfg.Server != "" {
				return fault.New(fault.Invalid, "a store is made where it lies, and commands go to %s", cfg.Server).
					WithHint("name a store: --store sqlite:PATH or --store postgres://HOST/DATABASE")
			}
			made, err := a.createStore(c.Context(), cfg)
			if err != nil {
				return err
			}
			return printOne(p, madeShape, made)
		},
	}
}

// madeStore says where a new store is.
type madeStore struct {
	Store     string `json:"store"`
	MasterKey string `json:"master_key"`
	Operator  string `json:"operator"`
}

var madeShape = shape[madeStore]{
	id:   func(m madeStore) string { return m.Store },
	name: func(m madeStore) string { return m.Store },
	details: []column[madeStore]{
		{"store", false, func(_ *printer, m madeStore) term.Cell { return text(m.Store) }},
		{"master key", false, func(_ *printer, m madeStore) term.Cell { return text(m.MasterKey) }},
		{"operator", false, func(_ *printer, m madeStore) term.Cell { return text(m.Operator) }},
	},
}

// createStore makes a store, whole or not at all, after its master key. exists: there is one. A store without its
// master key never gets a new key: that would look like a repair and lose everything.
func (a *app) createStore(ctx context.Context, cfg config.Config) (madeStore, error) {
	made := madeStore{Store: cfg.StorePath, MasterKey: cfg.MasterKey.String(), Operator: osUser()}
	if err := a.checkFree(ctx, cfg, &made); err != nil {
		return made, err
	}
	err := a.readMaster(ctx)
	if fault.Is(err, fault.MasterKeyMissing) {
		if path, isFile := cfg.MasterKey.Path(); isFile {
			err = a.createMasterKey(ctx, path)
		} else if name, inKeyring := cfg.MasterKey.Keyring(); inKeyring {
			err = a.createMasterKeyInKeyring(ctx, cfg, name)
		}
	}
	if err != nil {
		return made, err
	}
	fill := func(ctx context.Context, db *store.DB) error { return keys.Init(ctx, db, *a.master, a.env()) }
	if cfg.Postgres != "" {
		err = store.CreatePostgres(ctx, cfg.Postgres, a.storeOptions(), fill)
	} else {
		err = store.Create(ctx, cfg.StorePath, a.storeOptions(), fill)
	}
	if err != nil {
		return made, err
	}
	a.say("created the store %s, sealed under the master key of %s", made.Store, made.MasterKey)
	a.hint("without the master key the store is lost: keep a copy of it elsewhere, apart from backups")
	return made, nil
}

// checkFree makes sure that there is no store yet, before a master key is made, and completes what made says. A database must
// also be there.
func (a *app) checkFree(ctx context.Context, cfg config.Config, made *madeStore) error {
	if cfg.Postgres == "" {
		if _, err := os.Lstat(cfg.StorePath); err == nil {
			return fault.New(fault.Exists, "there is a store at %q already", cfg.StorePath).
				WithHint("use it as it is, or name another place with --store sqlite:PATH")
		}
		return nil
	}
	var err error
	if made.Store, err = store.PostgresName(cfg.Postgres); err != nil {
		return err
	}
	empty, err := store.IsEmptyPostgres(ctx, cfg.Postgres, a.storeOptions())
	if err == nil && !empty {
		return fault.New(fault.Exists, "there is a store in %q already", made.Store).
			WithHint("use it as it is, or name another database with --store postgres://HOST/DATABASE")
	}
	return err
}

// createMasterKey draws a master key into a new file. If another process was faster, its key is taken.
func (a *app) createMasterKey(ctx context.Context, path string) error {
	master, err := envelope.DrawMasterKey(a.sys.Rand)
	if err != nil {
		return err
	}
	if err := safefile.MkdirPrivate(filepath.Dir(path)); err != nil {
		return err
	}
	staged, err := safefile.Stage(path)
	if err != nil {
		return err
	}
	defer staged.Discard()
	if _, err := staged.Write([]byte(master.Text().Reveal() + "\n")); err != nil {
		return err
	}
	if err := staged.CommitNew(); err != nil && !errors.Is(err, fs.ErrExist) && !fault.Is(err, fault.Exists) {
		return err
	}
	return a.readMaster(ctx)
}

// createMasterKeyInKeyring draws a master key into a new entry of the keyring. An entry that is there, also one that
// another process was faster to make, stays as it is.
func (a *app) createMasterKeyInKeyring(ctx context.Context, cfg config.Config, name string) error {
	ring, err := a.keyring()
	if err != nil {
		return err
	}
	if cfg.CredentialsPath != "" {
		dir := filepath.Dir(cfg.CredentialsPath)
		if err := safefile.MkdirPrivate(dir); err != nil {
			return err
		}
		unlock, err := safefile.LockDir(dir, cfg.Timeout)
		if err != nil {
			return err
		}
		defer unlock()
	}
	if _, err = ring.Load(ctx, login.MasterKey, name); fault.Is(err, fault.NotFound) {
		master, drawErr := envelope.DrawMasterKey(a.sys.Rand)
		if drawErr != nil {
			return drawErr
		}
		err = ring.Store(ctx, login.MasterKey, name, master.Text())
	}
	if err != nil {
		return err
	}
	return a.readMaster(ctx)
}
