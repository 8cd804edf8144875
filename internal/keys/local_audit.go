package keys

import (
	"context"
	"errors"
	"strings"
	"time"

	"keyctl/internal/audit"
	"keyctl/internal/fault"
)

// auditBatch is how many records are read from the store at a time.
const auditBatch = 1000

// AuditHead implements Service.
func (l *Local) AuditHead(ctx context.Context) (AuditHeadView, error) {
	var view AuditHeadView
	err := l.view(ctx, func(tx Tx, _ time.Time) error {
		head, err := tx.AuditHead()
		if err != nil {
			return err
		}
		view = AuditHeadView{Seq: head.Seq, Value: head.Value()}
		return l.chain.VerifyHead(head)
	})
	return view, err
}

// AuditRecords implements Service.
func (l *Local) AuditRecords(ctx context.Context, filter AuditFilter) (Page[AuditRecord], error) {
	page := Page[AuditRecord]{Items: []AuditRecord{}}
	limit, err := pageLimit(filter.Limit)
	if err != nil {
		return page, err
	}
	var after int64
	if filter.Cursor != "" {
		if err := decodeCursor("audit", filter.Cursor, &after); err != nil {
			return page, err
		}
	}
	err = l.view(ctx, func(tx Tx, _ time.Time) error {
		page = Page[AuditRecord]{Items: []AuditRecord{}}
		return eachAuditRecord(tx, after, func(r audit.Record) (bool, error) {
			event, err := r.Event()
			if err != nil {
				return false, fault.New(fault.StoreDamaged, "audit record %d cannot be read", r.Seq).WithHint("`keyctl audit verify` names the first bad record").WithCause(err)
			}
			if !filter.matches(event) {
				return true, nil
			}
			if len(page.Items) == limit {
				next := encodeCursor("audit", page.Items[limit-1].Record.Seq)
				page.NextCursor = &next
				return false, nil
			}
			page.Items = append(page.Items, AuditRecord{Event: event, Record: r})
			return true, nil
		})
	})
	return page, err
}

// eachAuditRecord calls fn with the records after a number, oldest first, as long as it says to go on.
func eachAuditRecord(tx Tx, after int64, fn func(audit.Record) (bool, error)) error {
	for {
		records, err := tx.AuditRecords(after, auditBatch)
		if err != nil {
			return err
		}
		for _, r := range records {
			if more, err := fn(r); err != nil || !more {
				return err
			}
			after = r.Seq
		}
		if len(records) < auditBatch {
			return nil
		}
	}
}

// matches decides whether the filter lets an event through.
func (f AuditFilter) matches(e audit.Event) bool {
	byPrefix := strings.HasSuffix(f.Action, ".") && strings.HasPrefix(e.Action, f.Action)
	switch {
	case !f.Since.IsZero() && e.At.Before(f.Since),
		!f.Until.IsZero() && !e.At.Before(f.Until),
		f.Action != "" && e.Action != f.Action && !byPrefix,
		f.Object != "" && e.Object.Name != f.Object && e.Object.ID != f.Object,
		f.Actor != "" && e.Actor.Name != f.Actor && e.Actor.ID != f.Actor,
		f.Outcome != "" && string(e.Outcome) != f.Outcome:
		return false
	}
	return true
}

// VerifyAudit implements Service.
func (l *Local) VerifyAudit(ctx context.Context, expect string) (AuditReport, error) {
	var report AuditReport
	err := l.view(ctx, func(tx Tx, _ time.Time) error {
		verifier := l.chain.Verifier()
		if expect != "" {
			seq, hash, err := audit.ParseHeadValue(expect)
			if err != nil {
				return err
			}
			verifier.Expect(seq, hash)
		}
		last := audit.Head{}
		broken := eachAuditRecord(tx, 0, func(r audit.Record) (bool, error) {
			err := verifier.Next(r)
			if err == nil {
				last = audit.Head{Seq: r.Seq, Hash: r.Hash()}
			}
			return true, err
		})
		if broken == nil {
			head, err := tx.AuditHead()
			if err != nil && !fault.Is(err, fault.NotFound) {
				return err
			}
			broken = verifier.Finish(head)
		}
		report = AuditReport{OK: broken == nil, Records: last.Seq, Head: last.Value()}
		var where *audit.Broken
		if errors.As(broken, &where) {
			report.FirstBad, report.Why = &where.Seq, &where.Why
			return nil
		}
		return broken
	})
	return report, err
}
