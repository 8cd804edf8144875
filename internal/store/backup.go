package store

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"keyctl/internal/fault"
	"keyctl/internal/safefile"
)

// Snapshot writes the store as it is at one instant to a new file of mode 0600, without waiting for writers or holding
// them up (R48). The file is a store of its own without side files. exists: something is at path already.
func (db *DB) Snapshot(ctx context.Context, path string) error {
	if db.glance {
		return glancedAt(db.path)
	}
	f, err := safefile.Create(path)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return safefile.Explain(path, err)
	}
	if err := db.copyInto(ctx, path); err != nil {
		removeDatabase(path)
		return err
	}
	return syncDirectory(filepath.Dir(path))
}

// copyInto fills an empty file with a copy that holds no trace of anything deleted.
func (db *DB) copyInto(ctx context.Context, path string) error {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return safefile.Explain(path, err)
	}
	engine, err := openEngine(db.path, forWriting, patientWait)
	if err != nil {
		return err
	}
	_, err = engine.ExecContext(ctx, "VACUUM INTO $1", absolute)
	if closeErr := engine.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return explain(db.path, err)
	}
	return syncFile(absolute)
}

// A backup is three things one after the other: a line with backupMagic and the format, a line with the Manifest as
// compact JSON, and the bytes of a snapshot.
const (
	backupMagic      = "keyctl-backup "
	backupFormat     = 1
	maxManifestBytes = 64 << 10
)

// Manifest says what a backup holds. It is not secret; MAC binds it, and through SHA256 the whole backup, to the store's
// keys.
type Manifest struct {
	Format        int       `json:"format"`
	CreatedAt     time.Time `json:"created_at"`
	StoreID       string    `json:"store_id"`
	SchemaVersion int64     `json:"schema_version"`
	AuditSeq      int64     `json:"audit_seq"`
	AuditHead     string    `json:"audit_head"`  // audit.Head.Value
	CheckValue    string    `json:"check_value"` // hex
	Keys          int64     `json:"keys"`
	Size          int64     `json:"size"`   // bytes of the snapshot
	SHA256        string    `json:"sha256"` // of the snapshot, hex
	MAC           string    `json:"mac"`    // hex
}

// line is the manifest as it stands in the file, without the end of the line.
func (m Manifest) line() ([]byte, error) { return json.Marshal(m) }

// authenticated is what the MAC covers: the magic line and the manifest without the MAC.
func (m Manifest) authenticated() ([]byte, error) {
	m.MAC = ""
	line, err := m.line()
	return append([]byte(backupMagic+strconv.Itoa(m.Format)+"\n"), line...), err
}

// VerifyMAC reports store_damaged when the manifest was changed, or made under other keys than mac's.
func (m Manifest) VerifyMAC(mac func([]byte) []byte) error {
	content, err := m.authenticated()
	if err != nil {
		return err
	}
	given, err := hex.DecodeString(m.MAC)
	if err != nil || !hmac.Equal(given, mac(content)) {
		return fault.New(fault.StoreDamaged, "the backup was changed after it was made").WithHint("use another backup")
	}
	return nil
}

// WriteBackup writes a backup of a snapshot to w. The caller fills the manifest but for Format, Size, SHA256 and MAC.
func WriteBackup(w io.Writer, image *os.File, m Manifest, mac func([]byte) []byte) error {
	digest, size, err := digestOf(image)
	if err != nil {
		return safefile.Explain(image.Name(), err)
	}
	m.Format, m.Size, m.SHA256 = backupFormat, size, digest
	m.CreatedAt = m.CreatedAt.UTC().Truncate(time.Microsecond)
	content, err := m.authenticated()
	if err != nil {
		return err
	}
	m.MAC = hex.EncodeToString(mac(content))
	line, err := m.line()
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w, "%s%d\n%s\n", backupMagic, backupFormat, line); err != nil {
		return err
	}
	copied, err := io.Copy(w, io.LimitReader(image, size))
	if err == nil && copied != size {
		err = storeDamaged(image.Name())
	}
	return err
}

// digestOf reads a file from its beginning and leaves it there.
func digestOf(f *os.File) (digest string, size int64, err error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return "", 0, err
	}
	sum := sha256.New()
	if size, err = io.Copy(sum, f); err != nil {
		return "", 0, err
	}
	_, err = f.Seek(0, io.SeekStart)
	return hexSum(sum), size, err
}

func hexSum(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }

// ReadManifest reads the two lines before the snapshot and leaves r at its first byte. Only what WriteBackup writes is
// accepted, byte for byte; anything else is invalid. schema_newer: a newer keyctl made the backup. Nothing is proven yet:
// see Manifest.VerifyMAC and ExtractBackup.
func ReadManifest(r *bufio.Reader) (Manifest, error) {
	magic, err := readLine(r, len(backupMagic)+20)
	if err != nil {
		return Manifest{}, err
	}
	number, found := strings.CutPrefix(string(magic), backupMagic)
	format, err := strconv.Atoi(number)
	if !found || err != nil || format < 1 || strconv.Itoa(format) != number {
		return Manifest{}, notABackup()
	}
	if format > backupFormat {
		return Manifest{}, schemaNewer("the backup", int64(format), backupFormat)
	}
	line, err := readLine(r, maxManifestBytes)
	if err != nil {
		return Manifest{}, err
	}
	var m Manifest
	if err := json.Unmarshal(line, &m); err != nil {
		return Manifest{}, notABackup().WithCause(err)
	}
	// Writing it again finds unknown and repeated fields, blanks, and every other liberty that JSON takes.
	again, err := m.line()
	if err != nil || !bytes.Equal(again, line) || !m.plausible() {
		return Manifest{}, notABackup().WithCause(err)
	}
	newest, err := newestVersion(embedded())
	if err == nil && m.SchemaVersion > newest {
		err = schemaNewer("the backup", m.SchemaVersion, newest)
	}
	return m, err
}

func (m Manifest) plausible() bool {
	return m.Format == backupFormat && m.SchemaVersion >= 1 && m.Size > 0 && m.AuditSeq >= 0 && m.Keys >= 0 &&
		len(m.SHA256) == 2*sha256.Size
}

// readLine reads up to the end of a line, and no more than limit bytes.
func readLine(r *bufio.Reader, limit int) ([]byte, error) {
	var line []byte
	for {
		piece, err := r.ReadSlice('\n')
		line = append(line, piece...)
		switch {
		case len(line) > limit:
			return nil, notABackup()
		case err == nil:
			return line[:len(line)-1], nil
		case errors.Is(err, io.EOF):
			return nil, notABackup().WithCause(err)
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, fmt.Errorf("reading the backup: %w", err)
		}
	}
}

func notABackup() *fault.Error {
	return fault.New(fault.Invalid, "this is not a keyctl backup").WithHint("name a file that `keyctl backup` wrote")
}

// ExtractBackup writes the snapshot that follows a manifest to a new file of mode 0600, and checks that it is the one the
// manifest means and nothing comes after it: store_damaged, and no file. exists: something is at path already.
func ExtractBackup(r io.Reader, m Manifest, path string) error {
	f, err := safefile.Create(path)
	if err != nil {
		return err
	}
	err = extract(f, r, m)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		_ = os.Remove(path)
	}
	return safefile.Explain(path, err)
}

func extract(w io.Writer, r io.Reader, m Manifest) error {
	sum := sha256.New()
	_, err := io.CopyN(io.MultiWriter(w, sum), r, m.Size)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if err != nil || hexSum(sum) != m.SHA256 {
		return damagedBackup().WithCause(err)
	}
	var extra [1]byte
	if n, _ := io.ReadFull(r, extra[:]); n > 0 {
		return damagedBackup()
	}
	return nil
}

func damagedBackup() *fault.Error {
	return fault.New(fault.StoreDamaged, "the backup is damaged or not whole").WithHint("use another backup")
}
