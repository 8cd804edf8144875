package keys_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"

	"keyctl/internal/audit"
	"keyctl/internal/credential"
	"keyctl/internal/fault"
	"keyctl/internal/keys"
	"keyctl/internal/keys/keystest"
)

// noAudit is a real store whose audit log cannot be written.
type noAudit struct{ keys.Store }

var errNoAudit = errors.New("the audit log cannot be written")

func (s noAudit) Update(ctx context.Context, fn func(keys.Tx) error) error {
	return s.Store.Update(ctx, func(tx keys.Tx) error { return fn(noAuditTx{tx}) })
}

type noAuditTx struct{ keys.Tx }

func (noAuditTx) AppendAudit(audit.Head, ...audit.Record) error { return errNoAudit }

// dump is everything the store holds, row by row.
func (p *place) dump(t testing.TB) string {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+p.path+"?_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var text strings.Builder
	for _, table := range []string{
		"meta", "keys", "credentials", "credential_material", "primary_keys", "primary_key_versions", "datasets", "key_datasets",
		"operators", "second_factors", "recovery_codes", "audit_log", "audit_head",
	} {
		rows, err := db.QueryContext(t.Context(), "SELECT * FROM "+table)
		if err != nil {
			t.Fatal(err)
		}
		columns, err := rows.Columns()
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			values, into := make([]any, len(columns)), make([]any, len(columns))
			for i := range values {
				into[i] = &values[i]
			}
			if err := rows.Scan(into...); err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&text, "%s %v\n", table, values)
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		rows.Close()
	}
	return text.String()
}

func TestR36_NoRecordNoChange(t *testing.T) {
	p := newPlace(t)
	db := p.openStore(t)
	l, broken := p.on(t, db), p.on(t, noAudit{db})
	auth := keystest.Enroll(t, l, p.clock)
	newDataset(t, l, "files")
	newDataset(t, l, "spare")
	newKey(t, l, "web-01", "files")
	_, rolled := newKey(t, l, "rolled")
	d, pending, err := roll(t, l, rolled.KeyID, auth.Next(), keys.RollTerms{Grace: keys.Grace{For: keys.MaxGrace}})
	if err == nil {
		_, err = l.Prove(t.Context(), d.AccessKeyID, d.Proof(pending))
	}
	if err != nil {
		t.Fatal(err)
	}
	waiting := keystest.Draw(t)
	wait, err := l.CreateKey(t.Context(), keys.NewKey{Name: "waiting", Offer: waiting.Offer})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.DisableKey(t.Context(), "rolled", false); err != nil {
		t.Fatal(err)
	}
	if _, err := l.EnableKey(t.Context(), "rolled"); err != nil {
		t.Fatal(err)
	}
	name := "renamed"
	ctx := t.Context()
	key := func(_ keys.KeyView, err error) error { return err }
	dataset := func(_ keys.DatasetView, err error) error { return err }
	primary := func(_ keys.PrimaryKeyView, err error) error { return err }
	secrets := func(codes []credential.Secret, err error) error {
		if codes != nil {
			t.Error("secrets were disclosed without a record")
		}
		return err
	}
	for what, call := range map[string]func() error{
		"CreateKey": func() error {
			_, err := broken.CreateKey(ctx, keys.NewKey{Name: "new", Offer: keystest.Draw(t).Offer})
			return err
		},
		"CreateKey over a pending one": func() error {
			_, err := broken.CreateKey(ctx, keys.NewKey{Name: "waiting", Offer: keystest.Draw(t).Offer})
			return err
		},
		"Prove":               func() error { _, err := broken.Prove(ctx, waiting.AccessKeyID, waiting.Proof(wait)); return err },
		"Withdraw":            func() error { return broken.Withdraw(ctx, waiting.AccessKeyID) },
		"EditKey":             func() error { return key(broken.EditKey(ctx, "web-01", keys.KeyEdit{Name: &name})) },
		"EnableKey, a no-op":  func() error { return key(broken.EnableKey(ctx, "web-01")) },
		"DisableKey":          func() error { return key(broken.DisableKey(ctx, "web-01", false)) },
		"DeleteKey":           func() error { return key(broken.DeleteKey(ctx, "web-01")) },
		"Roll":                func() error { _, _, err := roll(t, broken, "web-01", auth.Next(), keys.RollTerms{}); return err },
		"FinishRoll":          func() error { _, err := broken.FinishRoll(ctx, "rolled"); return err },
		"ExtendRoll, shorter": func() error { _, err := broken.ExtendRoll(ctx, "rolled", keys.Grace{For: 1}, ""); return err },
		"CancelRoll":          func() error { return key(broken.CancelRoll(ctx, "rolled", auth.Next())) },
		"CreateDataset": func() error {
			_, _, err := broken.CreateDataset(ctx, keys.NewDataset{Name: "new", Type: keys.Unstructured})
			return err
		},
		"EditDataset":        func() error { return dataset(broken.EditDataset(ctx, "spare", keys.DatasetEdit{Name: &name})) },
		"DeleteDataset":      func() error { return dataset(broken.DeleteDataset(ctx, "files", true)) },
		"AttachKeys":         func() error { return dataset(broken.AttachKeys(ctx, "spare", []string{"rolled"}, keys.FullGrant)) },
		"DetachKeys":         func() error { return dataset(broken.DetachKeys(ctx, "files", []string{"web-01"})) },
		"CreatePrimaryKey":   func() error { return primary(broken.CreatePrimaryKey(ctx, "new", "")) },
		"RotatePrimaryKey":   func() error { return primary(broken.RotatePrimaryKey(ctx, "files")) },
		"DisablePrimaryKey":  func() error { return primary(broken.DisablePrimaryKey(ctx, "files", 0, auth.Next())) },
		"EnablePrimaryKey":   func() error { return primary(broken.EnablePrimaryKey(ctx, "files", 0)) },
		"ResetOTP":           func() error { return broken.ResetOTP(ctx, keys.OTPAuthority{Code: auth.Next()}) },
		"ResetOTP, by force": func() error { return broken.ResetOTP(ctx, keys.OTPAuthority{BreakGlass: true}) },
		"NewRecoveryCodes":   func() error { return secrets(broken.NewRecoveryCodes(ctx, auth.Next())) },
		"NoteBackup":         func() error { return broken.NoteBackup(ctx) },
		"Restored":           func() error { return broken.Restored(ctx, keys.AuditHeadView{}) },
	} {
		before := p.dump(t)
		if err := call(); !errors.Is(err, errNoAudit) {
			t.Errorf("%s = %v, want the failure of the audit log", what, err)
		}
		if after := p.dump(t); after != before {
			t.Errorf("%s changed the store though it could not be recorded", what)
		}
	}

	// The enrolment's own secrets: not handed out, not stored.
	if err := l.ResetOTP(ctx, keys.OTPAuthority{BreakGlass: true}); err != nil {
		t.Fatal(err)
	}
	before := p.dump(t)
	enrollment, err := broken.EnrollOTP(ctx)
	if !errors.Is(err, errNoAudit) || !enrollment.Secret.IsZero() || !enrollment.URI.IsZero() {
		t.Errorf("EnrollOTP() without a record = %v, with a seed: %t", err, !enrollment.Secret.IsZero())
	}
	if p.dump(t) != before {
		t.Error("EnrollOTP changed the store though it could not be recorded")
	}
	auth = keystest.BeginEnrolment(t, l, p.clock)
	if err := secrets(broken.ConfirmOTP(ctx, auth.Next())); !errors.Is(err, errNoAudit) {
		t.Errorf("ConfirmOTP() = %v", err)
	}
	if status, err := l.OTPStatus(ctx); err != nil || status.Enrolled || status.RecoveryCodesLeft != 0 {
		t.Errorf("after a confirmation without a record OTPStatus() = %+v, %v", status, err)
	}
}

func TestR37_AuditVerify(t *testing.T) {
	fill := func(t *testing.T) (*place, *keys.Local) {
		p := newPlace(t)
		l := p.open(t)
		for i := range 5 {
			newKey(t, l, fmt.Sprintf("web-%d", i)) // two records each
		}
		return p, l
	}
	const last = 11 // with the one of init
	other, _ := fill(t)
	foreign := query[[]byte](t, other, "SELECT body FROM audit_log WHERE seq = 4")
	foreignMAC := query[[]byte](t, other, "SELECT mac FROM audit_log WHERE seq = 4")
	for _, c := range []struct {
		what     string
		tamper   func(t *testing.T, p *place)
		firstBad int64 // 0: the head
	}{
		{"an edited record", func(t *testing.T, p *place) {
			p.exec(t, `UPDATE audit_log SET body = CAST(replace(CAST(body AS TEXT), 'web-1', 'web-9') AS BLOB) WHERE seq = 4`)
		}, 4},
		{"one blank more", func(t *testing.T, p *place) {
			p.exec(t, `UPDATE audit_log SET body = CAST(CAST(body AS TEXT) || ' ' AS BLOB) WHERE seq = 5`)
		}, 5},
		{"another MAC", func(t *testing.T, p *place) { p.exec(t, `UPDATE audit_log SET mac = zeroblob(32) WHERE seq = 7`) }, 7},
		{"the first record missing", func(t *testing.T, p *place) { p.exec(t, `DELETE FROM audit_log WHERE seq = 1`) }, 1},
		{"a record missing", func(t *testing.T, p *place) { p.exec(t, `DELETE FROM audit_log WHERE seq = 6`) }, 6},
		{"a gap closed", func(t *testing.T, p *place) {
			p.exec(t, `DELETE FROM audit_log WHERE seq = 6`)
			for seq := 7; seq <= last; seq++ {
				p.exec(t, `UPDATE audit_log SET seq = seq - 1 WHERE seq = $1`, seq)
			}
		}, 6},
		{"a record inserted", func(t *testing.T, p *place) {
			for seq := last; seq >= 4; seq-- {
				p.exec(t, `UPDATE audit_log SET seq = seq + 1 WHERE seq = $1`, seq)
			}
			p.exec(t, `INSERT INTO audit_log SELECT 4, body, mac FROM audit_log WHERE seq = 3`)
		}, 4},
		{"a record added", func(t *testing.T, p *place) {
			p.exec(t, `INSERT INTO audit_log SELECT 12, body, mac FROM audit_log WHERE seq = 3`)
		}, 12},
		{"two records swapped", func(t *testing.T, p *place) {
			p.exec(t, `UPDATE audit_log SET body = (SELECT body FROM audit_log b WHERE b.seq = 12 - audit_log.seq + 1),
				mac = (SELECT mac FROM audit_log b WHERE b.seq = 12 - audit_log.seq + 1) WHERE seq IN (4, 9)`)
		}, 4},
		{"the tail cut", func(t *testing.T, p *place) { p.exec(t, `DELETE FROM audit_log WHERE seq > 8`) }, 9},
		{"everything cut", func(t *testing.T, p *place) { p.exec(t, `DELETE FROM audit_log`) }, 1},
		{"tail and head cut", func(t *testing.T, p *place) {
			p.exec(t, `DELETE FROM audit_log WHERE seq > 8`)
			p.exec(t, `UPDATE audit_head SET seq = 8`)
		}, 0},
		{"the head missing", func(t *testing.T, p *place) { p.exec(t, `DELETE FROM audit_head`) }, 0},
		{"the head of another store", func(t *testing.T, p *place) {
			p.exec(t, `UPDATE audit_head SET hash = $1, mac = $2`, query[[]byte](t, other, "SELECT hash FROM audit_head"),
				query[[]byte](t, other, "SELECT mac FROM audit_head"))
		}, 0},
		{"a record of another store", func(t *testing.T, p *place) {
			p.exec(t, `UPDATE audit_log SET body = $1, mac = $2 WHERE seq = 4`, foreign, foreignMAC)
		}, 4},
	} {
		t.Run(c.what, func(t *testing.T) {
			p, l := fill(t)
			whole, err := l.AuditHead(t.Context())
			if err != nil || whole.Seq != last {
				t.Fatalf("AuditHead() = %+v, %v", whole, err)
			}
			c.tamper(t, p)
			report, err := l.VerifyAudit(t.Context(), "")
			if err != nil || report.OK || report.FirstBad == nil || *report.FirstBad != c.firstBad || report.Why == nil {
				t.Fatalf("VerifyAudit() = %+v, %v; want record %d to be bad", report, err, c.firstBad)
			}
			if c.firstBad > 0 && report.Records != c.firstBad-1 {
				t.Errorf("%d records are good, want %d", report.Records, c.firstBad-1)
			}
			if report, err = l.VerifyAudit(t.Context(), whole.Value); err != nil || report.OK {
				t.Errorf("VerifyAudit() with the kept head = %+v, %v", report, err)
			}
		})
	}
}

// Who puts the whole file back to an earlier day leaves a log that agrees with itself; only a head value kept elsewhere
// tells.
func TestR37_KeptHead(t *testing.T) {
	p := newPlace(t)
	l := p.open(t)
	newKey(t, l, "web-01")
	type saved struct {
		head keys.AuditHeadView
		hash []byte
		mac  []byte
	}
	save := func() (s saved) {
		var err error
		if s.head, err = l.AuditHead(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.hash, s.mac = query[[]byte](t, p, "SELECT hash FROM audit_head"), query[[]byte](t, p, "SELECT mac FROM audit_head")
		return s
	}
	early := save()
	newKey(t, l, "web-02")
	late := save()
	p.exec(t, `DELETE FROM audit_log WHERE seq > $1`, early.head.Seq)
	p.exec(t, `UPDATE audit_head SET seq = $1, hash = $2, mac = $3`, early.head.Seq, early.hash, early.mac)
	if report, err := l.VerifyAudit(t.Context(), ""); err != nil || !report.OK {
		t.Errorf("VerifyAudit() = %+v, %v", report, err)
	}
	report, err := l.VerifyAudit(t.Context(), late.head.Value)
	if err != nil || report.OK || report.FirstBad == nil || *report.FirstBad != early.head.Seq+1 {
		t.Errorf("VerifyAudit() with the kept head = %+v, %v; want record %d to be bad", report, err, early.head.Seq+1)
	}
	newKey(t, l, "web-03") // grows past the kept head again, with other records
	report, err = l.VerifyAudit(t.Context(), late.head.Value)
	if err != nil || report.OK || report.FirstBad == nil || *report.FirstBad != late.head.Seq {
		t.Errorf("VerifyAudit() after new records = %+v, %v; want record %d to be bad", report, err, late.head.Seq)
	}
}

// A log that was tampered with at its end is not continued: nothing can be changed any more.
func TestR37_TamperedHeadStopsChanges(t *testing.T) {
	p := newPlace(t)
	l := p.open(t)
	newKey(t, l, "web-01")
	p.exec(t, `UPDATE audit_head SET seq = seq - 1`)
	before := p.dump(t)
	_, err := l.DisableKey(t.Context(), "web-01", false)
	keystest.WantCode(t, "DisableKey()", err, fault.StoreDamaged)
	_, err = l.AuditHead(t.Context())
	keystest.WantCode(t, "AuditHead()", err, fault.StoreDamaged)
	if p.dump(t) != before {
		t.Error("a refused change left a trace")
	}
}
