package keys_test

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"keyctl/internal/credential"
	"keyctl/internal/keys"
	"keyctl/internal/keys/keystest"
)

// files is all that stands on disk for the store: the file and its write-ahead log.
func (p *place) files(t testing.TB) []byte {
	t.Helper()
	var all []byte
	for _, suffix := range []string{"", "-wal"} {
		data, err := os.ReadFile(p.path + suffix)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		all = append(all, data...)
	}
	return all
}

func TestR2_NothingSecretInTheFiles(t *testing.T) {
	p := newPlace(t)
	db := p.openStore(t)
	l := p.on(t, db)
	enrollment, err := l.EnrollOTP(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := l.ResetOTP(t.Context(), keys.OTPAuthority{BreakGlass: true}); err != nil {
		t.Fatal(err)
	}
	auth := keystest.BeginEnrolment(t, l, p.clock)
	recovery, err := l.ConfirmOTP(t.Context(), auth.Next())
	if err != nil {
		t.Fatal(err)
	}
	newDataset(t, l, "files")
	d, _ := newKey(t, l, "web-01", "files")
	canaries := map[string]string{
		"a signing key": d.SigningKey.Reveal(), "a crypto access key": d.CryptoAccessKey.Reveal(),
		"a seed": enrollment.Secret.Reveal(), "the master key": p.master.Text().Reveal(),
		"a Primary Key": string(primaryKey(t, p, db, "files", 1).Bytes()), "the audit key": string(p.keyring(t, db).AuditKey()),
	}
	for i, code := range recovery {
		canaries[fmt.Sprintf("recovery code %d", i)] = strings.ReplaceAll(code.Reveal(), "-", "")
		canaries[fmt.Sprintf("recovery code %d as shown", i)] = code.Reveal()
	}
	disk := p.files(t)
	if !bytes.Contains(disk, []byte(d.AccessKeyID)) {
		t.Fatal("the search finds nothing that is in the files either")
	}
	for what, canary := range canaries {
		half := len(canary) / 2
		for _, part := range []string{canary[:half], canary[half:]} {
			if bytes.Contains(disk, []byte(part)) {
				t.Errorf("%s stands in the store's files", what)
			}
		}
	}
}

func TestR49_WipedSecrets(t *testing.T) {
	p := newPlace(t)
	l := p.open(t)
	auth := keystest.Enroll(t, l, p.clock)
	stored := func(d keystest.Drawn) map[string][]byte {
		t.Helper()
		return map[string][]byte{
			"sealed signing key": query[[]byte](t, p, `SELECT signing_key FROM credentials WHERE access_key_id = $1`, d.AccessKeyID),
			"challenge":          query[[]byte](t, p, `SELECT challenge FROM credentials WHERE access_key_id = $1`, d.AccessKeyID),
		}
	}
	gone := func(when string, secrets map[string][]byte) {
		t.Helper()
		disk := p.files(t)
		for what, secret := range secrets {
			if bytes.Contains(disk, secret) {
				t.Errorf("%s, the %s is still in the files", when, what)
			}
		}
	}
	// Each of these uses an encrypted private key that nothing else in the store has.
	freshPair := func(d keystest.Drawn) keystest.Drawn {
		t.Helper()
		pair, err := credential.GenerateKeyPair(d.CryptoAccessKey)
		if err != nil {
			t.Fatal(err)
		}
		d.Offer = keys.NewOffer(d.Credential, pair)
		return d
	}
	d := freshPair(keystest.Draw(t))
	pending, err := l.CreateKey(t.Context(), keys.NewKey{Name: "web-01", Offer: d.Offer})
	if err == nil {
		_, err = l.Prove(t.Context(), d.AccessKeyID, d.Proof(pending))
	}
	if err != nil {
		t.Fatal(err)
	}
	secrets := stored(d)
	secrets["private key"] = d.Offer.PrivateKeyPEM
	for what, secret := range secrets {
		// A long value lies in pieces, one to a page.
		if piece := secret[:min(len(secret), 500)]; !bytes.Contains(p.files(t), piece) {
			t.Fatalf("before the delete, the %s is not in the files either", what)
		}
	}
	secrets["private key"] = d.Offer.PrivateKeyPEM[100:300]
	if _, err := l.DeleteKey(t.Context(), "web-01"); err != nil {
		t.Fatal(err)
	}
	gone("after the delete", secrets)

	withdrawn := keystest.Draw(t)
	if _, err := l.CreateKey(t.Context(), keys.NewKey{Name: "web-02", Offer: withdrawn.Offer}); err != nil {
		t.Fatal(err)
	}
	secrets = stored(withdrawn)
	if err := l.Withdraw(t.Context(), withdrawn.AccessKeyID); err != nil {
		t.Fatal(err)
	}
	gone("after the withdrawal", secrets)

	lapsed := keystest.Draw(t)
	if _, err := l.CreateKey(t.Context(), keys.NewKey{Name: "web-03", Offer: lapsed.Offer}); err != nil {
		t.Fatal(err)
	}
	secrets = stored(lapsed)
	p.clock.Advance(keys.PendingFor)
	newDataset(t, l, "any-change")
	gone("after the purge", secrets)

	old, key := newKey(t, l, "web-04")
	secrets = stored(old)
	next, pending, err := roll(t, l, key.KeyID, auth.Next(), keys.RollTerms{Grace: keys.Grace{For: time.Hour}})
	if err == nil {
		_, err = l.Prove(t.Context(), next.AccessKeyID, next.Proof(pending))
	}
	if err != nil {
		t.Fatal(err)
	}
	p.clock.Advance(time.Hour + keys.RetiredFor - time.Microsecond)
	newDataset(t, l, "too-early")
	if !bytes.Contains(p.files(t), secrets["sealed signing key"]) {
		t.Error("a retired credential's signing key went before its 30 days were over")
	}
	p.clock.Advance(time.Microsecond)
	newDataset(t, l, "in-time")
	gone("30 days after its retirement", secrets)

	seed := map[string][]byte{"seed": query[[]byte](t, p, `SELECT seed FROM second_factors`)}
	if err := l.ResetOTP(t.Context(), keys.OTPAuthority{Code: auth.Next()}); err != nil {
		t.Fatal(err)
	}
	gone("after the reset", seed)
}
