package httpapi_test

import (
	"bytes"
	"encoding/base32"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"keyctl/internal/access"
	"keyctl/internal/credential"
	"keyctl/internal/httpapi"
	"keyctl/internal/keys"
	"keyctl/internal/keys/keystest"
)

// secretsOf adds every secret of the template: signing keys, the keys that open private keys, tokens and seeds.
func (m *template) secretsOf(t *testing.T, c *keystest.Canaries) {
	t.Helper()
	for _, states := range m.keys {
		for state, k := range states {
			addToken(t, c, "signing key of a key that is "+state, credential.SigningKey, k.SigningKey)
			addToken(t, c, "crypto access key of a key that is "+state, credential.CryptoAccessKey, k.CryptoAccessKey)
		}
	}
	for whose, token := range m.tokens {
		if strings.HasPrefix(token.Reveal(), string(credential.OperatorToken)) {
			addOperatorToken(c, whose, token)
		}
	}
}

func addToken(t *testing.T, c *keystest.Canaries, name string, kind credential.Kind, secret credential.Secret) {
	t.Helper()
	raw, err := credential.DecodeToken(kind, secret)
	if err != nil {
		t.Fatal(err)
	}
	c.Add(name, secret.Reveal(), raw[:])
}

// addOperatorToken adds the part of a token that is secret: it begins with an id that is not.
func addOperatorToken(c *keystest.Canaries, whose string, token credential.Secret) {
	c.Add("token of "+whose, token.Reveal()[16:], nil)
}

// TestR1_NoRouteShowsASecret asks for everything there is as each role, in every way of the matrix, after all secrets were
// made and handed out. Not one of them comes back. What is made on the way is shown by the answer that makes it alone.
func TestR1_NoRouteShowsASecret(t *testing.T) {
	oneByOne(t)
	m := newTemplate(t)
	c := keystest.NewCanaries(t)
	m.secretsOf(t, c)
	for letter := range people {
		seed := m.factors[letter]
		if seed != nil {
			c.Add("seed of "+people[letter], seed.Base32(), nil)
		}
	}
	others := otherSituations(m)
	asked := 0
	for letter, name := range people {
		w := m.copy(t)
		var answers bytes.Buffer
		for _, r := range httpapi.Routes() {
			if r.ID == "tokens.revoke" || r.ID == "operators.delete" || r.ID == "otp.reset" {
				continue // whoever asks is to stay
			}
			for _, s := range append(aboutKeys(m, r), others[r.ID]...) {
				var body []byte
				if s.body != nil {
					body, _ = json.Marshal(s.body(cell{m, t, letter, strings.IndexByte(permitted[r.ID], letter) >= 0}))
				}
				got := send(t, w, r, s, body, m.tokens[name].Reveal())
				fmt.Fprintln(&answers, got.status, got.header, got.body)
				asked++
			}
		}
		c.Absent("an answer to "+name, answers.Bytes())
	}
	t.Logf("%d answers", asked)
}

// TestR2_WhatAServerWritesDown uses a server as people do, rightly and wrongly, with secrets where they belong and where
// they do not, and looks for each of them in the log, the metrics, the audit log and every error.
func TestR2_WhatAServerWritesDown(t *testing.T) {
	oneByOne(t)
	clock := keystest.NewClock()
	s := newServed(t, clock.Env(), nil)
	c := keystest.NewCanaries(t)
	w := &wire{t: t, address: s.address}
	t.Cleanup(w.hangUp)
	owner := s.token(t, "")
	addOperatorToken(c, "the owner", owner)
	client := s.client(t, owner)
	var failures bytes.Buffer
	ask := func(method, target string, body any, headers ...string) message {
		t.Helper()
		var text []byte
		if body != nil {
			text, _ = json.Marshal(body)
			headers = append(headers, jsonHeader)
		}
		got := w.exchange(raw(method, target, text, headers...))
		if got.status >= 400 {
			fmt.Fprintln(&failures, got.header, got.body)
		}
		return got
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	authorization := "Authorization: Bearer " + owner.Reveal()

	// Rightly: an enrolment, a key, a roll, tokens, questions.
	enrolled, err := client.EnrollOTP(t.Context())
	must(err)
	seed, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(enrolled.Secret.Reveal())
	must(err)
	c.Add("seed", enrolled.Secret.Reveal(), seed)
	seeded, err := access.SeedFromBytes(seed)
	must(err)
	code := func() string {
		clock.Advance(access.Step)
		return access.CodeAt(seeded, access.StepAt(clock.Now())).Reveal()
	}
	recovery, err := client.ConfirmOTP(t.Context(), code())
	must(err)
	for i, r := range recovery {
		c.Add(fmt.Sprintf("recovery code %d", i), r.Reveal(), nil)
	}
	first, second := keystest.Draw(t), keystest.Draw(t)
	for _, d := range []keystest.Drawn{first, second} {
		addToken(t, c, "signing key", credential.SigningKey, d.SigningKey)
		addToken(t, c, "crypto access key", credential.CryptoAccessKey, d.CryptoAccessKey)
	}
	pending, err := client.CreateKey(t.Context(), keys.NewKey{Name: "web-01", Offer: first.Offer})
	must(err)
	_, err = client.Prove(t.Context(), first.AccessKeyID, first.Proof(pending))
	must(err)
	pending, err = client.Roll(t.Context(), keys.RollRequest{Key: "web-01", Offer: second.Offer, Code: code()})
	must(err)
	_, err = client.Prove(t.Context(), second.AccessKeyID, second.Proof(pending))
	must(err)
	_, err = client.Verify(t.Context(), first.Question())
	must(err)
	_, err = client.CreateOperator(t.Context(), keys.NewOperator{Name: "gateway", Role: access.Verifier})
	must(err)
	gateway := drawToken(t)
	addOperatorToken(c, "gateway", gateway)
	made, err := client.CreateToken(t.Context(), keys.NewToken{Token: gateway, Operator: "gateway"})
	must(err)

	// Wrongly: secrets in wrong places, of wrong forms, of people who may not.
	for _, secret := range []string{owner.Reveal(), gateway.Reveal(), first.SigningKey.Reveal(), second.CryptoAccessKey.Reveal(), enrolled.Secret.Reveal(), recovery[0].Reveal()} {
		for _, headers := range [][]string{
			{authorization}, {"Authorization: Bearer " + gateway.Reveal()}, {"Authorization: Bearer " + secret}, {"Authorization: Basic " + secret}, {"Cookie: " + secret, "User-Agent: " + secret},
		} {
			for _, target := range []string{"/v1/whoami?token=" + secret, "/v1/keys?cursor=" + secret, "/v1/audit/records?since=" + secret, "/v1/audit/records?action=" + secret} {
				ask("GET", target, nil, headers...)
			}
			if strings.HasPrefix(secret, "kc") { // in a path only what can be told from a name is kept from coming back
				for _, target := range []string{"/v1/keys/" + secret, "/v1/operators/" + secret, "/v1/datasets/" + secret, "/v1/primary-keys/" + secret, "/v1/credentials/" + secret + "/pending", "/" + secret} {
					ask("GET", target, nil, headers...)
				}
				ask("POST", "/v1/tokens/"+secret+"/revoke", nil, headers...)
				ask("POST", "/v1/operators", object{"name": secret, "role": "ci"}, headers...)
				ask("POST", "/v1/datasets", object{"name": "files", "type": secret}, headers...)
				ask("POST", "/v1/datasets", object{"name": "files", "type": "unstructured", "algorithm": secret, "primary_key": secret}, headers...)
				ask("PATCH", "/v1/keys/web-01", object{"set_labels": object{secret: "x"}}, headers...)
				ask("POST", "/v1/keys/check", object{"requests": []object{{"name": secret}, {"name": "x", "datasets": []string{secret}}}}, headers...)
				ask(secret, "/v1/whoami", nil, headers...)
			}
			ask("POST", "/v1/verify", object{"access_key_id": first.AccessKeyID, "secret_signing_key": secret}, headers...)
			ask("POST", "/v1/verify", object{"access_key_id": secret, "secret_signing_key": secret, "address": secret}, headers...)
			ask("POST", "/v1/verify", object{"key": "web-01", secret: secret}, headers...)
			ask("POST", "/v1/tokens", object{"token": secret + "x"}, headers...)
			ask("POST", "/v1/operators", object{"name": "x", "role": secret}, headers...)
			ask("POST", "/v1/otp/reset", object{"recovery_code": secret + "x"}, headers...)
			ask("POST", "/v1/otp/recovery-codes", object{"code": secret}, headers...)
			ask("POST", "/v1/keys", object{"name": "web-02", "credential": object{
				"access_key_id": secret, "secret_signing_key": secret, "public_key": "AAAA", "encrypted_private_key": "AAAA"}}, headers...)
			ask("POST", "/v1/keys/web-01/roll", object{"grace": object{"for": secret}, "credential": object{}, "code": secret}, headers...)
			ask("POST", "/v1/audit/verify", object{"expect": secret}, headers...)
		}
	}
	_, err = client.RevokeToken(t.Context(), made.ID)
	must(err)
	ask("GET", "/v1/whoami", nil, "Authorization: Bearer "+gateway.Reveal())

	c.Absent("the log", []byte(s.log(t)))
	c.Absent("an error", failures.Bytes())
	c.Absent("the metrics", []byte(s.page(t, "/metrics")))
	records := keystest.Events(t, s.owner, keys.AuditFilter{})
	for _, r := range records {
		c.Absent("the audit log", r.Record.Body)
	}
	if lines := strings.Count(s.log(t), "\n"); lines < 500 || len(records) < 20 || failures.Len() < 10_000 {
		t.Errorf("%d lines of a log, %d records and %d bytes of errors: too few to tell", lines, len(records), failures.Len())
	}
	if got := ask("GET", "/v1/whoami", nil, authorization); got.status != http.StatusOK {
		t.Errorf("afterwards the owner gets %d %s", got.status, got.body)
	}
}
