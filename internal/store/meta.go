package store

import (
	"keyctl/internal/fault"
	"keyctl/internal/keys"
)

// Meta reads the store's own row. Its columns are those of the first version for good: they are read before an upgrade, to
// check the master key.
func (t *tx) Meta() (keys.Meta, error) {
	m, found, err := first(t, func(row scan) (m keys.Meta, err error) {
		err = row(&m.StoreID, instant{&m.CreatedAt}, &m.CheckValue, &m.Keyring, &m.Decoy)
		return m, err
	}, `SELECT store_id, created_at, check_value, keyring, decoy FROM meta WHERE id = 1`)
	if err == nil && !found {
		err = fault.New(fault.NoStore, "the store %q was never initialised", t.db.path).WithHint("run `keyctl init`")
	}
	return m, err
}

// PutMeta implements keys.Tx.
func (t *tx) PutMeta(m keys.Meta) error {
	_, err := t.exec(`INSERT INTO meta (id, store_id, created_at, check_value, keyring, decoy) VALUES (1, $1, $2, $3, $4, $5)
		ON CONFLICT (id) DO UPDATE SET store_id = excluded.store_id, created_at = excluded.created_at,
			check_value = excluded.check_value, keyring = excluded.keyring, decoy = excluded.decoy`,
		m.StoreID, micros(m.CreatedAt), m.CheckValue, m.Keyring, m.Decoy)
	return err
}
