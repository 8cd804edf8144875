package store

import (
	"fmt"
	"slices"
	"time"

	"keyctl/internal/fault"
	"keyctl/internal/keys"
)

const datasetColumns = `datasets.id, datasets.name, datasets.description, datasets.type, datasets.algorithm,
	datasets.primary_key_id, datasets.created_at, datasets.created_by, datasets.deleted_at, datasets.first_key_id,
	datasets.own_primary_key, datasets.format`

// datasetFields are where datasetColumns go. All may be NULL, in the row of a LEFT JOIN: then the dataset has no id.
func datasetFields(d *keys.Dataset) []any {
	return []any{
		orZero(&d.ID), orZero(&d.Name), orZero(&d.Description), orZero(&d.Type), orZero(&d.Algorithm), orZero(&d.PrimaryKeyID),
		instant{&d.CreatedAt}, orZero(&d.CreatedBy), instant{&d.DeletedAt}, orZero(&d.FirstKeyID), orZero(&d.OwnPrimaryKey),
		document{&d.Format},
	}
}

// scanDataset reads datasetColumns and whatever a query selects after them.
func scanDataset(row scan, more ...any) (d keys.Dataset, err error) {
	if err = row(append(datasetFields(&d), more...)...); err == nil {
		err = checkDataset(d)
	}
	return d, err
}

// checkDataset refuses what no dataset is.
func checkDataset(d keys.Dataset) error {
	if d.ID == "" || d.Type != keys.Unstructured && d.Type != keys.Structured {
		return fmt.Errorf("the dataset %q has the unknown type %q", d.ID, string(d.Type))
	}
	return nil
}

// grantColumns are what a key may do in a dataset, and grantFields where they go; NULL is nothing.
const grantColumns = `key_datasets.may_encrypt, key_datasets.may_decrypt`

func grantFields(g *keys.Grant) []any { return []any{claim{&g.Encrypt}, claim{&g.Decrypt}} }

func datasetRow(row scan) (r keys.DatasetRecord, err error) {
	r.Dataset, err = scanDataset(row, &r.PrimaryKey, &r.DataKeys)
	return r, err
}

const selectDataset = `SELECT ` + datasetColumns + `, primary_keys.name,
	(SELECT count(*) FROM data_keys WHERE data_keys.dataset_id = datasets.id) FROM datasets
	JOIN primary_keys ON primary_keys.id = datasets.primary_key_id `

// Dataset implements keys.Tx.
func (t *tx) Dataset(id string) (keys.DatasetRecord, error) {
	return t.datasetRecord(id, selectDataset+`WHERE datasets.id = $1`)
}

// DatasetByName implements keys.Tx.
func (t *tx) DatasetByName(name string) (keys.DatasetRecord, error) {
	return t.datasetRecord(name, selectDataset+`WHERE datasets.name = $1 AND datasets.deleted_at IS NULL`)
}

// DatasetAlone implements keys.Tx.
func (t *tx) DatasetAlone(name string) (keys.Dataset, error) {
	read := func(row scan) (keys.Dataset, error) { return scanDataset(row) }
	nothing := func([]keys.Dataset) error { return nil }
	return only(t, "dataset", name, read, nothing, `SELECT `+datasetColumns+` FROM datasets WHERE name = $1 AND deleted_at IS NULL`)
}

func (t *tx) datasetRecord(ref, query string) (keys.DatasetRecord, error) {
	return only(t, "dataset", ref, datasetRow, t.addKeyNames, query)
}

// Datasets implements keys.Tx.
func (t *tx) Datasets(after string, limit int) ([]keys.DatasetRecord, error) {
	if limit <= 0 {
		return nil, nil
	}
	return completed(t, datasetRow, t.addKeyNames,
		selectDataset+`WHERE datasets.deleted_at IS NULL AND datasets.name > $1 ORDER BY datasets.name LIMIT $2`, after, limit)
}

// addKeyNames adds the names of the attached keys, with one query for all datasets.
func (t *tx) addKeyNames(records []keys.DatasetRecord) error {
	ids := make([]string, len(records))
	at := make(map[string]*keys.DatasetRecord, len(records))
	for i := range records {
		ids[i], at[records[i].ID] = records[i].ID, &records[i]
	}
	err := hang(t, at, ids, idAndName, func(r *keys.DatasetRecord, name string) { r.Keys = append(r.Keys, name) },
		`SELECT key_datasets.dataset_id, keys.name FROM key_datasets JOIN keys ON keys.id = key_datasets.key_id
		WHERE key_datasets.dataset_id IN (%s) AND keys.deleted_at IS NULL`)
	if err != nil {
		return err
	}
	for i := range records {
		slices.Sort(records[i].Keys)
	}
	return nil
}

// idAndName reads the id of one thing and the name of another that hangs on it.
func idAndName(row scan) (id, name string, err error) {
	err = row(&id, &name)
	return id, name, err
}

// PutDataset implements keys.Tx. not_found: there is no such Primary Key.
func (t *tx) PutDataset(d keys.Dataset) error {
	format, err := optionalJSON(d.Format)
	if err != nil {
		return err
	}
	_, err = t.exec(`INSERT INTO datasets (id, name, description, type, algorithm, primary_key_id, created_at, created_by,
			deleted_at, first_key_id, own_primary_key, format)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
		ON CONFLICT (id) DO UPDATE SET name = excluded.name, description = excluded.description, type = excluded.type,
			algorithm = excluded.algorithm, primary_key_id = excluded.primary_key_id, created_at = excluded.created_at,
			created_by = excluded.created_by, deleted_at = excluded.deleted_at, first_key_id = excluded.first_key_id,
			own_primary_key = excluded.own_primary_key, format = excluded.format`,
		d.ID, d.Name, d.Description, string(d.Type), d.Algorithm, d.PrimaryKeyID, micros(d.CreatedAt), d.CreatedBy,
		optionalMicros(d.DeletedAt), d.FirstKeyID, number(d.OwnPrimaryKey), format)
	switch {
	case isTaken(err):
		return fault.New(fault.Exists, "there is a dataset %q already", d.Name).WithCause(err)
	case isDangling(err):
		return fault.New(fault.NotFound, "no Primary Key %q", d.PrimaryKeyID).WithCause(err)
	}
	return err
}

// RemoveDataset implements keys.Tx. not_found: there is no such dataset. still_attached: a key, even a deleted one, is
// attached to it.
func (t *tx) RemoveDataset(id string) error {
	if _, err := t.exec(`DELETE FROM data_keys WHERE dataset_id = $1`, id); err != nil {
		return err
	}
	removed, err := t.exec(`DELETE FROM datasets WHERE id = $1`, id)
	switch {
	case isDangling(err):
		return fault.New(fault.StillAttached, "keys are attached to the dataset %q", id).WithCause(err)
	case err == nil && removed == 0:
		return noDataset(id)
	}
	t.wiped = t.wiped || err == nil
	return err
}

// Attach implements keys.Tx. not_found: there is no such key or dataset.
func (t *tx) Attach(datasetID, keyID string, grant keys.Grant, at time.Time) (bool, error) {
	attached, err := t.exec(`INSERT INTO key_datasets (key_id, dataset_id, attached_at, may_encrypt, may_decrypt) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (key_id, dataset_id) DO UPDATE SET may_encrypt = excluded.may_encrypt, may_decrypt = excluded.may_decrypt
			WHERE key_datasets.may_encrypt <> excluded.may_encrypt OR key_datasets.may_decrypt <> excluded.may_decrypt`,
		keyID, datasetID, micros(at), number(grant.Encrypt), number(grant.Decrypt))
	if isDangling(err) {
		return false, fault.New(fault.NotFound, "no key %q, or no dataset %q", keyID, datasetID).WithCause(err)
	}
	return attached > 0, err
}

// Detach implements keys.Tx.
func (t *tx) Detach(datasetID, keyID string) (bool, error) {
	detached, err := t.exec(`DELETE FROM key_datasets WHERE key_id = $1 AND dataset_id = $2`, keyID, datasetID)
	return detached > 0, err
}
