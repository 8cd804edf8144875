//go:build unix

package cmd

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"keyctl/internal/credential"
)

// A reader that takes ten bytes and goes cannot always be noticed: but what the exit status says is what the store holds.
func TestR29_StatusAndStateAgree(t *testing.T) {
	w := newWorld(t)
	w.ok("init")
	for i := range 5 {
		name := fmt.Sprintf("key-%d", i)
		c := w.shell(`{ "$KEYCTL" keys create ` + name + `; echo $? >status; } | head -c 10`)
		w.finish(c)
		status, k := strings.TrimSpace(w.read(w.path("status"))), w.keys()[name]
		if !(status == "0" && k.State == "active" || status == "11" && k.Name == "") {
			t.Errorf("exit %s and the key is %q: they contradict each other", status, k.State)
		}
	}
}

// A file that is there is neither overwritten nor followed.
func TestR29_ExistingOutFileIsRefused(t *testing.T) {
	w := newWorld(t)
	w.ok("init")
	before := w.head()
	w.write("target", "mine\n")
	w.write("other.ini", "[web-01]\nACCESS_KEY_ID = x\n")
	if err := os.Symlink(w.path("target"), w.path("link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(w.path("nowhere"), w.path("dangling")); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args   string
		status int
	}{
		{"--out target", exitConflict},
		{"--out link", exitConflict},
		{"--out other.ini --format ini", exitConflict},
		{"--out tmp", exitUsage}, // a folder
		{"--out link --replace", exitForbidden},
	} {
		args := append([]string{"keys", "create", "web-01"}, strings.Fields(tt.args)...)
		w.run(args...).wants(t, tt.status, args...)
	}
	if got := w.read(w.path("target")) + w.read(w.path("other.ini")); got != "mine\n[web-01]\nACCESS_KEY_ID = x\n" {
		t.Errorf("the files hold %q now", got)
	}
	if w.head() != before {
		t.Error("a refused --out file changed the store")
	}
	if r := w.run("keys", "create", "web-01", "--out", "dangling"); r.status == exitOK {
		t.Error("a dangling link was followed or replaced")
	}
	if _, err := os.Lstat(w.path("nowhere")); err == nil {
		t.Error("a link was followed")
	}
}

// The old copy lives, byte for byte, until the new credential is proven: here the key is switched off in between.
func TestR29_ReplaceKeepsTheOldCopyUntilTheProof(t *testing.T) {
	for _, format := range []string{"env", "ini"} {
		t.Run(format, func(t *testing.T) {
			w := newWorld(t)
			phone := w.enrol()
			if err := os.Mkdir(w.path("out"), 0o700); err != nil {
				t.Fatal(err)
			}
			w.ok("keys", "create", "web-01", "--out", "out/web-01", "--format", format)
			before := w.read(w.path("out", "web-01"))
			args := []string{"roll", "web-01", "--expire", "1h", "--otp", phone.code(), "--out", "out/web-01", "--format", format, "--replace", "--print"}
			c, reader, words := w.stopAtOutput(args...)
			w.ok("keys", "disable", "web-01", "--yes")
			go func() { _, _ = io.Copy(io.Discard, reader) }()
			w.wait(c)
			result{err: words.String(), status: c.ProcessState.ExitCode()}.wants(t, exitConflict, args...)
			if after := w.read(w.path("out", "web-01")); after != before {
				t.Errorf("the old copy became %q", after)
			}
			if files := w.files(w.path("out")); !slices.Equal(files, []string{"web-01"}) {
				t.Errorf("files left behind: %q", files)
			}
			w.ok("keys", "enable", "web-01")
			w.ok("verify", "--from", "out/web-01")
			w.ok("roll", "web-01", "--expire", "1h", "--otp", phone.code(), "--out", "out/web-01", "--format", format, "--replace")
			w.ok("verify", "--from", "out/web-01")
			if after := w.read(w.path("out", "web-01")); after == before {
				t.Error("a proven roll did not replace the old copy")
			}
		})
	}
}

// When the old copy cannot be replaced after the proof, the new credential is the one that works: it is kept, and the
// message says where.
func TestR28_AProvenCredentialIsKept(t *testing.T) {
	for _, format := range []string{"env", "ini"} {
		t.Run(format, func(t *testing.T) {
			w := newWorld(t)
			phone := w.enrol()
			if err := os.Mkdir(w.path("out"), 0o700); err != nil {
				t.Fatal(err)
			}
			w.ok("keys", "create", "web-01", "--out", "out/web-01", "--format", format)
			args := []string{
				"roll", "web-01", "--expire", "1h", "--otp", phone.code(), "--out", "out/web-01", "--format", format, "--replace", "--print",
			}
			c, reader, words := w.stopAtOutput(args...)
			if err := os.Rename(w.path("out", "web-01"), w.path("moved")); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(w.path("moved"), w.path("out", "web-01")); err != nil {
				t.Fatal(err)
			}
			go func() { _, _ = io.Copy(io.Discard, reader) }()
			w.wait(c)
			result{err: words.String(), status: c.ProcessState.ExitCode()}.wants(t, exitForbidden, args...)
			_, kept, found := strings.Cut(words.String(), "the credential is active; it is in ")
			kept, _, _ = strings.Cut(kept, "\n")
			if !found {
				t.Fatalf("stderr = %q, want it to say where the credential is", words)
			}
			w.ok("verify", "--from", kept)
			if id := parseCredential(t, w.read(w.path(kept)), "").AccessKeyID; id != w.keys()["web-01"].AccessKeyID {
				t.Errorf("%s holds %s, which is not the current credential", kept, id)
			}
		})
	}
}

// Ten processes add a profile each to one file at once: none overwrites another's.
func TestR29_ProfilesAreAddedSideBySide(t *testing.T) {
	for _, existing := range []bool{true, false} {
		t.Run(fmt.Sprintf("existing=%v", existing), func(t *testing.T) {
			w := newWorld(t)
			w.ok("init")
			if existing {
				w.write("credentials", "# ours\n")
			}
			var all sync.WaitGroup
			for i := range 10 {
				all.Go(func() { w.ok("keys", "create", fmt.Sprintf("web-%02d", i), "--out", "credentials", "--format", "ini") })
			}
			all.Wait()
			text := w.read(w.path("credentials"))
			if existing && !strings.HasPrefix(text, "# ours\n") {
				t.Errorf("the file begins with %.40q, want what was there before", text)
			}
			for i := range 10 {
				w.ok("verify", "--from", "credentials", "--profile", fmt.Sprintf("web-%02d", i))
			}
			if files := w.files(w.dir); !slices.Equal(files, []string{"credentials", "home", "tmp"}) {
				t.Errorf("files left behind: %q", files)
			}
		})
	}
}

// With a sink, no stream holds a secret; without one, standard output holds it and nothing else.
func TestR29_SecretsGoToTheChosenPlaceOnly(t *testing.T) {
	w := newWorld(t)
	phone := w.enrol()
	w.ok("keys", "create", "first")
	for i, args := range []string{"keys create k%d", "datasets create d%d", "roll first --expire 1h --otp CODE --finish-previous"} {
		for _, format := range credential.Formats() {
			out := fmt.Sprintf("out-%d-%s", i, format)
			line := strings.ReplaceAll(args, "%d", "-"+string(format))
			if strings.Contains(line, "CODE") {
				if format != credential.JSON && format != credential.Env {
					continue // a code for each roll takes half a minute
				}
				line = strings.ReplaceAll(line, "CODE", phone.code())
			}
			r := w.run(append(strings.Fields(line), "--out", out, "--format", string(format), "-v")...)
			r.wants(t, exitOK, line)
			cred := parseCredential(t, w.read(w.path(out)), "")
			for _, secret := range []string{cred.SigningKey.Reveal(), cred.CryptoAccessKey.Reveal()} {
				if r.out != "" || strings.Contains(r.err, secret) {
					t.Errorf("keyctl %s: stdout %q, stderr %q, want no secret", line, r.out, r.err)
				}
			}
			if info, err := os.Stat(w.path(out)); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: mode %v, %v, want 0600", out, info.Mode(), err)
			}
		}
	}
	r := w.run("keys", "create", "printed", "-o", "json", "-v")
	r.wants(t, exitOK)
	decoder := json.NewDecoder(strings.NewReader(r.out))
	var doc map[string]any
	if err := decoder.Decode(&doc); err != nil || doc["secret_signing_key"] == nil {
		t.Errorf("stdout = %q, want one JSON object with the credential (%v)", r.out, err)
	}
	if err := decoder.Decode(&doc); err != io.EOF {
		t.Errorf("after the JSON object there is more (%v)", err)
	}
	if secret, ok := doc["secret_signing_key"].(string); !ok || strings.Contains(r.err, secret) {
		t.Error("standard error holds a secret")
	}
}

// A command that fails, for whatever reason, leaves no file.
func TestR29_FailureLeavesNoFile(t *testing.T) {
	w := newWorld(t)
	w.enrol()
	w.ok("keys", "create", "web-01")
	if err := os.Mkdir(w.path("out"), 0o700); err != nil {
		t.Fatal(err)
	}
	before := w.keys()
	for args, status := range map[string]int{
		"keys create web-01":                           exitConflict,
		"keys create web-02 --dataset nope":            exitNotFound,
		"keys create web-02 --ip 10.0.0.1/8":           exitUsage,
		"datasets create d --primary-key nope":         exitNotFound,
		"roll web-01 --expire 1h":                      exitSecondFactor,
		"roll web-01 --expire 1h --otp 12345":          exitSecondFactor,
		"roll nope --expire 1h --otp 123456":           exitNotFound,
		"roll web-01 --expire 24 --otp 123456":         exitUsage,
		"keys create web-02 --store sqlite:nope.db":    exitNotFound,
		"keys create web-02 --master-key env:NOT_SET":  exitInternal,
		"keys create web-02 --format ini --profile x":  exitUsage,
		"keys create web-02 --format k8s --profile -A": exitUsage,
	} {
		for _, replace := range []string{"", " --replace"} {
			line := args + " --out out/f" + replace
			w.run(strings.Fields(line)...).wants(t, status, line)
			if files := w.files(w.path("out")); len(files) > 0 {
				t.Fatalf("keyctl %s: files left behind: %q", line, files)
			}
		}
	}
	if after := w.keys(); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("the keys became %v, want %v", after, before)
	}
}
