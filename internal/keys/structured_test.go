package keys_test

import (
	"crypto/rand"
	"testing"

	"keyctl/internal/credential"
	"keyctl/internal/fault"
	"keyctl/internal/keys"
	"keyctl/internal/keys/keystest"
	"keyctl/internal/structured"
)

// newStructured makes a structured dataset whose alphabet carries few data keys.
func newStructured(t testing.TB, l *keys.Local, name string) structured.Format {
	t.Helper()
	format, err := structured.New(structured.Spec{InputCharacterSet: "0123456789", OutputCharacterSet: "0123456789ABC", MinInputLength: 6}, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	request := keys.NewDataset{Name: name, Type: keys.Structured, Format: &format}
	if _, _, err := l.CreateDataset(t.Context(), request); err != nil {
		t.Fatalf("CreateDataset(%q) = %v", name, err)
	}
	return format
}

func unwrap(t testing.TB, d keystest.Drawn, pem, wrapped []byte) string {
	t.Helper()
	return dataKey(t, d, keys.ReleasedKey{PrivateKeyPEM: pem, Wrapped: wrapped})
}

func TestStructuredDatasets(t *testing.T) {
	place := newPlace(t)
	l := place.open(t)
	format := newStructured(t, l, "ssn")
	highest := format.HighestKeyNumber()
	if highest < 1 {
		t.Fatalf("the highest key number is %d", highest)
	}
	view, err := l.Dataset(t.Context(), "ssn")
	if err != nil || view.Algorithm != keys.FF1 || view.Format == nil || *view.CurrentKeyNumber != 0 || *view.RotationsLeft != highest {
		t.Errorf("Dataset() = %+v, %v", view, err)
	}
	for n := 1; n <= highest; n++ {
		view, err = l.RotateDataset(t.Context(), "ssn")
		if err != nil || *view.CurrentKeyNumber != n || *view.RotationsLeft != highest-n {
			t.Errorf("RotateDataset() = %d with %d left, %v; want %d", *view.CurrentKeyNumber, *view.RotationsLeft, err, n)
		}
	}
	if _, err := l.RotateDataset(t.Context(), "ssn"); !fault.Is(err, fault.Invalid) {
		t.Errorf("one rotation too many = %v, want invalid", err)
	}

	newDataset(t, l, "files")
	if _, err := l.RotateDataset(t.Context(), "files"); !fault.Is(err, fault.Invalid) {
		t.Errorf("RotateDataset() of an unstructured one = %v, want invalid", err)
	}
	wrong := "AES-128-GCM"
	if _, err := l.EditDataset(t.Context(), "ssn", keys.DatasetEdit{Algorithm: &wrong}); !fault.Is(err, fault.Invalid) {
		t.Errorf("EditDataset() of the algorithm = %v, want invalid", err)
	}
	broken := format
	broken.OutputCharacterSet = format.InputCharacterSet
	for what, request := range map[string]keys.NewDataset{
		"no format":       {Name: "a", Type: keys.Structured},
		"a wrong format":  {Name: "a", Type: keys.Structured, Format: &broken},
		"an algorithm":    {Name: "a", Type: keys.Structured, Format: &format, Algorithm: keys.AES256GCM},
		"a format's type": {Name: "a", Type: keys.Unstructured, Format: &format},
	} {
		if _, _, err := l.CreateDataset(t.Context(), request); !fault.Is(err, fault.Invalid) {
			t.Errorf("CreateDataset() with %s = %v, want invalid", what, err)
		}
	}
}

func TestStructuredKeysReachEveryCredential(t *testing.T) {
	place := newPlace(t)
	l := place.open(t)
	p := keys.NewDataPlane(l)
	newStructured(t, l, "ssn")
	newStructured(t, l, "phone")
	newDataset(t, l, "files")
	web, _ := newKey(t, l, "web-01", "ssn", "phone", "files")
	other, _ := newKey(t, l, "web-02", "ssn")
	ctx := t.Context()
	one := func(d keystest.Drawn, name string, number *int) (string, int, error) {
		k, err := p.StructuredKey(ctx, claimOf(d), name, number)
		if err != nil {
			return "", 0, err
		}
		return unwrap(t, d, k.PrivateKeyPEM, k.Wrapped), k.Number, nil
	}
	first, number, err := one(web, "ssn", nil)
	if err != nil || number != 0 || len(first) != 32 {
		t.Fatalf("StructuredKey() = %d bytes of number %d, %v", len(first), number, err)
	}
	for range 2 {
		if _, err := l.RotatePrimaryKey(ctx, "ssn"); err != nil {
			t.Fatal(err)
		}
		if _, err := l.RotateDataset(ctx, "ssn"); err != nil {
			t.Fatal(err)
		}
	}
	zero, three := 0, 3
	if again, number, err := one(other, "ssn", &zero); err != nil || again != first || number != 0 {
		t.Errorf("number 0 through another key = %t, %d, %v", again == first, number, err)
	}
	newest, number, err := one(web, "ssn", nil)
	if err != nil || number != 2 || newest == first {
		t.Errorf("the current one = number %d, %v", number, err)
	}
	if _, _, err := one(web, "ssn", &three); !fault.Is(err, fault.Invalid) {
		t.Errorf("number 3 = %v, want invalid", err)
	}
	for _, name := range []string{"files", "nothing", "phone"} { // unstructured, not there, not its own
		if _, _, err := one(other, name, nil); !fault.Is(err, fault.NotFound) {
			t.Errorf("%s = %v, want not_found", name, err)
		}
		if _, err := p.DatasetRecord(ctx, claimOf(other), name); !fault.Is(err, fault.NotFound) {
			t.Errorf("DatasetRecord(%s) = %v, want not_found", name, err)
		}
	}

	all, err := p.StructuredKeys(ctx, claimOf(web), nil)
	if err != nil || len(all) != 2 || all[0].Record.Name != "phone" || all[1].Record.Name != "ssn" || all[1].Current != 2 || len(all[1].Wrapped) != 3 {
		t.Fatalf("StructuredKeys() = %+v, %v", all, err)
	}
	for n, want := range map[int]string{0: first, 2: newest} {
		if unwrap(t, web, all[1].PrivateKeyPEM, all[1].Wrapped[n]) != want {
			t.Errorf("of all data keys number %d is another one", n)
		}
	}
	some, err := p.StructuredKeys(ctx, claimOf(web), []string{"ssn", "nothing"})
	if err != nil || len(some) != 1 || some[0].Record.Name != "ssn" {
		t.Errorf("StructuredKeys() of one name and one that is none = %d, %v", len(some), err)
	}
	if _, err := p.StructuredKeys(ctx, claimOf(other), []string{"phone"}); !fault.Is(err, fault.NotFound) {
		t.Errorf("StructuredKeys() of nothing it reaches = %v, want not_found", err)
	}

	// A dataset whose first data key is shut away leaves out all of them, and the other datasets where they are.
	phone := keystest.Enroll(t, l, place.clock)
	if _, err := l.DisablePrimaryKey(ctx, "ssn", 1, phone.Next()); err != nil {
		t.Fatal(err)
	}
	open, err := p.StructuredKeys(ctx, claimOf(web), nil)
	if err != nil || len(open) != 1 || open[0].Record.Name != "phone" {
		t.Errorf("StructuredKeys() beside a shut dataset = %d, %v, want phone alone", len(open), err)
	}
	if _, err := p.StructuredKeys(ctx, claimOf(other), nil); !fault.Is(err, fault.Forbidden) {
		t.Errorf("StructuredKeys() of a shut dataset = %v, want forbidden", err)
	}
	if _, err := l.DisablePrimaryKey(ctx, "phone", 0, phone.Next()); err != nil {
		t.Fatal(err)
	}
	if _, err := p.StructuredKeys(ctx, claimOf(web), nil); !fault.Is(err, fault.Forbidden) {
		t.Errorf("StructuredKeys() with every Primary Key shut = %v, want forbidden", err)
	}
	if _, _, err := one(other, "ssn", &zero); !fault.Is(err, fault.Forbidden) {
		t.Errorf("the data key under the disabled version = %v, want forbidden", err)
	}
	if got, number, err := one(other, "ssn", nil); err != nil || number != 2 || got != newest {
		t.Errorf("the current one under another version = number %d, %v", number, err)
	}
}

func TestStructuredGrants(t *testing.T) {
	place := newPlace(t)
	l := place.open(t)
	p := keys.NewDataPlane(l)
	newStructured(t, l, "ssn")
	d, _ := newKey(t, l, "web-01", "ssn")
	if _, err := l.RotateDataset(t.Context(), "ssn"); err != nil {
		t.Fatal(err)
	}
	zero, one := 0, 1
	for _, c := range []struct {
		grant         keys.Grant
		now, old, new fault.Code // of no number, the old one and the current one
		all           fault.Code
	}{
		{keys.FullGrant, "", "", "", ""},
		{keys.Grant{Encrypt: true}, "", fault.Forbidden, "", fault.Forbidden},
		{keys.Grant{Decrypt: true}, fault.Forbidden, "", "", ""},
	} {
		if _, err := l.AttachKeys(t.Context(), "ssn", []string{"web-01"}, c.grant); err != nil {
			t.Fatal(err)
		}
		for _, ask := range []struct {
			number *int
			want   fault.Code
		}{{nil, c.now}, {&zero, c.old}, {&one, c.new}} {
			_, err := p.StructuredKey(t.Context(), claimOf(d), "ssn", ask.number)
			if got := fault.CodeOf(err); err == nil && ask.want != "" || err != nil && got != ask.want {
				t.Errorf("with the grant %s StructuredKey() = %v, want %q", c.grant.Word(), err, ask.want)
			}
		}
		_, err := p.StructuredKeys(t.Context(), claimOf(d), []string{"ssn"})
		keystest.WantCode(t, "StructuredKeys() with the grant "+c.grant.Word(), err, c.all)
		r, err := p.DatasetRecord(t.Context(), claimOf(d), "ssn")
		if err != nil || r.Permissions != (structured.Permissions{Encrypt: c.grant.Encrypt, Decrypt: c.grant.Decrypt}) {
			t.Errorf("with the grant %s DatasetRecord() = %+v, %v", c.grant.Word(), r.Permissions, err)
		}
	}
	if _, err := p.StructuredKey(t.Context(), keys.Claim{AccessKeyID: d.AccessKeyID, Proves: func(credential.Secret) bool { return false }}, "ssn", nil); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("StructuredKey() without a proof = %v, want unauthenticated", err)
	}
}
