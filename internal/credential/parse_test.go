package credential

import (
	"bytes"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"keyctl/internal/fault"
)

// carried is what the format carries of c, so what Parse can bring back.
func carried(c Credential, f Format, profile string) Credential {
	if f != JSON {
		c.Datasets = nil
	}
	switch f {
	case Env, Dotenv:
		c.Name = ""
	case INI:
		c.Name = profile
	case K8s:
		c.Name = objectName(profile)
	}
	return c
}

func parse(text, profile string) (Credential, error) { return Parse(strings.NewReader(text), profile) }

func TestParseReadsEveryFormatBack(t *testing.T) {
	bare := testCredential()
	bare.Server, bare.Datasets = "", nil
	transports := map[string]func(string) string{
		"as written":           func(s string) string { return s },
		"CRLF":                 func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") },
		"byte order mark":      func(s string) string { return "\uFEFF" + s },
		"no final newline":     func(s string) string { return strings.TrimRight(s, "\n") },
		"blank lines around":   func(s string) string { return "\n\n" + s + "\n\n" },
		"mark, CRLF and space": func(s string) string { return "\uFEFF\r\n" + strings.ReplaceAll(s, "\n", "\r\n") + "  " },
	}
	for _, c := range []Credential{testCredential(), bare, drawn(t, 1)} {
		for _, f := range Formats() {
			for name, transport := range transports {
				got, err := parse(transport(written(t, c, f, "some-profile")), "")
				if want := carried(c, f, "some-profile"); err != nil || !cmp.Equal(got, want) {
					t.Errorf("Parse(%s, %s) = %+v, %v, want %+v", f, name, got, err, want)
				}
			}
		}
	}
}

// These are other texts that hold testCredential but for its datasets and, where there is none, its name.
func TestParseAccepts(t *testing.T) {
	const box = `$ keyctl keys create web-01
╭─ web-01, generation 3 ─────────────────────────────────────────────────────╮
  Access key id             ` + zeroID + `
  Secret signing key        ` + zeroSigning + `
  Secret crypto access key  ` + zeroCrypto + `
  Server                    ` + testServer + `
╰─ shown once: keep them in your secret store now ───────────────────────────╯
keyctl: hint: Server side caches last 30 minutes
`
	const variables = `# made by hand
export PATH="$PATH:/opt/bin"
NOTE='a value that
spans = lines'
exportUBIQ_SERVER=other
UBIQ_ACCESS_KEY_ID_OLD=KC1
 UBIQ_ACCESS_KEY_ID = "` + zeroID + `" # the id
export	UBIQ_SECRET_SIGNING_KEY='` + zeroSigning + `'   # signs
UBIQ_SECRET_CRYPTO_ACCESS_KEY=` + zeroCrypto + ` # opens
UBIQ_SERVER=
UBIQ_SERVER=` + testServer + `
UBIQ_SERVER="` + testServer + `"
`
	encode := base64.StdEncoding.EncodeToString
	data := "data:\n  UBIQ_ACCESS_KEY_ID: " + encode([]byte(zeroID)) +
		"\n  UBIQ_SECRET_SIGNING_KEY: " + encode([]byte(zeroSigning)) +
		"\n  UBIQ_SECRET_CRYPTO_ACCESS_KEY: " + encode([]byte(zeroCrypto)) +
		"\n  UBIQ_SERVER: " + encode([]byte(testServer)) +
		"\n  OTHER: AA==\n"
	tests := []struct{ name, text, wantName string }{
		{"terminal", box, "web-01"},
		{"terminal, bordered", strings.ReplaceAll(strings.ReplaceAll(box, "\n  ", "\n│ "), zeroCrypto, zeroCrypto+"   │"), "web-01"},
		{"terminal in ASCII", strings.NewReplacer("╭", "+", "╮", "+", "╰", "+", "╯", "+", "─", "-").Replace(box), "web-01"},
		{"terminal in ASCII, odd name", "+- web-, generation 3 -+\n" + box[strings.Index(box, "  Access"):], "web-"},
		{"text, odd name", strings.Replace(goldens[Text], "web-01", "web-", 1), "web-"},
		{"terminal, no title", box[strings.Index(box, "  Access"):], ""},
		{"variables", variables, ""},
		{"variables in CRLF", strings.ReplaceAll(variables, "\n", "\r\n"), ""},
		{"json with more", `{"extra":{"server":1},"name":null,"access_key_id":"` + zeroID + `","secret_signing_key":"` + zeroSigning +
			`","secret_crypto_access_key":"` + zeroCrypto + `","server":"` + testServer + `","SERVER":"other","datasets":null,"extra":{"server":1}}`, ""},
		{"ini of another hand", "; mine\n[web-01] ; first\naccess_key_id:" + zeroID + "\nSecret_Signing_Key=" + zeroSigning +
			"\n\tSECRET_CRYPTO_ACCESS_KEY =\t" + zeroCrypto + "\n# comment\nREGION = x\nserver: " + testServer + "\n[other]\nSERVER = elsewhere\n", "web-01"},
		{"ini in two parts", "[web-01]\nACCESS_KEY_ID = " + zeroID + "\nSERVER = " + testServer + "\n[x]\n[web-01]\nSECRET_SIGNING_KEY = " + zeroSigning +
			"\nSECRET_CRYPTO_ACCESS_KEY = " + zeroCrypto + "\nACCESS_KEY_ID = " + zeroID + "\n", "web-01"},
		{"ini with an odd name", strings.Replace(goldens[INI], "web-01", "my web server", 1), ""},
		{"manifest in base64", "apiVersion: v1\n" + data + "kind: \"Secret\" # a\nmetadata: {name: web-01}\n", "web-01"},
		{"manifest among others", "kind: ConfigMap\ndata: [1]\n---\n" + goldens[K8s] + "---\nkind: Secret\nmetadata: {name: other}\n---\n- a\n", "web-01"},
		{"manifest with both", goldens[K8s] + data, "web-01"},
		{"manifest in json", `{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "web-01"}, "data": {"UBIQ_ACCESS_KEY_ID": "` + encode([]byte(zeroID)) +
			`", "UBIQ_SECRET_SIGNING_KEY": "` + encode([]byte(zeroSigning)) + `", "UBIQ_SECRET_CRYPTO_ACCESS_KEY": "` + encode([]byte(zeroCrypto)) +
			`", "UBIQ_SERVER": "` + encode([]byte(testServer)) + `"}}`, "web-01"},
	}
	for _, test := range tests {
		want := testCredential()
		want.Name, want.Datasets = test.wantName, nil
		if got, err := parse(test.text, ""); err != nil || !cmp.Equal(got, want) {
			t.Errorf("%s: Parse = %+v, %v, want %+v", test.name, got, err, want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	drop := func(f Format, word string) string {
		lines := slices.DeleteFunc(strings.SplitAfter(goldens[f], "\n"), func(l string) bool { return strings.Contains(l, word) })
		return strings.Join(lines, "")
	}
	other := EncodeToken(SigningKey, [32]byte{1}).Reveal()
	tests := []struct{ name, text, want string }{
		{"nothing", "", "no credential"},
		{"prose", "the Server is down\nAccess key id is missing\n", "no credential"},
		{"server only", "UBIQ_SERVER=" + testServer, "no credential"},
		{"no profile in ini", "[a]\nSERVER = x\n", "no credential"},
		{"env without id", drop(Env, "ACCESS_KEY_ID"), `no "UBIQ_ACCESS_KEY_ID"`},
		{"dotenv without signing key", drop(Dotenv, "SIGNING"), `no "UBIQ_SECRET_SIGNING_KEY"`},
		{"empty signing key", drop(Dotenv, "SIGNING") + "UBIQ_SECRET_SIGNING_KEY=''\n", `no "UBIQ_SECRET_SIGNING_KEY"`},
		{"json without crypto access key", `{"access_key_id":"` + zeroID + `","secret_signing_key":"` + zeroSigning + `"}`, `no "secret_crypto_access_key"`},
		{"ini without id", drop(INI, "ACCESS_KEY_ID"), `no "ACCESS_KEY_ID"`},
		{"text without signing key", drop(Text, "signing"), `no "Secret signing key"`},
		{"k8s without crypto access key", drop(K8s, "CRYPTO"), `no "UBIQ_SECRET_CRYPTO_ACCESS_KEY"`},
		{"two signing keys", goldens[Env] + "UBIQ_SECRET_SIGNING_KEY=" + other, `"UBIQ_SECRET_SIGNING_KEY" is given twice`},
		{"first what is wrong", "UBIQ_SERVER=' \nUBIQ_SERVER=a\nUBIQ_SERVER=b\n", `"UBIQ_SERVER" is not one word`},
		{"two signing keys in text", goldens[Text] + "Secret signing key        " + other, `"Secret signing key" is given twice`},
		{"two signing keys in ini", goldens[INI] + "secret_signing_key = " + other, `"SECRET_SIGNING_KEY" is given twice`},
		{"two in json", strings.Replace(goldens[JSON], "{", `{"secret_signing_key":"`+other+`",`, 1), "given twice"},
		{"two in k8s", goldens[K8s] + "data: {UBIQ_SECRET_SIGNING_KEY: " + base64.StdEncoding.EncodeToString([]byte(other)) + "}", `"UBIQ_SECRET_SIGNING_KEY" is given twice`},
		{"two in yaml", goldens[K8s] + "  UBIQ_SECRET_SIGNING_KEY: " + other, "texts by name"},
		{"open quote", strings.Replace(goldens[Env], zeroSigning+"'", zeroSigning, 1), `"UBIQ_SECRET_SIGNING_KEY" is not one word`},
		{"words after a quote", strings.Replace(goldens[Env], zeroSigning+"'", zeroSigning+"' x", 1), `"UBIQ_SECRET_SIGNING_KEY" is not one word`},
		{"two words", strings.Replace(goldens[Dotenv], zeroSigning, zeroSigning+" x", 1), `"UBIQ_SECRET_SIGNING_KEY" is not one word`},
		{"mistyped id", strings.Replace(goldens[Env], "KC0", "KC-", 1), "malformed access key id"},
		{"mistyped secret", strings.Replace(goldens[Env], "AXgRe", "AXgRf", 1), "malformed secret signing key: its check digits"},
		{"server with a path", strings.Replace(goldens[Env], ":8443", ":8443/secret-path", 1), "malformed server"},
		{"dataset that is none", strings.Replace(goldens[JSON], "cards.v2", "cards v2", 1), "malformed dataset name"},
		{"json cut short", goldens[JSON][:len(goldens[JSON])-3], "not exactly one"},
		{"json twice", goldens[JSON] + goldens[JSON], "not exactly one"},
		{"json and more", goldens[JSON] + "x", "not exactly one"},
		{"json with a bad name", "{1:2}", "not exactly one"},
		{"json with a bad value", `{"server":x}`, "not exactly one"},
		{"json of another type", strings.Replace(goldens[JSON], `"`+zeroID+`"`, "1", 1), `"access_key_id" is not of the right type`},
		{"json with datasets of another type", strings.Replace(goldens[JSON], `"payments"`, "[]", 1), `"datasets" is not of the right type`},
		{"json with a name of another type", strings.Replace(goldens[JSON], `"web-01"`, "[]", 1), `"name" is not of the right type`},
		{"yaml that is none", goldens[K8s] + "\t- x: [", "is not YAML"},
		{"data of another type", strings.Replace(goldens[K8s], "stringData:", "stringData: []\nother:", 1), "texts by name"},
		{"data not in base64", strings.Replace(goldens[K8s], "stringData", "data", 1), "is not base64"},
		{"alias of itself", "kind: Secret\ndata: &a {a: *a}\n", "texts by name"},
	}
	for _, test := range tests {
		got, err := parse(test.text, "")
		f := fault.From(err)
		if f == nil || f.Code != fault.Invalid || !strings.Contains(f.Message, test.want) || !cmp.Equal(got, Credential{}) {
			t.Errorf("%s: Parse = %+v, %v, want invalid with %q", test.name, got, err, test.want)
			continue
		}
		for _, value := range []string{zeroSigning[4:20], other[4:20], zeroID, "secret-path", "cards v2"} {
			if strings.Contains(f.Message+f.Hint, value) || f.Cause != nil && strings.Contains(f.Cause.Error(), value) {
				t.Errorf("%s: the error repeats %q: %s (%s)", test.name, value, f.Message, f.Hint)
			}
		}
	}
}

func TestParseProfile(t *testing.T) {
	one, two, three := drawn(t, 1), drawn(t, 2), drawn(t, 3)
	several := "[empty]\nSERVER = x\n" + written(t, one, INI, "one") + written(t, two, INI, "two")
	withDefault := several + written(t, three, INI, "default")
	manifests := written(t, one, K8s, "one") + "---\n" + written(t, two, K8s, "two")
	conflict := several + "SERVER = x\nSERVER = y\n"
	odd := strings.Replace(several, "[two]", "["+zeroSigning+"]", 1)
	tests := []struct {
		name, text, profile string
		want                *Credential
		code                fault.Code
		hint                string
	}{
		{"named first", several, "one", &one, "", ""},
		{"named last", several, "two", &two, "", ""},
		{"named beside a malformed one", conflict, "one", &one, "", ""},
		{"the malformed one", conflict, "two", nil, fault.Invalid, ""},
		{"named beside a default", withDefault, "two", &two, "", ""},
		{"the default", withDefault, "", &three, "", ""},
		{"none named", several, "", nil, fault.Invalid, `the profiles are "one", "two"`},
		{"another named", several, "three", nil, fault.NotFound, `the profiles are "one", "two"`},
		{"another case", several, "One", nil, fault.NotFound, `the profiles are "one", "two"`},
		{"one without a credential", several, "empty", nil, fault.NotFound, `the profiles are "one", "two"`},
		{"the only one", written(t, one, INI, "one"), "", &one, "", ""},
		{"not the only one", written(t, one, INI, "one"), "two", nil, fault.NotFound, `the profiles are "one"`},
		{"a secret for a name", odd, "", nil, fault.Invalid, `the profiles are "one", (one with an unusual name)`},
		{"manifest named", manifests, "two", &two, "", ""},
		{"no manifest named", manifests, "", nil, fault.Invalid, `the profiles are "one", "two"`},
		{"profile of env", written(t, one, Env, ""), "one", nil, fault.Invalid, "leave the profile out"},
		{"profile of json", written(t, one, JSON, ""), "one", nil, fault.Invalid, "leave the profile out"},
	}
	for _, test := range tests {
		got, err := parse(test.text, test.profile)
		if test.want != nil {
			if err != nil || got.AccessKeyID != test.want.AccessKeyID || !got.SigningKey.Equal(test.want.SigningKey) {
				t.Errorf("%s: Parse = %+v, %v, want %s", test.name, got, err, test.want.AccessKeyID)
			}
			continue
		}
		if f := fault.From(err); f == nil || f.Code != test.code || f.Hint != test.hint {
			t.Errorf("%s: Parse = %+v, %#v, want %s with hint %q", test.name, got, err, test.code, test.hint)
		}
	}
}

func TestParseIsBounded(t *testing.T) {
	text := goldens[Env] + strings.Repeat("#", maxText-len(goldens[Env]))
	if _, err := parse(text, ""); err != nil {
		t.Errorf("Parse of %d bytes = %v", len(text), err)
	}
	if _, err := parse(text+"#", ""); !fault.Is(err, fault.Invalid) {
		t.Errorf("Parse of %d bytes = %v, want invalid", len(text)+1, err)
	}
	if _, err := Parse(&repeated{text: "A=b\n"}, ""); !fault.Is(err, fault.Invalid) {
		t.Errorf("Parse of an endless text = %v, want invalid", err)
	}
}

func TestParseReportsTheReadersFailure(t *testing.T) {
	broken := errors.New("input/output error")
	if _, err := Parse(iotest.ErrReader(broken), ""); !errors.Is(err, broken) {
		t.Errorf("Parse = %v, want %v", err, broken)
	}
}

// What parses is written in every format and parsed again, and stays the same.
func FuzzParse(f *testing.F) {
	for _, format := range Formats() {
		f.Add([]byte(goldens[format]), "")
		f.Add([]byte(strings.ReplaceAll(goldens[format], "\n", "\r\n")), "web-01")
	}
	f.Add([]byte("+- web-01, generation 3 -+\n"+goldens[Text]+"+- shown once -+\n"), "")
	f.Add([]byte("╭─ web-01, generation 3 ─╮\n"+goldens[Text]+"╰─ shown once ─╯\n"), "")
	f.Add([]byte(goldens[INI]+"[default]\nACCESS_KEY_ID = \n"), "web-01")
	f.Add([]byte("---\nkind: Secret\ndata: {UBIQ_ACCESS_KEY_ID: "+base64.StdEncoding.EncodeToString([]byte(zeroID))+"}\n"), "")
	f.Add([]byte(`{"kind":"Secret","stringData":{"UBIQ_ACCESS_KEY_ID":"`+zeroID+`"}}`), "")
	f.Fuzz(func(t *testing.T, text []byte, profile string) {
		c, err := Parse(bytes.NewReader(text), profile)
		if err != nil {
			if code := fault.CodeOf(err); code != fault.Invalid && code != fault.NotFound {
				t.Errorf("Parse(%q, %q) = %v, want invalid or not found", text, profile, err)
			}
			return
		}
		if err := c.Validate(); err != nil {
			t.Fatalf("Parse(%q, %q) does not pass Validate: %v", text, profile, err)
		}
		for _, format := range Formats() {
			again, err := parse(written(t, c, format, "some-profile"), "")
			if want := carried(c, format, "some-profile"); err != nil || !cmp.Equal(again, want) {
				t.Errorf("Parse(Write(%s)) = %+v, %v, want %+v", format, again, err, want)
			}
		}
	})
}

func BenchmarkParse(b *testing.B) {
	for _, f := range Formats() {
		b.Run(string(f), func(b *testing.B) {
			for b.Loop() {
				if _, err := parse(goldens[f], ""); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
