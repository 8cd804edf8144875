package credential

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"keyctl/internal/fault"
)

// The texts of testCredential. The tokens are those of 32 zero bytes, as in the vectors.
const (
	zeroID      = "KC0000000000000000000000"
	zeroSigning = "kcs_00000000000000000000000000000000000000000001AXgRe"
	zeroCrypto  = "kcx_00000000000000000000000000000000000000000000WgSeG"
	testServer  = "https://keys.example.com:8443"
)

var goldens = map[Format]string{
	Text: `web-01
Access key id             ` + zeroID + `
Secret signing key        ` + zeroSigning + `
Secret crypto access key  ` + zeroCrypto + `
Server                    ` + testServer + `
`,
	Env: `export UBIQ_ACCESS_KEY_ID='` + zeroID + `'
export UBIQ_SECRET_SIGNING_KEY='` + zeroSigning + `'
export UBIQ_SECRET_CRYPTO_ACCESS_KEY='` + zeroCrypto + `'
export UBIQ_SERVER='` + testServer + `'
`,
	Dotenv: `UBIQ_ACCESS_KEY_ID=` + zeroID + `
UBIQ_SECRET_SIGNING_KEY=` + zeroSigning + `
UBIQ_SECRET_CRYPTO_ACCESS_KEY=` + zeroCrypto + `
UBIQ_SERVER=` + testServer + `
`,
	JSON: `{
  "name": "web-01",
  "access_key_id": "` + zeroID + `",
  "secret_signing_key": "` + zeroSigning + `",
  "secret_crypto_access_key": "` + zeroCrypto + `",
  "server": "` + testServer + `",
  "datasets": [
    "payments",
    "cards.v2"
  ]
}
`,
	INI: `[web-01]
ACCESS_KEY_ID = ` + zeroID + `
SECRET_SIGNING_KEY = ` + zeroSigning + `
SECRET_CRYPTO_ACCESS_KEY = ` + zeroCrypto + `
SERVER = ` + testServer + `
`,
	K8s: `apiVersion: v1
kind: Secret
metadata:
  name: "web-01"
type: Opaque
stringData:
  UBIQ_ACCESS_KEY_ID: "` + zeroID + `"
  UBIQ_SECRET_SIGNING_KEY: "` + zeroSigning + `"
  UBIQ_SECRET_CRYPTO_ACCESS_KEY: "` + zeroCrypto + `"
  UBIQ_SERVER: "` + testServer + `"
`,
}

func written(tb testing.TB, c Credential, f Format, profile string) string {
	tb.Helper()
	var b strings.Builder
	if err := c.Write(&b, f, WriteOptions{Profile: profile}); err != nil {
		tb.Fatalf("Write(%s) = %v", f, err)
	}
	return b.String()
}

func TestWrite(t *testing.T) {
	for _, f := range Formats() {
		if diff := cmp.Diff(goldens[f], written(t, testCredential(), f, "")); diff != "" {
			t.Errorf("Write(%s) (-want +got):\n%s", f, diff)
		}
	}
}

func TestWriteWithoutServer(t *testing.T) {
	c := testCredential()
	c.Server, c.Datasets = "", nil
	for _, f := range Formats() {
		text := written(t, c, f, "")
		if f == JSON {
			if !strings.Contains(text, `"server": null`) || !strings.Contains(text, `"datasets": []`) {
				t.Errorf("Write(json) has no null server or no empty datasets:\n%s", text)
			}
		} else if strings.Contains(strings.ToLower(text), "server") {
			t.Errorf("Write(%s) has a server:\n%s", f, text)
		}
	}
}

func TestWriteProfile(t *testing.T) {
	tests := []struct {
		format        Format
		name, profile string
		want          string // a line of the text, or empty for fault.Invalid
	}{
		{INI, "web-01", "", "[web-01]"},
		{INI, "web-01", "default", "[default]"},
		{INI, "", "Prod_EU.1", "[Prod_EU.1]"},
		{INI, "", "", ""},
		{INI, "x", "", ""},
		{INI, "web-01", "x", ""},
		{INI, "web-01", "a]\n[b", ""},
		{INI, "web-01", " a", ""},
		{INI, "web-01", zeroSigning, ""},
		{K8s, "web-01", "", `  name: "web-01"`},
		{K8s, "x", "", `  name: "x"`},
		{K8s, "", "Prod_EU.1", `  name: "prod-eu.1"`},
		{K8s, "", "a..b", `  name: "a.b"`},
		{K8s, "", "a-_.-b.", `  name: "a.b"`},
		{K8s, "", "9", `  name: "9"`},
		{K8s, "", "", ""},
		{K8s, "", "a\"b", ""},
	}
	for _, test := range tests {
		c := testCredential()
		c.Name = test.name
		var b bytes.Buffer
		err := c.Write(&b, test.format, WriteOptions{Profile: test.profile})
		if test.want == "" {
			if !fault.Is(err, fault.Invalid) || b.Len() != 0 {
				t.Errorf("Write(%s) of %q as %q = %q, %v, want invalid and nothing written", test.format, test.name, test.profile, b.Bytes(), err)
			}
			continue
		}
		if err != nil || !strings.Contains(b.String(), test.want+"\n") {
			t.Errorf("Write(%s) of %q as %q = %v, want a line %q:\n%s", test.format, test.name, test.profile, err, test.want, b.Bytes())
		}
	}
}

// counter counts calls and fails them.
type counter struct {
	calls int
	err   error
}

func (w *counter) Write(p []byte) (int, error) {
	w.calls++
	return len(p), w.err
}

// A sink sees a credential whole or not at all, and its failure arrives.
func TestR28_WriteReportsTheSinksFailure(t *testing.T) {
	broken := errors.New("broken pipe")
	for _, f := range Formats() {
		w := &counter{err: broken}
		if err := testCredential().Write(w, f, WriteOptions{}); !errors.Is(err, broken) || w.calls != 1 {
			t.Errorf("Write(%s) = %v after %d calls, want %v after one", f, err, w.calls, broken)
		}
		w = new(counter)
		if err := (Credential{Name: "web-01"}).Write(w, f, WriteOptions{}); !fault.Is(err, fault.Invalid) || w.calls != 0 {
			t.Errorf("Write(%s) without secrets = %v after %d calls, want invalid after none", f, err, w.calls)
		}
	}
	w := new(counter)
	if err := testCredential().Write(w, "yaml", WriteOptions{}); !fault.Is(err, fault.Invalid) || w.calls != 0 {
		t.Errorf("Write(yaml) = %v after %d calls, want invalid after none", err, w.calls)
	}
}

func TestParseFormat(t *testing.T) {
	for _, f := range Formats() {
		if got, err := ParseFormat(string(f)); err != nil || got != f {
			t.Errorf("ParseFormat(%q) = %q, %v", f, got, err)
		}
	}
	for _, text := range []string{"", "JSON", "json ", "yaml", "dot-env"} {
		got, err := ParseFormat(text)
		f := fault.From(err)
		if got != "" || f == nil || f.Code != fault.Invalid || f.Hint != "the formats are text, env, dotenv, json, ini, k8s" {
			t.Errorf("ParseFormat(%q) = %q, %#v, want invalid with the formats in the hint", text, got, err)
		}
	}
}

func TestDocumentOfARoll(t *testing.T) {
	until := time.Date(2026, 11, 23, 19, 4, 5, 6000, time.FixedZone("CET", 3600))
	d := Document{
		Credential: testCredential(),
		Previous:   &Previous{AccessKeyID: zeroID, Until: until, Clamped: true},
	}
	text, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	const want = `"previous":{"access_key_id":"` + zeroID + `","until":"2026-11-23T18:04:05.000006Z","clamped":true}}`
	if !bytes.HasSuffix(text, []byte(want)) {
		t.Errorf("Marshal(document) = %s, want at its end %s", text, want)
	}
	if d.Previous.Until != until {
		t.Error("marshalling changed the document")
	}
	if got, err := Parse(bytes.NewReader(text), ""); err != nil || !cmp.Equal(got, testCredential()) {
		t.Errorf("Parse(document) = %+v, %v, want the credential", got, err)
	}
}

// A shell that evaluates the env format has the values and has run nothing.
func TestEnvInAShell(t *testing.T) {
	shell, err := exec.LookPath("sh")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("sh is not installed, and CI has to have it")
		}
		t.Skip("sh is not installed")
	}
	for _, f := range []Format{Env, Dotenv} {
		script := written(t, testCredential(), f, "") +
			`printf '%s\n' "$UBIQ_ACCESS_KEY_ID" "$UBIQ_SECRET_SIGNING_KEY" "$UBIQ_SECRET_CRYPTO_ACCESS_KEY" "$UBIQ_SERVER"`
		command := exec.Command(shell)
		command.Stdin = strings.NewReader(script)
		got, err := command.CombinedOutput()
		want := strings.Join([]string{zeroID, zeroSigning, zeroCrypto, testServer}, "\n") + "\n"
		if err != nil || string(got) != want {
			t.Errorf("a shell reads from the %s format %q, %v, want %q", f, got, err, want)
		}
	}
}
