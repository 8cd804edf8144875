package safefile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"keyctl/internal/fault"
)

const testContent = "test content, not a secret\n"

// write makes a file in a fresh directory and returns its path.
func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestReadPrivate(t *testing.T) {
	path := write(t, testContent)
	size := int64(len(testContent))
	got, err := ReadPrivate(path, size, nil)
	if err != nil || string(got) != testContent {
		t.Errorf("ReadPrivate(limit %d) = %q, %v, want %q", size, got, err, testContent)
	}
	if _, err := ReadPrivate(path, size-1, nil); fault.CodeOf(err) != fault.Invalid {
		t.Errorf("ReadPrivate(limit %d) = %v, want code %s", size-1, err, fault.Invalid)
	}
	if _, err := ReadConfig(path, size-1); fault.CodeOf(err) != fault.Invalid {
		t.Errorf("ReadConfig(limit %d) = %v, want code %s", size-1, err, fault.Invalid)
	}
}

func TestMissing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nothing")
	_, openErr := OpenPrivate(path, nil)
	_, configErr := OpenConfig(path)
	for name, err := range map[string]error{
		"OpenPrivate":  openErr,
		"OpenConfig":   configErr,
		"CheckPrivate": CheckPrivate(path, nil),
	} {
		if !errors.Is(err, fs.ErrNotExist) || fault.CodeOf(err) != fault.NotFound {
			t.Errorf("%s of a missing file = %v (code %s), want fs.ErrNotExist with code not_found", name, err, fault.CodeOf(err))
		}
	}
}

func TestNotAFile(t *testing.T) {
	for _, path := range []string{"", t.TempDir(), os.DevNull} {
		if f, err := OpenPrivate(path, nil); err == nil {
			f.Close()
			t.Errorf("OpenPrivate(%q) succeeded, want an error", path)
		}
	}
}

func TestCreate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new")
	f, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = Create(path)
	if fault.CodeOf(err) != fault.Exists || !strings.Contains(err.Error(), path) || fault.From(err).Hint == "" {
		t.Errorf("Create of an existing file = %v (code %s), want code exists, the path and a hint", err, fault.CodeOf(err))
	}
	if _, err := Create(filepath.Join(path, "below")); err == nil {
		t.Error("Create below a file succeeded")
	}
}

func TestMkdirPrivate(t *testing.T) {
	root := t.TempDir()
	deep := filepath.Join(root, "a", "b", "c")
	for range 2 { // the second time everything exists
		if err := MkdirPrivate(deep); err != nil {
			t.Fatalf("MkdirPrivate = %v", err)
		}
	}
	if info, err := os.Stat(deep); err != nil || !info.IsDir() {
		t.Fatalf("after MkdirPrivate, Stat = %v, %v", info, err)
	}
	file := write(t, testContent)
	if err := MkdirPrivate(file); fault.CodeOf(err) != fault.Invalid {
		t.Errorf("MkdirPrivate over a file = %v, want code invalid", err)
	}
	if err := MkdirPrivate(filepath.Join(file, "below")); err == nil {
		t.Error("MkdirPrivate below a file succeeded")
	}
}

func TestExplainKeepsFaultsAndNil(t *testing.T) {
	if err := Explain("x", nil); err != nil {
		t.Errorf("Explain(nil) = %v, want nil", err)
	}
	was := fault.New(fault.Exists, "as it was")
	if err := Explain("x", was); err != error(was) {
		t.Errorf("Explain(fault) = %v, want the same fault", err)
	}
	plain := errors.New("something new")
	if err := Explain("x", plain); !errors.Is(err, plain) || fault.From(err) != nil {
		t.Errorf("Explain(plain) = %v, want it wrapped without a code", err)
	}
}

func TestShellQuote(t *testing.T) {
	for _, tt := range []struct{ path, want string }{
		{"/etc/keyctl/master.key", "/etc/keyctl/master.key"},
		{"/tmp/a b", "'/tmp/a b'"},
		{"it's", `'it'\''s'`},
		{"$(reboot)", "'$(reboot)'"},
		{"", "''"},
	} {
		if got := shellQuote(tt.path); got != tt.want {
			t.Errorf("shellQuote(%q) = %s, want %s", tt.path, got, tt.want)
		}
	}
}
