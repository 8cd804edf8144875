package keystest

import (
	"fmt"
	"testing"

	"keyctl/internal/fault"
	"keyctl/internal/keys"
)

// offer is the offer of a credential that nobody keeps.
func offer(t testing.TB) *keys.Offer {
	t.Helper()
	d := Draw(t)
	return &d.Offer
}

// firstKey makes a dataset with a first key that waits for its proof.
func (w *world) firstKey(t testing.TB, name string) (Drawn, keys.Pending) {
	t.Helper()
	d := Draw(t)
	_, p, err := w.CreateDataset(t.Context(), keys.NewDataset{Name: name, Type: keys.Unstructured, FirstKey: &d.Offer})
	if err != nil || p == nil {
		t.Fatalf("CreateDataset(%q) = %v, %v", name, p, err)
	}
	return d, *p
}

func testFirstKey(t *testing.T, w *world) {
	d, p := w.firstKey(t, "payments")
	if p.Name != "payments" || p.Generation != 1 {
		t.Errorf("the first key is %+v", p)
	}
	Diff(t, "its datasets", p.Datasets, []string{"payments"})
	if k := w.key(t, "payments"); k.State != keys.KeyPending || len(k.Datasets) != 1 {
		t.Errorf("the first key is %+v", k)
	}
	proven := w.prove(t, d, p)
	Diff(t, "the datasets of the active key", proven.Key.Datasets, []string{"payments"})
	// From its proof on, the dataset stands by itself.
	if _, err := w.DeleteKey(t.Context(), p.KeyID); err != nil {
		t.Fatal(err)
	}
	got, err := w.Dataset(t.Context(), "payments")
	WantCode(t, "Dataset() after its first key's end", err, "")
	Diff(t, "its keys", got.Keys, []string{})
}

func testCreateDatasetAgain(t *testing.T, w *world) {
	d := Draw(t)
	r := keys.NewDataset{Name: "payments", Description: "one", Type: keys.Unstructured, FirstKey: &d.Offer}
	view, first, err := w.CreateDataset(t.Context(), r)
	WantCode(t, "CreateDataset()", err, "")
	again := func(what string, proven bool) {
		t.Helper()
		w.unchanged(t, what, "", func() error {
			gotView, got, err := w.CreateDataset(t.Context(), r)
			want := *first
			want.Proven = proven
			Diff(t, what, got, &want)
			Diff(t, what+": the dataset", gotView, view)
			return err
		})
	}
	again("CreateDataset again", false)
	spelled := r
	spelled.Algorithm = keys.AES256GCM // what an empty one stands for
	_, _, err = w.CreateDataset(t.Context(), spelled)
	WantCode(t, "CreateDataset with the default said", err, "")
	other := r
	other.Description = "two"
	w.unchanged(t, "CreateDataset with another description", fault.IDConflict, func() error {
		_, _, err := w.CreateDataset(t.Context(), other)
		return err
	})
	w.unchanged(t, "CreateKey with a dataset's first id", fault.IDConflict, func() error {
		_, err := w.CreateKey(t.Context(), request("payments", d, withDatasets("payments")))
		return err
	})
	w.prove(t, d, *first)
	again("CreateDataset after the proof", true)
	w.unchanged(t, "CreateDataset with another credential", fault.Exists, func() error {
		r.FirstKey = offer(t)
		_, _, err := w.CreateDataset(t.Context(), r)
		return err
	})
}

func testFirstKeyEndsUnproven(t *testing.T, w *world) {
	absent := func(when string) {
		t.Helper()
		_, err := w.Dataset(t.Context(), "payments")
		WantCode(t, "Dataset() "+when, err, fault.NotFound)
		_, err = w.PrimaryKey(t.Context(), "payments")
		WantCode(t, "PrimaryKey() "+when, err, fault.NotFound)
		_, err = w.Key(t.Context(), "payments")
		WantCode(t, "Key() "+when, err, fault.NotFound)
	}
	for what, end := range map[string]func(d Drawn, p keys.Pending) error{
		"withdrawn": func(d Drawn, _ keys.Pending) error { return w.Withdraw(t.Context(), d.AccessKeyID) },
		"deleted":   func(_ Drawn, p keys.Pending) error { _, err := w.DeleteKey(t.Context(), p.KeyID); return err },
		"lapsed": func(Drawn, keys.Pending) error {
			w.clock.Advance(keys.PendingFor)
			w.dataset(t, "any-change")
			return nil
		},
	} {
		d, p := w.firstKey(t, "payments")
		if err := end(d, p); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		absent("after its first key was " + what)
		_, err := w.Prove(t.Context(), d.AccessKeyID, d.Proof(p))
		WantCode(t, "the late proof of a key that was "+what, err, fault.Superseded)
		absent("after the late proof")
	}

	// A create that died after its commit is simply repeated, with another credential.
	lost, p := w.firstKey(t, "payments")
	d, q := w.firstKey(t, "payments")
	if q.Name != "payments" {
		t.Errorf("the second attempt's key is %q, want payments", q.Name)
	}
	_, err := w.Prove(t.Context(), lost.AccessKeyID, lost.Proof(p))
	WantCode(t, "the proof of the lost attempt", err, fault.Superseded)
	w.prove(t, d, q)
	if got, _ := w.Dataset(t.Context(), "payments"); got.PrimaryKey != "payments" {
		t.Errorf("the dataset's Primary Key is %q, want payments", got.PrimaryKey)
	}

	// A shared Primary Key stays, and so does a dataset that another key was attached to.
	if _, err := w.CreatePrimaryKey(t.Context(), "shared", ""); err != nil {
		t.Fatal(err)
	}
	d = Draw(t)
	r := keys.NewDataset{Name: "with-shared", Type: keys.Unstructured, PrimaryKey: "shared", FirstKey: &d.Offer}
	if _, _, err := w.CreateDataset(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	WantCode(t, "Withdraw()", w.Withdraw(t.Context(), d.AccessKeyID), "")
	_, err = w.Dataset(t.Context(), "with-shared")
	WantCode(t, "Dataset() of the withdrawn one", err, fault.NotFound)
	_, err = w.PrimaryKey(t.Context(), "shared")
	WantCode(t, "PrimaryKey() of the shared one", err, "")

	d, p = w.firstKey(t, "kept")
	other := w.active(t, "other")
	if _, err := w.AttachKeys(t.Context(), "kept", []string{other.id}, keys.FullGrant); err != nil {
		t.Fatal(err)
	}
	w.unchanged(t, "CreateDataset over one that is in use", fault.Exists, func() error {
		_, _, err := w.CreateDataset(t.Context(), keys.NewDataset{Name: "kept", Type: keys.Unstructured, FirstKey: offer(t)})
		return err
	})
	WantCode(t, "Withdraw()", w.Withdraw(t.Context(), d.AccessKeyID), "")
	got, err := w.Dataset(t.Context(), "kept")
	WantCode(t, "Dataset() with another key", err, "")
	Diff(t, "its keys", got.Keys, []string{"other"})
	_, err = w.Prove(t.Context(), d.AccessKeyID, d.Proof(p))
	WantCode(t, "the late proof", err, fault.Superseded)
	if _, err := w.DeleteKey(t.Context(), other.id); err != nil {
		t.Fatal(err)
	}
	_, err = w.Dataset(t.Context(), "kept")
	WantCode(t, "Dataset() after that key's end", err, "")
}

// A first key that was detached while it waited has nothing to do with the dataset any more, whatever becomes of it.
func testFirstKeyDetached(t *testing.T, w *world) {
	for _, attachAgain := range []bool{false, true} {
		name := fmt.Sprintf("payments-%t", attachAgain)
		d, p := w.firstKey(t, name)
		if _, err := w.DetachKeys(t.Context(), name, []string{name}); err != nil {
			t.Fatal(err)
		}
		w.prove(t, d, p)
		if attachAgain {
			if _, err := w.AttachKeys(t.Context(), name, []string{name}, keys.FullGrant); err != nil {
				t.Fatal(err)
			}
		}
		w.unchanged(t, "CreateDataset over "+name, fault.Exists, func() error {
			_, _, err := w.CreateDataset(t.Context(), keys.NewDataset{Name: name, Type: keys.Unstructured})
			return err
		})
		w.wantReason(t, "the key of "+name, d, keys.ReasonOK)
		if _, err := w.DeleteKey(t.Context(), p.KeyID); err != nil {
			t.Fatal(err)
		}
		_, err := w.Dataset(t.Context(), name)
		WantCode(t, "Dataset() after the delete of its first key", err, "")
	}
}
