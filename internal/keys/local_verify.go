package keys

import (
	"cmp"
	"context"
	"io"
	"net/netip"
	"time"

	"keyctl/internal/access"
	"keyctl/internal/credential"
	"keyctl/internal/envelope"
	"keyctl/internal/fault"
	"keyctl/internal/iprange"
	"keyctl/internal/signature"
)

// Verify implements Service.
func (l *Local) Verify(ctx context.Context, q Question) (Verdict, error) {
	if (q.Key == "") == (q.AccessKeyID == "") {
		return Verdict{}, fault.New(fault.Invalid, "a key or a credential is needed, and not both").
			WithHint("name a key, or pass a credential with --from FILE")
	}
	var verdict Verdict
	var proven Admission
	err := l.view(ctx, func(tx Tx, now time.Time) (err error) {
		verdict, proven, err = l.judge(tx, q, now)
		return err
	})
	if err == nil {
		l.letIn(verdict, proven, q)
	}
	return verdict, err
}

// letIn remembers that a gateway let somebody in, who proved a credential, as a use of that (R40). Whoever else asks only wants to
// know.
func (l *Local) letIn(v Verdict, proven Admission, q Question) {
	if v.Allowed && proven.Credential.AccessKeyID != "" && l.token != nil && l.caller.Role == access.Verifier {
		l.touchLater(proven, Origin{Address: q.Address.Unmap().WithZone("")}) // the text of a zone is whatever somebody made up
	}
}

// judge finds what the question is about and weighs it. proven is nothing unless the question proved a credential.
func (l *Local) judge(tx Tx, q Question, now time.Time) (v Verdict, proven Admission, err error) {
	if q.Key == "" {
		return l.judgeCredential(tx, q, now)
	}
	rec, err := findKey(tx, q.Key, now)
	if err != nil {
		return v, proven, err
	}
	cred := rec.Current
	if credential.IsAccessKeyID(q.Key) && q.Key != rec.Name {
		named, err := tx.Credential(q.Key)
		if err != nil {
			return v, proven, err
		}
		cred = &named
	}
	if cred == nil {
		cred = &Credential{} // of a key that is pending or deleted: its state decides
	}
	v, err = weigh(tx, Admission{*cred, rec.Key}, q, now)
	return v, proven, err
}

// VerifyFor is Admit, and Verify by whom it admits, in one look at the store: gateways ask so at every request. It is for what they
// ask mostly, whether the holder of a credential's secret signing key may come in. unsupported: the question is another one, or one
// of the two refuses, and each is to be asked for itself, which tells why; nothing was decided or remembered. With any other error
// the Local is who was admitted, nil for nobody.
func (l *Local) VerifyFor(ctx context.Context, token credential.Secret, from Origin, q Question) (*Local, Verdict, error) {
	id, err := credential.OperatorTokenID(token)
	if err != nil || !credential.IsAccessKeyID(q.AccessKeyID) || q.Key != "" || q.Signed != nil || q.Dataset != "" || q.PrivateKey {
		return nil, Verdict{}, errOneByOne
	}
	var admitted *Local
	var verdict Verdict
	var proven Admission
	var now time.Time
	err = l.store.View(ctx, func(tx Tx) error {
		now = Instant(l.env.Now())
		tx.StandsAlone()
		known, operator, candidate, err := tx.BearerAndCandidate(id, q.AccessKeyID)
		if fault.Is(err, fault.NotFound) {
			return errOneByOne
		}
		if err != nil {
			return err
		}
		found := known.ID != ""
		if right := l.holds(token, id, l.macOr(found, known)); !right || !found || !operator.Role.May(access.Verify) {
			return errOneByOne
		}
		a, err := l.admitted(known, operator, from, now)
		if err != nil {
			return errOneByOne
		}
		admitted = a
		verdict, proven, err = admitted.judgeCandidate(tx, candidate, q, now)
		return err
	})
	if err != nil {
		return admitted, Verdict{}, err
	}
	admitted.touch(ctx, now)
	admitted.letIn(verdict, proven, q)
	return admitted, verdict, nil
}

var errOneByOne = fault.New(fault.Unsupported, "the token and the question are to be looked at one after the other")

// judgeCredential weighs a credential in hand. Unknown id, wrong secret and deleted key are one answer, at the cost of the
// same work (R3).
func (l *Local) judgeCredential(tx Tx, q Question, now time.Time) (v Verdict, proven Admission, err error) {
	if q.Dataset == "" && !q.PrivateKey {
		tx.StandsAlone()
	}
	c, err := l.candidate(tx, q.AccessKeyID)
	if err != nil {
		return v, proven, err
	}
	return l.judgeCandidate(tx, c, q, now)
}

// judgeCandidate is judgeCredential with what the store has.
func (l *Local) judgeCandidate(tx Tx, c Candidate, q Question, now time.Time) (v Verdict, proven Admission, err error) {
	unknown := Verdict{Reason: ReasonUnknown, AddressChecked: q.Address.IsValid()}
	proves := q.SigningKey.Equal
	if signed := q.Signed; signed != nil {
		proves = func(signingKey credential.Secret) bool {
			return signed.Check(signingKey, signed.Body, now, cmp.Or(l.env.Skew, signature.Skew)) == nil
		}
	}
	a, err := l.provenOf(c, q.AccessKeyID, proves, now)
	if fault.Is(err, fault.Unauthenticated) {
		return unknown, proven, nil
	}
	if err != nil {
		return unknown, proven, err
	}
	verdict, err := weigh(tx, a, q, now)
	if err != nil || verdict.Reason == ReasonUnknown {
		return unknown, proven, err
	}
	if q.PrivateKey {
		material, err := tx.Material(q.AccessKeyID)
		if err != nil {
			return unknown, proven, err
		}
		verdict.PrivateKeyPEM = material.PrivateKeyPEM
	}
	return verdict, a, nil
}

// candidate finds what the proof of a credential is held against, for an id that is not there as well (R3).
func (l *Local) candidate(tx Tx, accessKeyID string) (Candidate, error) {
	if !credential.IsAccessKeyID(accessKeyID) {
		accessKeyID = l.decoy // which takes as long
	}
	c, err := tx.Candidate(accessKeyID)
	if fault.Is(err, fault.NotFound) {
		c, err = tx.Candidate(l.decoy)
	}
	return c, err
}

// proven finds what decides about the holder of a credential, who has to prove that he has its secret signing key: proves is
// called once, for an unknown id as well (R3). unauthenticated: for an unknown id, a failed proof, a deleted key, and a
// credential that is over for good, from that moment on and not only once it was wiped.
func (l *Local) proven(tx Tx, accessKeyID string, proves func(credential.Secret) bool, now time.Time) (Admission, error) {
	c, err := l.candidate(tx, accessKeyID)
	if err != nil {
		return Admission{}, err
	}
	return l.provenOf(c, accessKeyID, proves, now)
}

var errNotProven = fault.New(fault.Unauthenticated, "the credential is not valid")

// provenOf is proven with what the store has.
func (l *Local) provenOf(c Candidate, accessKeyID string, proves func(credential.Secret) bool, now time.Time) (Admission, error) {
	signing, err := l.keyring.Open(signingKeySlot(c.Credential.AccessKeyID), c.Credential.SigningKey)
	if err != nil && c.Credential.AccessKeyID != accessKeyID {
		return Admission{}, errNotProven // that another one is damaged is nothing to him who asks for this one
	}
	if err != nil {
		return Admission{}, err
	}
	right := proves(credential.NewSecret(string(signing)))
	if !right || c.Credential.AccessKeyID != accessKeyID || c.Credential.State(now) == CredentialGone || !c.Key.DeletedAt.IsZero() {
		return Admission{}, errNotProven
	}
	if c.Key.IPRanges, err = iprange.ParseText(c.Ranges); err != nil {
		return Admission{}, fault.New(fault.StoreDamaged, "the addresses of the key %q cannot be read", c.Key.Name).WithCause(err)
	}
	return Admission{c.Credential, c.Key}, nil
}

// decoyID is what all access key ids begin with, so that it comes before them: whichever is asked for, there is one at it or before
// it. It is none itself, and nobody can ask for it. (In a store that was made when decoys had any id, Meta knows which one.)
const decoyID = "KC"

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
	sealed, err := keyring.Seal(signingKeySlot(decoyID), []byte(drawn.SigningKey.Reveal()))
	return Credential{
		AccessKeyID: decoyID, KeyID: keyID, Generation: 1, SigningKey: sealed,
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
func weigh(tx Tx, a Admission, q Question, now time.Time) (Verdict, error) {
	verdict := Verdict{Key: &a.Key.Name, AddressChecked: q.Address.IsValid() || a.Key.IPRanges.IsAny()}
	if a.Credential.AccessKeyID != "" {
		word := string(a.Credential.State(now))
		verdict.AccessKeyID, verdict.Credential = &a.Credential.AccessKeyID, &word
	}
	verdict.Reason = a.reason(q.Address, now)
	if verdict.Reason == ReasonOK && q.Dataset != "" {
		var err error
		if verdict.Reason, err = reach(tx, a.Key, q.Dataset); err != nil {
			return Verdict{}, err
		}
	}
	verdict.Allowed = verdict.Reason == ReasonOK
	return verdict, nil
}

// reason decides as far as states and address go; an address that is not valid is not asked about.
func (a Admission) reason(address netip.Addr, now time.Time) Reason {
	reason := admit(a.Key.State(now), a.Credential.State(now))
	if reason == ReasonOK && address.IsValid() && !a.Key.IPRanges.Contains(address) {
		return ReasonAddressNotAllowed
	}
	return reason
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
func reach(tx Tx, k Key, name string) (Reason, error) {
	r, err := tx.Reach(k.ID, name)
	switch {
	case fault.Is(err, fault.NotFound):
		_, err = findDataset(tx, name)
		return ReasonDatasetNotAttached, err
	case err != nil:
		return "", err
	case r.PrimaryKeyDisabled:
		return ReasonPrimaryKeyDisabled, nil
	}
	return ReasonOK, nil
}
