package store

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"keyctl/internal/fault"
	"keyctl/internal/iprange"
	"keyctl/internal/keys"
)

const keyColumns = `keys.id, keys.name, keys.description, keys.labels, keys.ip_ranges, keys.created_at, keys.created_by,
	keys.activated_at, keys.expires_at, keys.disabled_at, keys.compromised_at, keys.deleted_at, keys.last_used_at`

// scanKey reads keyColumns and whatever a query selects after them.
func scanKey(row scan, more ...any) (keys.Key, error) {
	k := keys.Key{Labels: map[string]string{}}
	var ranges string
	err := row(append([]any{
		&k.ID, &k.Name, &k.Description, document{&k.Labels}, &ranges, instant{&k.CreatedAt}, &k.CreatedBy,
		instant{&k.ActivatedAt}, instant{&k.ExpiresAt}, instant{&k.DisabledAt}, instant{&k.CompromisedAt},
		instant{&k.DeletedAt}, instant{&k.LastUsedAt},
	}, more...)...)
	if err == nil {
		k.IPRanges, err = iprange.ParseText(ranges)
	}
	return k, err
}

func plainKey(row scan) (keys.Key, error) { return scanKey(row) }

// Key implements keys.Tx.
func (t *tx) Key(id string) (keys.KeyRecord, error) {
	return t.keyRecord(id, selectRecord+`WHERE keys.id = $1`)
}

// KeyByName implements keys.Tx.
func (t *tx) KeyByName(name string) (keys.KeyRecord, error) {
	return t.keyRecord(name, selectRecord+`WHERE keys.name = $1 AND keys.deleted_at IS NULL`)
}

// KeyOf implements keys.Tx.
func (t *tx) KeyOf(accessKeyID string) (keys.KeyRecord, error) {
	rec, err := t.keyRecord(accessKeyID, selectRecord+`WHERE keys.id = (SELECT key_id FROM credentials WHERE access_key_id = $1)`)
	if fault.Is(err, fault.NotFound) {
		err = noCredential(accessKeyID)
	}
	return rec, err
}

// selectRecord selects one key together with what hangs on it. A row has one of its open credentials, of which there are three
// at most, and one of its datasets.
const selectRecord = `SELECT ` + keyColumns + `, ` + credentialColumns + `, ` + datasetColumns + `, ` + grantColumns + ` FROM keys
	LEFT JOIN credentials ON credentials.key_id = keys.id AND credentials.ended_at IS NULL
	LEFT JOIN key_datasets ON key_datasets.key_id = keys.id LEFT JOIN datasets ON datasets.id = key_datasets.dataset_id `

// keyRecord reads one key as keyRecords reads many, in a single statement: most requests ask for one.
func (t *tx) keyRecord(ref, query string) (keys.KeyRecord, error) {
	var rec keys.KeyRecord
	add := func(row keyRow) error {
		rec.Key = row.key
		if row.credential.AccessKeyID != "" {
			addOpen(&rec, row.credential)
		}
		known := func(d keys.Attachment) bool { return d.ID == row.dataset.ID }
		if row.dataset.ID != "" && !slices.ContainsFunc(rec.Datasets, known) {
			rec.Datasets = append(rec.Datasets, row.dataset)
		}
		return nil
	}
	t.StandsAlone()
	if err := each(t, scanKeyRow, add, query, ref); err != nil {
		return keys.KeyRecord{}, err
	}
	if rec.ID == "" {
		return keys.KeyRecord{}, fault.New(fault.NotFound, "no key %q", ref)
	}
	sortDatasets(rec.Datasets)
	return rec, nil
}

// keyRow is a row of selectRecord.
type keyRow struct {
	key        keys.Key
	credential keys.Credential // without an id: none
	dataset    keys.Attachment // without an id: none
}

func scanKeyRow(row scan) (r keyRow, err error) {
	r.key, err = scanKey(row, slices.Concat(credentialFields(&r.credential), datasetFields(&r.dataset.Dataset), grantFields(&r.dataset.Grant))...)
	switch {
	case err != nil:
	case r.credential.AccessKeyID != "" && r.credential.KeyID != r.key.ID:
		err = errors.New("an index and its table disagree")
	case r.dataset.ID != "":
		err = checkDataset(r.dataset.Dataset)
	}
	return r, err
}

func sortDatasets(datasets []keys.Attachment) {
	slices.SortFunc(datasets, func(a, b keys.Attachment) int { return cmp.Compare(a.Name, b.Name) })
}

const selectByPrefix = `SELECT ` + keyColumns + ` FROM keys WHERE deleted_at IS NULL AND id IN (
		SELECT id FROM keys WHERE id >= $1 AND id < $2
		UNION SELECT key_id FROM credentials WHERE access_key_id >= $1 AND access_key_id < $2 AND ended_at IS NULL)
	ORDER BY id LIMIT $3`

// KeysByIDPrefix implements keys.Tx. Ids are letters, digits and underscores, all of them below the tilde.
func (t *tx) KeysByIDPrefix(prefix string, limit int) ([]keys.KeyRecord, error) {
	found, err := list(t, plainKey, selectByPrefix, prefix, prefix+"~", limit)
	if err != nil {
		return nil, err
	}
	return t.keyRecords(found)
}

// keyRecords adds to keys what hangs on them, with two queries for all of them.
func (t *tx) keyRecords(found []keys.Key) ([]keys.KeyRecord, error) {
	records := make([]keys.KeyRecord, len(found))
	ids := make([]string, len(found))
	at := make(map[string]*keys.KeyRecord, len(found))
	for i, k := range found {
		records[i].Key, ids[i], at[k.ID] = k, k.ID, &records[i]
	}
	err := hang(t, at, ids, func(row scan) (string, keys.Credential, error) {
		c, err := scanCredential(row)
		return c.KeyID, c, err
	}, addOpen, `SELECT `+credentialColumns+` FROM credentials WHERE key_id IN (%s) AND ended_at IS NULL`)
	if err != nil {
		return nil, err
	}
	err = hang(t, at, ids, func(row scan) (keyID string, a keys.Attachment, err error) {
		a.Dataset, err = scanDataset(row, append(grantFields(&a.Grant), &keyID)...)
		return keyID, a, err
	}, func(r *keys.KeyRecord, a keys.Attachment) { r.Datasets = append(r.Datasets, a) },
		`SELECT `+datasetColumns+`, `+grantColumns+`, key_datasets.key_id FROM key_datasets
		JOIN datasets ON datasets.id = key_datasets.dataset_id WHERE key_datasets.key_id IN (%s)`)
	if err != nil {
		return nil, err
	}
	for i := range records {
		sortDatasets(records[i].Datasets)
	}
	return records, nil
}

// addOpen puts a credential that has not ended in its place.
func addOpen(r *keys.KeyRecord, c keys.Credential) {
	switch {
	case c.ProvenAt.IsZero():
		r.Pending = &c
	case c.GraceUntil.IsZero():
		r.Current = &c
	default:
		r.Grace = &c
	}
}

// PutKey implements keys.Tx.
func (t *tx) PutKey(k keys.Key) error {
	labels, err := json.Marshal(k.Labels)
	if err != nil {
		return err
	}
	if k.Labels == nil {
		labels = []byte("{}")
	}
	refused := func(err error) error {
		if isTaken(err) {
			return fault.New(fault.Exists, "there is a key %q already", k.Name).
				WithHint("choose another name, or delete that key first").WithCause(err)
		}
		return err
	}
	return t.later(refused, `INSERT INTO keys (id, name, description, labels, ip_ranges, created_at, created_by,
			activated_at, expires_at, disabled_at, compromised_at, deleted_at, last_used_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
		ON CONFLICT (id) DO UPDATE SET name = excluded.name, description = excluded.description,
			labels = excluded.labels, ip_ranges = excluded.ip_ranges, created_at = excluded.created_at,
			created_by = excluded.created_by, activated_at = excluded.activated_at, expires_at = excluded.expires_at,
			disabled_at = excluded.disabled_at, compromised_at = excluded.compromised_at,
			deleted_at = excluded.deleted_at, last_used_at = excluded.last_used_at`,
		k.ID, k.Name, k.Description, string(labels), k.IPRanges.Text(), micros(k.CreatedAt), k.CreatedBy,
		optionalMicros(k.ActivatedAt), optionalMicros(k.ExpiresAt), optionalMicros(k.DisabledAt),
		optionalMicros(k.CompromisedAt), optionalMicros(k.DeletedAt), optionalMicros(k.LastUsedAt))
}

// The instants that stand for "never" in an order, as the columns expires_rank and last_used_rank have them.
const (
	afterAllMicros  = 9223372036854775807
	beforeAllMicros = -9223372036854775807
)

// sortKey is the column that an order sorts by before the id, and a position in it.
func sortKey(order keys.KeyOrder) (column string, position func(keys.KeyPosition) any, err error) {
	timed := func(never int64) func(keys.KeyPosition) any {
		return func(p keys.KeyPosition) any {
			if p.Time.IsZero() {
				return never
			}
			return micros(p.Time)
		}
	}
	switch order {
	case keys.OrderName:
		return "name", func(p keys.KeyPosition) any { return p.Name }, nil
	case keys.OrderCreated:
		return "created_at", func(p keys.KeyPosition) any { return micros(p.Time) }, nil
	case keys.OrderExpires:
		return "expires_rank", timed(afterAllMicros), nil
	case keys.OrderLastUsed:
		return "last_used_rank", timed(beforeAllMicros), nil
	}
	return "", nil, fault.New(fault.Invalid, "keys cannot be ordered by %q", string(order))
}

// The two kinds of rows that lists show, in the words of their indexes.
const (
	liveKeys = "deleted_at IS NULL"
	pastKeys = "deleted_at IS NOT NULL AND activated_at IS NOT NULL"
)

// Keys implements keys.Tx.
func (t *tx) Keys(page keys.KeyPage) ([]keys.KeyRecord, error) {
	if page.Limit <= 0 {
		return nil, nil
	}
	few := false
	if page.DatasetID != "" {
		var err error
		if few, err = t.fewAttached(page.DatasetID); err != nil {
			return nil, err
		}
	}
	query, args, err := keysQuery(page, few, t.db.postgres)
	if err != nil {
		return nil, err
	}
	found, err := list(t, func(row scan) (keys.Key, error) {
		var position any
		return scanKey(row, &position)
	}, query, args...)
	if err != nil {
		return nil, err
	}
	return t.keyRecords(found)
}

// fewEnough is the number of keys up to which it is cheaper to fetch all keys of a dataset and sort them than to walk
// through an order and pick them.
const fewEnough = 1000

func (t *tx) fewAttached(datasetID string) (bool, error) {
	n, _, err := first(t, integer,
		`SELECT count(*) FROM (SELECT 1 FROM key_datasets WHERE dataset_id = $1 LIMIT $2) AS counted`, datasetID, fewEnough+1)
	return n <= fewEnough, err
}

// keysQuery writes the query for one page. Tombstones come from indexes of their own: SQLite merges them in as it reads the
// page, and PostgreSQL is asked for a page of either kind.
func keysQuery(page keys.KeyPage, few, postgres bool) (query string, args []any, err error) {
	column, position, err := sortKey(page.Order)
	if err != nil {
		return "", nil, err
	}
	compare, direction := ">", "ASC"
	if page.Descending {
		compare, direction = "<", "DESC"
	}
	from, conditions := "keys", ""
	mark := func(v any) string { args = append(args, v); return fmt.Sprintf("$%d", len(args)) }
	if page.NamePrefix != "" { // letters, digits, dots, dashes and underscores are all below the tilde
		conditions += " AND name >= " + mark(page.NamePrefix) + " AND name < " + mark(page.NamePrefix+"~")
	}
	if page.Off {
		conditions += " AND disabled_at IS NOT NULL"
	}
	if page.After != nil {
		conditions += fmt.Sprintf(" AND (%s, id) %s (%s, %s)", column, compare, mark(position(*page.After)), mark(page.After.ID))
	}
	switch {
	case page.DatasetID == "":
	case few:
		from = "key_datasets CROSS JOIN keys" // in this order: SQLite does not turn a CROSS JOIN around
		conditions += " AND keys.id = key_datasets.key_id AND key_datasets.dataset_id = " + mark(page.DatasetID)
	default:
		conditions += " AND EXISTS (SELECT 1 FROM key_datasets WHERE key_id = keys.id AND dataset_id = " + mark(page.DatasetID) + ")"
	}
	if page.Rolled {
		conditions += " AND id IN (SELECT key_id FROM credentials WHERE grace_until IS NOT NULL AND ended_at IS NULL)"
	}
	kinds := []string{liveKeys}
	if page.Deleted {
		kinds = append(kinds, pastKeys)
	}
	end := fmt.Sprintf(" ORDER BY sort_key %s, id %s LIMIT %s", direction, direction, mark(page.Limit))
	for i, kind := range kinds {
		kinds[i] = "SELECT " + keyColumns + ", " + column + " AS sort_key FROM " + from + " WHERE " + kind + conditions
		if postgres && len(kinds) > 1 {
			kinds[i] = "(" + kinds[i] + end + ")"
		}
	}
	return strings.Join(kinds, " UNION ALL ") + end, args, nil
}
