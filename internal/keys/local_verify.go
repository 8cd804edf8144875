package keys

import (
	"context"
	"io"
	"time"

	"keyctl/internal/credential"
	"keyctl/internal/envelope"
	"keyctl/internal/fault"
)

// Verify implements Service.
func (l *Local) Verify(ctx context.Context, q Question) (Verdict, error) {
	if (q.Key == "") == (q.AccessKeyID == "") {
		return Verdict{}, fault.New(fault.Invalid, "a key or a credential is needed, and not both").
			WithHint("name a key, or pass a credential with --from FILE")
	}
	var verdict Verdict
	err := l.view(ctx, func(tx Tx, now time.Time) (err error) {
		verdict, err = l.judge(tx, q, now)
		return err
	})
	return verdict, err
}

// judge finds what the question is about and weighs it.
func (l *Local) judge(tx Tx, q Question, now time.Time) (Verdict, error) {
	if q.Key == "" {
		return l.judgeCredential(tx, q, now)
	}
	rec, err := findKey(tx, q.Key, now)
	if err != nil {
		return Verdict{}, err
	}
	cred := rec.Current
	if credential.IsAccessKeyID(q.Key) && q.Key != rec.Name {
		named, err := tx.Credential(q.Key)
		if err != nil {
			return Verdict{}, err
		}
		cred = &named
	}
	if cred == nil {
		cred = &Credential{} // of a key that is pending or deleted: its state decides
	}
	return weigh(tx, rec, *cred, q, now)
}

// judgeCredential weighs a credential in hand. Unknown id, wrong secret and deleted key are one answer, at the cost of the
// same work (R3).
func (l *Local) judgeCredential(tx Tx, q Question, now time.Time) (Verdict, error) {
	unknown := Verdict{Reason: ReasonUnknown, AddressChecked: q.Address.IsValid()}
	cred, err := l.credentialOrDecoy(tx, q.AccessKeyID)
	if err != nil {
		return unknown, err
	}
	signing, err := l.keyring.Open(signingKeySlot(cred.AccessKeyID), cred.SigningKey)
	if err != nil {
		return unknown, err
	}
	if !credential.NewSecret(string(signing)).Equal(q.SigningKey) || cred.AccessKeyID != q.AccessKeyID {
		return unknown, nil
	}
	rec, err := tx.Key(cred.KeyID)
	// What is over for good is unknown from that moment on, whatever the key's state, not only once it was wiped.
	if err != nil || rec.lapsed(now) || cred.State(now) == CredentialGone {
		return unknown, err
	}
	verdict, err := weigh(tx, rec, cred, q, now)
	if err != nil || verdict.Reason == ReasonUnknown {
		return unknown, err
	}
	material, err := tx.Material(cred.AccessKeyID)
	verdict.PrivateKeyPEM = material.PrivateKeyPEM
	return verdict, err
}

// nobodysID is shaped like an access key id and was never drawn: 22 random digits are not all zero.
const nobodysID = "KC0000000000000000000000"

// credentialOrDecoy finds a credential that still has a secret, and otherwise the store's decoy. It asks for two ids, of
// which one is there and one is not, whichever was asked about, so that both answers cost the same reads.
func (l *Local) credentialOrDecoy(tx Tx, accessKeyID string) (Credential, error) {
	cred, err := tx.Credential(accessKeyID)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return cred, err
	}
	if err != nil || len(cred.SigningKey) == 0 {
		return tx.Credential(l.decoy)
	}
	if _, err := tx.Credential(nobodysID); err != nil && !fault.Is(err, fault.NotFound) {
		return cred, err
	}
	return cred, nil
}

// drawDecoy draws a credential that nobody gets.
func drawDecoy(keyring envelope.Keyring, random io.Reader) (Credential, error) {
	drawn, err := credential.Draw(random)
	if err != nil {
		return Credential{}, err
	}
	keyID, err := drawID("key_", random)
	if err != nil {
		return Credential{}, err
	}
	sealed, err := keyring.Seal(signingKeySlot(drawn.AccessKeyID), []byte(drawn.SigningKey.Reveal()))
	return Credential{
		AccessKeyID: drawn.AccessKeyID, KeyID: keyID, Generation: 1, SigningKey: sealed,
		// As long as a real one's, for a longer row takes longer to read.
		Challenge: make([]byte, challengeBytes), Fingerprint: keyring.MAC("decoy"),
	}, err
}

// putDecoy stores a decoy as a withdrawn credential of a deleted key that was never active, which no list shows.
func putDecoy(tx Tx, decoy Credential, owner Operator, now time.Time) error {
	key := Key{ID: decoy.KeyID, Name: "decoy", CreatedAt: now, CreatedBy: owner.Name, DeletedAt: now}
	if err := tx.PutKey(key); err != nil {
		return err
	}
	decoy.CreatedAt, decoy.PendingUntil, decoy.ProvenAt, decoy.EndedAt, decoy.EndedAs = now, now, now, now, EndWithdrawn
	return tx.PutCredential(decoy)
}

// weigh decides whether a credential of a key would be let in, from where and to what: in the order key, credential,
// address, dataset, Primary Key.
func weigh(tx Tx, rec KeyRecord, cred Credential, q Question, now time.Time) (Verdict, error) {
	state := cred.State(now)
	verdict := Verdict{Key: &rec.Name, AddressChecked: q.Address.IsValid() || rec.IPRanges.IsAny()}
	if cred.AccessKeyID != "" {
		word := string(state)
		verdict.AccessKeyID, verdict.Credential = &cred.AccessKeyID, &word
	}
	verdict.Reason = admit(rec.State(now), state)
	if verdict.Reason == ReasonOK && q.Address.IsValid() && !rec.IPRanges.Contains(q.Address) {
		verdict.Reason = ReasonAddressNotAllowed
	}
	if verdict.Reason == ReasonOK && q.Dataset != "" {
		var err error
		if verdict.Reason, err = reach(tx, rec, q.Dataset); err != nil {
			return Verdict{}, err
		}
	}
	verdict.Allowed = verdict.Reason == ReasonOK
	return verdict, nil
}

// admit combines the states of a key and of one of its credentials: both must say so.
func admit(key KeyState, cred CredentialState) Reason {
	switch key {
	case KeyDeleted:
		return ReasonUnknown
	case KeyCompromised:
		return ReasonCompromised
	case KeyExpired:
		return ReasonExpired
	case KeyDisabled:
		return ReasonDisabled
	case KeyPending:
		return ReasonPending
	}
	switch {
	case cred.Lives():
		return ReasonOK
	case cred == CredentialPending:
		return ReasonPending
	case cred == CredentialRetired:
		return ReasonRetired
	}
	return ReasonUnknown
}

// reach tells whether a key reaches a dataset whose Primary Key releases data keys.
func reach(tx Tx, rec KeyRecord, name string) (Reason, error) {
	d, err := findDataset(tx, name)
	if err != nil {
		return "", err
	}
	for _, attached := range rec.Datasets {
		if attached.ID != d.ID {
			continue
		}
		primary, err := tx.PrimaryKey(d.PrimaryKeyID)
		if err != nil || primary.State() == PrimaryKeyEnabled {
			return ReasonOK, err
		}
		return ReasonPrimaryKeyDisabled, nil
	}
	return ReasonDatasetNotAttached, nil
}
