package keys

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"

	"keyctl/internal/credential"
	"keyctl/internal/envelope"
	"keyctl/internal/fault"
	"keyctl/internal/structured"
)

// structuredKeyBytes is the length of a structured dataset's data keys: AES-256, the longest that FF1 takes.
const structuredKeyBytes = 32

// structuredBinding ties a sealed data key to its dataset and number.
func structuredBinding(datasetID string, number int) []byte {
	return []byte("structured\x00" + datasetID + "\x00" + strconv.Itoa(number))
}

func (l *Local) drawDataKey() ([]byte, error) {
	k := make([]byte, structuredKeyBytes)
	if _, err := io.ReadFull(l.env.Rand, k); err != nil {
		return nil, fmt.Errorf("drawing a data key: %w", err)
	}
	return k, nil
}

// addDataKey seals a data key under the newest version of the dataset's Primary Key and stores it.
func (c *change) addDataKey(d Dataset, number int, plain []byte) error {
	version, err := c.PrimaryKeyVersion(d.PrimaryKeyID, 0)
	if err != nil {
		return err
	}
	primary, err := c.l.openPrimary(d.PrimaryKeyID, version)
	if err != nil {
		return err
	}
	sealed, err := primary.Seal(version.Version, structuredBinding(d.ID, number), plain)
	if err != nil {
		return err
	}
	return c.PutDataKey(DataKey{DatasetID: d.ID, Number: number, CreatedAt: c.now, CreatedBy: c.l.caller.Name, Sealed: sealed})
}

// RotateDataset implements Service.
func (l *Local) RotateDataset(ctx context.Context, name string) (DatasetView, error) {
	var view DatasetView
	plain, err := l.drawDataKey()
	if err != nil {
		return view, err
	}
	err = l.update(ctx, func(c *change) error {
		d, err := findDatasetRecord(c, name)
		if err != nil {
			return err
		}
		if d.Type != Structured {
			return fault.New(fault.Invalid, "%q is unstructured: each encryption has a data key of its own", name).
				WithHint("`keyctl primary-keys rotate` rotates what they are sealed under")
		}
		primary, err := c.PrimaryKey(d.PrimaryKeyID)
		switch highest := d.Format.HighestKeyNumber(); {
		case err != nil:
			return err
		case primary.State() == PrimaryKeyDisabled:
			return primaryKeyDisabled(primary.Name)
		case d.DataKeys > highest:
			return fault.New(fault.Invalid, "the output alphabet of %q carries data keys 0 to %d, and all of them are there: 0 rotations are left", name, highest).
				WithHint("make a new dataset with a larger output alphabet, and move the data")
		}
		if err := c.addDataKey(d.Dataset, d.DataKeys, plain); err != nil {
			return err
		}
		c.note("datasets.rotate", datasetObject(d.Dataset), "key_number", strconv.Itoa(d.DataKeys))
		d.DataKeys++
		view = d.View()
		return nil
	})
	return view, err
}

// StructuredKeys are the data keys of one structured dataset for the holder of the calling credential.
type StructuredKeys struct {
	Record        structured.Record // the dataset as client libraries know it
	PrivateKeyPEM []byte
	Current       int      // the number of the data key that encrypts
	Wrapped       [][]byte // data key 0, 1, …
}

// StructuredKey is one of them.
type StructuredKey struct {
	PrivateKeyPEM []byte
	Number        int
	Wrapped       []byte
}

// DatasetRecord returns a structured dataset as client libraries know it, with what the key may do in it.
func (p *DataPlane) DatasetRecord(ctx context.Context, claim Claim, name string) (structured.Record, error) {
	var a Admission
	var r Reach
	err := p.local.store.View(ctx, func(tx Tx) (err error) {
		if a, err = p.admit(tx, claim); err != nil {
			return err
		}
		r, err = structuredReach(tx, a, name)
		return err
	})
	if err != nil {
		return structured.Record{}, err
	}
	p.local.touchLater(a, claim.From)
	return record(r), nil
}

func record(r Reach) structured.Record {
	return r.Format.Record(r.Name, structured.Permissions{Encrypt: r.Encrypt, Decrypt: r.Decrypt})
}

// structuredReach finds a structured dataset that the key reaches. One that is unstructured is no more there than one that is
// not.
func structuredReach(tx Tx, a Admission, name string) (Reach, error) {
	r, err := tx.Reach(a.Key.ID, name)
	if err == nil && r.Type != Structured {
		err = fault.New(fault.NotFound, "it is unstructured")
	}
	return r, notReached(err)
}

// StructuredKey hands out one data key of a structured dataset: number nil is the one that encrypts. invalid: there is no such
// number. forbidden: the key may not encrypt with the newest one, or not decrypt with that number.
func (p *DataPlane) StructuredKey(ctx context.Context, claim Claim, name string, number *int) (StructuredKey, error) {
	defer p.local.journal.begin()()
	sealed, err := p.structured(ctx, claim, func(tx Tx, a Admission) ([]Reach, error) {
		r, err := structuredReach(tx, a, name)
		return []Reach{r}, err
	})
	if err != nil {
		return StructuredKey{}, err
	}
	set := sealed.sets[0]
	current := len(set.keys) - 1
	wanted := current
	if number != nil {
		wanted = *number
	}
	switch allowed := set.reach.Grant; {
	case wanted < 0 || wanted > current:
		return StructuredKey{}, fault.New(fault.Invalid, "the dataset has no data key of that number")
	case number == nil && !allowed.Encrypt:
		return StructuredKey{}, forbidden(sealed.admission, "the key may not encrypt in this dataset")
	case number != nil && !allowed.Decrypt && !(allowed.Encrypt && wanted == current):
		return StructuredKey{}, forbidden(sealed.admission, "the key may not decrypt in this dataset")
	}
	set.keys = set.keys[wanted : wanted+1]
	wrapped, err := p.unseal(sealed, set)
	if err != nil {
		return StructuredKey{}, err
	}
	out := StructuredKey{sealed.material.PrivateKeyPEM, wanted, wrapped[0]}
	return out, p.record(ctx, sealed.admission, claim.From, "data-keys.structured", []Reach{set.reach}, "key_number", strconv.Itoa(wanted))
}

// StructuredKeys hands out all data keys of the named structured datasets, or without names of all that the key reaches. Names
// that it does not reach are left out, as are datasets that it may not have all data keys of now: clients take all or none.
// forbidden, with the reason: one was left out and nothing is left. not_found: it reaches none of them.
func (p *DataPlane) StructuredKeys(ctx context.Context, claim Claim, names []string) ([]StructuredKeys, error) {
	defer p.local.journal.begin()()
	var withheld error
	sealed, err := p.structured(ctx, claim, func(tx Tx, a Admission) ([]Reach, error) {
		reached, err := tx.Reached(a.Key.ID, Structured)
		return slices.DeleteFunc(reached, func(r Reach) bool {
			if len(names) > 0 && !slices.Contains(names, r.Name) {
				return true
			}
			if r.PrimaryKeyDisabled {
				withheld = forbidden(a, "the dataset's Primary Key is disabled")
			}
			return r.PrimaryKeyDisabled
		}), err
	})
	if fault.Is(err, fault.NotFound) && withheld != nil {
		err = withheld
	}
	if err != nil {
		return nil, err
	}
	all := make([]StructuredKeys, 0, len(sealed.sets))
	reaches := make([]Reach, 0, len(sealed.sets))
	for _, set := range sealed.sets {
		if why := set.withheld(); why != "" {
			withheld = forbidden(sealed.admission, why)
			continue
		}
		wrapped, err := p.unseal(sealed, set)
		if err != nil {
			return nil, err
		}
		all = append(all, StructuredKeys{record(set.reach), sealed.material.PrivateKeyPEM, len(set.keys) - 1, wrapped})
		reaches = append(reaches, set.reach)
	}
	if len(all) == 0 {
		return nil, withheld
	}
	return all, p.record(ctx, sealed.admission, claim.From, "data-keys.structured", reaches, "key_number", "all")
}

// sealedKeys is what a release of structured data keys reads.
type sealedKeys struct {
	admission Admission
	material  Material
	sets      []sealedSet
}

// sealedSet has the data keys of one dataset, and the versions of its Primary Key that they are under.
type sealedSet struct {
	reach    Reach
	keys     []DataKey
	versions map[uint32]PrimaryKeyVersion
}

// structured reads the data keys of the datasets that find finds.
func (p *DataPlane) structured(ctx context.Context, claim Claim, find func(Tx, Admission) ([]Reach, error)) (sealedKeys, error) {
	var s sealedKeys
	err := p.local.store.View(ctx, func(tx Tx) (err error) {
		s.sets = nil
		if s.admission, err = p.admit(tx, claim); err != nil {
			return err
		}
		reached, err := find(tx, s.admission)
		if err != nil {
			return err
		}
		if len(reached) == 0 {
			return errNoneReached
		}
		if s.material, err = tx.Material(s.admission.Credential.AccessKeyID); err != nil {
			return err
		}
		for _, r := range reached {
			set, err := readSet(tx, s.admission, r)
			if err != nil {
				return err
			}
			s.sets = append(s.sets, set)
		}
		return nil
	})
	return s, err
}

// withheld tells why the data keys do not leave together; empty: they do. One after the other, StructuredKey hands out no others.
func (s sealedSet) withheld() string {
	for _, version := range s.versions {
		if version.State() == PrimaryKeyDisabled {
			return "a version of the dataset's Primary Key is disabled"
		}
	}
	if len(s.keys) > 1 && !s.reach.Decrypt {
		return "the key may not decrypt in this dataset, and gets the newest data key alone"
	}
	return ""
}

func readSet(tx Tx, a Admission, r Reach) (sealedSet, error) {
	set := sealedSet{reach: r, versions: map[uint32]PrimaryKeyVersion{}}
	if r.PrimaryKeyDisabled {
		return set, forbidden(a, "the dataset's Primary Key is disabled")
	}
	var err error
	if set.keys, err = tx.DataKeys(r.ID); err != nil {
		return set, err
	}
	if len(set.keys) == 0 {
		return set, fault.New(fault.StoreDamaged, "the dataset %q has no data keys", r.Name)
	}
	for _, k := range set.keys {
		number, err := envelope.PrimaryKeyVersion(k.Sealed)
		if err != nil {
			return set, err
		}
		if _, known := set.versions[number]; known {
			continue
		}
		if set.versions[number], err = tx.PrimaryKeyVersion(r.PrimaryKeyID, number); err != nil {
			return set, err
		}
	}
	return set, nil
}

// unseal opens data keys and wraps them for the caller.
func (p *DataPlane) unseal(s sealedKeys, set sealedSet) ([][]byte, error) {
	primaries := map[uint32]envelope.PrimaryKey{}
	plain := make([][]byte, 0, len(set.keys))
	defer func() {
		for _, k := range plain {
			clear(k)
		}
	}()
	for _, k := range set.keys {
		number, err := envelope.PrimaryKeyVersion(k.Sealed)
		if err != nil {
			return nil, err
		}
		version := set.versions[number]
		if version.State() == PrimaryKeyDisabled {
			return nil, forbidden(s.admission, "a version of the dataset's Primary Key is disabled")
		}
		primary, known := primaries[number]
		if !known {
			if primary, err = p.local.openPrimary(set.reach.PrimaryKeyID, version); err != nil {
				return nil, err
			}
			primaries[number] = primary
		}
		opened, err := primary.Open(number, structuredBinding(set.reach.ID, k.Number), k.Sealed)
		if err != nil {
			return nil, fault.New(fault.StoreDamaged, "a data key of %q cannot be opened", set.reach.Name).WithCause(err)
		}
		plain = append(plain, opened)
	}
	return credential.Wrap(s.material.PublicKey, plain...)
}
