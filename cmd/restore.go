package cmd

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"keyctl/internal/audit"
	"keyctl/internal/fault"
	"keyctl/internal/keys"
	"keyctl/internal/safefile"
	"keyctl/internal/store"
)

func newRestore(a *app) *cobra.Command {
	var auditExport string
	c := &cobra.Command{
		Use:   "restore FILE",
		Short: "Put a backup in the place of the store",
		Long: `Check a backup from end to end and put it where the store is, or where --store says. What was there is kept beside it under
another name. It needs the master key that the backup was made under.

Going back undoes what was revoked since: keys disabled, deleted or rolled later work again as they did. These are listed, from the
store that is replaced or from an audit export given with --audit-export; look at each.`,
		Example: `  keyctl restore keyctl-2027-01-31.backup
  keyctl restore keyctl-2027-01-31.backup --store sqlite:/tmp/look/keyctl.db
  keyctl restore keyctl-2027-01-31.backup --audit-export audit.jsonl --yes`,
		Args:              args("FILE"),
		ValidArgsFunction: oneFile,
		RunE:              func(c *cobra.Command, args []string) error { return a.restore(c.Context(), args[0], auditExport) },
	}
	c.Flags().Var(nonEmpty(&auditExport), "audit-export", "a newer export of the audit log, to list what is undone")
	return c
}

func (a *app) restore(ctx context.Context, file, auditExport string) error {
	cfg, err := a.config()
	if err != nil {
		return err
	}
	if _, err := a.storeFile(); err != nil {
		return err
	}
	backup, err := a.openBackup(ctx, file)
	if err != nil {
		return err
	}
	defer backup.file.Close()
	var later []audit.Record
	if auditExport != "" {
		if later, err = readAuditExport(auditExport, a.warn); err != nil {
			return err
		}
	}
	if _, err := os.Lstat(cfg.StorePath); err == nil {
		question := fmt.Sprintf("The store %s will be replaced by the backup of %s.", cfg.StorePath, backup.manifest.CreatedAt.Format(time.RFC3339))
		if err := a.confirmName(ctx, question, filepath.Base(cfg.StorePath)); err != nil {
			return err
		}
		if later == nil {
			later = a.recordsOfOldStore(ctx, cfg.StorePath)
		}
	}
	dir := filepath.Dir(cfg.StorePath)
	if err := safefile.MkdirPrivate(dir); err != nil {
		return err
	}
	image := filepath.Join(dir, safefile.TemporaryPrefix+"restore-"+rand.Text()+".db")
	defer os.Remove(image)
	undone, err := a.unpack(ctx, backup, image, later)
	if err != nil {
		return err
	}
	aside, err := store.Replace(ctx, image, cfg.StorePath, a.now(), a.storeOptions())
	if err != nil {
		return err
	}
	a.sayRestored(cfg.StorePath, aside, backup.manifest, undone, later != nil)
	return nil
}

// openedBackup is a backup whose manifest was read.
type openedBackup struct {
	file     *os.File
	image    *bufio.Reader // at the first byte of the snapshot
	manifest store.Manifest
}

func (b openedBackup) head() keys.AuditHeadView {
	return keys.AuditHeadView{Seq: b.manifest.AuditSeq, Value: b.manifest.AuditHead}
}

// openBackup reads a backup's manifest and checks that the master key at hand is the one it was made under.
func (a *app) openBackup(ctx context.Context, path string) (openedBackup, error) {
	file, err := safefile.OpenPrivate(path, a.warn)
	if errors.Is(err, fs.ErrNotExist) {
		return openedBackup{}, fault.New(fault.NotFound, "no backup %q", path)
	}
	if err != nil {
		return openedBackup{}, err
	}
	b := openedBackup{file: file, image: bufio.NewReader(file)}
	if b.manifest, err = store.ReadManifest(b.image); err == nil {
		err = a.readMaster(ctx)
	}
	if err == nil {
		var value []byte
		if value, err = hex.DecodeString(b.manifest.CheckValue); err == nil {
			err = a.master.Check(b.manifest.StoreID, value)
		}
	}
	if err != nil {
		_ = file.Close()
	}
	return b, err
}

// unpack writes the snapshot of a backup to a new store file, checks all of it and makes it safe to work on.
func (a *app) unpack(ctx context.Context, b openedBackup, image string, later []audit.Record) ([]audit.Event, error) {
	if err := a.extract(b, image); err != nil {
		return nil, err
	}
	copied, err := a.openCopy(ctx, image)
	if err != nil {
		return nil, err
	}
	defer copied.db.Close()
	if err := b.manifest.VerifyMAC(copied.local.BackupMAC); err != nil {
		return nil, err
	}
	report, err := copied.local.VerifyAudit(ctx, b.manifest.AuditHead)
	if err != nil {
		return nil, err
	}
	if !report.OK {
		a.warn("the audit log in the backup is broken: " + orNone(report.Why))
	}
	if copied.db.Outdated() {
		if err := copied.db.Migrate(ctx); err != nil {
			return nil, err
		}
	}
	undone, err := copied.local.Undone(later, b.head())
	var broken *audit.Broken
	if errors.As(err, &broken) {
		a.warn("the later audit log does not continue the backup's: " + broken.Error())
	} else if err != nil {
		return nil, err
	}
	return undone, copied.local.Restored(ctx, b.head())
}

// extract writes the snapshot of a backup to a file.
func (a *app) extract(b openedBackup, path string) error {
	screen, err := a.terminal()
	if err != nil {
		return err
	}
	progress := screen.NewByteProgress(b.manifest.Size, "reading")
	defer progress.Done()
	return store.ExtractBackup(io.TeeReader(b.image, progress), b.manifest, path)
}

// recordsOfOldStore reads the audit log of the store that is about to be replaced, if it still can be read.
func (a *app) recordsOfOldStore(ctx context.Context, path string) []audit.Record {
	old, err := a.openCopy(ctx, path)
	if err != nil {
		return nil
	}
	defer old.db.Close()
	records, err := old.local.AllAuditRecords(ctx)
	if err != nil {
		return nil
	}
	return records
}

// maxAuditExport bounds an audit export that is read: about a million records.
const maxAuditExport = 1 << 30

// readAuditExport reads what audit export wrote.
func readAuditExport(path string, warn func(string)) ([]audit.Record, error) {
	content, err := safefile.ReadPrivate(path, maxAuditExport, warn)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(fault.NotFound, "no audit export %q", path)
	}
	if err != nil {
		return nil, err
	}
	records := []audit.Record{}
	for number, line := range bytes.Split(bytes.TrimSuffix(content, []byte("\n")), []byte("\n")) {
		var e exported
		var body struct {
			Seq int64 `json:"seq"`
		}
		err := json.Unmarshal(line, &e)
		if err == nil {
			err = json.Unmarshal(e.Record, &body)
		}
		mac, macErr := hex.DecodeString(e.MAC)
		if err != nil || macErr != nil {
			return nil, fault.New(fault.Invalid, "line %d of %q is not an exported audit record", number+1, path).
				WithHint("pass a file that `keyctl audit export` wrote")
		}
		records = append(records, audit.Record{Seq: body.Seq, Body: e.Record, MAC: mac})
	}
	return records, nil
}

// sayRestored tells what happened, and above all what is undone by it.
func (a *app) sayRestored(path, aside string, m store.Manifest, undone []audit.Event, known bool) {
	a.say("restored %s from the backup of %s: %d keys, audit log up to record %d", path, m.CreatedAt.Format(time.RFC3339), m.Keys, m.AuditSeq)
	if aside != "" {
		a.say("the replaced store is kept as %s", aside)
	}
	if !known {
		a.warn("what was revoked after the backup is undone: keys disabled, deleted or rolled since then work again as they did")
		a.hint("with --audit-export FILE a restore lists them")
		return
	}
	for _, e := range undone {
		a.warn(fmt.Sprintf("undone: %s %s %q at %s", e.Action, e.Object.Type, e.Object.Name, e.At.Format(time.RFC3339)))
	}
	a.say("undone changes that took something away: %d; look at each", len(undone))
}
