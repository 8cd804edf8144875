//go:build unix

package cmd

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"keyctl/internal/credential"
	"keyctl/internal/desktoptest"
	"keyctl/internal/keyringtest"
)

// A credential goes to all places that were chosen, the same to each; words say where, and a secret is nowhere else.
func TestR29_EveryPlaceGetsTheCredential(t *testing.T) {
	d, w := desktoptest.X11(t), newWorld(t)
	w.atDesktop(d)
	w.keyring()
	phone := w.enrol()
	for _, args := range []string{
		"keys create web-01 --out web-01.env --keyring --copy --print",
		"roll web-01 --expire 1h --otp " + phone.code() + " --replace --out web-01.env --keyring --copy --print --format json",
	} {
		r := w.run(strings.Fields(args)...)
		r.wants(t, exitOK, args)
		file := parseCredential(t, w.read(w.path("web-01.env")), "")
		for place, got := range map[string]credential.Credential{
			"the keyring": w.stored("web-01"), "the clipboard": w.pasted(d), "standard output": parseCredential(t, r.out, ""),
		} {
			if got.AccessKeyID != file.AccessKeyID || !got.SigningKey.Equal(file.SigningKey) || !got.CryptoAccessKey.Equal(file.CryptoAccessKey) {
				t.Errorf("%q: %s has another credential than the file", args, place)
			}
		}
		if file.AccessKeyID != w.keys()["web-01"].AccessKeyID {
			t.Errorf("%q handed out %s, which is not the key's", args, file.AccessKeyID)
		}
		sentence := fmt.Sprintf("keyctl: the credential %s of key \"web-01\" is in web-01.env and in the keyring under the profile \"web-01\" "+
			"and on the clipboard, which is cleared in 45 s; the key is active\n", file.AccessKeyID)
		if words, rest, _ := strings.Cut(r.err, "\n"); words+"\n" != sentence || strings.Contains(rest, "clipboard") || strings.HasPrefix(args, "keys") && rest != "" {
			t.Errorf("%q says %q, want %q", args, r.err, sentence)
		}
		c := newCanaries(t)
		c.addCredential(w.read(w.path("web-01.env")))
		c.Absent("standard error", []byte(r.err))
	}
}

// R28: when the last place fails the credential is taken back from all others, whatever it fails of.
func TestR28_EveryPlaceIsTakenBack(t *testing.T) {
	t.Parallel()
	const everywhere = `"$KEYCTL" keys create web-01 --out out/web-01.env --keyring --copy`
	for _, tt := range []struct{ name, keyring, clipboard, script, undelivered string }{
		{"keyring", "forgets", "", everywhere, `to the profile "web-01" of the keyring: the keyring accepted the credential "web-01" and does not give it back`},
		{"keyring, half", "halves", "", everywhere, `to the profile "web-01" of the keyring: the keyring accepted the credential "web-01" and does not give it back`},
		{"clipboard, killed", "", "cat >/dev/null; kill -9 $$", everywhere, "to the clipboard: the clipboard could not be written: signal: killed"},
		{"clipboard, forgets", "", `[ "$1" = -out ] || cat >/dev/null`, everywhere, "to the clipboard: the clipboard does not hold what was put there"},
		{"clipboard, hangs", "", "exec sleep 9", everywhere, "to the clipboard: the clipboard did not answer within 3 seconds"},
		{"standard output", "", "", everywhere + " --print >/dev/full", "to standard output: write /dev/stdout: no space left on device"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if strings.Contains(tt.script, "/dev/full") {
				needDevice(t, "/dev/full")
			}
			d, w := desktoptest.X11(t), newWorld(t)
			w.atDesktop(d)
			fake := &keyringtest.Fake{Keep: func(value []byte) []byte { return value }}
			switch tt.keyring {
			case "forgets":
				fake.Keep = func([]byte) []byte { return nil }
			case "halves":
				fake.Keep = func(value []byte) []byte { return value[:len(value)/2] }
			}
			w.keyringOf(fake)
			if tt.clipboard != "" {
				w.inPlaceOf("xclip", tt.clipboard)
			}
			w.ok("init")
			if err := os.Mkdir(w.path("out"), 0o700); err != nil {
				t.Fatal(err)
			}
			r := w.finish(w.shell(tt.script))
			w.nothingHappened(r, "web-01", w.path("out"), true)
			if !strings.Contains(r.err, tt.undelivered+"\n") || r.out != "" {
				t.Errorf("it says %q and %q, want %q", r.out, r.err, tt.undelivered)
			}
			w.wantProfiles()
			if left := fake.Values(); len(left) > 0 {
				t.Errorf("the keyring still has %d secrets", len(left))
			}
			if left := d.Paste("xsel"); left != "" {
				t.Errorf("the clipboard still has %d bytes", len(left))
			}
		})
	}
}

// In a job's log there is nothing of what went to a place that was chosen.
func TestR29_ChosenPlacesKeepLogsClean(t *testing.T) {
	d, w := desktoptest.X11(t), newWorld(t)
	w.atDesktop(d)
	w.keyring()
	w.env = append(slices.Clone(w.env), "CI=true")
	w.ok("init")
	id := regexp.MustCompile(`^key_[0-9A-Za-z]{22}\n$`)
	for args, out := range map[string]*regexp.Regexp{
		"keys create web-01 --copy": nil, "keys create web-02 --keyring -v": nil, "keys create web-03 --keyring --copy -q": id,
		"datasets create payments --keyring --copy -v": nil,
	} {
		r := w.run(strings.Fields(args)...)
		r.wants(t, exitOK, args)
		c := newCanaries(t)
		if strings.Contains(args, "--copy") {
			c.addCredential(d.Paste("xsel"))
		}
		if strings.Contains(args, "--keyring") {
			name := strings.Fields(args)[2]
			c.addCredential(w.ok("run", "--key", name, "--", "env"))
		}
		c.Absent(args, []byte(r.out+r.err))
		if out == nil && r.out != "" || out != nil && !out.MatchString(r.out) {
			t.Errorf("%q wrote %q to standard output", args, r.out)
		}
		if strings.Contains(args, "-q") && r.err != "" {
			t.Errorf("%q says %q, want nothing", args, r.err)
		}
	}
}
