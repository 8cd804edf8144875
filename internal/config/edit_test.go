package config

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"keyctl/internal/fault"
)

// file is what the user's configuration file says.
func (u *user) file() string {
	u.t.Helper()
	text, err := os.ReadFile(u.path(".config", "keyctl", "config.yaml"))
	if err != nil {
		u.t.Fatal(err)
	}
	return string(text)
}

func TestEditKeepsWhatElseIsThere(t *testing.T) {
	u := newUser(t)
	u.configure(`# my settings
timeout: 5s # patient
contexts:
  # the laptop
  near:
    store: sqlite:near.db # here
    default-grace: 1h
`)
	far := Place{Server: "https://keys.example.com", Token: "keyring:far"}
	if err := AddContext(u.inputs(), "far", Place{Server: "https://keys.example.com/", CAFile: "/ca.pem"}); err != nil {
		t.Fatal(err)
	}
	if err := LogIn(u.inputs(), "far", far); err != nil {
		t.Fatal(err)
	}
	want := `# my settings
timeout: 5s # patient
contexts:
  # the laptop
  near:
    store: sqlite:near.db # here
    default-grace: 1h
  far:
    server: https://keys.example.com
    token: keyring:far
context: far
`
	if got := u.file(); got != want {
		t.Errorf("the file is\n%s\nwant\n%s", got, want)
	}
	if changed, err := UseContext(u.inputs(), "near"); err != nil || !changed {
		t.Errorf("UseContext() = %t, %v", changed, err)
	}
	if changed, err := UseContext(u.inputs(), "near"); err != nil || changed {
		t.Errorf("UseContext() again = %t, %v", changed, err)
	}
	if err := RemoveContext(u.inputs(), "near"); err != nil {
		t.Fatal(err)
	}
	if got := u.file(); strings.Contains(got, "near") || strings.Contains(got, "context:") || !strings.Contains(got, "# patient") {
		t.Errorf("after the removal the file is\n%s", got)
	}
	contexts, err := ListContexts(u.inputs())
	if err != nil || len(contexts) != 1 || contexts[0].Place != far || contexts[0].Current {
		t.Errorf("ListContexts() = %+v, %v", contexts, err)
	}
}

func TestEditRefuses(t *testing.T) {
	u := newUser(t)
	u.configure("contexts: {near: {store: 'sqlite:near.db'}}\n")
	before := u.file()
	for _, tt := range []struct {
		what string
		err  error
		want fault.Code
	}{
		{"another place of the same name", AddContext(u.inputs(), "near", Place{Store: "sqlite:x"}), fault.Exists},
		{"a login under its name", LogIn(u.inputs(), "near", Place{Server: "https://h"}), fault.Exists},
		{"a look before such a login", CheckContext(u.inputs(), "near", "https://h"), fault.Exists},
		{"a look at a name that cannot be one", CheckContext(u.inputs(), "a b", "https://h"), fault.Invalid},
		{"a look at a new name", CheckContext(u.inputs(), "new", "https://h"), ""},
		{"the same again", AddContext(u.inputs(), "near", Place{Store: "sqlite:near.db"}), ""},
		{"no place", AddContext(u.inputs(), "new", Place{}), fault.Invalid},
		{"two places", AddContext(u.inputs(), "new", Place{Store: "sqlite:x", Server: "https://h"}), fault.Invalid},
		{"a bad store", AddContext(u.inputs(), "new", Place{Store: "x"}), fault.Invalid},
		{"a bad name", AddContext(u.inputs(), "-new", Place{Store: "sqlite:x"}), fault.Invalid},
		{"a token for its source", AddContext(u.inputs(), "new", Place{Server: "https://h", Token: "kct_" + strings.Repeat("T", 61)}), fault.Invalid},
		{"an unknown one to remove", RemoveContext(u.inputs(), "far"), fault.NotFound},
		{"an unknown one to use", func() error { _, err := UseContext(u.inputs(), "far"); return err }(), fault.NotFound},
	} {
		if fault.CodeOf(tt.err) != tt.want {
			t.Errorf("%s: %v, want code %q", tt.what, tt.err, tt.want)
		}
	}
	if got := u.file(); got != before {
		t.Errorf("the file changed to\n%s", got)
	}
	u.configure("contexts: [\n")
	if err := AddContext(u.inputs(), "new", Place{Store: "sqlite:x"}); !fault.Is(err, fault.Invalid) || u.file() != "contexts: [\n" {
		t.Errorf("a broken file: %v, want it named and left alone", err)
	}
}

// TestEditsAtOnce adds contexts from many goroutines: none is lost.
func TestEditsAtOnce(t *testing.T) {
	u := newUser(t)
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			add := AddContext
			if i%2 == 0 {
				add = LogIn
			}
			if err := add(u.inputs(), fmt.Sprint("c", i), Place{Server: fmt.Sprintf("https://h%d", i)}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if contexts, err := ListContexts(u.inputs()); err != nil || len(contexts) != 20 {
		t.Errorf("%d contexts, %v, want 20", len(contexts), err)
	}
}
