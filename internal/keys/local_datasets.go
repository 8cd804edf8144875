package keys

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"keyctl/internal/audit"
	"keyctl/internal/fault"
)

// findDataset finds a dataset by name, without its keys.
func findDataset(tx Tx, name string) (Dataset, error) {
	d, err := tx.DatasetAlone(name)
	return d, noDataset(err, name)
}

// findDatasetRecord finds a dataset by name, with its keys: for showing it, and for what is to be done to all of them.
func findDatasetRecord(tx Tx, name string) (DatasetRecord, error) {
	d, err := tx.DatasetByName(name)
	return d, noDataset(err, name)
}

// noDataset words that there is no dataset of that name.
func noDataset(err error, name string) error {
	if fault.Is(err, fault.NotFound) {
		return fault.New(fault.NotFound, "no dataset %q", name).WithHint("`keyctl datasets list` shows the datasets")
	}
	return err
}

// Dataset implements Service.
func (l *Local) Dataset(ctx context.Context, name string) (DatasetView, error) {
	var view DatasetView
	err := l.view(ctx, func(tx Tx, _ time.Time) error {
		d, err := findDatasetRecord(tx, name)
		view = d.View()
		return err
	})
	return view, err
}

// Datasets implements Service.
func (l *Local) Datasets(ctx context.Context, cursor string, limit int) (Page[DatasetView], error) {
	var page Page[DatasetView]
	err := l.view(ctx, func(tx Tx, _ time.Time) (err error) {
		page, err = pageByName("datasets", cursor, limit, tx.Datasets, DatasetRecord.View, func(d DatasetRecord) string { return d.Name })
		return err
	})
	return page, err
}

// CreateDataset implements Service.
func (l *Local) CreateDataset(ctx context.Context, request NewDataset) (DatasetView, *Pending, error) {
	request.Algorithm = cmp.Or(request.Algorithm, usualAlgorithm(request.Type))
	if err := request.Validate(); err != nil {
		return DatasetView{}, nil, err
	}
	if request.FirstKey != nil {
		if err := request.FirstKey.validate(); err != nil {
			return DatasetView{}, nil, err
		}
	}
	d := datasetDraw{}
	var err error
	if d.id, err = drawID("ds_", l.env.Rand); err != nil {
		return DatasetView{}, nil, err
	}
	if d.primary, err = l.drawPrimaryKey(); err != nil {
		return DatasetView{}, nil, err
	}
	if d.dataKey, err = l.drawDataKey(); err != nil {
		return DatasetView{}, nil, err
	}
	if request.FirstKey != nil {
		if d.key, err = l.drawFor(request, *request.FirstKey); err != nil {
			return DatasetView{}, nil, err
		}
	}
	var view DatasetView
	var pending *Pending
	err = l.update(ctx, func(c *change) error {
		var err error
		if pending, err = c.createDataset(request, d); err != nil {
			return err
		}
		rec, err := findDatasetRecord(c, request.Name)
		view = rec.View()
		return err
	})
	return view, pending, err
}

// datasetDraw is what the making of a dataset needs besides its request, drawn outside the transaction.
type datasetDraw struct {
	id      string
	primary PrimaryKey
	dataKey []byte // number 0 of a structured one
	key     drawn
}

func usualAlgorithm(t DatasetType) string {
	if t == Structured {
		return FF1
	}
	return AES256GCM
}

// Validate checks what needs neither store nor offer, so that a caller can find a mistake before it opens or makes
// anything.
func (r NewDataset) Validate() error {
	if err := ValidateName("dataset", r.Name); err != nil {
		return err
	}
	if err := validateText("description", r.Description, maxDescription); err != nil {
		return err
	}
	if _, err := ParseDatasetType(string(r.Type)); err != nil {
		return err
	}
	if r.Type == Structured {
		return r.validateStructured()
	}
	switch {
	case r.Format != nil:
		return fault.New(fault.Invalid, "only a structured dataset has a format").WithHint("say --type %s", Structured)
	case r.Algorithm == "":
		return nil
	}
	_, err := ParseAlgorithm(r.Algorithm)
	return err
}

func (r NewDataset) validateStructured() error {
	switch {
	case r.Format == nil:
		return fault.New(fault.Invalid, "a structured dataset needs a format").WithHint("choose one with --preset, or describe one in a file with -f")
	case r.Algorithm != "" && r.Algorithm != FF1:
		return fault.New(fault.Invalid, "the algorithm of a structured dataset is %s", FF1)
	}
	return r.Format.Validate()
}

// createDataset stores a dataset with what is made together with it, or answers a repeat of the request.
func (c *change) createDataset(request NewDataset, d datasetDraw) (*Pending, error) {
	if request.FirstKey != nil {
		if repeated, err := c.repeat(d.key); err != nil || repeated != nil {
			return repeated, err
		}
	}
	if err := c.freeDatasetName(request.Name); err != nil {
		return nil, err
	}
	dataset := Dataset{
		ID: d.id, Name: request.Name, Description: request.Description, Type: request.Type, Algorithm: request.Algorithm,
		Format: request.Format, CreatedAt: c.now, CreatedBy: c.l.caller.Name, OwnPrimaryKey: request.PrimaryKey == "",
	}
	var err error
	if dataset.PrimaryKeyID, err = c.primaryKeyFor(request, d.primary); err != nil {
		return nil, err
	}
	if request.FirstKey == nil {
		c.note("datasets.create", datasetObject(dataset))
		return nil, c.addDataset(dataset, d.dataKey)
	}
	dataset.FirstKeyID = d.key.keyID
	name, err := freeName(dataset.Name, func(name string) error { _, err := c.KeyByName(name); return err })
	if err != nil {
		return nil, err
	}
	if err := c.addDataset(dataset, d.dataKey); err != nil {
		return nil, err
	}
	rec, err := c.addKey(NewKey{Name: name}, d.key, []Dataset{dataset})
	if err != nil {
		return nil, err
	}
	c.note("datasets.create", datasetObject(dataset))
	c.note("keys.create", keyObject(rec.Key), "access_key_id", d.key.offer.AccessKeyID)
	pending := rec.pending()
	return &pending, nil
}

// addDataset stores a dataset, a structured one with its first data key.
func (c *change) addDataset(d Dataset, dataKey []byte) error {
	if err := c.PutDataset(d); err != nil {
		return nameTaken(err, "dataset", d.Name)
	}
	if d.Type != Structured {
		return nil
	}
	return c.addDataKey(d, 0, dataKey)
}

// freeDatasetName makes way for a new dataset: one whose first key is still pending and that nothing else hangs on gives
// way together with that key, any other keeps its name.
func (c *change) freeDatasetName(name string) error {
	d, err := c.DatasetByName(name)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if d.FirstKeyID == "" || len(d.Keys) > 1 {
		return nameExists("dataset", name)
	}
	first, err := c.Key(d.FirstKeyID)
	if err != nil {
		return err
	}
	return c.dropUnproven(first, EndSuperseded)
}

// primaryKeyFor finds the Primary Key a request names, or stores a new one named after the dataset.
func (c *change) primaryKeyFor(request NewDataset, made PrimaryKey) (string, error) {
	if request.PrimaryKey != "" {
		primary, err := findPrimaryKey(c, request.PrimaryKey)
		return primary.ID, err
	}
	var err error
	made.Name, err = freeName(request.Name, func(name string) error { _, err := c.PrimaryKeyByName(name); return err })
	if err != nil {
		return "", err
	}
	return made.ID, c.addPrimaryKey(made)
}

// maxNumberedNames is how many names are tried before a create gives up.
const maxNumberedNames = 1000

// freeName returns name, or name with the first number that makes it free: taken answers not_found for a free one.
func freeName(name string, taken func(name string) error) (string, error) {
	candidate := name
	for n := 2; n <= maxNumberedNames; n++ {
		err := taken(candidate)
		if fault.Is(err, fault.NotFound) {
			return candidate, nil
		}
		if err != nil {
			return "", err
		}
		suffix := "-" + strconv.Itoa(n)
		candidate = name[:min(len(name), 64-len(suffix))] + suffix
	}
	return "", fault.New(fault.Exists, "all names from %q to %q are taken", name, fmt.Sprintf("%s-%d", name, maxNumberedNames))
}

// EditDataset implements Service.
func (l *Local) EditDataset(ctx context.Context, name string, edit DatasetEdit) (DatasetView, error) {
	var view DatasetView
	err := l.update(ctx, func(c *change) error {
		d, err := findDatasetRecord(c, name)
		if err != nil {
			return err
		}
		before := d.Dataset
		if edit.Algorithm != nil && d.Type == Structured {
			return fault.New(fault.Invalid, "the algorithm of a structured dataset is %s", FF1)
		}
		if err := edit.apply(&d.Dataset); err != nil {
			return err
		}
		view = d.View()
		c.noteEdit("datasets.edit", datasetObject(d.Dataset), slices.Concat(
			difference("name", before.Name, d.Name),
			difference("description", before.Description, d.Description),
			difference("algorithm", before.Algorithm, d.Algorithm),
		))
		return nameTaken(c.PutDataset(d.Dataset), "dataset", d.Name)
	})
	return view, err
}

func (e DatasetEdit) apply(d *Dataset) error {
	if e.Name != nil {
		if err := ValidateName("dataset", *e.Name); err != nil {
			return err
		}
		d.Name = *e.Name
	}
	if e.Description != nil {
		if err := validateText("description", *e.Description, maxDescription); err != nil {
			return err
		}
		d.Description = *e.Description
	}
	if e.Algorithm != nil {
		var err error
		d.Algorithm, err = ParseAlgorithm(*e.Algorithm)
		return err
	}
	return nil
}

// DeleteDataset implements Service.
func (l *Local) DeleteDataset(ctx context.Context, name string, detach bool) (DatasetView, error) {
	var view DatasetView
	err := l.update(ctx, func(c *change) error {
		d, err := findDatasetRecord(c, name)
		if err != nil {
			return err
		}
		if len(d.Keys) > 0 && !detach {
			return fault.New(fault.StillAttached, "%d keys are attached to the dataset %q, %q among them", len(d.Keys), name, d.Keys[0]).
				WithHint("detach them first, or add --detach")
		}
		for _, key := range d.Keys {
			rec, err := c.KeyByName(key)
			if err != nil {
				return err
			}
			if _, err := c.Detach(d.ID, rec.ID); err != nil {
				return err
			}
			c.note("datasets.detach", datasetObject(d.Dataset), "key", rec.Name, "key_id", rec.ID)
		}
		view = d.View()
		d.DeletedAt, d.FirstKeyID = c.now, ""
		c.note("datasets.delete", datasetObject(d.Dataset))
		return c.PutDataset(d.Dataset)
	})
	return view, err
}

// AttachKeys implements Service.
func (l *Local) AttachKeys(ctx context.Context, dataset string, refs []string, grant Grant) (DatasetView, error) {
	if grant == (Grant{}) {
		return DatasetView{}, fault.New(fault.Invalid, "a key that may neither encrypt nor decrypt is not attached").
			WithHint("`keyctl datasets detach` takes a key out of a dataset")
	}
	var detail []string
	if grant != FullGrant {
		detail = []string{"grant", grant.Word()}
	}
	return l.linkKeys(ctx, "datasets.attach", dataset, refs, func(c *change, d Dataset, rec KeyRecord) (bool, error) {
		if err := requireState(rec.Key, c.now, KeyActive, KeyDisabled); err != nil {
			return false, err
		}
		var all []Dataset
		for _, other := range rec.Datasets {
			if other.ID != d.ID {
				all = append(all, other.Dataset)
			}
		}
		if err := oneUnstructured(append(all, d)); err != nil {
			return false, fault.From(err).WithHint("detach %q from it first, or create another key", rec.Name)
		}
		return c.Attach(d.ID, rec.ID, grant, c.now)
	}, detail...)
}

// DetachKeys implements Service.
func (l *Local) DetachKeys(ctx context.Context, dataset string, refs []string) (DatasetView, error) {
	return l.linkKeys(ctx, "datasets.detach", dataset, refs, func(c *change, d Dataset, rec KeyRecord) (bool, error) {
		if rec.State(c.now) == KeyDeleted {
			return false, stateError(rec.Key, KeyDeleted)
		}
		if d.FirstKeyID == rec.ID { // taken apart, neither goes with the other
			d.FirstKeyID = ""
			if err := c.PutDataset(d); err != nil {
				return false, err
			}
		}
		return c.Detach(d.ID, rec.ID)
	})
}

// linkKeys applies link to each of the keys, all or none, and audits each one.
func (l *Local) linkKeys(ctx context.Context, action, dataset string, refs []string, link func(*change, Dataset, KeyRecord) (bool, error), detail ...string) (DatasetView, error) {
	var view DatasetView
	if len(refs) == 0 {
		return view, fault.New(fault.Invalid, "no key named").WithHint("name the dataset first, then one or more keys")
	}
	err := l.update(ctx, func(c *change) error {
		d, err := findDataset(c, dataset)
		if err != nil {
			return err
		}
		for _, ref := range refs {
			rec, err := findKey(c, ref, c.now)
			if err != nil {
				return err
			}
			changed, err := link(c, d, rec)
			if err != nil {
				return err
			}
			outcome := audit.OK
			if !changed {
				outcome = audit.NoOp
			}
			c.noteOutcome(action, datasetObject(d), outcome, append([]string{"key", rec.Name, "key_id", rec.ID}, detail...)...)
		}
		linked, err := findDatasetRecord(c, dataset)
		view = linked.View()
		return err
	})
	return view, err
}
