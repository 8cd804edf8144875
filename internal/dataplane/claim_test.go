package dataplane_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"keyctl/internal/ciphertext"
	"keyctl/internal/iprange"
	"keyctl/internal/keys"
	"keyctl/internal/structured"
	"keyctl/internal/structured/structuredtest"
)

// encrypt encrypts as a client library does: with a new data key, into what is kept.
func (a application) encrypt(plain string) []byte {
	a.t.Helper()
	got := a.post(encryptPath, oneUse)
	if got.status != http.StatusCreated {
		a.t.Fatalf("encryption/key: %d %s", got.status, got.body)
	}
	f := fields(a.t, "encryption/key", got.body)
	algorithm, err := ciphertext.ParseAlgorithm(textOf(a.t, fields(a.t, "security_model", string(f["security_model"])), "algorithm"))
	if err != nil {
		a.t.Fatal(err)
	}
	key := a.dataKey(textOf(a.t, f, "encrypted_private_key"), bytesOf(a.t, f, "wrapped_data_key"))
	sealed, err := ciphertext.Seal(algorithm, key, bytesOf(a.t, f, "encrypted_data_key"), []byte(plain))
	if err != nil {
		a.t.Fatal(err)
	}
	return sealed
}

// decrypt decrypts it again, or returns why the server did not let it.
func (a application) decrypt(sealed []byte) (plain string, got received) {
	a.t.Helper()
	sealed = bytes.Clone(sealed) // it is opened in its place
	c, err := ciphertext.Parse(sealed)
	if err != nil {
		a.t.Fatal(err)
	}
	got = a.post(decryptPath, `{"encrypted_data_key":"`+base64.StdEncoding.EncodeToString(c.EncryptedDataKey)+`"}`)
	if got.status != http.StatusOK {
		return "", got
	}
	f := fields(a.t, "decryption/key", got.body)
	opened, err := c.Open(a.dataKey(textOf(a.t, f, "encrypted_private_key"), bytesOf(a.t, f, "wrapped_data_key")))
	if err != nil {
		a.t.Fatal(err)
	}
	return string(opened), got
}

func (a application) wantOpens(what string, sealed []byte, plain string) {
	a.t.Helper()
	if opened, got := a.decrypt(sealed); opened != plain {
		a.t.Errorf("%s: %q, want %q; %d %s", what, opened, plain, got.status, got.body)
	}
}

// wantRefused checks that the application gets nothing at all.
func (a application) wantRefused(what string, sealed []byte, status int, message string) {
	a.t.Helper()
	opened, _ := a.decrypt(sealed)
	if opened != "" {
		a.t.Errorf("%s: it was decrypted", what)
	}
	_, decrypted := a.decrypt(sealed)
	for route, got := range map[string]received{
		"decryption/key": decrypted, "encryption/key": a.post(encryptPath, oneUse), "tracking": a.post(trackPath, `{"usage":[]}`),
		"PATCH": a.do(a.request("PATCH", encryptPath+"/ab/cd", `{"requested":1,"actual":1}`, nil)), "ffs": a.get(recordPath + a.query("ssn")),
		"fpe/key": a.get(keyPath + a.query("ssn")), "fpe/def_keys": a.get(allPath),
	} {
		if got.status != status || !strings.Contains(got.body, message) {
			a.t.Errorf("%s: %s answers %d %s, want %d with %q", what, route, got.status, got.body, status, message)
		}
		checkError(a.t, what, got)
	}
}

// What keyctl is for, over HTTP and in the libraries' own format: whatever happens to credentials and keys, what was encrypted
// opens for whoever may decrypt it, and from the next request on for nobody else.
func TestDataOutlivesCredentials(t *testing.T) {
	p := serve(t, nil, nil)
	p.dataset(t, "files")
	p.structuredDataset(t, "ssn", "ssn")
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx := t.Context()
	const plain = "the quick brown fox"
	web := p.key(t, goLibrary, "web-01", "files", "ssn")
	other := p.key(t, libraries[4], "web-02", "files", "ssn") // java
	old := web.encrypt(plain)
	if bytes.Contains(old, []byte(web.AccessKeyID)) {
		t.Error("the ciphertext has the access key id in it")
	}
	web.wantOpens("the same credential", old, plain)
	other.wantOpens("another key of the dataset", old, plain)

	rolled := p.roll(t, web, "web-01", time.Hour)
	rolled.wantOpens("the new credential", old, plain)
	web.wantOpens("the old one in grace", old, plain)

	must(p.RotatePrimaryKey(ctx, "files"))
	must(p.RotateDataset(ctx, "ssn"))
	rolled.wantOpens("after a rotation of the Primary Key", old, plain)
	newer := rolled.encrypt(plain + "!")
	other.wantOpens("what came after it, with another key", newer, plain+"!")
	must(p.DisablePrimaryKey(ctx, "files", 1, p.phone.Next()))
	if _, got := rolled.decrypt(old); got.status != http.StatusForbidden {
		t.Errorf("under a disabled version: %d %s, want 403", got.status, got.body)
	}
	rolled.wantOpens("under the version that is enabled", newer, plain+"!")
	must(p.EnablePrimaryKey(ctx, "files", 1))

	p.clock.Advance(time.Hour)
	web.wantRefused("the old credential after its grace", old, http.StatusForbidden, "retired")
	rolled.wantOpens("the new one", old, plain)
	p.clock.Advance(30 * 24 * time.Hour)
	web.wantRefused("30 days later, when nobody knows it any more", old, http.StatusUnauthorized, "not valid")
	p.clock.Advance(time.Minute)

	must(p.DisableKey(ctx, "web-01", false))
	rolled.wantRefused("disabled", old, http.StatusForbidden, "disabled")
	must(p.EnableKey(ctx, "web-01"))
	rolled.wantOpens("enabled", old, plain)

	elsewhere, err := iprange.ParseList([]string{"192.0.2.0/24"})
	if err != nil {
		t.Fatal(err)
	}
	must(p.EditKey(ctx, "web-01", keys.KeyEdit{IPRanges: &elsewhere}))
	rolled.wantRefused("another address", old, http.StatusForbidden, "address")
	must(p.EditKey(ctx, "web-01", keys.KeyEdit{AnyAddress: true}))
	rolled.wantOpens("any address", old, plain)

	must(p.DetachKeys(ctx, "files", []string{"web-01"}))
	if _, got := rolled.decrypt(old); got.status != http.StatusUnauthorized {
		t.Errorf("detached: %d %s, want 401", got.status, got.body)
	}
	wantStatus(t, "encrypting without a dataset", rolled.post(encryptPath, oneUse), http.StatusForbidden)
	must(p.AttachKeys(ctx, "files", []string{"web-01"}, keys.Grant{Encrypt: true}))
	if _, got := rolled.decrypt(old); got.status != http.StatusForbidden {
		t.Errorf("attached to encrypt: %d %s, want 403", got.status, got.body)
	}
	rolled.encrypt(plain)
	must(p.AttachKeys(ctx, "files", []string{"web-01"}, keys.Grant{Decrypt: true}))
	wantStatus(t, "encrypting with a grant to decrypt", rolled.post(encryptPath, oneUse), http.StatusForbidden)
	rolled.wantOpens("attached to decrypt", old, plain)

	end := p.clock.Now().Add(time.Minute)
	must(p.EditKey(ctx, "web-01", keys.KeyEdit{ExpiresAt: &end}))
	p.clock.Set(end.Add(-time.Microsecond))
	rolled.wantOpens("just before its end", old, plain)
	p.clock.Set(end)
	rolled.wantRefused("at its end", old, http.StatusForbidden, "expired")
	must(p.DeleteKey(ctx, "web-01"))
	rolled.wantRefused("deleted", old, http.StatusUnauthorized, "not valid")

	third := p.key(t, libraries[2], "web-03", "files") // node
	third.wantOpens("a key that came later", old, plain)
	p.clock.Advance(time.Minute)
	must(p.DisableKey(ctx, "web-03", true))
	third.wantRefused("compromised", old, http.StatusForbidden, "compromised")
}

// samples are values of each preset, in every data type.
var samples = map[string]any{
	"ssn": "123-45-6789", "credit-card": "4111 1111 1111 1234", "phone": "+49 (30) 1234-567", "digits": "000000", "letters": "Smith", "alphanum": "aB3dE6",
	"alphanum-upper": "X7K2PQ", "generic-string": "größer, 世界", "token": "4111111111111111", "integer32": int64(-12345678), "integer64": int64(1234567890123456),
	"date": time.Date(1969, 7, 20, 0, 0, 0, 0, time.UTC), "datetime": time.Date(1969, 7, 20, 20, 17, 40, 0, time.UTC),
}

// libraryKeys are the data keys of a dataset as def_keys gives them.
func (a application) libraryKeys(dataset string) (d *structuredtest.Dataset, current int, opened [][]byte) {
	a.t.Helper()
	got := a.get(allPath + a.query(dataset))
	if got.status != http.StatusOK {
		a.t.Fatalf("def_keys: %d %s", got.status, got.body)
	}
	f := fields(a.t, dataset, string(fields(a.t, "def_keys", got.body)[dataset]))
	d, err := structuredtest.Read(f["ffs"])
	if err != nil {
		a.t.Fatal(err)
	}
	var wrapped [][]byte
	if err := json.Unmarshal(f["keys"], &wrapped); err != nil {
		a.t.Fatal(err)
	}
	if err := json.Unmarshal(f["current_key_number"], &current); err != nil {
		a.t.Fatal(err)
	}
	for _, w := range wrapped {
		opened = append(opened, a.dataKey(textOf(a.t, f, "encrypted_private_key"), w))
	}
	return d, current, opened
}

// libraryKey is one data key as fpe/key gives it; number -1 asks for the one that encrypts.
func (a application) libraryKey(dataset string, n int) (key []byte, err error) {
	query := a.query(dataset)
	if n >= 0 {
		query = a.query(dataset, number(n))
	}
	got := a.get(keyPath + query)
	if got.status != http.StatusOK {
		return nil, fmt.Errorf("%d %s", got.status, got.body)
	}
	f := fields(a.t, "fpe/key", got.body)
	return a.dataKey(textOf(a.t, f, "encrypted_private_key"), bytesOf(a.t, f, "wrapped_data_key")), nil
}

// crypt encrypts a value under a key number, or decrypts what came of it.
func crypt(d *structuredtest.Dataset, value any, n int, key []byte) (encrypted any, err error) {
	switch v := value.(type) {
	case string:
		return d.Encrypt(v, n, key, nil)
	case int64:
		return d.EncryptInt(v, n, key, nil)
	case time.Time:
		return d.EncryptTime(v, n, key, nil)
	}
	return nil, fmt.Errorf("%T", value)
}

func decrypted(d *structuredtest.Dataset, value any, find func(int) ([]byte, error)) (any, error) {
	switch v := value.(type) {
	case string:
		return d.Decrypt(v, find, nil)
	case int64:
		return d.DecryptInt(v, find, nil)
	case time.Time:
		return d.DecryptTime(v, find, nil)
	}
	return nil, fmt.Errorf("%T", value)
}

// Every preset, under several data keys: what one key of the dataset encrypted, another decrypts, before and after a rotation
// and a roll, asking the server as client libraries do.
func TestStructuredDataOutlivesDataKeys(t *testing.T) {
	p := serve(t, nil, nil)
	for i, preset := range structured.Presets() {
		t.Run(preset.Name, func(t *testing.T) {
			value, ok := samples[preset.Name]
			if !ok {
				t.Fatal("there is no sample of this preset")
			}
			name := preset.Name
			format := p.structuredDataset(t, name, name)
			writer := p.key(t, libraries[i%len(libraries)], "writer-"+name, name)
			reader := p.key(t, libraries[(i+4)%len(libraries)], "reader-"+name, name)
			rotations := min(3, format.HighestKeyNumber())
			var kept []any
			for n := 0; ; n++ {
				d, current, opened := writer.libraryKeys(name)
				if current != n || len(opened) != n+1 {
					t.Fatalf("def_keys has %d keys, the current one being %d, want %d", len(opened), current, n)
				}
				key, err := writer.libraryKey(name, -1)
				if err != nil || !bytes.Equal(key, opened[n]) {
					t.Fatalf("fpe/key and def_keys give different keys (%v)", err)
				}
				encrypted, err := crypt(d, value, n, key)
				if err != nil {
					t.Fatal(err)
				}
				if encrypted == value || slices.Contains(kept, encrypted) {
					t.Errorf("%v under key %d is %v", value, n, encrypted)
				}
				kept = append(kept, encrypted)
				if n == rotations {
					break
				}
				if _, err := p.RotateDataset(t.Context(), name); err != nil {
					t.Fatal(err)
				}
				if n == 0 {
					if _, err := p.RotatePrimaryKey(t.Context(), name); err != nil {
						t.Fatal(err)
					}
				}
			}
			reader = p.roll(t, reader, "reader-"+name, 0)
			d, _, _ := reader.libraryKeys(name)
			for n, encrypted := range kept {
				got, err := decrypted(d, encrypted, func(asked int) ([]byte, error) {
					if asked != n {
						t.Errorf("what key %d encrypted says that it was key %d", n, asked)
					}
					return reader.libraryKey(name, asked)
				})
				if err != nil || got != value {
					t.Errorf("under key %d: %v, %v; want %v", n, got, err, value)
				}
			}
		})
	}
}
