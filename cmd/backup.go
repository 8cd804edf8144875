package cmd

import (
	"context"
	"encoding/hex"
	"io"
	"os"

	"github.com/spf13/cobra"

	"keyctl/internal/fault"
	"keyctl/internal/keys"
	"keyctl/internal/safefile"
	"keyctl/internal/store"
)

func newBackup(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "backup FILE",
		Short: "Write the whole store to a new file",
		Long: `Write the store as it is at one instant to a new file, mode 0600, while other processes go on. Everything secret in it stays sealed
under the master key: keep that key apart from the backup, for neither is of use without the other.`,
		Example:           `  keyctl backup keyctl-2027-01-31.backup`,
		Args:              args("FILE"),
		ValidArgsFunction: oneFile,
		RunE:              func(c *cobra.Command, args []string) error { return a.backup(c.Context(), args[0]) },
	}
}

func (a *app) backup(ctx context.Context, path string) error {
	if _, err := a.storeFile(); err != nil {
		return err
	}
	if _, err := a.open(ctx); err != nil {
		return err
	}
	staged, err := safefile.Stage(path)
	if err != nil {
		return err
	}
	defer staged.Discard()
	if err := missing(path); err != nil {
		return err
	}
	if err := a.local.NoteBackup(ctx); err != nil {
		return err
	}
	snapshot := staged.Temporary() + ".db"
	if err := a.db.Snapshot(ctx, snapshot); err != nil {
		return err
	}
	defer os.Remove(snapshot)
	manifest, err := a.examineSnapshot(ctx, snapshot)
	if err != nil {
		return err
	}
	if err := a.writeBackup(staged, snapshot, manifest); err != nil {
		return err
	}
	if err := staged.CommitNew(); err != nil {
		return err
	}
	a.say("%s holds %d keys and the audit log up to record %d", path, manifest.Keys, manifest.AuditSeq)
	a.hint("it is sealed under the master key of %s: keep a copy of that key elsewhere", a.cfg.MasterKey)
	return nil
}

// missing refuses a file that is there, before there is anything to write to it.
func missing(path string) error {
	if _, err := os.Lstat(path); err == nil {
		return fault.New(fault.Exists, "there is a file %q already", path).WithHint("name a new file")
	}
	return nil
}

// writeBackup copies the snapshot behind its manifest.
func (a *app) writeBackup(w io.Writer, snapshot string, manifest store.Manifest) error {
	image, err := os.Open(snapshot)
	if err != nil {
		return safefile.Explain(snapshot, err)
	}
	defer image.Close()
	info, err := image.Stat()
	if err != nil {
		return safefile.Explain(snapshot, err)
	}
	screen, err := a.terminal()
	if err != nil {
		return err
	}
	progress := screen.NewByteProgress(info.Size(), "writing")
	defer progress.Done()
	return store.WriteBackup(io.MultiWriter(w, progress), image, manifest, a.local.BackupMAC)
}

// examineSnapshot opens a copy of the store, checks it and describes it.
func (a *app) examineSnapshot(ctx context.Context, path string) (store.Manifest, error) {
	copied, err := a.openCopy(ctx, path)
	if err != nil {
		return store.Manifest{}, err
	}
	defer copied.db.Close()
	head, err := copied.local.AuditHead(ctx)
	if err != nil {
		return store.Manifest{}, err
	}
	report, err := copied.local.VerifyAudit(ctx, "")
	if err != nil {
		return store.Manifest{}, err
	}
	if !report.OK {
		a.warn("the audit log is broken (`keyctl audit verify`), and so is its copy in the backup")
	}
	manifest := store.Manifest{
		CreatedAt: a.now(), StoreID: copied.local.StoreID(), SchemaVersion: copied.db.SchemaVersion(),
		AuditSeq: head.Seq, AuditHead: head.Value, CheckValue: hex.EncodeToString(a.master.CheckValue(copied.local.StoreID())),
	}
	all := &listing[keys.KeyView]{fetch: func(_ int, cursor string) (keys.Page[keys.KeyView], error) {
		return copied.local.Keys(ctx, keys.KeyFilter{Cursor: cursor})
	}}
	err = each(all.items(), func(keys.KeyView) error {
		manifest.Keys++
		return nil
	})
	return manifest, err
}

// copyOfStore is a store opened beside the one a command works on.
type copyOfStore struct {
	db    *store.DB
	local *keys.Local
}

// openCopy opens and checks a copy of a store with the configured master key.
func (a *app) openCopy(ctx context.Context, path string) (copyOfStore, error) {
	db, err := store.Open(ctx, path, a.storeOptions())
	if err != nil {
		return copyOfStore{}, err
	}
	local, err := keys.Open(ctx, db, *a.master, a.env())
	if err == nil {
		err = db.QuickCheck(ctx)
	}
	if err != nil {
		_ = db.Close()
		return copyOfStore{}, err
	}
	return copyOfStore{db, local}, nil
}
