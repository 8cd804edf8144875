package store

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"keyctl/internal/fault"
	"keyctl/internal/keys"
)

func testMAC(content []byte) []byte {
	mac := hmac.New(sha256.New, []byte("test key"))
	mac.Write(content)
	return mac.Sum(nil)
}

var testManifest = Manifest{
	CreatedAt: morning, StoreID: "st_test", SchemaVersion: 1, AuditSeq: 3, AuditHead: "3:" + strings.Repeat("ab", 32),
	CheckValue: "0102", Keys: 5,
}

// backupOf makes a backup of a store as keyctl backup does.
func backupOf(t testing.TB, db *DB) []byte {
	t.Helper()
	snapshot := filepath.Join(t.TempDir(), "snapshot")
	if err := db.Snapshot(t.Context(), snapshot); err != nil {
		t.Fatal(err)
	}
	image, err := os.Open(snapshot)
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	var out bytes.Buffer
	if err := WriteBackup(&out, image, testManifest, testMAC); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// extractBackup reads a backup as keyctl restore does.
func extractBackup(backup []byte, path string) error {
	r := bufio.NewReader(bytes.NewReader(backup))
	m, err := ReadManifest(r)
	if err != nil {
		return err
	}
	if err := m.VerifyMAC(testMAC); err != nil {
		return err
	}
	return ExtractBackup(r, m, path)
}

func TestR48_BackupUnderLoad(t *testing.T) {
	path := newStore(t)
	db, writer := openStore(t, path), openStore(t, path)
	stop, done := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		for {
			select {
			case <-stop:
				done <- n
				return
			default:
			}
			// Two rows in one transaction: a backup has both or none.
			if err := writer.Update(t.Context(), func(tx keys.Tx) error {
				return firstError([]error{tx.PutKey(testKey(2 * n)), tx.PutKey(testKey(2*n + 1))})
			}); err != nil {
				t.Error(err)
			}
			n++
		}
	}()
	var backups [][]byte
	for range 10 {
		backups = append(backups, backupOf(t, db))
	}
	close(stop)
	total := <-done
	last := 0
	for i, backup := range backups {
		restored := filepath.Join(t.TempDir(), "keyctl.db")
		if err := extractBackup(backup, restored); err != nil {
			t.Fatal(err)
		}
		copied := openStore(t, restored)
		if err := copied.QuickCheck(t.Context()); err != nil {
			t.Error(err)
		}
		diff(t, "Meta() of the backup", view(t, copied, keys.Tx.Meta), testMeta)
		n := len(view(t, copied, allKeys))
		if n%2 != 0 || n < last || n > 2*total {
			t.Errorf("backup %d holds %d keys after %d, want an even number that does not go back", i, n, last)
		}
		last = n
	}
}

func TestR48_SnapshotIsPrivateAndNew(t *testing.T) {
	db := openStore(t, newStore(t))
	path := filepath.Join(t.TempDir(), "snapshot")
	if err := db.Snapshot(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm()&0o077 != 0 {
		t.Errorf("mode of the snapshot = %v, %v, want a private file", info.Mode(), err)
	}
	wantFiles(t, filepath.Dir(path), "snapshot")
	if err := db.Snapshot(t.Context(), path); fault.CodeOf(err) != fault.Exists {
		t.Errorf("Snapshot over a file = %v, want code exists", err)
	}
	if after, err := os.Stat(path); err != nil || !after.ModTime().Equal(info.ModTime()) {
		t.Errorf("the file was touched (%v)", err)
	}
}

func TestR48_ManifestSaysWhatTheBackupHolds(t *testing.T) {
	backup := backupOf(t, openStore(t, newStore(t)))
	r := bufio.NewReader(bytes.NewReader(backup))
	got, err := ReadManifest(r)
	if err != nil {
		t.Fatal(err)
	}
	var image bytes.Buffer
	if _, err := r.WriteTo(&image); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(image.Bytes())
	want := testManifest
	want.Format, want.Size, want.SHA256, want.MAC = 1, int64(image.Len()), hex.EncodeToString(sum[:]), got.MAC
	diff(t, "ReadManifest()", got, want)
	if err := got.VerifyMAC(testMAC); err != nil {
		t.Errorf("VerifyMAC() = %v", err)
	}
	foreign := func(content []byte) []byte { return testMAC(append(content, 0)) }
	if err := got.VerifyMAC(foreign); fault.CodeOf(err) != fault.StoreDamaged {
		t.Errorf("VerifyMAC under another key = %v, want code store_damaged", err)
	}
}

func TestR48_EveryDamageToABackupIsFound(t *testing.T) {
	backup := backupOf(t, openStore(t, newStore(t)))
	manifestEnd := bytes.IndexByte(backup[20:], '\n') + 20
	path := filepath.Join(t.TempDir(), "keyctl.db")
	check := func(what string, damaged []byte) {
		t.Helper()
		err := extractBackup(damaged, path)
		switch fault.CodeOf(err) {
		case fault.Invalid, fault.StoreDamaged, fault.SchemaNewer:
		default:
			t.Errorf("%s = %v, want it refused", what, err)
		}
		wantFiles(t, filepath.Dir(path))
	}
	for at := range manifestEnd + 1 {
		damaged := bytes.Clone(backup)
		damaged[at] ^= 1
		check(fmt.Sprintf("byte %d changed", at), damaged)
	}
	for at := manifestEnd + 1; at < len(backup); at += 997 {
		damaged := bytes.Clone(backup)
		damaged[at] ^= 0x80
		check(fmt.Sprintf("byte %d changed", at), damaged)
		check(fmt.Sprintf("cut at %d", at), backup[:at])
	}
	check("a byte more", append(bytes.Clone(backup), 0))
	check("nothing", nil)
	if err := extractBackup(backup, path); err != nil {
		t.Errorf("the backup as it was = %v", err)
	}
	if err := extractBackup(backup, path); fault.CodeOf(err) != fault.Exists {
		t.Errorf("ExtractBackup over a file = %v, want code exists", err)
	}
}

func TestReadManifestRefuses(t *testing.T) {
	good := testManifest
	good.Format, good.Size, good.SHA256 = 1, 4096, strings.Repeat("00", 32)
	line, err := good.line()
	if err != nil {
		t.Fatal(err)
	}
	text := string(line)
	newer := good
	newer.SchemaVersion = 1 << 40
	newerLine, err := newer.line()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		what, text string
		want       fault.Code
	}{
		{"the manifest as it should be", "keyctl-backup 1\n" + text + "\n", ""},
		{"a newer format", "keyctl-backup 2\n" + text + "\n", fault.SchemaNewer},
		{"a newer schema", "keyctl-backup 1\n" + string(newerLine) + "\n", fault.SchemaNewer},
		{"format 0", "keyctl-backup 0\n" + text + "\n", fault.Invalid},
		{"format 01", "keyctl-backup 01\n" + text + "\n", fault.Invalid},
		{"format +1", "keyctl-backup +1\n" + text + "\n", fault.Invalid},
		{"no magic", text + "\n", fault.Invalid},
		{"a carriage return", "keyctl-backup 1\r\n" + text + "\n", fault.Invalid},
		{"no end of line", "keyctl-backup 1\n" + text, fault.Invalid},
		{"an unknown field", "keyctl-backup 1\n" + strings.Replace(text, "{", `{"more":1,`, 1) + "\n", fault.Invalid},
		{"a repeated field", "keyctl-backup 1\n" + strings.Replace(text, "{", `{"format":1,`, 1) + "\n", fault.Invalid},
		{"a blank", "keyctl-backup 1\n" + strings.Replace(text, "{", `{ `, 1) + "\n", fault.Invalid},
		{"another case", "keyctl-backup 1\n" + strings.Replace(text, `"format"`, `"Format"`, 1) + "\n", fault.Invalid},
		{"no size", "keyctl-backup 1\n" + strings.Replace(text, `"size":4096`, `"size":0`, 1) + "\n", fault.Invalid},
		{"a long line", "keyctl-backup 1\n" + strings.Repeat("x", maxManifestBytes+1) + "\n", fault.Invalid},
		{"null", "keyctl-backup 1\nnull\n", fault.Invalid},
	} {
		if _, err := ReadManifest(bufio.NewReader(strings.NewReader(tt.text))); fault.CodeOf(err) != tt.want {
			t.Errorf("ReadManifest of %s = %v (%s), want code %q", tt.what, err, fault.CodeOf(err), tt.want)
		}
	}
}

func FuzzReadManifest(f *testing.F) {
	m := testManifest
	m.Format, m.Size, m.SHA256 = 1, 4096, strings.Repeat("00", 32)
	line, err := m.line()
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{
		"", "keyctl-backup 1\n", "keyctl-backup 2\n{}\n", "keyctl-backup 1\n{}\n",
		"keyctl-backup 1\n" + string(line) + "\n", "keyctl-backup 1\n" + string(line) + "\nSQLite format 3\x00",
		"keyctl-backup 1\n" + strings.ToUpper(string(line)) + "\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		r := bufio.NewReader(bytes.NewReader(content))
		m, err := ReadManifest(r)
		if err != nil {
			switch fault.CodeOf(err) {
			case fault.Invalid, fault.SchemaNewer:
			default:
				t.Errorf("ReadManifest(%q) = %v (%s), want invalid or schema_newer", content, err, fault.CodeOf(err))
			}
			return
		}
		line, err := m.line()
		if err != nil || !bytes.HasPrefix(content, fmt.Appendf(nil, "keyctl-backup 1\n%s\n", line)) {
			t.Errorf("ReadManifest(%q) accepted what WriteBackup would not write: %+v (%v)", content, m, err)
		}
	})
}
