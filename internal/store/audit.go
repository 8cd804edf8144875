package store

import (
	"fmt"

	"keyctl/internal/audit"
	"keyctl/internal/fault"
)

const selectHead = `SELECT seq, hash, mac FROM audit_head WHERE id = 1`

func headRow(row scan) (h audit.Head, err error) {
	var hash []byte
	if err := row(&h.Seq, &hash, &h.MAC); err != nil {
		return h, err
	}
	if copy(h.Hash[:], hash) != len(hash) || len(hash) != len(h.Hash) {
		return h, fmt.Errorf("the hash of the audit head has %d bytes", len(hash))
	}
	return h, nil
}

// AuditHead implements keys.Tx.
func (t *tx) AuditHead() (audit.Head, error) {
	if t.head != nil {
		return *t.head, nil
	}
	h, found, err := first(t, headRow, selectHead)
	if err == nil && !found {
		err = fault.New(fault.NotFound, "the audit log of the store %q is empty", t.db.path)
	}
	return h, err
}

// AppendAudit implements keys.Tx. A record of a number that is there already contradicts the head it was made from:
// store_damaged.
func (t *tx) AppendAudit(head audit.Head, records ...audit.Record) error {
	for _, r := range records {
		taken := func(err error) error {
			if isTaken(err) {
				return fault.New(fault.StoreDamaged, "the audit log of the store %q has a record %d beyond its head", t.db.path, r.Seq).
					WithHint("run `keyctl audit verify`").WithCause(err)
			}
			return err
		}
		if err := t.later(taken, `INSERT INTO audit_log (seq, body, mac) VALUES ($1, $2, $3)`, r.Seq, r.Body, r.MAC); err != nil {
			return err
		}
	}
	t.head = &head
	return t.later(plainly, `INSERT INTO audit_head (id, seq, hash, mac) VALUES (1, $1, $2, $3)
		ON CONFLICT (id) DO UPDATE SET seq = excluded.seq, hash = excluded.hash, mac = excluded.mac`,
		head.Seq, head.Hash[:], head.MAC)
}

// AuditRecords implements keys.Tx.
func (t *tx) AuditRecords(after int64, limit int) ([]audit.Record, error) {
	if limit <= 0 {
		return nil, nil
	}
	return list(t, func(row scan) (r audit.Record, err error) {
		err = row(&r.Seq, &r.Body, &r.MAC)
		return r, err
	}, `SELECT seq, body, mac FROM audit_log WHERE seq > $1 ORDER BY seq LIMIT $2`, after, limit)
}
