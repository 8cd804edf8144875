package cmd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"keyctl/internal/fault"
	"keyctl/internal/login"
	"keyctl/internal/safefile"
	"keyctl/internal/store"
)

const (
	// spareBytes is what should be free on the disk beside the room for a copy of the store, which an upgrade makes.
	spareBytes = 64 << 20
	// maxQuickAudit is how many audit records doctor checks; it takes a second.
	maxQuickAudit = 50_000
	// abandonedAfter is when a file that is there for a moment was left behind.
	abandonedAfter = time.Hour
	// keepCopiesFor is how long a copy of the store from before an upgrade or a restore is worth keeping.
	keepCopiesFor = 30 * 24 * time.Hour
)

// configuration: can the file be read, and does everything in it make sense?
func (e *examination) configuration(context.Context) []finding {
	switch {
	case e.cfgErr != nil:
		return []finding{trouble(e.cfgErr)}
	case e.cfg.File == "":
		return []finding{found(resultOK, "there is no configuration file, and none is needed")}
	case e.cfg.Context != "":
		return []finding{found(resultOK, "%q can be read; the context is %q", e.cfg.File, e.cfg.Context)}
	}
	return []finding{found(resultOK, "%q can be read", e.cfg.File)}
}

// store: is it there, is it one that this program reads, and does nothing in it contradict itself?
func (e *examination) store(ctx context.Context) []finding {
	switch {
	case e.cfgErr != nil:
		return e.unreadable()
	case fault.Is(e.storeErr, fault.NoStore) && e.cfg.StoreIsDefault && store.WasMoved(e.cfg.StorePath) == "":
		return []finding{found(resultWarning, "there is no store yet at %q", e.cfg.StorePath).
			hint("the first create makes one, or `keyctl init`; if there was one, `keyctl restore FILE` puts a backup in its place")}
	case fault.Is(e.storeErr, fault.Forbidden):
		return []finding{found(resultSkipped, "%q is not opened as long as its permissions are wrong", e.cfg.StorePath)}
	case e.storeErr != nil:
		return []finding{undecided(e.storeErr)}
	}
	db := e.a.db
	err := db.QuickCheck(ctx)
	e.damaged = fault.Is(err, fault.StoreDamaged)
	switch {
	case err != nil:
		return []finding{undecided(err)}
	case db.Outdated():
		return []finding{found(resultWarning, "%q is whole, and of format %d, where this keyctl has %d", db.Path(), db.SchemaVersion(), db.NewestVersion()).
			hint("the next command that works on it upgrades it, and keeps a copy beside it")}
	}
	return []finding{found(resultOK, "%q is whole (%s)", db.Path(), sizeText(uint64(store.Size(db.Path()))))}
}

// masterKey: can it be read, and is it this store's?
func (e *examination) masterKey(context.Context) []finding {
	_, isFile := e.cfg.MasterKey.Path()
	switch {
	case e.cfgErr != nil:
		return e.unreadable()
	case fault.Is(e.masterErr, fault.Forbidden):
		return []finding{found(resultSkipped, "%s is not read as long as its permissions are wrong", e.cfg.MasterKey)}
	case errors.Is(e.masterErr, login.ErrLocked):
		return []finding{found(resultSkipped, "%s is not read as long as the keyring is locked", e.cfg.MasterKey)}
	case fault.Is(e.masterErr, fault.MasterKeyMissing) && isFile && fault.Is(e.storeErr, fault.NoStore):
		return []finding{found(resultSkipped, "%s will be made together with the store", e.cfg.MasterKey)}
	case e.masterErr != nil:
		return []finding{trouble(e.masterErr)}
	case e.storeErr != nil || e.damaged && fault.Is(e.localErr, fault.StoreDamaged):
		return []finding{found(resultSkipped, "%s can be read, and there is no store to try it on", e.cfg.MasterKey)}
	case e.localErr != nil:
		return []finding{undecided(e.localErr)}
	}
	return []finding{found(resultOK, "%s opens the store", e.cfg.MasterKey)}
}

// permissions: are the files closed to others, and the folders they are in?
func (e *examination) permissions(context.Context) []finding {
	if e.cfgErr != nil {
		return e.unreadable()
	}
	if runtime.GOOS == "windows" {
		return []finding{found(resultSkipped, "on Windows a file is as private as the folder it lies in")}
	}
	var findings []finding
	for _, err := range []error{e.storeErr, e.masterErr, e.serverErr} {
		if fault.Is(err, fault.Forbidden) && fault.From(err).RequestID == "" {
			findings = append(findings, trouble(err))
		}
	}
	for _, message := range e.warnings {
		findings = append(findings, found(resultWarning, "%s", message))
	}
	for _, dir := range e.folders() {
		if err := safefile.CheckFolder(dir); fault.Is(err, fault.Forbidden) {
			f := trouble(err)
			f.Result = resultWarning // every command goes on
			findings = append(findings, f)
		}
	}
	if len(findings) == 0 {
		return []finding{found(resultOK, "nothing that has to be private is open to others")}
	}
	return findings
}

// folders are those of the store, the master key, the token and the configuration file.
func (e *examination) folders() []string {
	masterKey, _ := e.cfg.MasterKey.Path()
	token, _ := e.cfg.Token.Path()
	files := slices.DeleteFunc([]string{e.cfg.StorePath, masterKey, token, e.cfg.File}, func(path string) bool { return path == "" })
	var dirs []string
	for _, file := range files {
		if dir := filepath.Dir(file); !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// disk: is there room for the store to grow, and for a copy of it?
func (e *examination) disk(context.Context) []finding {
	if e.cfgErr != nil {
		return e.unreadable()
	}
	dir := filepath.Dir(e.cfg.StorePath)
	for {
		if _, err := os.Stat(dir); err == nil || dir == filepath.Dir(dir) {
			break
		}
		dir = filepath.Dir(dir) // it will be made
	}
	free, err := safefile.FreeBytes(dir)
	switch need := uint64(store.Size(e.cfg.StorePath)) + spareBytes; {
	case errors.Is(err, errors.ErrUnsupported):
		return []finding{found(resultSkipped, "the system does not tell how much space is free at %q", dir)}
	case err != nil:
		return []finding{trouble(err)}
	case free < need:
		return []finding{found(resultWarning, "%s are free at %q, which is little: a copy of the store and some changes take %s", sizeText(free), dir, sizeText(need)).
			hint("make room: on a full disk nothing can be changed")}
	}
	return []finding{found(resultOK, "%s are free at %q", sizeText(free), dir)}
}

// sizeText writes a number of bytes for people.
func sizeText(bytes uint64) string {
	size, units := float64(bytes), []string{"bytes", "kB", "MB", "GB", "TB"}
	if bytes < 1000 {
		return fmt.Sprintf("%d bytes", bytes)
	}
	unit := 0
	for ; size >= 999.95 && unit < len(units)-1; unit++ {
		size /= 1000
	}
	return fmt.Sprintf("%.1f %s", size, units[unit])
}

// auditLog: is its end the one that was written, and is a log that is not too long whole?
func (e *examination) auditLog(ctx context.Context) []finding {
	if skipped := e.unreadable(); skipped != nil {
		return skipped
	}
	head, err := e.service.AuditHead(ctx)
	if err != nil {
		return []finding{undecided(err)}
	}
	if head.Seq > maxQuickAudit {
		return []finding{found(resultOK, "record %d ends it, as it was written; `keyctl audit verify` checks the records before", head.Seq)}
	}
	report, err := e.service.VerifyAudit(ctx, "")
	switch {
	case err != nil:
		return []finding{undecided(err)}
	case !report.OK:
		return []finding{found(resultError, "it is broken at record %d: %s", *report.FirstBad, orNone(report.Why)).
			hint("somebody may have changed the store's file: compare it with a backup, and with the audit heads that you keep elsewhere")}
	}
	return []finding{found(resultOK, "%s, unbroken", counted(int(report.Records), "record"))}
}

// leftovers: what did commands leave behind that were killed, and what waits to be tidied up?
func (e *examination) leftovers(ctx context.Context) []finding {
	if e.cfgErr != nil {
		return e.unreadable()
	}
	findings, young := e.leftFiles()
	if e.unreadable() == nil {
		untidy, err := e.local.Untidy(ctx)
		if err != nil {
			findings = append(findings, undecided(err))
		}
		if n := len(untidy.Unproven); n > 0 {
			findings = append(findings, found(resultWarning, "%s made and never proven: %s", counted(n, "credential"), named(n, untidy.Unproven)).
				hint("the command that made it was stopped; the next change removes what it left, then create or roll again"))
		}
		if untidy.Unwiped > 0 {
			findings = append(findings, found(resultWarning, "the secrets of %s that ended long ago are still in the store", counted(untidy.Unwiped, "credential")).
				hint("the next change wipes them; `keyctl backup FILE` is one"))
		}
	}
	switch {
	case len(findings) > 0:
		return findings
	case len(young) > 0:
		return []finding{found(resultOK, "nothing but %s of the store from less than 30 days ago: %s", copiesOf(young), strings.Join(young, ", "))}
	}
	return []finding{found(resultOK, "nothing is left behind")}
}

// leftFiles looks for files beside the store and the master key. young are the copies that are worth keeping.
func (e *examination) leftFiles() (findings []finding, young []string) {
	now := e.a.now()
	for _, dir := range e.folders() {
		left, err := safefile.Leftovers(dir, now.Add(-abandonedAfter))
		if err != nil && !fault.Is(err, fault.Forbidden) { // that one is told elsewhere
			findings = append(findings, trouble(err))
		}
		if len(left) > 0 {
			findings = append(findings, found(resultWarning, "%s left by a command that was stopped: %s", counted(len(left), "file"), strings.Join(left, ", ")).
				hint("remove them; one may hold a credential or a copy of the store"))
		}
	}
	if e.cfg.StorePath == "" {
		return findings, nil
	}
	copies, err := store.KeptCopies(e.cfg.StorePath)
	if err != nil && !fault.Is(err, fault.Forbidden) {
		findings = append(findings, trouble(err))
	}
	var old []string
	for _, kept := range copies {
		if now.Sub(kept.At) < keepCopiesFor {
			young = append(young, kept.Path)
		} else {
			old = append(old, kept.Path)
		}
	}
	if len(old) > 0 {
		findings = append(findings, found(resultWarning, "%s of the store from more than 30 days ago: %s", copiesOf(old), strings.Join(old, ", ")).
			hint("remove what you no longer need: what was revoked since works in it"))
	}
	return findings, young
}

func copiesOf(paths []string) string {
	if len(paths) == 1 {
		return "a copy"
	}
	return fmt.Sprintf("%d copies", len(paths))
}
