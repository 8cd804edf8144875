package keystest

import (
	"strings"
	"testing"

	"keyctl/internal/fault"
	"keyctl/internal/keys"
)

// primaryKeyNames are the names of all Primary Keys.
func (w *world) primaryKeyNames(t testing.TB) (names []string) {
	t.Helper()
	for _, k := range All(t, func(cursor string) (keys.Page[keys.PrimaryKeyView], error) {
		return w.PrimaryKeys(t.Context(), cursor, 0)
	}) {
		names = append(names, k.Name)
	}
	return names
}

func testDatasets(t *testing.T, w *world) {
	got, p, err := w.CreateDataset(t.Context(), keys.NewDataset{
		Name: "files", Description: "all of them", Type: keys.Unstructured, Algorithm: keys.AES128GCM,
	})
	want := keys.DatasetView{
		ID: got.ID, Name: "files", Type: keys.Unstructured, Algorithm: "AES-128-GCM", Description: "all of them",
		PrimaryKey: "files", CreatedAt: w.now(), CreatedBy: "alex",
	}
	if err != nil || p != nil || !strings.HasPrefix(got.ID, "ds_") {
		t.Errorf("CreateDataset() = %+v, %v, %v", got, p, err)
	}
	Diff(t, "CreateDataset()", got, want)
	read, err := w.Dataset(t.Context(), "files")
	WantCode(t, "Dataset()", err, "")
	Diff(t, "Dataset()", read, want)
	primary, err := w.PrimaryKey(t.Context(), "files")
	if err != nil || primary.CurrentVersion != 1 || primary.State != keys.PrimaryKeyEnabled {
		t.Errorf("the dataset's Primary Key is %+v, %v", primary, err)
	}
	// Another dataset may share it; nothing is made then.
	shared, _, err := w.CreateDataset(t.Context(), keys.NewDataset{Name: "more", Type: keys.Unstructured, PrimaryKey: "files"})
	if err != nil || shared.PrimaryKey != "files" || shared.Algorithm != keys.AES256GCM {
		t.Errorf("a dataset under a shared Primary Key = %+v, %v", shared, err)
	}
	Diff(t, "the Primary Keys", w.primaryKeyNames(t), []string{"files"})
	primary, _ = w.PrimaryKey(t.Context(), "files")
	Diff(t, "the Primary Key's datasets", primary.Datasets, []string{"files", "more"})
}

func testDatasetRefuses(t *testing.T, w *world) {
	w.dataset(t, "files")
	spoiled := Draw(t).Offer
	spoiled.SigningKey = Draw(t).CryptoAccessKey
	for _, c := range []struct {
		what string
		r    keys.NewDataset
		want fault.Code
	}{
		{"no name", keys.NewDataset{Type: keys.Unstructured}, fault.Invalid},
		{"a malformed name", keys.NewDataset{Name: "a b", Type: keys.Unstructured}, fault.Invalid},
		{"no type", keys.NewDataset{Name: "new"}, fault.Invalid},
		{"a type in other letters", keys.NewDataset{Name: "new", Type: "Unstructured"}, fault.Invalid},
		{"a type that is not offered", keys.NewDataset{Name: "new", Type: keys.Structured}, fault.Invalid},
		{"an unknown algorithm", keys.NewDataset{Name: "new", Type: keys.Unstructured, Algorithm: "aes-256-gcm"}, fault.Invalid},
		{"a description of two lines", keys.NewDataset{Name: "new", Type: keys.Unstructured, Description: "a\nb"}, fault.Invalid},
		{"an unusable credential", keys.NewDataset{Name: "new", Type: keys.Unstructured, FirstKey: &spoiled}, fault.Invalid},
		{"a taken name", keys.NewDataset{Name: "files", Type: keys.Unstructured}, fault.Exists},
		{"an unknown Primary Key", keys.NewDataset{Name: "new", Type: keys.Unstructured, PrimaryKey: "nope"}, fault.NotFound},
	} {
		w.unchanged(t, "CreateDataset with "+c.what, c.want, func() error { _, _, err := w.CreateDataset(t.Context(), c.r); return err })
	}
	Diff(t, "the Primary Keys", w.primaryKeyNames(t), []string{"files"})
	_, err := w.Dataset(t.Context(), "new")
	WantCode(t, "Dataset()", err, fault.NotFound)
}

func testNumberedNames(t *testing.T, w *world) {
	w.active(t, "payments")
	if _, err := w.CreatePrimaryKey(t.Context(), "payments", ""); err != nil {
		t.Fatal(err)
	}
	w.create(t, "payments-2") // a pending key has its name too
	_, p := w.firstKey(t, "payments")
	if p.Name != "payments-3" {
		t.Errorf("the first key is %q, want payments-3", p.Name)
	}
	if got, _ := w.Dataset(t.Context(), "payments"); got.PrimaryKey != "payments-2" {
		t.Errorf("the Primary Key is %q, want payments-2", got.PrimaryKey)
	}
	long := strings.Repeat("n", 64)
	w.active(t, long)
	if _, p := w.firstKey(t, long); p.Name != long[:62]+"-2" {
		t.Errorf("the first key is %q, want 62 letters and -2", p.Name)
	}
}

func testEditDataset(t *testing.T, w *world) {
	want := w.dataset(t, "files")
	w.dataset(t, "taken")
	s := w.active(t, "web-01", withDatasets("files"))
	want.Keys = []string{"web-01"}
	for _, e := range []struct {
		edit   keys.DatasetEdit
		expect func()
	}{
		{keys.DatasetEdit{Description: ptr("new")}, func() { want.Description = "new" }},
		{keys.DatasetEdit{Algorithm: ptr(keys.AES128GCM)}, func() { want.Algorithm = keys.AES128GCM }},
		{keys.DatasetEdit{Name: ptr("archive")}, func() { want.Name = "archive" }},
	} {
		e.expect()
		got, err := w.EditDataset(t.Context(), "files", e.edit)
		WantCode(t, "EditDataset()", err, "")
		Diff(t, "EditDataset()", got, want)
	}
	Diff(t, "the key's datasets", w.key(t, s.id).Datasets, []string{"archive"})
	if got, _ := w.Dataset(t.Context(), "archive"); got.PrimaryKey != "files" {
		t.Errorf("the Primary Key is %q, want files as before", got.PrimaryKey)
	}
	before := w.head(t).Seq
	if _, err := w.EditDataset(t.Context(), "archive", keys.DatasetEdit{Description: ptr("new")}); err != nil {
		t.Error(err)
	}
	wantNoOp(t, w, before, "datasets.edit")
	for what, c := range map[string]struct {
		name string
		edit keys.DatasetEdit
		want fault.Code
	}{
		"a taken name":         {"archive", keys.DatasetEdit{Name: ptr("taken")}, fault.Exists},
		"a malformed name":     {"archive", keys.DatasetEdit{Name: ptr("")}, fault.Invalid},
		"a bidi override":      {"archive", keys.DatasetEdit{Description: ptr("a\u202eb")}, fault.Invalid},
		"an unknown algorithm": {"archive", keys.DatasetEdit{Algorithm: ptr("")}, fault.Invalid},
		"its former name":      {"files", keys.DatasetEdit{}, fault.NotFound},
	} {
		w.unchanged(t, "EditDataset with "+what, c.want, func() error { _, err := w.EditDataset(t.Context(), c.name, c.edit); return err })
	}
}

func testDeleteDataset(t *testing.T, w *world) {
	w.dataset(t, "files")
	s := w.active(t, "web-01", withDatasets("files"))
	w.unchanged(t, "DeleteDataset() in use", fault.StillAttached, func() error { _, err := w.DeleteDataset(t.Context(), "files", false); return err })
	view, err := w.DeleteDataset(t.Context(), "files", true)
	if err != nil || view.Name != "files" {
		t.Errorf("DeleteDataset() = %+v, %v", view, err)
	}
	Diff(t, "the key's datasets", w.key(t, s.id).Datasets, []string{})
	_, err = w.Dataset(t.Context(), "files")
	WantCode(t, "Dataset() after the delete", err, fault.NotFound)
	_, err = w.DeleteDataset(t.Context(), "files", true)
	WantCode(t, "DeleteDataset() again", err, fault.NotFound)
	_, err = w.PrimaryKey(t.Context(), "files")
	WantCode(t, "PrimaryKey() after the delete", err, "")
	if again := w.dataset(t, "files"); again.PrimaryKey != "files-2" || again.ID == view.ID {
		t.Errorf("the new dataset is %+v, want its own Primary Key files-2", again)
	}
	// A dataset that ends before its first key is proven takes nothing along.
	d, p := w.firstKey(t, "short")
	if _, err := w.DeleteDataset(t.Context(), "short", true); err != nil {
		t.Fatal(err)
	}
	w.dataset(t, "short")
	Diff(t, "the datasets of the proven key", w.prove(t, d, p).Key.Datasets, []string{})
}

func testAttach(t *testing.T, w *world) {
	w.dataset(t, "files")
	w.dataset(t, "more")
	a, b := w.active(t, "a"), w.active(t, "b")
	attach := func(dataset string, refs ...string) error {
		_, err := w.AttachKeys(t.Context(), dataset, refs, keys.FullGrant)
		return err
	}
	detach := func(dataset string, refs ...string) error {
		_, err := w.DetachKeys(t.Context(), dataset, refs)
		return err
	}

	got, err := w.AttachKeys(t.Context(), "files", []string{"b", a.id}, keys.FullGrant)
	WantCode(t, "AttachKeys()", err, "")
	Diff(t, "AttachKeys()", got.Keys, []string{"a", "b"})
	before := w.head(t).Seq
	WantCode(t, "AttachKeys() again", attach("files", "a"), "")
	wantNoOp(t, w, before, "datasets.attach")

	// All or none.
	w.create(t, "pending")
	c := w.active(t, "c")
	for what, call := range map[string]struct {
		want fault.Code
		do   func() error
	}{
		"a second unstructured dataset": {fault.Invalid, func() error { return attach("more", "c", "a") }},
		"an unknown key":                {fault.NotFound, func() error { return attach("more", "c", "nope") }},
		"a pending key":                 {fault.KeyPending, func() error { return attach("more", "c", "pending") }},
		"an unknown dataset":            {fault.NotFound, func() error { return attach("nope", "c") }},
		"no key":                        {fault.Invalid, func() error { return attach("more") }},
		"no key to detach":              {fault.Invalid, func() error { return detach("files") }},
		"an unknown key to detach":      {fault.NotFound, func() error { return detach("files", "a", "nope") }},
		"an unknown dataset to detach":  {fault.NotFound, func() error { return detach("nope", "a") }},
	} {
		w.unchanged(t, what, call.want, call.do)
	}
	Diff(t, "the datasets of c", w.key(t, c.id).Datasets, []string{})
	Diff(t, "the datasets of a", w.key(t, a.id).Datasets, []string{"files"})

	got, err = w.DetachKeys(t.Context(), "files", []string{"a", "b"})
	WantCode(t, "DetachKeys()", err, "")
	Diff(t, "DetachKeys()", got.Keys, []string{})
	before = w.head(t).Seq
	WantCode(t, "DetachKeys() again", detach("files", "b"), "")
	wantNoOp(t, w, before, "datasets.detach")
	WantCode(t, "AttachKeys() elsewhere", attach("more", "a", b.id), "")
	Diff(t, "the datasets of a", w.key(t, a.id).Datasets, []string{"more"})
}
