package keys_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"keyctl/internal/audit"
	"keyctl/internal/fault"
	"keyctl/internal/keys"
	"keyctl/internal/keys/keystest"
	"keyctl/internal/store"
)

// backUp copies the store as it is to a place of its own.
func (p *place) backUp(t *testing.T, db *store.DB) *place {
	t.Helper()
	copied := *p
	copied.path = t.TempDir() + "/keyctl.db"
	if err := db.Snapshot(t.Context(), copied.path); err != nil {
		t.Fatal(err)
	}
	return &copied
}

func TestR48_Restored(t *testing.T) {
	for _, c := range []struct {
		what string
		at   time.Duration // the clock of the machine that restores, against the one that made the backup
	}{{"at once", 0}, {"a day later", 24 * time.Hour}, {"where the clock is behind", -time.Hour}} {
		t.Run(c.what, func(t *testing.T) {
			p := newPlace(t)
			db := p.openStore(t)
			l := p.on(t, db)
			auth := keystest.Enroll(t, l, p.clock)
			current, key := newKey(t, l, "web-01")
			rolling, pending, err := roll(t, l, key.KeyID, auth.Next(), keys.RollTerms{})
			if err != nil {
				t.Fatal(err)
			}
			waiting := 3
			if c.at == 0 {
				waiting = 120 // more than one change tidies
			}
			first := keystest.Draw(t)
			var create keys.Pending
			for i := range waiting {
				d := keystest.Draw(t)
				if i == 0 {
					d = first
				}
				p, err := l.CreateKey(t.Context(), keys.NewKey{Name: fmt.Sprintf("new-%d", i), Offer: d.Offer})
				if err != nil {
					t.Fatal(err)
				}
				if i == 0 {
					create = p
				}
			}
			restored := p.backUp(t, db)
			head, err := l.AuditHead(t.Context())
			if err != nil {
				t.Fatal(err)
			}

			p.clock.Advance(c.at)
			r := restored.open(t)
			if err := r.Restored(t.Context(), head); err != nil {
				t.Fatalf("Restored() = %v", err)
			}
			// What was in force is in force, what was pending is gone for good.
			if got := reason(t, r, current); got != keys.ReasonOK {
				t.Errorf("the current credential is %q", got)
			}
			_, err = r.Prove(t.Context(), rolling.AccessKeyID, rolling.Proof(pending))
			keystest.WantCode(t, "the proof of a roll from before", err, fault.Superseded)
			_, err = r.Prove(t.Context(), first.AccessKeyID, first.Proof(create))
			keystest.WantCode(t, "the proof of a create from before", err, fault.Superseded)
			page, err := r.Keys(t.Context(), keys.KeyFilter{})
			if err != nil || len(page.Items) != 1 {
				t.Errorf("%d keys are left, %v; want 1", len(page.Items), err)
			}
			if purged := keystest.Events(t, r, keys.AuditFilter{Action: "keys.purge"}); len(purged) != waiting+1 {
				t.Errorf("%d purges in the audit log, want %d", len(purged), waiting+1)
			}
			// A code shown up to now may have been used after the backup was made.
			now := p.clock.Now()
			for _, at := range []time.Time{now, now.Add(-30 * time.Second)} {
				_, err := r.NewRecoveryCodes(t.Context(), auth.At(at))
				keystest.WantCode(t, fmt.Sprintf("the code of %v at %v", at, now), err, fault.OTPUsed)
			}
			if c.at >= 0 { // on a clock that is behind, the next codes were used before the backup
				if _, err := r.NewRecoveryCodes(t.Context(), auth.Next()); err != nil {
					t.Errorf("the next code = %v", err)
				}
			}
			last := keystest.Events(t, r, keys.AuditFilter{Action: "restore"})
			if len(last) != 1 || last[0].Event.Detail["head"] != head.Value {
				t.Errorf("the audit log says %+v, want one restore of %s", last, head.Value)
			}
			if report, err := r.VerifyAudit(t.Context(), head.Value); err != nil || !report.OK {
				t.Errorf("VerifyAudit() = %+v, %v", report, err)
			}
		})
	}
}

// Going back undoes what was taken away since; the log that went on says what that was.
func TestR48_Undone(t *testing.T) {
	p := newPlace(t)
	db := p.openStore(t)
	l := p.on(t, db)
	auth := keystest.Enroll(t, l, p.clock)
	newDataset(t, l, "files")
	for _, name := range []string{"web-01", "web-02", "web-03"} {
		newKey(t, l, name, "files")
	}
	head, err := l.AuditHead(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	restored := p.backUp(t, db)
	for what, err := range map[string]error{
		"disable": second(l.DisableKey(t.Context(), "web-01", true)),
		"again":   second(l.DisableKey(t.Context(), "web-01", true)), // a no-op takes nothing away
		"delete":  second(l.DeleteKey(t.Context(), "web-02")),
		"detach":  second(l.DetachKeys(t.Context(), "files", []string{"web-03"})),
		"rotate":  second(l.RotatePrimaryKey(t.Context(), "files")),
	} {
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	if _, err := l.DisablePrimaryKey(t.Context(), "files", 0, auth.Wrong()); !fault.Is(err, fault.OTPWrong) {
		t.Fatal(err)
	}
	records, err := l.AllAuditRecords(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r := restored.open(t)
	undone, err := r.Undone(records, head)
	if err != nil {
		t.Fatalf("Undone() = %v", err)
	}
	got := map[string]int{}
	for _, e := range undone {
		got[e.Action+" "+e.Object.Name+e.Detail["key"]]++
	}
	keystest.Diff(t, "Undone()", got, map[string]int{"keys.disable web-01": 1, "keys.delete web-02": 1, "datasets.detach filesweb-03": 1})

	other := newPlace(t).open(t)
	foreign, err := other.AllAuditRecords(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var broken *audit.Broken
	if _, err := r.Undone(foreign, head); !errors.As(err, &broken) {
		t.Errorf("Undone() with the log of another store = %v, want it to be found broken", err)
	}
}

// second drops the first of two results.
func second[T any](_ T, err error) error { return err }
