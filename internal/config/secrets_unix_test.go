//go:build unix

package config

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"keyctl/internal/credential"
	"keyctl/internal/fault"
)

// load is Load for a test in which it succeeds.
func load(t *testing.T, in Inputs) Config {
	t.Helper()
	c, err := Load(in)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// secretFile writes a file of a mode and returns its path.
func secretFile(t *testing.T, content string, mode os.FileMode) string {
	t.Helper()
	path := t.TempDir() + "/secret"
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestReadMasterKey(t *testing.T) {
	for _, source := range []string{
		"file:" + secretFile(t, testKey+"\n", 0o600),
		"file:" + secretFile(t, testKey+"\r\n", 0o400),
		"file:" + secretFile(t, testKey, 0o600),
		"env:MY_KEY",
		"keyring:prod",
		"command:echo " + testKey,
		"command:printf %s \"$MY_KEY_COPY\"",
	} {
		u := newUser(t)
		u.args = []string{"--master-key", source}
		u.vars["MY_KEY"] = testKey
		in := u.inputs()
		in.Environ = func() []string { return append(os.Environ(), "MY_KEY_COPY="+testKey) }
		in.Keyring = func(_ context.Context, name string) (credential.Secret, error) {
			if name != "prod" {
				t.Errorf("the keyring is asked for %q", name)
			}
			return credential.NewSecret(testKey + "\n"), nil // as it is when somebody put it there by hand
		}
		c := load(t, in)
		got, err := c.MasterKey.Read(t.Context())
		if err != nil || got.Reveal() != testKey {
			t.Errorf("Read from %v = %q, %v, want the test key", c.MasterKey, got.Reveal(), err)
		}
		if strings.Contains(c.MasterKey.String(), testKey) {
			t.Errorf("String() = %q contains the key", c.MasterKey)
		}
	}
}

func TestReadMasterKeyErrors(t *testing.T) {
	missing := t.TempDir() + "/missing"
	empty := secretFile(t, "\n", 0o600)
	open := secretFile(t, testKey, 0o644)
	for _, tt := range []struct {
		source string
		code   fault.Code
		want   string
	}{
		{"file:" + missing, fault.MasterKeyMissing, fmt.Sprintf("no master key file %q", missing)},
		{"file:" + empty, fault.MasterKeyMissing, fmt.Sprintf("the master key file %q is empty", empty)},
		{"file:" + open, fault.Forbidden, fmt.Sprintf("%q can be read by everybody on this machine (mode 0644)", open)},
		{"env:NOT_THERE", fault.MasterKeyMissing, `the environment variable "NOT_THERE" for the master key is not set`},
		{"keyring:none", fault.MasterKeyMissing, `no master key "none" in the keyring`},
		{"keyring:empty", fault.MasterKeyMissing, `the master key "empty" in the keyring is empty`},
		{"keyring:locked", fault.Unavailable, "the keyring is locked"},
		{"command:exit 3 " + testKey, fault.MasterKeyMissing, `the master key command "exit" failed: exit status 3`},
		{"command:A=" + testKey + " false", fault.MasterKeyMissing, `the master key command "…" failed: exit status 1`},
		{"command:true " + testKey, fault.MasterKeyMissing, `the master key command "true" printed nothing`},
		{"command:kill -9 $$", fault.MasterKeyMissing, `the master key command "kill" failed: signal: killed`},
		{"command:yes " + testKey, fault.MasterKeyMissing, `the master key command "yes" printed more than 4096 bytes`},
	} {
		u := newUser(t)
		u.args = []string{"--master-key", tt.source}
		in := u.inputs()
		in.Keyring = func(_ context.Context, name string) (credential.Secret, error) {
			return credential.Secret{}, map[string]error{
				"none": fault.New(fault.NotFound, "nothing there"), "locked": fault.New(fault.Unavailable, "the keyring is locked"),
			}[name]
		}
		_, err := load(t, in).MasterKey.Read(t.Context())
		if fault.CodeOf(err) != tt.code || err.Error() != tt.want {
			t.Errorf("Read from %q = %v (code %s), want %s (code %s)", tt.source, err, fault.CodeOf(err), tt.want, tt.code)
			continue
		}
		if f := fault.From(err); strings.Contains(f.Message+f.Hint, testKey) {
			t.Errorf("the error %q repeats a secret", f.Message+f.Hint)
		}
	}
}

func TestConfigFileModes(t *testing.T) {
	for mode, want := range map[os.FileMode]fault.Code{0o600: "", 0o644: "", 0o444: "", 0o664: fault.Forbidden, 0o646: fault.Forbidden} {
		u := newUser(t)
		u.configure("color: never")
		if err := os.Chmod(u.path(".config", "keyctl", "config.yaml"), mode); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(u.inputs()); fault.CodeOf(err) != want {
			t.Errorf("Load of a file of mode %04o = %v, want code %q", mode, err, want)
		}
	}
}

func TestGroupReadableKeyWarns(t *testing.T) {
	u := newUser(t)
	u.args = []string{"--master-key", "file:" + secretFile(t, testKey, 0o640)}
	var warnings []string
	in := u.inputs()
	in.Warn = func(m string) { warnings = append(warnings, m) }
	if _, err := load(t, in).MasterKey.Read(t.Context()); err != nil || len(warnings) != 1 {
		t.Errorf("Read of a group-readable key = %v with warnings %q, want success and one warning", err, warnings)
	}
}

// R2: commands get no secret of keyctl's, not even the master key from a variable with a name of its own.
func TestR2_CommandEnvironment(t *testing.T) {
	u := newUser(t)
	u.args = []string{"--master-key", "env:MY_KEY"}
	in := u.inputs()
	in.Environ = func() []string {
		return []string{
			"PATH=" + os.Getenv("PATH"), "KEPT=kept",
			"MY_KEY=canary", "KEYCTL_MASTER_KEY=canary", "KEYCTL_OTP=canary", "KEYCTL_TOKEN=canary", "Keyctl_Token=canary",
		}
	}
	c := load(t, in)
	got, given, err := c.ReadOTP(t.Context(), OTPFlags{Command: "env"}, nil)
	if err != nil || !given || !strings.Contains(got, "KEPT=kept") || strings.Contains(got, "canary") {
		t.Errorf("a command sees %q, %v, want KEPT and no canary", got, err)
	}
	if got := c.ChildEnviron(); len(got) != 2 || got[1] != "KEPT=kept" {
		t.Errorf("ChildEnviron() = %q, want PATH and KEPT", got)
	}
	names := strings.Join(c.SecretVariables(), " ")
	for _, entry := range in.Environ()[2:6] {
		if name, _, _ := strings.Cut(entry, "="); !strings.Contains(" "+names+" ", " "+name+" ") {
			t.Errorf("SecretVariables() = %s, want %s in it", names, name)
		}
	}
}

func TestCommandStreams(t *testing.T) {
	u := newUser(t)
	var stderr bytes.Buffer
	in := u.inputs()
	in.Stderr = &stderr
	got, _, err := load(t, in).ReadOTP(t.Context(), OTPFlags{Command: "cat; echo word >&2; echo 123456"}, strings.NewReader("not for the command"))
	if err != nil || got != "123456" || stderr.String() != "word\n" {
		t.Errorf("command = %q, stderr %q, %v, want 123456, word", got, &stderr, err)
	}
}

func TestCommandTimeout(t *testing.T) {
	u := newUser(t)
	u.args = []string{"--master-key", "command:sleep 60 & sleep 60"}
	source := load(t, u.inputs()).MasterKey
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	if _, err := source.Read(ctx); fault.CodeOf(err) != fault.Unavailable || err.Error() != `the master key command "sleep" did not finish in time` {
		t.Errorf("Read from a slow command = %v (code %s), want code unavailable", err, fault.CodeOf(err))
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("a command that hangs held up Read for %v", took)
	}

	ctx, cancelNow := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancelNow)
	if _, err := source.Read(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Read from an interrupted command = %v, want context.Canceled", err)
	}
	if _, err := source.Read(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Read with a cancelled context = %v, want context.Canceled", err)
	}
}

func TestReadOTP(t *testing.T) {
	path := secretFile(t, " 333 333\n", 0o600)
	for _, tt := range []struct {
		name   string
		flags  OTPFlags
		env    string
		config string
		want   string
	}{
		{"flag first", OTPFlags{Code: "111111"}, "444444", "echo 555555", "111111"},
		{"standard input", OTPFlags{File: "-"}, "444444", "echo 555555", "222222"},
		{"file", OTPFlags{File: path}, "444444", "echo 555555", "333333"},
		{"command", OTPFlags{Command: "printf '666 666'"}, "444444", "echo 555555", "666666"},
		{"variable", OTPFlags{}, "444444", "echo 555555", "444444"},
		{"configured command", OTPFlags{}, "", "echo 555555", "555555"},
		{"none", OTPFlags{}, "", "", ""},
	} {
		u := newUser(t)
		if tt.config != "" {
			u.configure("otp-command: " + tt.config)
		}
		u.vars["KEYCTL_OTP"] = tt.env
		got, given, err := load(t, u.inputs()).ReadOTP(t.Context(), tt.flags, strings.NewReader("222\t222\nnext line\n"))
		if err != nil || got != tt.want || given != (tt.want != "") {
			t.Errorf("%s: ReadOTP = %q, %v, %v, want %q", tt.name, got, given, err, tt.want)
		}
	}
}

func TestReadOTPErrors(t *testing.T) {
	missing := t.TempDir() + "/missing"
	for _, tt := range []struct {
		flags OTPFlags
		code  fault.Code
		want  string
	}{
		{OTPFlags{Code: "111111", File: "-"}, fault.Invalid, "--otp and --otp-file were given, and each alone says where the one-time code is from"},
		{OTPFlags{File: "-", Command: "x"}, fault.Invalid, "--otp-file and --otp-command were given, and each alone says where the one-time code is from"},
		{OTPFlags{Code: " "}, fault.OTPRequired, "the place that was named for the one-time code holds none"},
		{OTPFlags{File: "-"}, fault.OTPRequired, "the place that was named for the one-time code holds none"},
		{OTPFlags{Command: "true"}, fault.OTPRequired, "the place that was named for the one-time code holds none"},
		{OTPFlags{Command: "exit 4"}, fault.OTPRequired, `the one-time code command "exit" failed: exit status 4`},
		{OTPFlags{File: missing}, fault.OTPRequired, fmt.Sprintf("no file %q with a one-time code", missing)},
		{OTPFlags{File: secretFile(t, "1", 0o666)}, fault.Forbidden, ""},
	} {
		_, given, err := load(t, newUser(t).inputs()).ReadOTP(t.Context(), tt.flags, strings.NewReader(""))
		if given || fault.CodeOf(err) != tt.code || tt.want != "" && err.Error() != tt.want {
			t.Errorf("ReadOTP(%+v) = %v, %v (code %s), want %s (code %s)", tt.flags, given, err, fault.CodeOf(err), tt.want, tt.code)
		}
	}
}

// A standard input that never says anything does not outlast the context.
func TestReadOTPCancelled(t *testing.T) {
	stdin, writer := io.Pipe()
	defer writer.Close()
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	if _, _, err := load(t, newUser(t).inputs()).ReadOTP(ctx, OTPFlags{File: "-"}, stdin); !errors.Is(err, context.Canceled) {
		t.Errorf("ReadOTP from a silent input = %v, want context.Canceled", err)
	}
}

func TestProgramOf(t *testing.T) {
	for command, want := range map[string]string{
		"op read op://vault/key":    "op",
		" /usr/bin/vault kv get x ": "/usr/bin/vault",
		"TOKEN=abc vault read":      "…",
		`"my program" x`:            "…",
		"$(cat secret)":             "…",
		"":                          "…",
		strings.Repeat("x", 200):    "…",
	} {
		if got := programOf(command); got != want {
			t.Errorf("programOf(%q) = %q, want %q", command, got, want)
		}
	}
}
