package credential

import (
	"bytes"
	"strings"
	"testing"

	"keyctl/internal/fault"
)

// testCredential is a whole credential of zeros.
func testCredential() Credential {
	return Credential{
		Name:            "web-01",
		AccessKeyID:     "KC0000000000000000000000",
		SigningKey:      EncodeToken(SigningKey, [32]byte{}),
		CryptoAccessKey: EncodeToken(CryptoAccessKey, [32]byte{}),
		Server:          "https://keys.example.com:8443",
		Datasets:        []string{"payments", "cards.v2"},
	}
}

// drawn is a credential of its own for each seed.
func drawn(tb testing.TB, seed byte) Credential {
	tb.Helper()
	c, err := Draw(seeded(seed))
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

func TestDraw(t *testing.T) {
	a, b := drawn(t, 1), drawn(t, 2)
	if err := a.Validate(); err != nil {
		t.Errorf("Draw().Validate() = %v", err)
	}
	if a.Name != "" || a.Server != "" || a.Datasets != nil {
		t.Errorf("Draw() = %+v, want id and secrets only", a)
	}
	if a.AccessKeyID == b.AccessKeyID || a.SigningKey.Equal(b.SigningKey) || a.CryptoAccessKey.Equal(b.CryptoAccessKey) {
		t.Error("two draws share a value")
	}
	if strings.Contains(a.SigningKey.Reveal(), a.CryptoAccessKey.Reveal()[4:47]) {
		t.Error("both secrets of a draw are the same")
	}
}

func TestValidate(t *testing.T) {
	tests := []struct {
		name   string
		change func(*Credential)
		ok     bool
	}{
		{"whole", func(*Credential) {}, true},
		{"bare", func(c *Credential) { c.Name, c.Server, c.Datasets = "", "", nil }, true},
		{"no id", func(c *Credential) { c.AccessKeyID = "" }, false},
		{"bad id", func(c *Credential) { c.AccessKeyID = "KC" }, false},
		{"no signing key", func(c *Credential) { c.SigningKey = Secret{} }, false},
		{"no crypto access key", func(c *Credential) { c.CryptoAccessKey = Secret{} }, false},
		{"secrets exchanged", func(c *Credential) { c.SigningKey, c.CryptoAccessKey = c.CryptoAccessKey, c.SigningKey }, false},
		{"mistyped", func(c *Credential) { c.SigningKey = NewSecret(strings.Replace(c.SigningKey.Reveal(), "00", "01", 1)) }, false},
		{"name of one", func(c *Credential) { c.Name = "x" }, true},
		{"name of all it may have", func(c *Credential) { c.Name = "0.a_B-9" }, true},
		{"name of 64", func(c *Credential) { c.Name = strings.Repeat("n", 64) }, true},
		{"name of 65", func(c *Credential) { c.Name = strings.Repeat("n", 65) }, false},
		{"name with newline", func(c *Credential) { c.Name = "web\n" }, false},
		{"name with bracket", func(c *Credential) { c.Name = "a]" }, false},
		{"name with hyphen first", func(c *Credential) { c.Name = "-a" }, false},
		{"name outside ASCII", func(c *Credential) { c.Name = "w\u00e9b" }, false},
		{"name like an id", func(c *Credential) { c.Name = c.AccessKeyID }, false},
		{"name like a secret", func(c *Credential) { c.Name = c.SigningKey.Reveal() }, false},
		{"empty dataset", func(c *Credential) { c.Datasets = []string{""} }, false},
		{"dataset with blank", func(c *Credential) { c.Datasets = []string{"payments", "a b"} }, false},
	}
	for _, test := range tests {
		c := testCredential()
		test.change(&c)
		err := c.Validate()
		if test.ok && err != nil || !test.ok && !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: Validate() = %v, want ok %v", test.name, err, test.ok)
		}
	}
}

func TestValidateServer(t *testing.T) {
	tests := []struct {
		server string
		ok     bool
	}{
		{"keys.example.com", true},
		{"keys.example.com:8443", true},
		{"http://127.0.0.1:8080", true},
		{"https://keys.example.com", true},
		{"https://[::1]:8080", true},
		{"key_store", true},
		{"https://", false},
		{"https://:8080", false},
		{"https://keys.example.com/", false},
		{"https://keys.example.com/api", false},
		{"https://keys.example.com:", false},
		{"https://keys.example.com:http", false},
		{"https://user:password@keys.example.com", false},
		{"https://keys.example.com?x=1", false},
		{"http://https://keys.example.com", false},
		{"HTTPS://keys.example.com", false},
		{"ftp://keys.example.com", false},
		{"keys.example.com'; rm -rf x; '", false},
		{"keys.example.com\nUBIQ_SERVER=evil.example.com", false},
		{" keys.example.com", false},
		{"k\u00e9ys.example.com", false},
		{strings.Repeat("a", 300), false},
	}
	for _, test := range tests {
		c := testCredential()
		c.Server = test.server
		err := c.Validate()
		if test.ok && err != nil || !test.ok && !fault.Is(err, fault.Invalid) {
			t.Errorf("Validate() with server %q = %v, want ok %v", test.server, err, test.ok)
		}
		if f := fault.From(err); f != nil && test.server != "https://" && strings.Contains(f.Message+f.Hint, test.server) {
			t.Errorf("the error repeats the server %q", test.server)
		}
	}
}

func TestR6_ProofVectors(t *testing.T) {
	type vector struct {
		Comment     string
		SigningKey  string `json:"signing_key"`
		KeyID       string `json:"key_id"`
		AccessKeyID string `json:"access_key_id"`
		Challenge   string
		Proof       string
	}
	var vectors struct {
		Source    string
		Good, Bad []vector
	}
	readVectors(t, "proof.json", &vectors)
	for _, v := range vectors.Good {
		s, challenge, want := NewSecret(v.SigningKey), unhex(t, v.Challenge), unhex(t, v.Proof)
		if got := Proof(s, v.KeyID, v.AccessKeyID, challenge); !bytes.Equal(got, want) {
			t.Errorf("%s: Proof = %x, want %x", v.Comment, got, want)
		}
		if !CheckProof(s, v.KeyID, v.AccessKeyID, challenge, want) {
			t.Errorf("%s: CheckProof = false", v.Comment)
		}
	}
	for _, v := range vectors.Bad {
		if CheckProof(NewSecret(v.SigningKey), v.KeyID, v.AccessKeyID, unhex(t, v.Challenge), unhex(t, v.Proof)) {
			t.Errorf("%s: CheckProof = true", v.Comment)
		}
	}
}

func BenchmarkCheckProof(b *testing.B) {
	c := testCredential()
	challenge := make([]byte, 32)
	proof := Proof(c.SigningKey, "k_0000000000000000", c.AccessKeyID, challenge)
	for b.Loop() {
		if !CheckProof(c.SigningKey, "k_0000000000000000", c.AccessKeyID, challenge, proof) {
			b.Fatal("refused")
		}
	}
}
