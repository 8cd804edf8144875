package keys_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"keyctl/internal/credential"
	"keyctl/internal/fault"
	"keyctl/internal/keys"
	"keyctl/internal/keys/keystest"
)

func TestValidateName(t *testing.T) {
	long := strings.Repeat("n", 64)
	for _, name := range []string{"a", "0", "web-01", "A.b_c-d", "a..", "KC", "KC123", "key_0123456789", long} {
		if err := keys.ValidateName("key", name); err != nil {
			t.Errorf("ValidateName(%q) = %v, want nil", name, err)
		}
	}
	for _, name := range []string{
		"", " ", "-a", ".a", "_a", "a b", "a\n", "\na", "a/b", "a:b", "a,b", "ä", "a\x00", "ａ", "а", long + "n",
		"KC" + strings.Repeat("0", 22), "KCabcdefghijABCDEFGHIJ01", // shaped like access key ids
	} {
		err := keys.ValidateName("dataset", name)
		if !fault.Is(err, fault.Invalid) {
			t.Errorf("ValidateName(%q) = %v, want invalid", name, err)
			continue
		}
		if e := fault.From(err); !strings.Contains(e.Message, "dataset") || e.Hint == "" {
			t.Errorf("ValidateName(%q) = %q, hint %q; want the noun and the right form", name, e.Message, e.Hint)
		}
	}
	for _, name := range []string{"kcs_x", "kct_x", "web-kcs_" + strings.Repeat("A", 49), "kcm_" + strings.Repeat("A", 49)} {
		if err := keys.ValidateName("key", name); !fault.Is(err, fault.Invalid) || strings.Contains(err.Error(), name) {
			t.Errorf("ValidateName(%q) = %v, want it refused and not repeated", name, err)
		}
	}
	for _, name := range []string{"KC" + strings.Repeat("0", 21), "KC" + strings.Repeat("0", 23), "kc" + strings.Repeat("0", 22)} {
		if err := keys.ValidateName("key", name); err != nil {
			t.Errorf("ValidateName(%q) = %v: it is no access key id", name, err)
		}
	}
}

func FuzzValidateName(f *testing.F) {
	for _, seed := range []string{"web-01", "", "a b", "KCabcdefghijABCDEFGHIJ01", "ａ", "a\xff", "kcs_a", "web-kct_0123456789abcdef"} {
		f.Add(seed)
	}
	pattern := regexp.MustCompile(`\A[A-Za-z0-9][A-Za-z0-9._-]{0,63}\z`)
	secret := regexp.MustCompile(`\Akc[sxmt]_|kc[a-z]_[0-9A-Za-z]{16}`)
	f.Fuzz(func(t *testing.T, name string) {
		want := pattern.MatchString(name) && !credential.IsAccessKeyID(name) && !secret.MatchString(name)
		if err := keys.ValidateName("key", name); (err == nil) != want {
			t.Errorf("ValidateName(%q) = %v, want accepted: %t", name, err, want)
		}
	})
}

// Names compare byte for byte: what looks alike is refused or something else, never the same.
func TestR16_NamesAreExactBytes(t *testing.T) {
	p := newPlace(t)
	l := p.open(t)
	newKey(t, l, "web")
	newDataset(t, l, "web")
	for _, name := range []string{"Web", "WEB", "web ", " web", "web\t", "ｗｅｂ", "ＷＥＢ", "w\u200beb", "wéb", "we\u0301b", "web\x00", "web%00", "w_b", "w*"} {
		_, err := l.Key(t.Context(), name)
		keystest.WantCode(t, fmt.Sprintf("Key(%q)", name), err, fault.NotFound)
		_, err = l.DisableKey(t.Context(), name, true)
		keystest.WantCode(t, fmt.Sprintf("DisableKey(%q)", name), err, fault.NotFound)
		_, err = l.Dataset(t.Context(), name)
		keystest.WantCode(t, fmt.Sprintf("Dataset(%q)", name), err, fault.NotFound)
		_, err = l.PrimaryKey(t.Context(), name)
		keystest.WantCode(t, fmt.Sprintf("PrimaryKey(%q)", name), err, fault.NotFound)
		_, err = l.Verify(t.Context(), keys.Question{Key: "web", Dataset: name})
		keystest.WantCode(t, fmt.Sprintf("Verify of the dataset %q", name), err, fault.NotFound)

		want := fault.Invalid
		if name == "Web" || name == "WEB" || name == "w_b" {
			want = "" // another name
		}
		_, err = l.CreateKey(t.Context(), keys.NewKey{Name: name, Offer: keystest.Draw(t).Offer})
		keystest.WantCode(t, fmt.Sprintf("CreateKey(%q)", name), err, want)
		_, _, err = l.CreateDataset(t.Context(), keys.NewDataset{Name: name, Type: keys.Unstructured})
		keystest.WantCode(t, fmt.Sprintf("CreateDataset(%q)", name), err, want)
		_, err = l.EditKey(t.Context(), "web", keys.KeyEdit{Name: &name})
		if want == "" {
			want = fault.Exists // the one just made
		}
		keystest.WantCode(t, fmt.Sprintf("EditKey to %q", name), err, want)
	}
	d, _ := newKey(t, l, "other")
	for _, id := range []string{strings.ToLower(d.AccessKeyID), d.AccessKeyID + " ", " " + d.AccessKeyID, d.AccessKeyID + "\n"} {
		q := d.Question()
		q.AccessKeyID = id
		if v, err := l.Verify(t.Context(), q); err != nil || v.Reason != keys.ReasonUnknown {
			t.Errorf("Verify with the id %q = %+v, %v; want unknown", id, v, err)
		}
	}
	for _, text := range []string{d.SigningKey.Reveal() + " ", strings.ToUpper(d.SigningKey.Reveal()), d.SigningKey.Reveal()[4:]} {
		q := d.Question()
		q.SigningKey = credential.NewSecret(text)
		if v, err := l.Verify(t.Context(), q); err != nil || v.Reason != keys.ReasonUnknown {
			t.Errorf("Verify with another spelling of the secret = %+v, %v; want unknown", v, err)
		}
	}
}

// Types and algorithms too: a client library compares them byte for byte.
func TestR16_TypesAreExactBytes(t *testing.T) {
	for _, text := range []string{"", "Unstructured", "unstructured ", "ｕnstructured", "structured "} {
		if _, err := keys.ParseDatasetType(text); !fault.Is(err, fault.Invalid) {
			t.Errorf("ParseDatasetType(%q) = %v, want invalid", text, err)
		}
	}
	for _, text := range []string{"", "aes-256-gcm", "AES-256-GCM ", "AES256GCM", "AES-192-GCM"} {
		if _, err := keys.ParseAlgorithm(text); !fault.Is(err, fault.Invalid) {
			t.Errorf("ParseAlgorithm(%q) = %v, want invalid", text, err)
		}
	}
	for _, text := range []string{"AES-256-GCM", "AES-128-GCM"} {
		if got, err := keys.ParseAlgorithm(text); err != nil || got != text {
			t.Errorf("ParseAlgorithm(%q) = %q, %v", text, got, err)
		}
	}
}

// The caller is the operator of exactly the OS user's name, or else the owner, with both names in the audit log.
func TestR16_OperatorIsExactBytes(t *testing.T) {
	p := newPlace(t)
	db := p.openStore(t)
	for _, user := range []string{"alex", "Alex", "alex ", "ａlex"} {
		env := p.clock.Env()
		env.OSUser = user
		l, err := keys.Open(t.Context(), db, p.master, env)
		if err != nil || l.Caller().Name != "alex" {
			t.Fatalf("as %q Open() acts for %q, %v", user, l.Caller().Name, err)
		}
		newDataset(t, l, fmt.Sprintf("by-%x", user))
		made := keystest.Events(t, l, keys.AuditFilter{Action: "datasets.create"})
		got := made[len(made)-1].Event
		if want := map[bool]string{true: user}[user != "alex"]; got.Actor.Name != "alex" || got.Detail["os_user"] != want {
			t.Errorf("as %q the audit log says %+v, with the OS user %q", user, got.Actor, got.Detail["os_user"])
		}
	}
}

// Whatever people write can be shown on a terminal as it is: no control, no line end, nothing that turns the direction of
// writing or hides.
func TestR26_Text(t *testing.T) {
	p := newPlace(t)
	l := p.open(t)
	newKey(t, l, "web-01")
	newDataset(t, l, "files")
	write := map[string]func(text string) error{
		"a new key's description": func(text string) error {
			_, err := l.CreateKey(t.Context(), keys.NewKey{Name: "new", Description: text, Offer: keystest.Draw(t).Offer})
			return err
		},
		"a new key's label": func(text string) error {
			_, err := l.CreateKey(t.Context(), keys.NewKey{Name: "new", Labels: map[string]string{"a": text}, Offer: keystest.Draw(t).Offer})
			return err
		},
		"a key's description": func(text string) error {
			_, err := l.EditKey(t.Context(), "web-01", keys.KeyEdit{Description: &text})
			return err
		},
		"a key's label": func(text string) error {
			_, err := l.EditKey(t.Context(), "web-01", keys.KeyEdit{SetLabels: map[string]string{"a": text}})
			return err
		},
		"a new dataset's description": func(text string) error {
			_, _, err := l.CreateDataset(t.Context(), keys.NewDataset{Name: fmt.Sprintf("d-%x", text), Type: keys.Unstructured, Description: text})
			return err
		},
		"a dataset's description": func(text string) error {
			_, err := l.EditDataset(t.Context(), "files", keys.DatasetEdit{Description: &text})
			return err
		},
		"a Primary Key's description": func(text string) error {
			_, err := l.CreatePrimaryKey(t.Context(), fmt.Sprintf("p-%x", text), text)
			return err
		},
	}
	for _, bad := range []string{
		"\x00", "\x07", "\b", "\t", "\n", "\r", "\x1b[31m", "\x7f", "\u0080", "\u0085", "\u009b", // controls
		"\u200e", "\u200f", "\u061c", "\u202a", "\u202b", "\u202c", "\u202d", "\u202e", "\u2066", "\u2067", "\u2068", "\u2069", // direction
		"\u2028", "\u2029", "\u200b", "\u200d", "\ufeff", "\u00ad", "\u00a0", "\ufff9", "\U000e0001", // lines, and what cannot be seen
		"\xff", "\xc0\x80", "\xed\xa0\x80", // no UTF-8
	} {
		for what, f := range write {
			err := f("a" + bad + "b")
			if !fault.Is(err, fault.Invalid) {
				t.Errorf("%q in %s = %v, want invalid", bad, what, err)
			} else if e := fault.From(err); strings.Contains(e.Message+e.Hint, bad) {
				t.Errorf("the refusal of %q repeats it", bad)
			}
		}
	}
	for _, good := range []string{"", " ", "größer", "日本語", "العربية", "e\u0301", "🔑", "a, b; \"c\" 'd' <e> & $f", "=1+1"} {
		for what, f := range write {
			if err := f(good); err != nil {
				t.Errorf("%q in %s = %v", good, what, err)
			}
		}
	}
	// Limits count characters, not bytes.
	for what, limit := range map[string]int{"a key's description": 256, "a key's label": 128} {
		if err := write[what](strings.Repeat("日", limit)); err != nil {
			t.Errorf("%d characters in %s = %v", limit, what, err)
		}
		if err := write[what](strings.Repeat("日", limit+1)); !fault.Is(err, fault.Invalid) {
			t.Errorf("%d characters in %s = %v, want invalid", limit+1, what, err)
		}
	}
}

func FuzzDescription(f *testing.F) {
	p := newPlace(f)
	l := p.open(f)
	newKey(f, l, "web-01")
	for _, seed := range []string{"", "größer", "a\u202eb", "\x1b[31m", "\xff", "e\u0301"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		_, err := l.CheckEdit(t.Context(), "web-01", keys.KeyEdit{Description: &text})
		if err != nil && !fault.Is(err, fault.Invalid) {
			t.Fatalf("a description of %q = %v", text, err)
		}
		if err == nil {
			for _, r := range text {
				if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
					t.Errorf("a description with %U was accepted", r)
				}
			}
			if !utf8.ValidString(text) || utf8.RuneCountInString(text) > 256 {
				t.Errorf("a description of %q was accepted", text)
			}
		}
	})
}
