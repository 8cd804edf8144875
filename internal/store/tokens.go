package store

import (
	"encoding/json"
	"time"

	"keyctl/internal/access"
	"keyctl/internal/fault"
	"keyctl/internal/keys"
)

const tokenColumns = `tokens.id, tokens.operator_id, tokens.description, tokens.mac, tokens.datasets, tokens.created_at,
	tokens.created_by, tokens.expires_at, tokens.revoked_at, tokens.last_used_at, tokens.last_used_from`

func tokenRow(row scan) (k keys.Token, err error) {
	err = row(&k.ID, &k.OperatorID, &k.Description, &k.MAC, document{&k.Datasets}, instant{&k.CreatedAt}, &k.CreatedBy,
		instant{&k.ExpiresAt}, instant{&k.RevokedAt}, instant{&k.LastUsedAt}, &k.LastUsedFrom)
	return k, err
}

// Token implements keys.Tx.
func (t *tx) Token(id string) (keys.Token, error) {
	k, found, err := first(t, tokenRow, `SELECT `+tokenColumns+` FROM tokens WHERE id = $1`, id)
	if err == nil && !found {
		err = noToken(id)
	}
	return k, err
}

// bearer is a token and the operator whom it lets in.
type bearer struct {
	token    keys.Token
	operator keys.Operator
}

const (
	bearerColumns = `tokens.id, tokens.operator_id, tokens.mac, tokens.datasets, tokens.expires_at, tokens.revoked_at, tokens.last_used_at,
		operators.name, operators.role, operators.disabled_at, operators.deleted_at`
	fromBearer = ` FROM tokens JOIN operators ON operators.id = tokens.operator_id`
)

// read reads bearerColumns and what follows them.
func (b *bearer) read(row scan, more ...any) (err error) {
	var role, datasets string
	k, o := &b.token, &b.operator
	if err := row(append([]any{&k.ID, &k.OperatorID, &k.MAC, &datasets, instant{&k.ExpiresAt}, instant{&k.RevokedAt}, instant{&k.LastUsedAt},
		&o.Name, &role, instant{&o.DisabledAt}, instant{&o.DeletedAt}}, more...)...); err != nil {
		return err
	}
	if k.ID == "" { // there is no such token
		return nil
	}
	o.ID = k.OperatorID
	if datasets != "[]" { // as it is for all roles but one
		if err := json.Unmarshal([]byte(datasets), &k.Datasets); err != nil {
			return err
		}
	}
	o.Role, err = access.ParseRole(role)
	return err
}

// Bearer implements keys.Tx.
func (t *tx) Bearer(tokenID string) (keys.Token, keys.Operator, error) {
	read := func(row scan) (b bearer, err error) { return b, b.read(row) }
	b, found, err := first(t, read, `SELECT `+bearerColumns+fromBearer+` WHERE tokens.id = $1`, tokenID)
	if err == nil && !found {
		err = noToken(tokenID)
	}
	return b.token, b.operator, err
}

// selectBearerAndCandidate joins one row with one row, or with none: whether there is a token does not decide about the rest.
const selectBearerAndCandidate = `SELECT COALESCE(tokens.id, ''), COALESCE(tokens.operator_id, ''), tokens.mac, COALESCE(tokens.datasets, '[]'),
		tokens.expires_at, tokens.revoked_at, tokens.last_used_at, COALESCE(operators.name, ''), COALESCE(operators.role, ''),
		operators.disabled_at, operators.deleted_at, ` + candidateColumns + `
	FROM ` + fromCandidate + ` LEFT JOIN tokens ON tokens.id = $1 LEFT JOIN operators ON operators.id = tokens.operator_id
	WHERE c.access_key_id <= $2 AND ` + thisCandidate

// BearerAndCandidate implements keys.Tx.
func (t *tx) BearerAndCandidate(tokenID, accessKeyID string) (keys.Token, keys.Operator, keys.Candidate, error) {
	type both struct {
		bearer
		keys.Candidate
	}
	read := func(row scan) (b both, err error) {
		err = b.read(row, candidateFields(&b.Candidate)...)
		b.Key.ID = b.Credential.KeyID
		return b, err
	}
	b, found, err := first(t, read, selectBearerAndCandidate, tokenID, accessKeyID)
	if err == nil && !found {
		err = noCredential(accessKeyID)
	}
	return b.token, b.operator, b.Candidate, err
}

func noToken(id string) *fault.Error { return fault.New(fault.NotFound, "no token %q", id) }

// Tokens implements keys.Tx.
func (t *tx) Tokens() ([]keys.Token, error) {
	return list(t, tokenRow, `SELECT `+tokenColumns+` FROM tokens ORDER BY seq`)
}

// PutToken implements keys.Tx.
func (t *tx) PutToken(k keys.Token) error {
	datasets, err := json.Marshal(k.Datasets)
	if err != nil {
		return err
	}
	if k.Datasets == nil {
		datasets = []byte("[]")
	}
	_, err = t.exec(`INSERT INTO tokens (id, operator_id, description, mac, datasets, created_at, created_by, expires_at,
			revoked_at, last_used_at, last_used_from)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
		ON CONFLICT (id) DO UPDATE SET operator_id = excluded.operator_id, description = excluded.description,
			mac = excluded.mac, datasets = excluded.datasets, created_at = excluded.created_at,
			created_by = excluded.created_by, expires_at = excluded.expires_at, revoked_at = excluded.revoked_at,
			last_used_at = excluded.last_used_at, last_used_from = excluded.last_used_from`,
		k.ID, k.OperatorID, k.Description, k.MAC, string(datasets), micros(k.CreatedAt), k.CreatedBy,
		optionalMicros(k.ExpiresAt), optionalMicros(k.RevokedAt), optionalMicros(k.LastUsedAt), k.LastUsedFrom)
	if isDangling(err) {
		return noOperator(k.OperatorID).WithCause(err)
	}
	return err
}

// TouchToken implements keys.Tx.
func (t *tx) TouchToken(id string, at time.Time, from string) error {
	_, err := t.exec(`UPDATE tokens SET last_used_at = $2, last_used_from = $3 WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < $2)`,
		id, micros(at), from)
	return err
}
