package keys

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"keyctl/internal/fault"
)

// The longest texts that are kept of what a client library says of itself.
const maxProduct = 64

// UsageEvent is what a client library tells of its use of a dataset.
type UsageEvent struct {
	Dataset string // its name, and empty for the key's unstructured one; a dataset the key does not reach is passed over
	Action  Action
	Count   int64 // how many pieces of data; at least 1
	FirstAt time.Time
	LastAt  time.Time
	Product string // the library
	Version string // its
}

// UsageQuery selects usage. Zero fields select all.
type UsageQuery struct {
	Key     string // a ref
	Dataset string // a name
	Since   time.Time
}

// UsageView is how often a key was used in a dataset on one day, as its client library told.
type UsageView struct {
	Key     string    `json:"key"`
	Dataset string    `json:"dataset"`
	Action  Action    `json:"action"`
	Product string    `json:"product"`
	Version string    `json:"version"`
	Day     time.Time `json:"day"`
	Count   int64     `json:"count"`
	FirstAt time.Time `json:"first_at"`
	LastAt  time.Time `json:"last_at"`
}

// Track remembers what the holder of a credential tells of his use. Times in the future count as now, and what is told of
// datasets that the key does not reach, or of no action, is passed over: client libraries send what they have.
func (p *DataPlane) Track(ctx context.Context, claim Claim, events []UsageEvent) error {
	defer p.local.journal.begin()()
	var a Admission
	var reached []Reach
	err := p.local.store.View(ctx, func(tx Tx) (err error) {
		if a, err = p.admit(tx, claim); err != nil {
			return err
		}
		reached, err = tx.Reached(a.Key.ID)
		return err
	})
	if err != nil {
		return err
	}
	ids := map[string]string{}
	for _, r := range reached {
		ids[r.Name] = r.ID
		if r.Type == Unstructured {
			ids[""] = r.ID // client libraries do not know its name
		}
	}
	sums := summed(events, ids, a.Key.ID, Instant(p.local.env.Now()))
	if len(sums) == 0 {
		p.local.touchLater(a, claim.From)
		return nil
	}
	return p.local.journal.add(ctx, func(c *change) error {
		for _, u := range sums {
			if err := c.AddUsage(u); err != nil {
				return err
			}
		}
		return c.touch(a, claim.From)
	})
}

// summed adds up events of the same kind, so that each kind is one row.
func summed(events []UsageEvent, ids map[string]string, keyID string, now time.Time) []Usage {
	type kind struct {
		dataset, product, version string
		action                    Action
		day                       time.Time
	}
	at := map[kind]int{}
	var sums []Usage
	for _, e := range events {
		id, there := ids[e.Dataset]
		if !there || e.Count < 1 || e.Action != ActionEncrypt && e.Action != ActionDecrypt {
			continue
		}
		first, last := told(e.FirstAt, now), told(e.LastAt, now)
		if last.Before(first) {
			first = last
		}
		k := kind{id, cut(e.Product), cut(e.Version), e.Action, last.Truncate(24 * time.Hour)}
		i, known := at[k]
		if !known {
			i = len(sums)
			at[k] = i
			sums = append(sums, Usage{
				KeyID: keyID, DatasetID: id, Action: k.action, Product: k.product, Version: k.version, Day: k.day, FirstAt: first, LastAt: last,
			})
		}
		sums[i].Count += e.Count
		if first.Before(sums[i].FirstAt) {
			sums[i].FirstAt = first
		}
		if last.After(sums[i].LastAt) {
			sums[i].LastAt = last
		}
	}
	return sums
}

// told is an instant that a client told: none, and one to come, count as now.
func told(at, now time.Time) time.Time {
	if at.IsZero() || at.After(now) || at.Year() < 1970 {
		return now
	}
	return Instant(at)
}

// cut keeps of a text what can be stored and shown.
func cut(text string) string {
	clean := make([]rune, 0, maxProduct)
	for _, r := range text {
		if len(clean) == maxProduct {
			break
		}
		if r >= ' ' && r < 0x7f {
			clean = append(clean, r)
		}
	}
	return string(clean)
}

// Usage implements Service.
func (l *Local) Usage(ctx context.Context, q UsageQuery) ([]UsageView, error) {
	views := []UsageView{}
	err := l.view(ctx, func(tx Tx, now time.Time) error {
		views = views[:0]
		filter := UsageFilter{Since: q.Since}
		if q.Key != "" {
			rec, err := findKey(tx, q.Key, now)
			if err != nil {
				return err
			}
			filter.KeyID = rec.ID
		}
		if q.Dataset != "" {
			d, err := findDataset(tx, q.Dataset)
			if err != nil {
				return err
			}
			filter.DatasetID = d.ID
		}
		found, err := tx.Usage(filter)
		if err != nil {
			return err
		}
		names := usageNames{tx, map[string]string{}}
		for _, u := range found {
			key, err := names.key(u.KeyID)
			if fault.Is(err, fault.NotFound) {
				continue // of a key that this caller does not see
			}
			if err != nil {
				return err
			}
			dataset, err := names.dataset(u.DatasetID)
			if err != nil {
				return err
			}
			views = append(views, UsageView{key, dataset, u.Action, u.Product, u.Version, u.Day, u.Count, u.FirstAt, u.LastAt})
		}
		slices.SortStableFunc(views, func(a, b UsageView) int {
			return cmp.Or(strings.Compare(a.Key, b.Key), strings.Compare(a.Dataset, b.Dataset))
		})
		return nil
	})
	return views, err
}

// usageNames finds the names of what rows of usage belong to, each once.
type usageNames struct {
	tx    Tx
	names map[string]string
}

func (n usageNames) key(id string) (string, error) {
	return n.name(id, func() (string, error) { k, err := n.tx.Key(id); return k.Name, err })
}

func (n usageNames) dataset(id string) (string, error) {
	return n.name(id, func() (string, error) { d, err := n.tx.Dataset(id); return d.Name, err })
}

func (n usageNames) name(id string, find func() (string, error)) (string, error) {
	if name, known := n.names[id]; known {
		return name, nil
	}
	name, err := find()
	if err == nil {
		n.names[id] = name
	}
	return name, err
}
