package store

import (
	"fmt"
	"time"

	"keyctl/internal/fault"
	"keyctl/internal/keys"
)

// selectCandidate finds a credential that still has its secret, or else the one whose id comes before. Whichever it is, one search
// of one index ends at one row, so that the time tells nothing (R3).
const (
	selectCandidate  = `SELECT ` + candidateColumns + ` FROM ` + fromCandidate + ` WHERE c.access_key_id <= $1 AND ` + thisCandidate
	candidateColumns = `c.access_key_id, c.key_id, c.pending_until, c.proven_at, c.grace_until, c.ended_at,
		COALESCE(c.ended_as, ''), c.signing_key, c.last_used_at,
		k.name, k.ip_ranges, k.activated_at, k.expires_at, k.disabled_at, k.compromised_at, k.deleted_at`
	fromCandidate = `credentials AS c JOIN keys AS k ON k.id = c.key_id`
	thisCandidate = `c.signing_key IS NOT NULL ORDER BY c.access_key_id DESC LIMIT 1`
)

// candidateFields are what candidateColumns are scanned into.
func candidateFields(found *keys.Candidate) []any {
	c, k := &found.Credential, &found.Key
	return []any{
		&c.AccessKeyID, &c.KeyID, instant{&c.PendingUntil}, instant{&c.ProvenAt}, instant{&c.GraceUntil}, instant{&c.EndedAt},
		&c.EndedAs, &c.SigningKey, instant{&c.LastUsedAt},
		&k.Name, &found.Ranges, instant{&k.ActivatedAt}, instant{&k.ExpiresAt}, instant{&k.DisabledAt}, instant{&k.CompromisedAt},
		instant{&k.DeletedAt},
	}
}

// Candidate implements keys.Tx.
func (t *tx) Candidate(accessKeyID string) (keys.Candidate, error) {
	read := func(row scan) (c keys.Candidate, err error) {
		err = row(candidateFields(&c)...)
		c.Key.ID = c.Credential.KeyID
		return c, err
	}
	c, found, err := first(t, read, selectCandidate, accessKeyID)
	if err == nil && !found {
		err = noCredential(accessKeyID)
	}
	return c, err
}

const (
	// fromReach and ofKey find the datasets that a key reaches; its id is the first parameter.
	fromReach = ` FROM key_datasets JOIN datasets ON datasets.id = key_datasets.dataset_id
		JOIN primary_keys ON primary_keys.id = datasets.primary_key_id`
	ofKey = ` WHERE key_datasets.key_id = $1 AND datasets.deleted_at IS NULL`

	// selectReach reads what scanReach takes.
	selectReach = `SELECT ` + datasetColumns + `, ` + grantColumns + `, primary_keys.disabled_at` + fromReach + ofKey

	// selectRelease reads what scanRelease takes; the id of the credential is the second parameter.
	selectRelease = `SELECT datasets.id, datasets.name, datasets.type, datasets.algorithm, datasets.format, datasets.primary_key_id,
			` + grantColumns + `, primary_keys.disabled_at, v.version, v.created_at, v.disabled_at, v.sealed, m.public_key, m.private_key_pem` + fromReach + `
		LEFT JOIN credential_material AS m ON m.access_key_id = $2
		LEFT JOIN primary_key_versions AS v ON v.primary_key_id = primary_keys.id AND v.version = `
	selectNewest = selectRelease + `(SELECT MAX(version) FROM primary_key_versions WHERE primary_key_id = primary_keys.id)` + ofKey

	selectNewRelease         = selectNewest + ` AND datasets.type = 'unstructured'`
	selectOldRelease         = selectRelease + `$4` + ofKey + ` AND datasets.id = $3`
	selectStructuredReleases = selectNewest + ` AND datasets.type = 'structured'`
)

func scanReach(row scan) (keys.Reach, error) {
	var r keys.Reach
	var disabledAt time.Time
	var err error
	r.Dataset, err = scanDataset(row, append(grantFields(&r.Grant), instant{&disabledAt})...)
	r.PrimaryKeyDisabled = !disabledAt.IsZero()
	return r, err
}

// Reach implements keys.Tx.
func (t *tx) Reach(keyID, name string) (keys.Reach, error) {
	r, found, err := first(t, scanReach, selectReach+` AND datasets.name = $2`, keyID, name)
	if err == nil && !found {
		err = noDataset(name)
	}
	return r, err
}

// Reached implements keys.Tx.
func (t *tx) Reached(keyID string) ([]keys.Reach, error) {
	return list(t, scanReach, selectReach+` ORDER BY datasets.name`, keyID)
}

// NewRelease implements keys.Tx.
func (t *tx) NewRelease(keyID, accessKeyID string) (keys.Release, error) {
	return t.release(accessKeyID, "unstructured", selectNewRelease, keyID, accessKeyID)
}

// OldRelease implements keys.Tx.
func (t *tx) OldRelease(keyID, accessKeyID, datasetID string, version uint32) (keys.Release, error) {
	return t.release(accessKeyID, datasetID, selectOldRelease, keyID, accessKeyID, datasetID, int64(version))
}

// StructuredReleases implements keys.Tx.
func (t *tx) StructuredReleases(keyID, accessKeyID, name string) ([]keys.Release, error) {
	query, args := selectStructuredReleases+` ORDER BY datasets.name`, []any{keyID, accessKeyID}
	if name != "" {
		query, args = selectStructuredReleases+` AND datasets.name = $3`, append(args, name)
	}
	all, err := list(t, t.scanRelease, query, args...)
	if err == nil && len(all) > 0 { // one credential, one key pair
		err = t.checkMaterial(accessKeyID, all[0].Material)
	}
	return all, err
}

func (t *tx) release(accessKeyID, dataset, query string, args ...any) (keys.Release, error) {
	out, found, err := first(t, t.scanRelease, query, args...)
	switch {
	case err != nil:
		return out, err
	case !found:
		return out, noDataset(dataset)
	}
	return out, t.checkMaterial(accessKeyID, out.Material)
}

func (t *tx) scanRelease(row scan) (out keys.Release, err error) {
	var disabledAt time.Time
	r, v, m := &out.Reach, &out.Version, &out.Material
	err = row(&r.ID, &r.Name, &r.Type, &r.Algorithm, t.db.formats.column(&r.Format), &r.PrimaryKeyID, claim{&r.Encrypt}, claim{&r.Decrypt},
		instant{&disabledAt}, orZero(&v.Version), instant{&v.CreatedAt}, instant{&v.DisabledAt}, &v.Sealed, &m.PublicKey, &m.PrivateKeyPEM)
	r.PrimaryKeyDisabled = !disabledAt.IsZero()
	return out, err
}

// checkMaterial refuses the key pair of a credential that has none.
func (t *tx) checkMaterial(accessKeyID string, m keys.Material) error {
	if m.PublicKey == nil {
		return storeDamaged(t.db.path).WithCause(fmt.Errorf("the credential %s has no key pair", accessKeyID))
	}
	return nil
}

func noDataset(ref string) *fault.Error { return fault.New(fault.NotFound, "no dataset %q", ref) }

// ReachedNames implements keys.Tx.
func (t *tx) ReachedNames(keyID string) ([]string, error) {
	return list(t, func(row scan) (name string, err error) { return name, row(&name) }, `SELECT datasets.name
		FROM key_datasets JOIN datasets ON datasets.id = key_datasets.dataset_id
		WHERE key_datasets.key_id = $1 AND datasets.deleted_at IS NULL ORDER BY datasets.name`, keyID)
}

// claim reads what number stored; NULL is no.
type claim struct{ is *bool }

// Scan implements sql.Scanner.
func (c claim) Scan(value any) error {
	n, ok := value.(int64)
	if value == nil {
		n, ok = 0, true
	}
	if !ok || n != 0 && n != 1 {
		return fmt.Errorf("a claim stored as %v", value)
	}
	*c.is = n == 1
	return nil
}

// Touch implements keys.Tx. not_found: there is no such credential.
func (t *tx) Touch(accessKeyID string, at time.Time, from string) error {
	keyID, found, err := first(t, func(row scan) (id string, err error) { return id, row(&id) },
		`SELECT key_id FROM credentials WHERE access_key_id = $1`, accessKeyID)
	if err == nil && !found {
		err = noCredential(accessKeyID)
	}
	if err != nil {
		return err
	}
	const later = ` AND (last_used_at IS NULL OR last_used_at < $2)`
	if _, err := t.exec(`UPDATE credentials SET last_used_at = $2, last_used_from = $3 WHERE access_key_id = $1`+later, accessKeyID, micros(at), from); err != nil {
		return err
	}
	_, err = t.exec(`UPDATE keys SET last_used_at = $2 WHERE id = $1`+later, keyID, micros(at))
	return err
}

// PrimaryKeyVersion implements keys.Tx. not_found: there is no such version.
func (t *tx) PrimaryKeyVersion(id string, version uint32) (keys.PrimaryKeyVersion, error) {
	const columns = `SELECT version, created_at, disabled_at, sealed FROM primary_key_versions WHERE primary_key_id = $1`
	read := func(row scan) (v keys.PrimaryKeyVersion, err error) {
		return v, row(&v.Version, instant{&v.CreatedAt}, instant{&v.DisabledAt}, &v.Sealed)
	}
	query, args := columns+` AND version = $2`, []any{id, int64(version)}
	if version == 0 {
		query, args = columns+` ORDER BY version DESC LIMIT 1`, args[:1]
	}
	v, found, err := first(t, read, query, args...)
	if err == nil && !found {
		err = fault.New(fault.NotFound, "no version %d of the Primary Key %q", version, id)
	}
	return v, err
}

// DataKeys implements keys.Tx.
func (t *tx) DataKeys(datasetID string) ([]keys.DataKey, error) {
	return list(t, func(row scan) (k keys.DataKey, err error) {
		k.DatasetID = datasetID
		return k, row(&k.Number, &k.Sealed)
	}, `SELECT number, sealed FROM data_keys WHERE dataset_id = $1 ORDER BY number`, datasetID)
}

// PutDataKey implements keys.Tx. not_found: there is no such dataset.
func (t *tx) PutDataKey(k keys.DataKey) error {
	_, err := t.exec(`INSERT INTO data_keys (dataset_id, number, created_at, created_by, sealed) VALUES ($1, $2, $3, $4, $5)`,
		k.DatasetID, k.Number, micros(k.CreatedAt), k.CreatedBy, k.Sealed)
	switch {
	case isTaken(err):
		return fault.New(fault.Exists, "there is a data key %d already", k.Number).WithCause(err)
	case isDangling(err):
		return noDataset(k.DatasetID).WithCause(err)
	}
	return err
}

// AddUsage implements keys.Tx. not_found: there is no such key or dataset.
func (t *tx) AddUsage(u keys.Usage) error {
	_, err := t.exec(`INSERT INTO usage (key_id, dataset_id, action, product, version, day, count, first_at, last_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
		ON CONFLICT (key_id, dataset_id, action, product, version, day) DO UPDATE SET count = usage.count + excluded.count,
			first_at = CASE WHEN excluded.first_at < usage.first_at THEN excluded.first_at ELSE usage.first_at END,
			last_at = CASE WHEN excluded.last_at > usage.last_at THEN excluded.last_at ELSE usage.last_at END`,
		u.KeyID, u.DatasetID, string(u.Action), u.Product, u.Version, micros(u.Day), u.Count, micros(u.FirstAt), micros(u.LastAt))
	if isDangling(err) {
		return fault.New(fault.NotFound, "no key %q, or no dataset %q", u.KeyID, u.DatasetID).WithCause(err)
	}
	return err
}

// Usage implements keys.Tx.
func (t *tx) Usage(f keys.UsageFilter) ([]keys.Usage, error) {
	query := `SELECT key_id, dataset_id, action, product, version, day, count, first_at, last_at FROM usage WHERE day >= $1`
	args := []any{int64(earliestMicros)}
	if !f.Since.IsZero() {
		args[0] = micros(f.Since.UTC().Truncate(24 * time.Hour))
	}
	for _, only := range []struct{ column, id string }{{"key_id", f.KeyID}, {"dataset_id", f.DatasetID}} {
		if only.id != "" {
			args = append(args, only.id)
			query += fmt.Sprintf(" AND %s = $%d", only.column, len(args))
		}
	}
	return list(t, func(row scan) (u keys.Usage, err error) {
		return u, row(&u.KeyID, &u.DatasetID, &u.Action, &u.Product, &u.Version, instant{&u.Day}, &u.Count, instant{&u.FirstAt}, instant{&u.LastAt})
	}, query+` ORDER BY key_id, dataset_id, action, product, version, day`, args...)
}
