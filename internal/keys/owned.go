package keys

import (
	"slices"

	"keyctl/internal/access"
	"keyctl/internal/fault"
)

// scoped limits a ci operator's view of the store to the keys it made itself and the datasets of its token. What is
// outside is not found, as if it was not there; only a name or an id that is taken shows that something is.
func (l *Local) scoped(tx Tx) Tx {
	if l.token == nil || l.caller.Role != access.CI {
		return tx
	}
	return ownedTx{Tx: tx, operator: l.caller.Name, datasets: l.token.Datasets}
}

// ownedTx is a Tx on which other operators' keys are missing.
type ownedTx struct {
	Tx
	operator string
	datasets []string // ids
}

func (t ownedTx) owns(k Key) bool { return k.CreatedBy == t.operator }

// own passes on a key of the operator's.
func (t ownedTx) own(rec KeyRecord, err error) func(ref string) (KeyRecord, error) {
	return func(ref string) (KeyRecord, error) {
		if err == nil && !t.owns(rec.Key) {
			return KeyRecord{}, fault.New(fault.NotFound, "no key %q", ref)
		}
		return rec, err
	}
}

func (t ownedTx) Key(id string) (KeyRecord, error) { return t.own(t.Tx.Key(id))(id) }

func (t ownedTx) KeyByName(name string) (KeyRecord, error) { return t.own(t.Tx.KeyByName(name))(name) }

func (t ownedTx) KeyOf(accessKeyID string) (KeyRecord, error) {
	rec, err := t.Tx.KeyOf(accessKeyID)
	if err == nil && !t.owns(rec.Key) {
		return KeyRecord{}, fault.New(fault.NotFound, "no credential %q", accessKeyID)
	}
	return rec, err
}

// KeysByIDPrefix leaves out what is not the operator's before it counts: an ambiguity with somebody else's key would show it.
func (t ownedTx) KeysByIDPrefix(prefix string, limit int) ([]KeyRecord, error) {
	records, err := t.Tx.KeysByIDPrefix(prefix, MaxPage)
	records = slices.DeleteFunc(records, func(r KeyRecord) bool { return !t.owns(r.Key) })
	return records[:min(limit, len(records))], err
}

// Keys reads on until the page is full of the operator's keys or the keys are at an end.
func (t ownedTx) Keys(page KeyPage) ([]KeyRecord, error) {
	var own []KeyRecord
	limit := page.Limit
	for {
		records, err := t.Tx.Keys(page)
		if err != nil {
			return nil, err
		}
		for _, r := range records {
			if t.owns(r.Key) && len(own) < limit {
				own = append(own, r)
			}
		}
		if len(own) == limit || len(records) < page.Limit {
			return own, nil
		}
		after := page.Order.Position(records[len(records)-1].Key)
		page.After, page.Limit = &after, max(page.Limit, scanBatch)
	}
}

func (t ownedTx) Credential(accessKeyID string) (Credential, error) {
	c, err := t.Tx.Credential(accessKeyID)
	if err != nil {
		return c, err
	}
	rec, err := t.Tx.Key(c.KeyID)
	if fault.Is(err, fault.NotFound) || err == nil && !t.owns(rec.Key) {
		return Credential{}, fault.New(fault.NotFound, "no credential %q", accessKeyID)
	}
	return c, err
}

func (t ownedTx) DatasetByName(name string) (DatasetRecord, error) {
	d, err := t.Tx.DatasetByName(name)
	if err == nil && !slices.Contains(t.datasets, d.ID) {
		return DatasetRecord{}, fault.New(fault.NotFound, "no dataset %q", name)
	}
	return d, err
}

func (t ownedTx) DatasetAlone(name string) (Dataset, error) {
	d, err := t.Tx.DatasetAlone(name)
	if err == nil && !slices.Contains(t.datasets, d.ID) {
		return Dataset{}, fault.New(fault.NotFound, "no dataset %q", name)
	}
	return d, err
}
