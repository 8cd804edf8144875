package store

import (
	"errors"
	"time"

	"keyctl/internal/fault"
	"keyctl/internal/keys"
)

const credentialColumns = `credentials.access_key_id, credentials.key_id, credentials.generation, credentials.created_at,
	credentials.pending_until, credentials.proven_at, credentials.grace_until, credentials.ended_at, COALESCE(credentials.ended_as, ''),
	credentials.signing_key, credentials.challenge, credentials.fingerprint, credentials.terms, credentials.previous,
	credentials.last_used_at, credentials.last_used_from`

// credentialFields are where credentialColumns go. All may be NULL, in the row of a LEFT JOIN: then the credential has no id.
func credentialFields(c *keys.Credential) []any {
	return []any{
		orZero(&c.AccessKeyID), orZero(&c.KeyID), orZero(&c.Generation), instant{&c.CreatedAt}, instant{&c.PendingUntil},
		instant{&c.ProvenAt}, instant{&c.GraceUntil}, instant{&c.EndedAt}, &c.EndedAs,
		&c.SigningKey, &c.Challenge, &c.Fingerprint, document{&c.Terms}, document{&c.Previous},
		instant{&c.LastUsedAt}, orZero(&c.LastUsedFrom),
	}
}

func scanCredential(row scan) (c keys.Credential, err error) {
	err = row(credentialFields(&c)...)
	if err == nil && c.AccessKeyID == "" {
		err = errors.New("a credential without an id")
	}
	return c, err
}

// Credential implements keys.Tx.
func (t *tx) Credential(accessKeyID string) (keys.Credential, error) {
	c, found, err := first(t, scanCredential,
		`SELECT `+credentialColumns+` FROM credentials WHERE access_key_id = $1`, accessKeyID)
	if err == nil && !found {
		err = noCredential(accessKeyID)
	}
	return c, err
}

// Credentials implements keys.Tx.
func (t *tx) Credentials(keyID string) ([]keys.Credential, error) {
	return list(t, scanCredential,
		`SELECT `+credentialColumns+` FROM credentials WHERE key_id = $1 ORDER BY seq`, keyID)
}

// PutCredential implements keys.Tx. not_found: there is no such key.
func (t *tx) PutCredential(c keys.Credential) error {
	terms, err := optionalJSON(c.Terms)
	if err != nil {
		return err
	}
	previous, err := optionalJSON(c.Previous)
	if err != nil {
		return err
	}
	t.due = t.due.with(c)
	if len(c.SigningKey) == 0 {
		if err := t.noteWipe(c.AccessKeyID); err != nil {
			return err
		}
	}
	refused := func(err error) error {
		switch {
		case isTaken(err):
			return fault.New(fault.Exists, "the key of credential %q has another one in the same state", c.AccessKeyID).WithCause(err)
		case isDangling(err):
			return fault.New(fault.NotFound, "no key %q", c.KeyID).WithCause(err)
		case isMissing(err):
			return fault.New(fault.IDConflict, "the access key id %q belongs to another key", c.AccessKeyID).WithCause(err)
		}
		return err
	}
	// A credential of another key is left without one, which the table refuses.
	return t.later(refused, `INSERT INTO credentials (access_key_id, key_id, generation, created_at, pending_until, proven_at,
			grace_until, ended_at, ended_as, signing_key, challenge, fingerprint, terms, previous, last_used_at, last_used_from)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
		ON CONFLICT (access_key_id) DO UPDATE SET
			key_id = CASE WHEN credentials.key_id = excluded.key_id THEN excluded.key_id END, generation = excluded.generation, created_at = excluded.created_at,
			pending_until = excluded.pending_until, proven_at = excluded.proven_at, grace_until = excluded.grace_until,
			ended_at = excluded.ended_at, ended_as = excluded.ended_as, signing_key = excluded.signing_key,
			challenge = excluded.challenge, fingerprint = excluded.fingerprint, terms = excluded.terms,
			previous = excluded.previous, last_used_at = excluded.last_used_at, last_used_from = excluded.last_used_from`,
		c.AccessKeyID, c.KeyID, c.Generation, micros(c.CreatedAt), micros(c.PendingUntil), optionalMicros(c.ProvenAt),
		optionalMicros(c.GraceUntil), optionalMicros(c.EndedAt), optionalText(string(c.EndedAs)),
		optionalBytes(c.SigningKey), optionalBytes(c.Challenge), optionalBytes(c.Fingerprint), terms, previous,
		optionalMicros(c.LastUsedAt), c.LastUsedFrom)
}

// noteWipe remembers that a stored signing key is about to go.
func (t *tx) noteWipe(accessKeyID string) error {
	_, sealed, err := first(t, integer,
		`SELECT 1 FROM credentials WHERE access_key_id = $1 AND signing_key IS NOT NULL`, accessKeyID)
	t.wiped = t.wiped || sealed
	return err
}

// Material implements keys.Tx.
func (t *tx) Material(accessKeyID string) (keys.Material, error) {
	m, found, err := first(t, func(row scan) (m keys.Material, err error) {
		err = row(&m.PublicKey, &m.PrivateKeyPEM)
		return m, err
	}, `SELECT public_key, private_key_pem FROM credential_material WHERE access_key_id = $1`, accessKeyID)
	if err == nil && !found {
		err = fault.New(fault.NotFound, "no key pair for credential %q", accessKeyID)
	}
	return m, err
}

// PutMaterial implements keys.Tx. not_found: there is no such credential.
func (t *tx) PutMaterial(accessKeyID string, m keys.Material) error {
	refused := func(err error) error {
		if isDangling(err) {
			return noCredential(accessKeyID).WithCause(err)
		}
		return err
	}
	return t.later(refused, `INSERT INTO credential_material (access_key_id, public_key, private_key_pem) VALUES ($1, $2, $3)
		ON CONFLICT (access_key_id) DO UPDATE SET public_key = excluded.public_key, private_key_pem = excluded.private_key_pem`,
		accessKeyID, m.PublicKey, m.PrivateKeyPEM)
}

// WipeCredential implements keys.Tx. not_found: there is no such credential.
func (t *tx) WipeCredential(accessKeyID string) error {
	wiped, err := t.exec(`UPDATE credentials SET signing_key = NULL, challenge = NULL WHERE access_key_id = $1`, accessKeyID)
	if err != nil {
		return err
	}
	if wiped == 0 {
		return noCredential(accessKeyID)
	}
	t.wiped = true
	_, err = t.exec(`DELETE FROM credential_material WHERE access_key_id = $1`, accessKeyID)
	return err
}

// due is when the first credential of each kind that Stale looks for is due; zero: there is none of that kind.
type due struct{ pending, grace, wipe time.Time }

const selectDue = `SELECT
	(SELECT min(pending_until) FROM credentials WHERE proven_at IS NULL AND ended_at IS NULL),
	(SELECT min(grace_until) FROM credentials WHERE grace_until IS NOT NULL AND ended_at IS NULL),
	(SELECT min(ended_at) FROM credentials WHERE ended_as IN ('retired', 'cancelled') AND signing_key IS NOT NULL)`

func dueRow(row scan) (d due, err error) {
	err = row(instant{&d.pending}, instant{&d.grace}, instant{&d.wipe})
	return d, err
}

// with is due when one more credential has been written. It may be too early, never too late.
func (d *due) with(c keys.Credential) *due {
	if d == nil {
		return nil
	}
	earlier := func(a, b time.Time) time.Time {
		if a.IsZero() || !b.IsZero() && b.Before(a) {
			return b
		}
		return a
	}
	with := due{d.pending, earlier(d.grace, c.GraceUntil), earlier(d.wipe, c.EndedAt)}
	if c.ProvenAt.IsZero() {
		with.pending = earlier(d.pending, c.PendingUntil)
	}
	return &with
}

// none reports whether Stale would find nothing.
func (d due) none(now, wipeBefore time.Time) bool {
	later := func(at, limit time.Time) bool { return at.IsZero() || at.After(limit) }
	return later(d.pending, now) && later(d.grace, now) && later(d.wipe, wipeBefore)
}

// Stale implements keys.Tx. Each of the three kinds has its index; limits are half-open, so an instant that is reached is
// past.
func (t *tx) Stale(now, wipeBefore time.Time, limit int) ([]keys.Credential, error) {
	if t.due != nil && t.due.none(now, wipeBefore) {
		return nil, nil
	}
	return list(t, scanCredential, `SELECT `+credentialColumns+` FROM credentials
			WHERE proven_at IS NULL AND ended_at IS NULL AND pending_until <= $1
		UNION ALL SELECT `+credentialColumns+` FROM credentials
			WHERE grace_until IS NOT NULL AND ended_at IS NULL AND grace_until <= $1
		UNION ALL SELECT `+credentialColumns+` FROM credentials
			WHERE ended_as IN ('retired', 'cancelled') AND signing_key IS NOT NULL AND ended_at <= $2
		LIMIT $3`, micros(now), micros(wipeBefore), limit)
}

func noCredential(accessKeyID string) *fault.Error {
	return fault.New(fault.NotFound, "no credential %q", accessKeyID)
}
