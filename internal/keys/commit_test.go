package keys_test

import (
	"context"
	"testing"

	"keyctl/internal/fault"
	"keyctl/internal/keys"
	"keyctl/internal/keys/keystest"
)

// fate is what becomes of a COMMIT.
type fate int

const (
	fine fate = iota
	kept      // it happened, and the answer is lost
	gone      // it did not happen, which nobody is told
	away      // nobody is there
)

// lossy is a store with a fate for each of its next changes.
type lossy struct {
	keys.Store
	next []fate
}

func (s *lossy) Update(ctx context.Context, fn func(keys.Tx) error) error {
	if len(s.next) == 0 {
		return s.Store.Update(ctx, fn)
	}
	f := s.next[0]
	s.next = s.next[1:]
	if f == away {
		return fault.New(fault.Unavailable, "away")
	}
	lost := fault.New(fault.OutcomeUnknown, "lost")
	err := s.Store.Update(ctx, func(tx keys.Tx) error {
		if err := fn(tx); err != nil || f != gone {
			return err
		}
		return lost
	})
	if err == nil && f == kept {
		err = lost
	}
	return err
}

func TestR32_LostCommitIsLookedUp(t *testing.T) {
	for _, test := range []struct {
		name string
		next []fate
		want fault.Code // empty: the change is made, once
	}{
		{"kept", []fate{kept}, ""},
		{"gone", []fate{gone}, ""},
		{"gone twice, then kept", []fate{gone, gone, kept}, ""},
		{"nobody answers", []fate{kept, away}, fault.OutcomeUnknown},
		{"never anything but lost", []fate{gone, gone, gone, gone}, fault.OutcomeUnknown},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newPlace(t)
			store := &lossy{Store: p.openStore(t)}
			l := p.on(t, store)
			if _, err := l.CreatePrimaryKey(t.Context(), "shared", ""); err != nil {
				t.Fatal(err)
			}
			before := auditCount(t, l)
			store.next = test.next
			k, err := l.RotatePrimaryKey(t.Context(), "shared") // each one counts
			if test.want != "" {
				if fault.CodeOf(err) != test.want {
					t.Errorf("RotatePrimaryKey() = %v, want %s", err, test.want)
				}
				return
			}
			if err != nil || len(k.Versions) != 2 {
				t.Fatalf("RotatePrimaryKey() = %d versions, %v, want 2", len(k.Versions), err)
			}
			if k, err = l.PrimaryKey(t.Context(), "shared"); err != nil || len(k.Versions) != 2 {
				t.Errorf("PrimaryKey() = %d versions, %v, want 2", len(k.Versions), err)
			}
			if made := auditCount(t, l) - before; made != 1 {
				t.Errorf("%d records, want 1", made)
			}
		})
	}
}

func TestR32_LostCommitOfARollTakesOneCode(t *testing.T) {
	for _, lost := range []fate{kept, gone} {
		p := newPlace(t)
		store := &lossy{Store: p.openStore(t)}
		l := p.on(t, store)
		newKey(t, l, "web-01")
		phone := keystest.Enroll(t, l, p.clock)
		store.next = []fate{fine, lost} // the attempt is counted, then the roll is committed
		rolled, pending, err := roll(t, l, "web-01", phone.Next(), keys.RollTerms{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.Prove(t.Context(), rolled.AccessKeyID, rolled.Proof(pending)); err != nil {
			t.Fatal(err)
		}
		if got := reason(t, l, rolled); got != keys.ReasonOK {
			t.Errorf("the rolled credential is %s", got)
		}
	}
}

func auditCount(t testing.TB, l *keys.Local) int64 {
	t.Helper()
	report, err := l.VerifyAudit(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	return report.Records
}
