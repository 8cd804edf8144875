//go:build unix

package cmd

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"keyctl/internal/keys"
	"keyctl/internal/store"
)

// candidates asks for what may stand at the end of a line, as the scripts do. There is never a word on standard error.
func (w *world) candidates(line string) (offered []string, directive string) {
	w.t.Helper()
	r := w.run(append([]string{cobra.ShellCompRequestCmd}, strings.Split(line, " ")...)...)
	r.wants(w.t, exitOK, line)
	if r.err != "" {
		w.t.Errorf("completion of %q says %q on standard error", line, r.err)
	}
	offered = strings.Split(strings.TrimSuffix(r.out, "\n"), "\n")
	last := len(offered) - 1
	return offered[:last], offered[last]
}

// stocked makes a store with something of each kind, and a configuration with contexts.
func stocked(t testing.TB) *world {
	w := newWorld(t)
	phone := w.enrol()
	w.ok("datasets", "create", "payments", "--no-key")
	w.ok("datasets", "create", "archive", "--no-key", "--primary-key", "payments")
	for _, name := range []string{"web-01", "web-02", "db-01"} {
		w.ok("keys", "create", name, "--out", "credential-of-"+name)
	}
	w.ok("datasets", "attach", "payments", "web-01")
	w.ok("keys", "disable", "web-02", "--yes")
	w.ok("roll", "db-01", "--expire", "24h", "--otp", phone.code(), "--out", "rolled.env")
	w.ok("primary-keys", "create", "spare")
	w.ok("primary-keys", "rotate", "spare")
	w.ok("primary-keys", "disable", "spare", "--version", "1", "--yes", "--otp", phone.code())
	w.write("home/.config/keyctl/config.yaml", "contexts:\n  production: {}\n  preview: {}\n  lost:\n    store: sqlite:/nowhere/keyctl.db\n")
	return w
}

// The answers of this table are those that shells get.
func TestCompletionOffers(t *testing.T) {
	w := stocked(t)
	const (
		files = ":0"
		none  = ":4"
		fixed = ":36" // in this order, and no files
	)
	for _, tt := range []struct {
		line      string
		want      string // candidates, without their descriptions
		directive string
	}{
		{"keys show ", "db-01 web-01 web-02", none},
		{"keys show w", "web-01 web-02", none},
		{"keys show web-01", "web-01", none},
		{"keys show W", "", none},
		{"keys show web-*", "", none},
		{"keys show [w", "", none},
		{"keys show ~", "", none},
		{"keys show web-01 ", "", none},
		{"keys show -o json w", "web-01 web-02", none},
		{"keys show --nope w", "", files}, // cobra takes what follows an unknown flag for its value
		{"keys edit ", "db-01 web-01 web-02", none},
		{"keys enable ", "web-02", none},
		{"keys disable ", "db-01 web-01", none},
		{"keys disable --compromised ", "db-01 web-01 web-02", none},
		{"keys delete d", "db-01", none},
		{"keys create ", "", none},
		{"roll w", "web-01", none},
		{"keys roll w", "web-01", none},
		{"verify w", "web-01 web-02", none},
		{"usage --key w", "web-01 web-02", none}, {"usage --dataset pay", "payments", none}, {"encrypt ", "", files}, {"decrypt --out ", "", files},
		{"rolls show ", "db-01", none},
		{"rolls extend ", "db-01", none},
		{"rolls finish ", "db-01", none},
		{"rolls cancel d", "db-01", none},
		{"rolls cancel w", "", none},
		{"datasets show ", "archive payments", none},
		{"datasets edit p", "payments", none},
		{"datasets delete a", "archive", none},
		{"datasets attach ", "archive payments", none},
		{"datasets attach payments ", "db-01 web-02", none},
		{"datasets attach archive ", "db-01 web-01 web-02", none},
		{"datasets attach archive web-01 ", "db-01 web-02", none},
		{"datasets attach archive web-01 db-01 web-02 ", "", none},
		{"datasets attach nope ", "db-01 web-01 web-02", none},
		{"datasets detach payments ", "web-01", none},
		{"datasets detach payments web-01 ", "", none},
		{"datasets detach nope ", "", none},
		{"primary-keys show ", "payments spare", none},
		{"primary-keys rotate ", "payments spare", none},
		{"primary-keys disable p", "payments", none},
		{"primary-keys enable ", "spare", none},
		{"keys list --dataset ", "archive payments", none},
		{"keys list --dataset=p", "payments", none},
		{"keys create x --dataset archive --dataset ", "payments", none},
		{"keys create x --dataset archive --d", "--description --dataset", none},
		{"datasets create x --primary-key ", "payments spare", none},
		{"audit list --object w", "web-01 web-02", none},
		{"--context ", "lost preview production", fixed},
		{"keys list -c pr", "preview production", fixed},
		{"keys show --context lost ", "", none},
		{"keys show --context nope ", "", none},
		{"keys show --context preview w", "web-01 web-02", none},
		{"keys list -o ", "table json jsonl yaml csv name", fixed},
		{"keys list --color a", "auto always", fixed},
		{"keys list --state ", "pending active disabled compromised expired deleted", fixed},
		{"keys list --sort=-", "-name -created -expires -last-used", fixed},
		{"keys list --name ", "", none},
		{"keys list --label ", "", none},
		{"roll web-01 --expire ", "now 1h 24h 7d 30d", fixed},
		{"keys create x --format ", "text env dotenv json ini k8s github", fixed},
		{"datasets create x --type ", "unstructured structured", fixed}, {"datasets create x --preset cr", "credit-card", fixed},
		{"datasets create x --algorithm ", "AES-256-GCM AES-128-GCM", fixed},
		{"audit list --outcome ", "ok noop refused", fixed},
		{"audit list --actor ", "", none},
		{"--store ", "sqlite: postgres://", ":38"},
		{"migrate --from ", "sqlite: postgres://", ":38"}, {"migrate --to p", "postgres://", ":38"}, {"migrate --from sqlite:", "", files},
		{"--store sqlite:", "", files},
		{"--master-key ", "file: env: keyring: command:", ":38"},
		{"--master-key file:/", "", files},
		{"--master-key command:cat", "", ":38"},
		{"completion ", "bash zsh fish powershell", none},
		{"help k", "keys", none},
		{"help ", "audit backup completion context credentials dataset-formats datasets decrypt doctor encrypt environment exit-codes formatting init keys login logout migrate operators otp primary-keys restore roll rolls run secrets serve tokens usage verify version whoami", none},
		{"help keys e", "edit enable", none},
		{"help nope ", "", none},
		{"keys l", "list", none},
		{"nope ", "", none},
		{"keys create x --out ", "", files},
		{"keys activate --from ", "", files},
		{"roll web-01 --otp-file ", "", files},
		{"otp reset --recovery-code-file ", "", files},
		{"restore ", "", files},
		{"restore x ", "", none},
		{"restore x --audit-export ", "", files},
		{"backup ", "", files},
		{"backup x ", "", none},
		{"keys list --timeout ", "", none},
		{"run -- x", "", files},
	} {
		offered, directive := w.candidates(tt.line)
		for i, candidate := range offered {
			offered[i], _, _ = strings.Cut(candidate, "\t")
		}
		if got := strings.Join(offered, " "); got != tt.want || directive != tt.directive {
			t.Errorf("keyctl %s[TAB] offers %q and %s, want %q and %s", tt.line, got, directive, tt.want, tt.directive)
		}
	}
	for line, want := range map[string]string{
		"keys show ":         "db-01\tactive, rolling|web-01\tactive|web-02\tdisabled",
		"datasets show p":    "payments\tunstructured",
		"primary-keys show ": "payments\tenabled|spare\tenabled",
	} {
		if offered, _ := w.candidates(line); strings.Join(offered, "|") != want {
			t.Errorf("keyctl %s[TAB] offers %q, want %q", line, offered, want)
		}
	}
}

// Of many keys the first are offered and the last one: what these have in common all of them have.
func TestCompletionOfManyKeys(t *testing.T) {
	w := newWorld(t)
	w.ok("init")
	w.addKeys("app-%04d", 300)
	for prefix, want := range map[string]string{
		"app-":    "app-0000 app-0098 app-0299 100",
		"app-00":  "app-0000 app-0098 app-0099 100",
		"app-029": "app-0290 app-0298 app-0299 10",
		"":        "app-0000 app-0098 app-0299 100",
	} {
		offered, _ := w.candidates("keys show " + prefix)
		for i, candidate := range offered {
			offered[i], _, _ = strings.Cut(candidate, "\t")
		}
		n := len(offered)
		if got := fmt.Sprintf("%s %s %s %d", offered[0], offered[n-2], offered[n-1], n); got != want || !slices.IsSorted(offered) {
			t.Errorf("of the names that begin with %q the first, the last but one, the last and their number are %s, want %s", prefix, got, want)
		}
	}
	if offered, _ := w.candidates("keys enable "); len(offered) != 0 {
		t.Errorf("keys enable[TAB] offers %q of 300 active keys", offered)
	}
}

// addKeys puts keys into the store that differ in their number alone.
func (w *world) addKeys(name string, n int) {
	w.t.Helper()
	db, err := store.Open(context.Background(), w.store(), store.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	err = db.Update(context.Background(), func(tx keys.Tx) error {
		for i := range n {
			at := keys.Instant(time.Now())
			k := keys.Key{ID: fmt.Sprintf("key_%022d", i), Name: fmt.Sprintf(name, i), CreatedAt: at, ActivatedAt: at}
			if err := tx.PutKey(k); err != nil {
				return err
			}
		}
		return nil
	})
	if closeErr := db.Close(); err != nil || closeErr != nil {
		w.t.Fatal(err, closeErr)
	}
}

// freeTexts are the flags for whose values nothing can be offered: names that are new, times, patterns, secrets.
var freeTexts = []string{
	"action", "actor", "add-ip", "clock-skew", "cursor", "description", "expires-within", "head", "ip", "jq", "json", "label", "limit", "listen", "name",
	"older-than", "otp", "otp-command", "profile", "remove-ip", "rename", "server", "since", "timeout", "trusted-proxies", "until", "unused-for", "version",
}

// Somebody thought of every flag that takes a value, and of every argument that is something there is.
func TestCompletionKnowsTheTree(t *testing.T) {
	a := newApp(&System{})
	values := a.flagValues()
	everyCommand(newRoot(a), func(c *cobra.Command) {
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.NoOptDefVal == "" && values[f.Name] == nil && !slices.Contains(freeTexts, f.Name) {
				t.Errorf("%s: what completes the value of --%s? Say so in flagValues, or list it in freeTexts", c.CommandPath(), f.Name)
			}
		})
		for _, word := range []string{"KEY", "DATASET", "PRIMARY-KEY", "OPERATOR", "TOKEN-ID", "FILE", "SHELL", "COMMAND"} {
			if regexp.MustCompile(`^\S+ (?:\[?[A-Z-]+ )*\[?`+word+`\b`).MatchString(c.Use) && c.ValidArgsFunction == nil && c.ValidArgs == nil {
				t.Errorf("%s: what completes %s? Set ValidArgsFunction", c.Use, word)
			}
		}
	})
}

// Whatever is wrong, completion offers no name and says nothing: that is for the command to do.
func TestCompletionIsQuiet(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, w *world){
		"no store":             func(t *testing.T, w *world) { remove(t, w.store()) },
		"no master key":        func(t *testing.T, w *world) { remove(t, w.masterKey()) },
		"another master key":   func(t *testing.T, w *world) { overwrite(t, w.masterKey(), newMasterKey(t)) },
		"damaged master key":   func(t *testing.T, w *world) { overwrite(t, w.masterKey(), "kcm_nonsense\n") },
		"public master key":    func(t *testing.T, w *world) { chmod(t, w.masterKey(), 0o644) },
		"public store":         func(t *testing.T, w *world) { chmod(t, w.store(), 0o666) },
		"no database":          func(t *testing.T, w *world) { overwrite(t, w.store(), "{ not: what [ belongs here") },
		"damaged store":        damageStore,
		"store of the future":  func(t *testing.T, w *world) { futureStore(t, w) },
		"store without tables": func(t *testing.T, w *world) { execSQL(t, w.store(), "DROP TABLE operators") },
		"locked store":         lockStore,
		"master key in a pipe": pipeMasterKey,
		"broken configuration": func(t *testing.T, w *world) { w.write("home/.config/keyctl/config.yaml", "{ not: what [") },
		"nonsense in KEYCTL_STORE": func(t *testing.T, w *world) {
			w.env = append(w.env, "KEYCTL_STORE=nonsense:")
		},
		"unknown context": func(t *testing.T, w *world) { w.env = append(w.env, "KEYCTL_CONTEXT=nope") },
		"master key from a keyring": func(t *testing.T, w *world) {
			w.write("home/.config/keyctl/config.yaml", "master-key: keyring:keyctl\n")
		},
		"no home": func(t *testing.T, w *world) { w.env = append(w.env, "HOME=") },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.ok("init")
			w.addKeys("web-%02d", 3)
			if offered, _ := w.candidates("keys show w"); len(offered) != 3 {
				t.Fatalf("nothing is wrong yet, and %q is offered", offered)
			}
			spoil(t, w)
			for line, want := range map[string]string{"keys show w": ":4", "keys create x --dataset ": ":4", "keys li": ":4"} {
				offered, directive := w.candidates(line)
				if line == "keys li" {
					if len(offered) != 1 {
						t.Errorf("commands are not offered any more: %q", offered)
					}
				} else if len(offered) > 0 || directive != want {
					t.Errorf("%s[TAB] offers %q and %s, want nothing and %s", line, offered, directive, want)
				}
			}
		})
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func overwrite(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// newMasterKey is a good master key of another store.
func newMasterKey(t *testing.T) string {
	t.Helper()
	other := newWorld(t)
	other.ok("init")
	return other.read(other.masterKey())
}

func execSQL(t *testing.T, path, statement string) {
	t.Helper()
	db := openSQL(t, path)
	if _, err := db.Exec(statement); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

func futureStore(t *testing.T, w *world) {
	execSQL(t, w.store(), "INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, 1)")
}

// damageStore overwrites all but the header.
func damageStore(t *testing.T, w *world) {
	content := []byte(w.read(w.store()))
	for i := 100; i < len(content); i++ {
		content[i] = 0x5a
	}
	overwrite(t, w.store(), string(content))
}

// lockStore keeps everybody else out of the store until the test ends.
func lockStore(t *testing.T, w *world) {
	db := openSQL(t, w.store()+"?_pragma=locking_mode(EXCLUSIVE)&_pragma=journal_mode(WAL)")
	db.SetMaxOpenConns(1)
	if _, err := db.Exec("BEGIN EXCLUSIVE; UPDATE meta SET created_at = created_at + 1"); err != nil {
		t.Fatal(err)
	}
}

// pipeMasterKey makes the master key a pipe that somebody holds open and never writes to.
func pipeMasterKey(t *testing.T, w *world) {
	remove(t, w.masterKey())
	if err := syscall.Mkfifo(w.masterKey(), 0o600); err != nil {
		t.Fatal(err)
	}
	holder, err := os.OpenFile(w.masterKey(), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = holder.Close() })
}

// A command that prints the master key is run by commands, and never at the press of a key.
func TestCompletionRunsNoProgram(t *testing.T) {
	w := newWorld(t)
	w.ok("init")
	w.addKeys("web-%02d", 3)
	mark := w.path("ran")
	source := "command:touch " + mark + "; cat " + w.masterKey()
	w.write("home/.config/keyctl/config.yaml", "master-key: '"+source+"'\notp-command: touch "+mark+"\n")
	for _, line := range []string{"keys show w", "keys list --dataset ", "keys enable ", "datasets attach ", "roll web-00 --otp-command x --otp ", "--context "} {
		if offered, _ := w.candidates(line); len(offered) > 0 {
			t.Errorf("%s[TAB] offers %q, with a master key that nobody has read", line, offered)
		}
	}
	if _, err := os.Stat(mark); err == nil {
		t.Error("completion ran the command of the master key")
	}
	w.ok("keys", "list")
	if _, err := os.Stat(mark); err != nil {
		t.Error("keys list did not run the command: the test proves nothing")
	}
}

// Completion leaves every file of the user as it was, also while others are at work on the store.
func TestCompletionChangesNoFile(t *testing.T) {
	w := stocked(t)
	lines := []string{"keys show ", "keys enable ", "keys list --dataset ", "datasets attach payments ", "primary-keys show ", "--context ", "keys show nope"}
	check := func(what string) {
		t.Helper()
		before := w.footprints()
		time.Sleep(20 * time.Millisecond) // a write from here on has another time, also where clocks are coarse
		for _, line := range lines {
			w.candidates(line)
		}
		if diff := cmp.Diff(before, w.footprints()); diff != "" {
			t.Errorf("completion %s (-before +after):\n%s", what, diff)
		}
	}
	check("changed files of a store that nobody uses")
	if offered, _ := w.candidates("keys enable "); len(offered) != 1 {
		t.Errorf("keys enable[TAB] offers %q", offered)
	}
	release := w.holdOpen()
	w.ok("keys", "disable", "web-01", "--yes") // stays in the log, because of the reader
	if _, err := os.Stat(w.store() + "-wal"); err != nil {
		t.Fatal(err)
	}
	check("changed files of a store in use")
	if offered, _ := w.candidates("keys enable "); len(offered) != 2 {
		t.Errorf("keys enable[TAB] offers %q: what is in the log is not seen", offered)
	}
	release()
	w.ok("keys", "list")
	if diff := cmp.Diff(map[string]string{}, w.footprints()); diff == "" {
		t.Error("there are no files: the test proves nothing")
	}
}

// footprints describes each file of the home: its size, the time of its last change, and its content as another process
// sees it, for this one would lose its locks by closing the file.
func (w *world) footprints() map[string]string {
	w.t.Helper()
	prints := map[string]string{}
	r := w.finish(w.shell(`find home -type f -exec cksum {} +`))
	r.wants(w.t, 0, "find")
	for line := range strings.Lines(r.out) {
		path := strings.Fields(line)[2]
		info, err := os.Stat(w.path(path))
		if err != nil {
			w.t.Error(err)
			continue
		}
		prints[path] = fmt.Sprintf("%s%s", line, info.ModTime())
	}
	return prints
}

// Profiles come from keyctl's list of them: the keyring, which might ask for a password, is not touched.
func TestCompletionOfProfiles(t *testing.T) {
	w := newWorld(t)
	w.env = append(w.env, "DBUS_SESSION_BUS_ADDRESS=unix:path=/nonexistent")
	none := ""
	for _, line := range []string{"credentials show ", "run --key "} {
		if offered, directive := w.candidates(line); len(offered) > 0 || directive != ":36" {
			t.Errorf("%s[TAB] without a list offers %q and %s", line, offered, directive)
		}
	}
	if err := os.MkdirAll(w.path("home", ".local", "share", "keyctl"), 0o700); err != nil {
		t.Fatal(err)
	}
	entry := `{"profile":%q,"key":null,"access_key_id":"KCtest000000000000000000","server":null,"stored_at":null}`
	w.write("home/.local/share/keyctl/credentials.json", `{"credentials":[`+fmt.Sprintf(entry, "web-02")+","+fmt.Sprintf(entry, "web-01")+`]}`)
	for line, want := range map[string]string{
		"credentials show ": "web-01 web-02", "credentials check web-02": "web-02", "credentials remove w": "web-01 web-02",
		"credentials show web-01 ": none, "run --key ": "web-01 web-02", "run --key x": none,
	} {
		if offered, _ := w.candidates(line); strings.Join(offered, " ") != want {
			t.Errorf("keyctl %s[TAB] offers %q, want %q", line, offered, want)
		}
	}
}
