package store

import (
	"slices"

	"keyctl/internal/fault"
	"keyctl/internal/keys"
)

const selectPrimaryKey = `SELECT id, name, description, created_at, created_by, disabled_at FROM primary_keys `

func primaryKeyRow(row scan) (r keys.PrimaryKeyRecord, err error) {
	err = row(&r.ID, &r.Name, &r.Description, instant{&r.CreatedAt}, &r.CreatedBy, instant{&r.DisabledAt})
	return r, err
}

// PrimaryKey implements keys.Tx.
func (t *tx) PrimaryKey(id string) (keys.PrimaryKeyRecord, error) {
	return t.primaryKeyRecord(id, selectPrimaryKey+`WHERE id = $1`)
}

// PrimaryKeyByName implements keys.Tx.
func (t *tx) PrimaryKeyByName(name string) (keys.PrimaryKeyRecord, error) {
	return t.primaryKeyRecord(name, selectPrimaryKey+`WHERE name = $1`)
}

func (t *tx) primaryKeyRecord(ref, query string) (keys.PrimaryKeyRecord, error) {
	return only(t, "Primary Key", ref, primaryKeyRow, t.addVersions, query)
}

// PrimaryKeys implements keys.Tx.
func (t *tx) PrimaryKeys(after string, limit int) ([]keys.PrimaryKeyRecord, error) {
	if limit <= 0 {
		return nil, nil
	}
	return completed(t, primaryKeyRow, t.addVersions, selectPrimaryKey+`WHERE name > $1 ORDER BY name LIMIT $2`, after, limit)
}

// addVersions adds the versions and the names of the datasets, with one query for each.
func (t *tx) addVersions(records []keys.PrimaryKeyRecord) error {
	ids := make([]string, len(records))
	at := make(map[string]*keys.PrimaryKeyRecord, len(records))
	for i := range records {
		ids[i], at[records[i].ID] = records[i].ID, &records[i]
	}
	err := hang(t, at, ids, func(row scan) (id string, v keys.PrimaryKeyVersion, err error) {
		err = row(&id, &v.Version, instant{&v.CreatedAt}, instant{&v.DisabledAt}, &v.Sealed)
		return id, v, err
	}, func(r *keys.PrimaryKeyRecord, v keys.PrimaryKeyVersion) { r.Versions = append(r.Versions, v) },
		`SELECT primary_key_id, version, created_at, disabled_at, sealed FROM primary_key_versions
		WHERE primary_key_id IN (%s) ORDER BY primary_key_id, version`)
	if err != nil {
		return err
	}
	err = hang(t, at, ids, idAndName, func(r *keys.PrimaryKeyRecord, name string) { r.Datasets = append(r.Datasets, name) },
		`SELECT primary_key_id, name FROM datasets WHERE primary_key_id IN (%s) AND deleted_at IS NULL`)
	if err != nil {
		return err
	}
	for i := range records {
		slices.Sort(records[i].Datasets)
	}
	return nil
}

// PutPrimaryKey implements keys.Tx.
func (t *tx) PutPrimaryKey(k keys.PrimaryKey) error {
	_, err := t.exec(`INSERT INTO primary_keys (id, name, description, created_at, created_by, disabled_at)
		VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (id) DO UPDATE SET name = excluded.name, description = excluded.description,
			created_at = excluded.created_at, created_by = excluded.created_by, disabled_at = excluded.disabled_at`,
		k.ID, k.Name, k.Description, micros(k.CreatedAt), k.CreatedBy, optionalMicros(k.DisabledAt))
	if isTaken(err) {
		return fault.New(fault.Exists, "there is a Primary Key %q already", k.Name).WithCause(err)
	}
	if err != nil {
		return err
	}
	for _, v := range k.Versions {
		_, err := t.exec(`INSERT INTO primary_key_versions (primary_key_id, version, created_at, disabled_at, sealed)
			VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (primary_key_id, version) DO UPDATE SET created_at = excluded.created_at,
				disabled_at = excluded.disabled_at, sealed = excluded.sealed`,
			k.ID, int64(v.Version), micros(v.CreatedAt), optionalMicros(v.DisabledAt), v.Sealed)
		if err != nil {
			return err
		}
	}
	return nil
}

// RemovePrimaryKey implements keys.Tx. not_found: there is no such Primary Key. still_attached: a dataset, even a deleted
// one, is under it.
func (t *tx) RemovePrimaryKey(id string) error {
	_, used, err := first(t, integer,
		`SELECT 1 FROM datasets WHERE primary_key_id = $1 LIMIT 1`, id)
	if err != nil {
		return err
	}
	if used {
		return fault.New(fault.StillAttached, "there are datasets under the Primary Key %q", id)
	}
	if _, err := t.exec(`DELETE FROM primary_key_versions WHERE primary_key_id = $1`, id); err != nil {
		return err
	}
	removed, err := t.exec(`DELETE FROM primary_keys WHERE id = $1`, id)
	if err == nil && removed == 0 {
		return fault.New(fault.NotFound, "no Primary Key %q", id)
	}
	t.wiped = t.wiped || err == nil
	return err
}
