package keystest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"keyctl/internal/audit"
	"keyctl/internal/fault"
	"keyctl/internal/keys"
)

func testAuditRecords(t *testing.T, w *world) {
	began := w.head(t).Seq
	d, p := w.create(t, "web-01")
	w.prove(t, d, p)
	w.dataset(t, "files")
	if _, err := w.AttachKeys(t.Context(), "files", []string{"web-01"}, keys.FullGrant); err != nil {
		t.Fatal(err)
	}
	w.clock.Advance(time.Minute)
	if _, err := w.EditKey(t.Context(), "web-01", keys.KeyEdit{Name: ptr("web-02"), AddRanges: ranges(t, "10.0.0.0/8").Prefixes()}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.DisableKey(t.Context(), "web-02", true); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range Events(t, w, keys.AuditFilter{}) {
		if r.Record.Seq <= began {
			continue
		}
		e := r.Event
		if e.Actor.Name != "alex" || e.Actor.ID == "" || e.Outcome != audit.OK || e.Object.ID == "" {
			t.Errorf("record %d = %+v", r.Record.Seq, e)
		}
		if strings.Contains(string(r.Record.Body), d.SigningKey.Reveal()) {
			t.Errorf("R2: record %d holds a secret", r.Record.Seq)
		}
		delete(e.Detail, "token") // which a server's caller has
		got = append(got, fmt.Sprint(r.Record.Seq-began, " ", e.At.Format(time.TimeOnly), " ", e.Action, " ", e.Object.Type, " ", e.Object.Name, " ", e.Detail))
	}
	Diff(t, "the audit log", got, []string{
		fmt.Sprintf("1 08:00:00 keys.create key web-01 map[access_key_id:%s]", d.AccessKeyID),
		fmt.Sprintf("2 08:00:00 keys.activate key web-01 map[access_key_id:%s]", d.AccessKeyID),
		"3 08:00:00 primary-keys.create primary_key files map[]",
		"4 08:00:00 datasets.create dataset files map[]",
		fmt.Sprintf("5 08:00:00 datasets.attach dataset files map[key:web-01 key_id:%s]", p.KeyID),
		"6 08:01:00 keys.edit key web-02 map[ip_ranges:any -> 10.0.0.0/8 name:web-01 -> web-02]",
		"7 08:01:00 keys.disable key web-02 map[compromised:true]",
	})
	if seq := w.head(t).Seq; seq != began+7 {
		t.Errorf("the head is record %d, want %d", seq, began+7)
	}
}

func testAuditFilters(t *testing.T, w *world) {
	s := w.active(t, "web-01") // 08:00
	w.clock.Advance(time.Hour)
	w.active(t, "web-02")
	w.clock.Advance(time.Hour)
	w.dataset(t, "web-01") // of the same name as a key
	w.auth = Enroll(t, w, w.clock)
	if _, err := w.CancelRoll(t.Context(), s.id, w.auth.Wrong()); !fault.Is(err, fault.NotFound) {
		t.Fatal(err)
	}
	_, err := w.Roll(t.Context(), keys.RollRequest{Key: s.id, Offer: Draw(t).Offer, Code: w.auth.Wrong()})
	WantCode(t, "a wrong code", err, fault.OTPWrong)
	if _, err := w.EnableKey(t.Context(), s.id); err != nil {
		t.Fatal(err)
	}
	actions := func(filter keys.AuditFilter) string {
		var all []string
		for _, r := range Events(t, w, filter) {
			all = append(all, r.Event.Action)
		}
		return strings.Join(all, " ")
	}
	actor := Events(t, w, keys.AuditFilter{Limit: 1})[0].Event.Actor
	at := Morning.Add(time.Hour)
	for _, c := range []struct {
		what   string
		filter keys.AuditFilter
		want   string
	}{
		{"an action", keys.AuditFilter{Action: "keys.create"}, "keys.create keys.create"},
		{"a prefix", keys.AuditFilter{Action: "keys.", Object: "web-01"}, "keys.create keys.activate keys.enable"},
		{"a prefix without its dot", keys.AuditFilter{Action: "keys"}, ""},
		{"part of an action", keys.AuditFilter{Action: "keys.creat"}, ""},
		{"an object's name", keys.AuditFilter{Object: "web-01"}, "keys.create keys.activate primary-keys.create datasets.create keys.enable"},
		{"an object's id", keys.AuditFilter{Object: s.id}, "keys.create keys.activate keys.enable"},
		{"an actor's name", keys.AuditFilter{Actor: actor.Name, Action: "otp."}, "otp.enroll otp.confirm"},
		{"an actor's id", keys.AuditFilter{Actor: actor.ID, Action: "otp.enroll"}, "otp.enroll"},
		{"another actor", keys.AuditFilter{Actor: "nobody"}, ""},
		{"refused", keys.AuditFilter{Outcome: "refused"}, "keys.roll"},
		{"noop", keys.AuditFilter{Outcome: "noop"}, "keys.enable"},
		{"since and until", keys.AuditFilter{Since: at, Until: at.Add(time.Microsecond)}, "keys.create keys.activate"},
		{"until, which is not included", keys.AuditFilter{Since: at, Until: at}, ""},
		{"since, which is included", keys.AuditFilter{Since: at, Until: at.Add(time.Minute), Action: "keys.create"}, "keys.create"},
	} {
		for _, limit := range []int{0, 1, 2} {
			c.filter.Limit = limit
			if got := actions(c.filter); got != c.want {
				t.Errorf("records by %s, %d a page = %q, want %q", c.what, limit, got, c.want)
			}
		}
	}
	last := int64(0)
	for _, r := range Events(t, w, keys.AuditFilter{Limit: 3}) {
		if r.Record.Seq != last+1 {
			t.Errorf("record %d follows record %d", r.Record.Seq, last)
		}
		last = r.Record.Seq
	}
}

func testVerifyAudit(t *testing.T, w *world) {
	verify := func(expect string) keys.AuditReport {
		t.Helper()
		report, err := w.VerifyAudit(t.Context(), expect)
		WantCode(t, "VerifyAudit()", err, "")
		return report
	}
	early := w.head(t)
	w.active(t, "web-01")
	now := w.head(t)
	for _, expect := range []string{"", early.Value, now.Value} {
		Diff(t, "VerifyAudit() of a whole log", verify(expect), keys.AuditReport{OK: true, Records: now.Seq, Head: now.Value})
	}
	// A value of another store, or of a later day of this one, is not continued.
	_, hash, _ := strings.Cut(early.Value, ":")
	for expect, bad := range map[string]int64{
		fmt.Sprintf("%d:%s", now.Seq, hash):           now.Seq,
		fmt.Sprintf("%d:%s", now.Seq+5, hash):         now.Seq + 1,
		fmt.Sprintf("1:%s", strings.Repeat("ab", 32)): 1,
	} {
		report := verify(expect)
		if report.OK || report.FirstBad == nil || *report.FirstBad != bad || report.Why == nil {
			t.Errorf("VerifyAudit(%q) = %+v, want record %d to be bad", expect, report, bad)
		}
	}
	for _, malformed := range []string{"x", "1", "1:", early.Value + " ", strings.ToUpper(early.Value) + "A"} {
		_, err := w.VerifyAudit(t.Context(), malformed)
		WantCode(t, "VerifyAudit() with a malformed value", err, fault.Invalid)
	}
}
