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
	a, sets, err := p.structured(ctx, claim, []string{name})
	if err != nil {
		return StructuredKey{}, err
	}
	set := sets[0]
	current := len(set.keys) - 1
	wanted := current
	if number != nil {
		wanted = *number
	}
	switch {
	case set.Reach.PrimaryKeyDisabled:
		return StructuredKey{}, forbidden(a, whyPrimaryDisabled)
	case wanted < 0 || wanted > current:
		return StructuredKey{}, fault.New(fault.Invalid, "the dataset has no data key of that number")
	case number == nil && !set.Reach.Encrypt:
		return StructuredKey{}, forbidden(a, "the key may not encrypt in this dataset")
	case number != nil && !set.Reach.Decrypt && !(set.Reach.Encrypt && wanted == current):
		return StructuredKey{}, forbidden(a, "the key may not decrypt in this dataset")
	}
	set.keys = set.keys[wanted : wanted+1]
	wrapped, err := p.unseal(a, set)
	if err != nil {
		return StructuredKey{}, err
	}
	out := StructuredKey{set.Material.PrivateKeyPEM, wanted, wrapped[0]}
	return out, p.record(ctx, a, claim.From, "data-keys.structured", []Reach{set.Reach}, "key_number", strconv.Itoa(wanted))
}

// StructuredKeys hands out all data keys of the named structured datasets, or without names of all that the key reaches. Names
// that it does not reach are left out, as are datasets that it may not have all data keys of now: clients take all or none.
// forbidden, with the reason: one was left out and nothing is left. not_found: it reaches none of them.
func (p *DataPlane) StructuredKeys(ctx context.Context, claim Claim, names []string) ([]StructuredKeys, error) {
	defer p.local.journal.begin()()
	a, sets, err := p.structured(ctx, claim, names)
	if err != nil {
		return nil, err
	}
	var withheld error
	all := make([]StructuredKeys, 0, len(sets))
	reaches := make([]Reach, 0, len(sets))
	for _, set := range sets {
		if why := set.withheld(); why != "" {
			withheld = forbidden(a, why)
			continue
		}
		wrapped, err := p.unseal(a, set)
		if err != nil {
			return nil, err
		}
		all = append(all, StructuredKeys{record(set.Reach), set.Material.PrivateKeyPEM, len(set.keys) - 1, wrapped})
		reaches = append(reaches, set.Reach)
	}
	if len(all) == 0 {
		return nil, withheld
	}
	return all, p.record(ctx, a, claim.From, "data-keys.structured", reaches, "key_number", "all")
}

// sealedSet has the data keys of one dataset, and the versions of its Primary Key that they are under. It has none when the Primary
// Key is disabled.
type sealedSet struct {
	Release
	keys     []DataKey
	versions map[uint32]PrimaryKeyVersion
}

// structured reads the data keys of the named structured datasets that a key reaches, or without names of all that it reaches.
// not_found: it reaches none of them.
func (p *DataPlane) structured(ctx context.Context, claim Claim, names []string) (a Admission, sets []sealedSet, err error) {
	name := "" // of several names all datasets are read
	if len(names) == 1 {
		name = names[0]
	}
	err = p.local.store.View(ctx, func(tx Tx) (err error) {
		sets = nil
		if a, err = p.admit(tx, claim); err != nil {
			return err
		}
		releases, err := tx.StructuredReleases(a.Key.ID, a.Credential.AccessKeyID, name)
		if err != nil {
			return err
		}
		for _, r := range releases {
			if len(names) > 0 && !slices.Contains(names, r.Reach.Name) {
				continue
			}
			set, err := readSet(tx, r)
			if err != nil {
				return err
			}
			sets = append(sets, set)
		}
		if len(sets) == 0 {
			return errNoneReached
		}
		return nil
	})
	return a, sets, err
}

const (
	whyPrimaryDisabled = "the dataset's Primary Key is disabled"
	whyVersionDisabled = "a version of the dataset's Primary Key is disabled"
)

// withheld tells why the data keys do not leave together; empty: they do. One after the other, StructuredKey hands out no others.
func (s sealedSet) withheld() string {
	if s.Reach.PrimaryKeyDisabled {
		return whyPrimaryDisabled
	}
	for _, version := range s.versions {
		if version.State() == PrimaryKeyDisabled {
			return whyVersionDisabled
		}
	}
	if len(s.keys) > 1 && !s.Reach.Decrypt {
		return "the key may not decrypt in this dataset, and gets the newest data key alone"
	}
	return ""
}

func readSet(tx Tx, r Release) (sealedSet, error) {
	set := sealedSet{Release: r, versions: map[uint32]PrimaryKeyVersion{}}
	if r.Reach.PrimaryKeyDisabled {
		return set, nil
	}
	var err error
	if set.keys, err = tx.DataKeys(r.Reach.ID); err != nil {
		return set, err
	}
	if len(set.keys) == 0 {
		return set, fault.New(fault.StoreDamaged, "the dataset %q has no data keys", r.Reach.Name)
	}
	for _, k := range set.keys {
		number, err := envelope.PrimaryKeyVersion(k.Sealed)
		if err != nil {
			return set, err
		}
		if _, known := set.versions[number]; known {
			continue
		}
		version := r.Version
		if number != version.Version { // the Primary Key was rotated since
			if version, err = tx.PrimaryKeyVersion(r.Reach.PrimaryKeyID, number); err != nil {
				return set, err
			}
		}
		set.versions[number] = version
	}
	return set, nil
}

// unseal opens data keys and wraps them for the caller.
func (p *DataPlane) unseal(a Admission, set sealedSet) ([][]byte, error) {
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
			return nil, forbidden(a, whyVersionDisabled)
		}
		primary, known := primaries[number]
		if !known {
			if primary, err = p.local.openPrimary(set.Reach.PrimaryKeyID, version); err != nil {
				return nil, err
			}
			primaries[number] = primary
		}
		opened, err := primary.Open(number, structuredBinding(set.Reach.ID, k.Number), k.Sealed)
		if err != nil {
			return nil, fault.New(fault.StoreDamaged, "a data key of %q cannot be opened", set.Reach.Name).WithCause(err)
		}
		plain = append(plain, opened)
	}
	return credential.Wrap(set.Material.PublicKey, plain...)
}
