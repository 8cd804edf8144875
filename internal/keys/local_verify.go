package keys

import (
	"context"
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
// same work (threats 4.6): an unknown id is compared with a secret that nobody has.
func (l *Local) judgeCredential(tx Tx, q Question, now time.Time) (Verdict, error) {
	unknown := Verdict{Reason: ReasonUnknown, AddressChecked: q.Address.IsValid()}
	cred, err := tx.Credential(q.AccessKeyID)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return unknown, err
	}
	stored, err := l.signingKeyOrDecoy(cred)
	if err != nil {
		return unknown, err
	}
	if !stored.Equal(q.SigningKey) || len(cred.SigningKey) == 0 {
		return unknown, nil
	}
	rec, err := tx.Key(cred.KeyID)
	if err != nil || rec.lapsed(now) {
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

// signingKeyOrDecoy opens a credential's secret signing key. For an unknown or wiped credential it seals and opens a
// decoy, so that the refusal takes the work of a real comparison.
func (l *Local) signingKeyOrDecoy(cred Credential) (credential.Secret, error) {
	slot, sealed := signingKeySlot(cred.AccessKeyID), cred.SigningKey
	if len(sealed) == 0 {
		var err error
		slot = envelope.Slot{Table: "credentials", Row: "decoy", Column: "signing_key"}
		if sealed, err = l.keyring.Seal(slot, make([]byte, 53)); err != nil {
			return credential.Secret{}, err
		}
	}
	plain, err := l.keyring.Open(slot, sealed)
	return credential.NewSecret(string(plain)), err
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
