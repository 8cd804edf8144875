package dataplane_test

import (
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha512"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"crypto/rsa"

	"keyctl/internal/credential"
	"keyctl/internal/keys"
	"keyctl/internal/keys/keystest"
	"keyctl/internal/signature"
	"keyctl/internal/structured"
)

const (
	encryptPath = "/api/v0/encryption/key"
	decryptPath = "/api/v0/decryption/key"
	trackPath   = "/api/v3/tracking/events"
	recordPath  = "/api/v0/ffs"
	keyPath     = "/api/v0/fpe/key"
	allPath     = "/api/v0/fpe/def_keys"
	oneUse      = `{"uses":1,"payload_cert":""}`
)

// structuredDataset makes a structured dataset from a preset.
func (p *place) structuredDataset(t testing.TB, name, preset string) structured.Format {
	t.Helper()
	known, err := structured.PresetNamed(preset)
	if err != nil {
		t.Fatal(err)
	}
	format, err := structured.New(known.Spec, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := p.CreateDataset(t.Context(), keys.NewDataset{Name: name, Type: keys.Structured, Format: &format}); err != nil {
		t.Fatalf("CreateDataset(%q) = %v", name, err)
	}
	return format
}

// TestWire holds the server to what the client libraries take for granted, one subtest for each point. Each reads the bytes of
// answers, with nothing of the server's own types in between.
func TestWire(t *testing.T) {
	p := serve(t, nil, nil)
	p.dataset(t, "files")
	p.structuredDataset(t, "ssn", "ssn")
	p.structuredDataset(t, "plain", "digits")
	if _, err := p.RotateDataset(t.Context(), "ssn"); err != nil {
		t.Fatal(err)
	}
	app := p.key(t, goLibrary, "web-01", "files", "ssn", "plain")
	as := func(t *testing.T, lib library) application {
		a := app
		a.t, a.lib = t, lib
		return a
	}
	each := func(t *testing.T, check func(*testing.T, application)) {
		for _, lib := range libraries {
			t.Run(lib.name, func(t *testing.T) { check(t, as(t, lib)) })
		}
	}

	t.Run("raw request target", func(t *testing.T) {
		each(t, func(t *testing.T, a application) {
			for _, query := range []string{ // the id as it came, encoded, and never as it is compared
				"?ffs_name=ssn&papi=a+b/c==", "?ffs_name=ssn&papi=a%2Bb%2fc%3d%3D", "?papi=" + a.AccessKeyID + "&ffs_name=ssn", "?ffs_name=%73sn&&papi=",
				"?papi=a+b/c==&ffs_name=ssn&x=~!$'()*,;:@|\"",
			} {
				got := a.get(recordPath + query)
				if strings.Contains(query, ";") { // net/http does not read such a part, and it is signed all the same
					wantStatus(t, query, got, http.StatusOK)
					continue
				}
				wantStatus(t, query, got, http.StatusOK)
			}
			changed := a.request("GET", recordPath+a.query("ssn"), "", func(r *http.Request) { r.URL.RawQuery += "&" })
			wantStatus(t, "a query with one character more than was signed", a.do(changed), http.StatusUnauthorized)
			p.clock.Advance(time.Minute)
		})
	})

	t.Run("header order from headers", func(t *testing.T) {
		each(t, func(t *testing.T, a application) {
			wantStatus(t, "POST", a.post(encryptPath, oneUse), http.StatusCreated)
			wantStatus(t, "GET", a.get(recordPath+a.query("ssn")), http.StatusOK)
			swapped := a.request("POST", encryptPath, oneUse, func(r *http.Request) {
				r.Header.Set("Signature", strings.Replace(r.Header.Get("Signature"), "digest host", "host digest", 1))
				r.Header.Set("Signature", strings.Replace(r.Header.Get("Signature"), "date host", "host date", 1))
			})
			wantStatus(t, "another order than was signed", a.do(swapped), http.StatusUnauthorized)
			p.clock.Advance(time.Minute)
		})
	})

	t.Run("Date optional", func(t *testing.T) {
		for _, lib := range libraries {
			a := as(t, lib)
			r := a.request("GET", recordPath+a.query("ssn"), "", nil)
			if has := r.Header.Get("Date") != ""; has == lib.noDate {
				t.Errorf("%s sends a date: %t", lib.name, has)
			}
			wantStatus(t, lib.name, a.do(r), http.StatusOK)
		}
	})

	t.Run("Host as received", func(t *testing.T) {
		for _, lib := range libraries {
			a := as(t, lib)
			r := a.request("GET", recordPath+a.query("ssn"), "", nil)
			if withPort := r.Host != "127.0.0.1"; withPort == lib.noPort {
				t.Errorf("%s sends the host %q", lib.name, r.Host)
			}
			wantStatus(t, lib.name, a.do(r), http.StatusOK)
			other := a.request("GET", recordPath+a.query("ssn"), "", func(r *http.Request) { r.Host = "keys.example.com" })
			wantStatus(t, lib.name+" to another host than was signed", a.do(other), http.StatusUnauthorized)
			p.clock.Advance(time.Minute)
		}
	})

	t.Run("HTTP 1.1", func(t *testing.T) {
		if got := app.get(recordPath + app.query("ssn")); got.proto != "HTTP/1.1" {
			t.Errorf("it is %s", got.proto)
		}
	})

	t.Run("keyId authoritative", func(t *testing.T) {
		other := p.key(t, goLibrary, "web-02")
		got := app.get(recordPath + "?ffs_name=ssn&papi=" + other.AccessKeyID)
		wantStatus(t, "a query with another's id", got, http.StatusOK)
		other.t = t
		wantStatus(t, "another's request with this id in the query", other.get(recordPath+"?ffs_name=ssn&papi="+app.AccessKeyID), http.StatusUnauthorized)
		event := `{"usage":[{"datasets":"ssn","api_key":"` + other.AccessKeyID + `","count":5,"action":"encrypt","product":"id"}]}`
		wantStatus(t, "an event with another's id", app.post(trackPath, event), http.StatusOK)
		usage, err := p.Usage(t.Context(), keys.UsageQuery{Dataset: "ssn"})
		if err != nil || len(usage) != 1 || usage[0].Key != "web-01" || usage[0].Count != 5 {
			t.Errorf("Usage() = %+v, %v; want 5 of web-01", usage, err)
		}
	})

	t.Run("201 200 204 exact", func(t *testing.T) {
		each(t, func(t *testing.T, a application) {
			made := a.post(encryptPath, `{"uses":3}`)
			wantStatus(t, "encryption/key", made, http.StatusCreated)
			f := fields(t, "encryption/key", made.body)
			opened := a.post(decryptPath, `{"encrypted_data_key":`+string(f["encrypted_data_key"])+`}`)
			wantStatus(t, "decryption/key", opened, http.StatusOK)
			place := "/" + textOf(t, f, "key_fingerprint") + "/" + textOf(t, f, "encryption_session")
			for what, r := range map[string]*http.Request{
				"PATCH of an encryption": a.request("PATCH", encryptPath+place, `{"requested":3,"actual":1}`, nil),
				"PATCH of a decryption":  a.request("PATCH", decryptPath+place, `{"uses":1}`, nil),
			} {
				got := a.do(r)
				wantStatus(t, what, got, http.StatusNoContent)
				if got.body != "" {
					t.Errorf("%s answers %q", what, got.body)
				}
			}
			wantStatus(t, "ffs", a.get(recordPath+a.query("ssn")), http.StatusOK)
			wantStatus(t, "fpe/key", a.get(keyPath+a.query("ssn")), http.StatusOK)
			wantStatus(t, "fpe/def_keys", a.get(allPath+a.query("ssn")), http.StatusOK)
			wantStatus(t, "tracking/events", a.post(trackPath, `{"usage":[]}`), http.StatusOK)
		})
	})

	t.Run("encryption key fields", func(t *testing.T) {
		got := app.post(encryptPath, `{"uses":3}`)
		f := fields(t, "the answer", got.body)
		wantFields(t, f, "encrypted_private_key", "encryption_session", "key_fingerprint", "wrapped_data_key", "encrypted_data_key", "max_uses", "security_model")
		if string(f["max_uses"]) != "3" {
			t.Errorf("max_uses is %s, want 3", f["max_uses"])
		}
		for _, uses := range []string{"0", "-1", "null"} {
			if f := fields(t, "the answer", app.post(encryptPath, `{"uses":`+uses+`}`).body); string(f["max_uses"]) != "1" {
				t.Errorf("max_uses for %s is %s, want 1", uses, f["max_uses"])
			}
		}
		if f := fields(t, "the answer", app.post(encryptPath, `{"uses":99999999999}`).body); string(f["max_uses"]) != "2147483647" {
			t.Errorf("max_uses for very many is %s, want what every language's integers hold", f["max_uses"])
		}
		model := fields(t, "security_model", string(f["security_model"]))
		wantFields(t, model, "algorithm", "enable_data_fragmentation")
		if string(model["enable_data_fragmentation"]) != "false" {
			t.Errorf("enable_data_fragmentation is %s, want false", model["enable_data_fragmentation"])
		}
		opened := fields(t, "decryption/key", app.post(decryptPath, `{"encrypted_data_key":`+string(f["encrypted_data_key"])+`}`).body)
		wantFields(t, opened, "encrypted_private_key", "encryption_session", "key_fingerprint", "wrapped_data_key")
	})

	t.Run("AES-256-GCM in capitals", func(t *testing.T) {
		for algorithm, size := range map[string]int{"AES-256-GCM": 32, "AES-128-GCM": 16} {
			if _, err := p.EditDataset(t.Context(), "files", keys.DatasetEdit{Algorithm: &algorithm}); err != nil {
				t.Fatal(err)
			}
			f := fields(t, "the answer", app.post(encryptPath, oneUse).body)
			if got := string(fields(t, "security_model", string(f["security_model"]))["algorithm"]); got != `"`+algorithm+`"` {
				t.Errorf("algorithm is %s, want %s", got, algorithm)
			}
			if key := app.dataKey(textOf(t, f, "encrypted_private_key"), bytesOf(t, f, "wrapped_data_key")); len(key) != size {
				t.Errorf("a data key of %d bytes for %s", len(key), algorithm)
			}
		}
		back := "AES-256-GCM"
		if _, err := p.EditDataset(t.Context(), "files", keys.DatasetEdit{Algorithm: &back}); err != nil {
			t.Fatal(err)
		}
	})

	t.Run("hex session and fingerprint", func(t *testing.T) {
		f := fields(t, "the answer", app.post(encryptPath, oneUse).body)
		opened := fields(t, "the answer", app.post(decryptPath, `{"encrypted_data_key":`+string(f["encrypted_data_key"])+`}`).body)
		for _, f := range []map[string]json.RawMessage{f, opened} {
			for _, name := range []string{"encryption_session", "key_fingerprint"} {
				if text := textOf(t, f, name); !regexp.MustCompile(`^[0-9a-f]{32,}$`).MatchString(text) {
					t.Errorf("%s is %q, want hex", name, text)
				}
			}
		}
	})

	t.Run("encrypted data key of at most 512 bytes", func(t *testing.T) {
		f := fields(t, "the answer", app.post(encryptPath, oneUse).body)
		if n := len(bytesOf(t, f, "encrypted_data_key")); n > 512 {
			t.Errorf("it has %d bytes", n)
		}
	})

	t.Run("ids and names safe in URLs", func(t *testing.T) {
		if !regexp.MustCompile(`^KC[0-9A-Za-z]{22}$`).MatchString(app.AccessKeyID) {
			t.Errorf("the id %q is not 24 letters and digits", app.AccessKeyID)
		}
		for _, name := range []string{"a,b", "a b", "a/b", "a+b", "a&b", "a%b", "ä"} {
			if _, _, err := p.CreateDataset(t.Context(), keys.NewDataset{Name: name, Type: keys.Unstructured}); err == nil {
				t.Errorf("a dataset may be named %q", name)
			}
		}
	})

	t.Run("PEM ends at END line", func(t *testing.T) {
		for _, text := range app.privateKeys(t) {
			if !strings.HasPrefix(text, "-----BEGIN ENCRYPTED PRIVATE KEY-----\n") ||
				!strings.HasSuffix(strings.TrimSuffix(text, "\n"), "\n-----END ENCRYPTED PRIVATE KEY-----") || strings.HasSuffix(text, "\n\n") {
				t.Errorf("the PEM is %q", text)
			}
			if text != app.privateKeys(t)[0] {
				t.Error("the answers do not have the same private key, and some libraries keep the first one")
			}
		}
	})

	t.Run("PBES2 with PBKDF2 HMAC-SHA256 and AES-256-CBC", func(t *testing.T) {
		checkPBES2(t, app.privateKeys(t)[0])
	})

	t.Run("OAEP SHA-1", func(t *testing.T) {
		private, err := credential.OpenPrivateKey([]byte(app.privateKeys(t)[0]), app.CryptoAccessKey)
		if err != nil {
			t.Fatal(err)
		}
		if private.E != 65537 || private.N.BitLen() != 2048 {
			t.Errorf("the RSA key has %d bits and the exponent %d", private.N.BitLen(), private.E)
		}
		for what, body := range map[string]string{"encryption": app.post(encryptPath, oneUse).body, "structured": app.get(keyPath + app.query("ssn")).body} {
			key, err := rsa.DecryptOAEP(sha1.New(), nil, private, bytesOf(t, fields(t, what, body), "wrapped_data_key"), nil)
			if err != nil || len(key) != 32 {
				t.Errorf("%s: a data key of %d bytes, %v", what, len(key), err)
			}
		}
	})

	t.Run("key_number string and current_key_number number", func(t *testing.T) {
		for more, want := range map[string]string{"": `"1"`, "0": `"0"`, "1": `"1"`} {
			query := app.query("ssn")
			if more != "" {
				query = app.query("ssn", "key_number="+more)
			}
			f := fields(t, "fpe/key", app.get(keyPath+query).body)
			wantFields(t, f, "encrypted_private_key", "key_number", "wrapped_data_key")
			if string(f["key_number"]) != want {
				t.Errorf("key_number is %s, want %s", f["key_number"], want)
			}
		}
		for _, wrong := range []string{"2", "-1", "x", "1.0", "99999999999999999999", "%00"} {
			wantStatus(t, "key number "+wrong, app.get(keyPath+app.query("ssn", "key_number="+wrong)), http.StatusBadRequest)
		}
		f := fields(t, "fpe/def_keys", app.get(allPath+app.query("ssn")).body)
		wantFields(t, f, "ssn")
		set := fields(t, "its dataset", string(f["ssn"]))
		wantFields(t, set, "ffs", "encrypted_private_key", "current_key_number", "keys")
		if string(set["current_key_number"]) != "1" {
			t.Errorf("current_key_number is %s, want 1", set["current_key_number"])
		}
		var wrapped [][]byte
		if err := json.Unmarshal(set["keys"], &wrapped); err != nil || len(wrapped) != 2 {
			t.Errorf("keys are %s, want two", set["keys"])
		}
	})

	t.Run("def_keys names", func(t *testing.T) {
		for query, want := range map[string][]string{
			"?papi=x": {"plain", "ssn"}, "?ffs_name=&papi=x": {"plain", "ssn"}, "?ffs_name=ssn": {"ssn"}, "?papi=x&ffs_name=ssn,plain": {"plain", "ssn"},
			"?ffs_name=ssn%2Cplain": {"plain", "ssn"}, "?ffs_name=ssn,nope,files": {"ssn"},
		} {
			got := app.get(allPath + query)
			wantStatus(t, query, got, http.StatusOK)
			wantFields(t, fields(t, query, got.body), want...)
		}
		for _, query := range []string{"?ffs_name=nope", "?ffs_name=files", "?ffs_name=,"} {
			wantStatus(t, query+", of which there is nothing", app.get(allPath+query), http.StatusUnauthorized)
		}
	})

	t.Run("passthrough text and rules list", func(t *testing.T) {
		record := fields(t, "the dataset", app.get(recordPath+app.query("plain")).body)
		for name, want := range map[string]string{
			"passthrough": `""`, "passthrough_rules": `[]`, "input_encoding": "null", "input_pad_character": "null", "data_type_config": "null",
			"name": `"plain"`, "data_type": `"formatted_string"`, "fpe_definable_type": `"EfpeDefinition"`, "encryption_algorithm": `"FF1"`,
			"input_character_set": `"0123456789"`, "tweak_source": `"constant"`, "min_input_length": "6", "max_input_length": "255",
		} {
			if string(record[name]) != want {
				t.Errorf("%s is %s, want %s", name, record[name], want)
			}
		}
		if n := len(bytesOf(t, record, "tweak")); n != 32 {
			t.Errorf("the tweak has %d bytes", n)
		}
		bytesOf(t, record, "salt")
		record = fields(t, "the dataset", app.get(recordPath+app.query("ssn")).body)
		if string(record["passthrough"]) != `"-"` || string(record["passthrough_rules"]) != `[{"type":"passthrough","value":"-","priority":1}]` {
			t.Errorf("passthrough is %s with the rules %s", record["passthrough"], record["passthrough_rules"])
		}
		inKeys := fields(t, "ssn", string(fields(t, "def_keys", app.get(allPath+app.query("ssn")).body)["ssn"]))
		keystest.Diff(t, "the dataset in def_keys", fields(t, "ffs", string(inKeys["ffs"])), record)
	})

	t.Run("permissions object", func(t *testing.T) {
		for grant, want := range map[keys.Grant]string{
			{Encrypt: true}: `{"encrypt":true,"decrypt":false}`, {Decrypt: true}: `{"encrypt":false,"decrypt":true}`, keys.FullGrant: `{"encrypt":true,"decrypt":true}`,
		} {
			if _, err := p.AttachKeys(t.Context(), "plain", []string{"web-01"}, grant); err != nil {
				t.Fatal(err)
			}
			if got := fields(t, "the dataset", app.get(recordPath+app.query("plain")).body)["permissions"]; string(got) != want {
				t.Errorf("permissions are %s, want %s", got, want)
			}
			for query, allowed := range map[string]bool{app.query("plain"): grant.Encrypt, app.query("plain", number(0)): true} {
				want := http.StatusOK
				if !allowed {
					want = http.StatusForbidden
				}
				wantStatus(t, query, app.get(keyPath+query), want)
			}
		}
		if _, err := p.AttachKeys(t.Context(), "ssn", []string{"web-01"}, keys.Grant{Encrypt: true}); err != nil {
			t.Fatal(err)
		}
		wantStatus(t, "an old data key, for somebody who may encrypt only", app.get(keyPath+app.query("ssn", number(0))), http.StatusForbidden)
		if _, err := p.AttachKeys(t.Context(), "ssn", []string{"web-01"}, keys.FullGrant); err != nil {
			t.Fatal(err)
		}
	})

	t.Run("payload_cert passed over", func(t *testing.T) {
		for _, body := range []string{`{"uses":1,"payload_cert":""}`, `{"uses":1,"payload_cert":null}`, `{"uses":1,"something":[{}]}`, `{"uses":1}`, "{\n\t\"uses\":\t1\n}\n", `{}`} {
			wantStatus(t, body, app.post(encryptPath, body), http.StatusCreated)
		}
		wantStatus(t, "in a query", app.get(keyPath+app.query("ssn", "payload_cert=")), http.StatusOK)
	})

	t.Run("tracking 200 and JSON", func(t *testing.T) { testTracking(t, as) })
	t.Run("JSON errors without percent sign", func(t *testing.T) { testErrors(t, app) })
	t.Run("all 401 alike", func(t *testing.T) { testAlike(t, app) })
}

// wantFields checks that an object has exactly these fields.
func wantFields(t testing.TB, f map[string]json.RawMessage, names ...string) {
	t.Helper()
	slices.Sort(names)
	if got := slices.Sorted(maps.Keys(f)); !slices.Equal(got, names) {
		t.Errorf("the fields are %q, want %q", got, names)
	}
}

// privateKeys are the private keys in all answers that have one.
func (a application) privateKeys(t *testing.T) []string {
	t.Helper()
	a.t = t
	made := fields(t, "encryption/key", a.post(encryptPath, oneUse).body)
	opened := fields(t, "decryption/key", a.post(decryptPath, `{"encrypted_data_key":`+string(made["encrypted_data_key"])+`}`).body)
	one := fields(t, "fpe/key", a.get(keyPath+a.query("ssn")).body)
	all := fields(t, "ssn", string(fields(t, "fpe/def_keys", a.get(allPath+a.query("ssn")).body)["ssn"]))
	var found []string
	for _, f := range []map[string]json.RawMessage{made, opened, one, all} {
		found = append(found, textOf(t, f, "encrypted_private_key"))
	}
	return found
}

// checkPBES2 reads how a private key is encrypted, with nothing but ASN.1 (RFC 8018 appendix A).
func checkPBES2(t *testing.T, text string) {
	t.Helper()
	block, rest := pem.Decode([]byte(text))
	if block == nil || len(rest) > 0 {
		t.Fatalf("no PEM, or %q behind it", rest)
	}
	type algorithm struct {
		ID         asn1.ObjectIdentifier
		Parameters asn1.RawValue `asn1:"optional"`
	}
	var outer struct {
		Algorithm algorithm
		Data      []byte
	}
	var scheme struct{ Derivation, Encryption algorithm }
	var derivation struct {
		Salt       []byte
		Iterations int
		Length     int       `asn1:"optional"`
		PRF        algorithm `asn1:"optional"`
	}
	for what, err := range map[string]error{
		"the key": second(asn1.Unmarshal(block.Bytes, &outer)), "its scheme": second(asn1.Unmarshal(outer.Algorithm.Parameters.FullBytes, &scheme)),
		"its derivation": second(asn1.Unmarshal(scheme.Derivation.Parameters.FullBytes, &derivation)),
	} {
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	for what, pair := range map[string][2]string{
		"PBES2":       {outer.Algorithm.ID.String(), "1.2.840.113549.1.5.13"},
		"PBKDF2":      {scheme.Derivation.ID.String(), "1.2.840.113549.1.5.12"},
		"HMAC-SHA256": {derivation.PRF.ID.String(), "1.2.840.113549.2.9"},
		"AES-256-CBC": {scheme.Encryption.ID.String(), "2.16.840.1.101.3.4.1.42"},
	} {
		if pair[0] != pair[1] {
			t.Errorf("it is %s, want %s, %s", pair[0], what, pair[1])
		}
	}
	if len(derivation.Salt) != 16 || derivation.Iterations < 2048 || derivation.Iterations > 10_000 {
		t.Errorf("a salt of %d bytes and %d iterations", len(derivation.Salt), derivation.Iterations)
	}
}

func second[T any](_ T, err error) error { return err }

// testTracking sends what each library sends of its use, in its types.
func testTracking(t *testing.T, as func(*testing.T, library) application) {
	const (
		rest = `"dataset_groups":"","dataset_type":"structured","api_key":"","product_version":"1","api_version":"V3"`
		when = `"first_call_timestamp":"2026-03-01T07:00:00Z","last_call_timestamp":"2026-03-01T07:30:00Z"`
	)
	first, last := time.Date(2026, 3, 1, 7, 0, 0, 0, time.UTC), time.Date(2026, 3, 1, 7, 30, 0, 0, time.UTC)
	events := map[string]string{
		"c":      `{"datasets":"ssn","count":"4","key_number":"1","action":"encrypt","user-agent":"u","product":"c",` + when + `,` + rest + `}`,
		"go":     `{"datasets":"ssn","count":4,"key_number":"1","action":"encrypt","user-agent":"u","product":"go","user_defined":"{\"a\":1}",` + when + `,` + rest + `}`,
		"python": `{"datasets":"ssn","count":4,"key_number":1,"action":"encrypt","user-agent":"u","product":"python","user_defined":{},"first_call_timestamp":"2026-03-01T07:00:00.000000+00:00","last_call_timestamp":"2026-03-01T07:30:00+00:00",` + rest + `}`,
		"node":   `{"datasets":"ssn","count":4,"key_number":1,"action":"encrypt","user-agent":"u","product":"node","user_defined":{"a":{"b":[1]}},"first_call_timestamp":"2026-03-01T07:00:00.000Z","last_call_timestamp":"2026-03-01T07:30:00.000Z",` + rest + `}`,
		"java":   `{"datasets":"ssn","count":4,"key_number":1,"action":"encrypt","user-agent":"u","product":"java","first_call_timestamp":"2026-03-01T07:00:00Z","last_call_timestamp":"2026-03-01T07:30:00.000Z",` + rest + `}`,
		".NET":   `{"datasets":"ssn","count":4,"key_number":1,"action":"encrypt","user_agent":"u","product":".NET","user_defined":"text","first_call_timestamp":"2026-03-01T07:00:00.0000000Z","last_call_timestamp":"2026-03-01T07:30:00.0000000+00:00",` + rest + `}`,
		"php":    `{"datasets":"ssn","count":4,"key_number":null,"action":"encrypt","product":"php","user_defined":{"a":1},"first_call_timestamp":"2026-03-01T08:00:00+01:00","last_call_timestamp":"2026-03-01T07:30:00.000000+00:00",` + rest + `}`,
	}
	for _, lib := range libraries {
		event, told := events[lib.name]
		if !told {
			continue // ruby tells nothing
		}
		t.Run(lib.name, func(t *testing.T) {
			a := as(t, lib)
			got := a.post(trackPath, `{"usage":[`+event+`]}`)
			wantStatus(t, "tracking", got, http.StatusOK)
			if got.body != `{"status":200,"message":""}` || got.header.Get("Content-Type") != "application/json" {
				t.Errorf("it answers %q as %s", got.body, got.header.Get("Content-Type"))
			}
			usage, err := a.Usage(t.Context(), keys.UsageQuery{Dataset: "ssn"})
			if err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(usage, func(u keys.UsageView) bool { return u.Product == lib.name })
			if i < 0 {
				t.Fatalf("there is no usage of %s in %+v", lib.name, usage)
			}
			u := usage[i]
			if u.Count != 4 || u.Key != "web-01" || u.Action != keys.ActionEncrypt || u.Version != "1" || !u.FirstAt.Equal(first) || !u.LastAt.Equal(last) {
				t.Errorf("the usage is %+v", u)
			}
		})
	}
	// Of unstructured data libraries do not name the dataset.
	a := as(t, goLibrary)
	unnamed := `{"datasets":"","count":7,"action":"decrypt","dataset_type":"unstructured","product":"go",` + when + `}`
	wantStatus(t, "unstructured", a.post(trackPath, `{"usage":[`+unnamed+`,5,null,"",{},[{}],{"datasets":"nope","count":1,"action":"encrypt"}],"more":{}}`), http.StatusOK)
	usage, err := a.Usage(t.Context(), keys.UsageQuery{Dataset: "files"})
	if err != nil || len(usage) != 1 || usage[0].Count != 7 || usage[0].Action != keys.ActionDecrypt {
		t.Errorf("the usage of the unstructured dataset is %+v, %v; want 7", usage, err)
	}
	for _, body := range []string{`{"usage":null}`, `{"usage":{}}`, `{"usage":"x"}`, `{}`, "{\n\t\"usage\":\t[]\n}"} {
		wantStatus(t, body, a.post(trackPath, body), http.StatusOK)
	}
}

// testErrors looks at the form of every kind of error.
func testErrors(t *testing.T, app application) {
	app.t = t
	foreign := make([]byte, 112)
	sent := func(change func(*http.Request)) received {
		return app.do(app.request("POST", encryptPath, oneUse, change))
	}
	signatureHeader := func(value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("Signature", value) }
	}
	for what, c := range map[string]struct {
		got  received
		want int
	}{
		"an id of one character":     {sent(signatureHeader(`keyId="1", algorithm="hmac-sha512", created=1, headers="host", signature="A"`)), 400},
		"no such header":             {sent(signatureHeader("100% broken")), 400},
		"no signature":               {sent(func(r *http.Request) { r.Header.Del("Signature") }), 401},
		"an unknown dataset":         {app.get(recordPath + app.query("100%25")), 401},
		"an unstructured dataset":    {app.get(recordPath + app.query("files")), 401},
		"no dataset":                 {app.get(recordPath + "?papi=" + app.AccessKeyID), 401},
		"a key number too high":      {app.get(keyPath + app.query("ssn", number(99))), 400},
		"no JSON":                    {app.post(encryptPath, `{"uses":`), 400},
		"text for a number":          {app.post(encryptPath, `{"uses":"%s%n"}`), 400},
		"no body":                    {app.post(encryptPath, ``), 400},
		"no base64":                  {app.post(decryptPath, `{"encrypted_data_key":"%%%"}`), 400},
		"no data key":                {app.post(decryptPath, `{"encrypted_data_key":""}`), 400},
		"somebody's data key":        {app.post(decryptPath, `{"encrypted_data_key":"`+base64.StdEncoding.EncodeToString(foreign)+`"}`), 400},
		"a session that is no hex":   {app.do(app.request("PATCH", encryptPath+"/xyz/%25s", `{}`, nil)), 400},
		"an unknown route":           {app.get("/api/v0/100%25"), 404},
		"a path that is read twice":  {app.get("/api/v0//ffs"), 404},
		"another method":             {app.do(app.request("DELETE", encryptPath, "", nil)), 405},
		"another method of tracking": {app.get(trackPath), 405},
		"a body that is too large":   {app.post(encryptPath, `{"uses":1,"x":"`+strings.Repeat("%", 64<<10)+`"}`), 413},
		"a large body without a length": {app.do(app.request("POST", encryptPath, strings.Repeat(" ", 70<<10)+oneUse,
			func(r *http.Request) { r.ContentLength = -1 })), 413},
	} {
		wantStatus(t, what, c.got, c.want)
		checkError(t, what, c.got)
	}
}

// checkError checks that an answer is an error as libraries read one.
func checkError(t testing.TB, what string, got received) {
	t.Helper()
	var body struct {
		Status  *int
		Message *string
	}
	d := json.NewDecoder(strings.NewReader(got.body))
	d.DisallowUnknownFields()
	if err := d.Decode(&body); err != nil || d.More() || body.Status == nil || *body.Status != got.status || body.Message == nil || *body.Message == "" {
		t.Errorf("%s: the body of %d is %q (%v)", what, got.status, got.body, err)
	}
	if kind := got.header.Get("Content-Type"); kind != "application/json" {
		t.Errorf("%s: the content type is %q", what, kind)
	}
	if strings.ContainsFunc(got.body, func(c rune) bool { return c < ' ' || c > '~' || c == '%' }) {
		t.Errorf("%s: the body %q is not one line of ASCII without a percent sign", what, got.body)
	}
}

// testAlike sends what is not proven, for every reason there is, and compares the answers byte for byte.
func testAlike(t *testing.T, app application) {
	app.t = t
	deleted := app.place.key(t, goLibrary, "web-03", "files")
	if _, err := app.DeleteKey(t.Context(), "web-03"); err != nil {
		t.Fatal(err)
	}
	unknown, wrong := app, app.withWrongSecret()
	unknown.Drawn = keystest.Draw(t)
	encrypt := func(a application, change func(*http.Request)) received {
		return a.do(a.request("POST", encryptPath, oneUse, change))
	}
	at := func(d time.Duration) func(*http.Request) {
		return func(r *http.Request) {
			signature.Sign(r, sha512.Sum512([]byte(oneUse)), app.AccessKeyID, app.SigningKey, goLibrary.order, app.clock.Now().Add(d))
		}
	}
	alike := map[string]received{
		"an unknown id":     encrypt(unknown, nil),
		"another signature": encrypt(wrong, nil),
		"a deleted key":     encrypt(deleted, nil),
		"another body": encrypt(app, func(r *http.Request) {
			r.Body = io.NopCloser(strings.NewReader(strings.Replace(oneUse, "1", "2", 1)))
		}),
		"another digest": encrypt(app, func(r *http.Request) { r.Header.Set("Digest", "SHA-512=AAAA") }),
		"no signature":   encrypt(app, func(r *http.Request) { r.Header.Del("Signature") }),
		"too early":      encrypt(app, at(-signature.Skew-time.Second)),
		"too late":       encrypt(app, at(signature.Skew+time.Second)),
		"another host":   encrypt(app, func(r *http.Request) { r.Host = "keys.example.com" }),
		"an unknown id, for a dataset that is there": func() received {
			return unknown.get(recordPath + app.query("ssn"))
		}(),
		"another signature, for a dataset that is not": wrong.get(recordPath + app.query("nope")),
		"an unknown id's tracking":                     unknown.post(trackPath, `{"usage":[]}`),
	}
	for what, got := range alike {
		wantAlike(t, what, got, "unauthenticated", `{"status":401,"message":"the credential is not valid"}`)
	}
	for what, d := range map[string]time.Duration{"as early as may be": -signature.Skew, "as late as may be": signature.Skew} {
		wantStatus(t, what, encrypt(app, at(d)), http.StatusCreated)
	}
	// What is not there and what the key is not attached to.
	app.structuredDataset(t, "others", "digits")
	other := app.place.key(t, goLibrary, "web-04", "others")
	refused := `{"status":401,"message":"no such dataset, or the key is not attached to it"}`
	for what, got := range map[string]received{
		"a dataset that is not there":   app.get(recordPath + app.query("nope")),
		"another's dataset":             app.get(recordPath + app.query("others")),
		"the key of another's dataset":  app.get(keyPath + app.query("others")),
		"the keys of another's dataset": app.get(allPath + app.query("others")),
		"no structured dataset at all":  app.place.key(t, goLibrary, "web-05", "files").get(allPath),
		"another's data key": other.post(decryptPath,
			`{"encrypted_data_key":`+string(fields(t, "encryption/key", app.post(encryptPath, oneUse).body)["encrypted_data_key"])+`}`),
	} {
		wantAlike(t, what, got, "not_found", refused)
	}
}

// wantAlike checks a 401 in all its bytes, but for the request's id and the time.
func wantAlike(t testing.TB, what string, got received, code, body string) {
	t.Helper()
	header := got.header.Clone()
	header.Del("Request-Id")
	header.Del("Date")
	want := http.Header{
		"Content-Type": {"application/json"}, "Keyctl-Code": {code}, "Cache-Control": {"no-store"}, "X-Content-Type-Options": {"nosniff"},
		"Content-Length": {header.Get("Content-Length")},
	}
	if got.status != http.StatusUnauthorized || got.body != body {
		t.Errorf("%s: %d %s, want 401 %s", what, got.status, got.body, body)
	}
	keystest.Diff(t, what, header, want)
}
