package keys_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"keyctl/internal/access"
	"keyctl/internal/audit"
	"keyctl/internal/credential"
	"keyctl/internal/fault"
	"keyctl/internal/keys"
	"keyctl/internal/keys/keystest"
)

var errNotIn = fault.New(fault.Unauthenticated, "the token is not valid")

func (c *team) refusals(t *testing.T) []audit.Event {
	t.Helper()
	page, err := c.owner.AuditRecords(t.Context(), keys.AuditFilter{Outcome: string(audit.Refused)})
	if err != nil {
		t.Fatal(err)
	}
	var events []audit.Event
	for _, r := range page.Items {
		events = append(events, r.Event)
	}
	return events
}

func TestRefusalsNameWhoAndWhat(t *testing.T) {
	c := newTeam(t)
	r := keys.NewRefusals(c.owner)
	gateway := c.admit(t, c.hire(t, "gateway", access.Verifier))
	for who, refused := range map[*keys.Local]error{nil: errNotIn, gateway: fault.New(fault.Forbidden, "no")} {
		if err := r.Note(t.Context(), who, office, "keys.list", refused); err != nil {
			t.Fatal(err)
		}
	}
	for _, passed := range []fault.Code{fault.NotFound, fault.OTPWrong, fault.Internal, fault.Unauthenticated} {
		if err := r.Note(t.Context(), gateway, office, "keys.roll", fault.New(passed, "no")); err != nil {
			t.Fatal(err)
		}
	}
	events := c.refusals(t)
	if len(events) != 2 {
		t.Fatalf("%d records, want 2: %+v", len(events), events)
	}
	for _, e := range events {
		want := fmt.Sprint("gateway ", fault.Forbidden, " true")
		if e.Actor.ID == "" {
			want = fmt.Sprint(" ", fault.Unauthenticated, " false")
		}
		if got := fmt.Sprint(e.Actor.Name, " ", e.Reason, " ", e.Detail["token"] != ""); got != want {
			t.Errorf("record says %q, want %q", got, want)
		}
		if e.Action != "keys.list" || e.Address != "192.0.2.7" || e.RequestID != "req_1" || e.Detail["os_user"] != "" {
			t.Errorf("record = %+v", e)
		}
	}
}

// TestRefusalsNameHolders lets tokens be used after their end: the record names whose they were, and which. Somebody who only
// knows the id of one is not taken for its holder.
func TestRefusalsNameHolders(t *testing.T) {
	c := newTeam(t)
	r := keys.NewRefusals(c.owner)
	ends := map[string]func(id string) error{
		"revoked":  func(id string) error { _, err := c.owner.RevokeToken(t.Context(), id); return err },
		"disabled": func(string) error { _, err := c.owner.DisableOperator(t.Context(), "disabled"); return err },
		"deleted":  func(string) error { _, err := c.owner.DeleteOperator(t.Context(), "deleted"); return err },
		"expired":  func(string) error { c.clock.Advance(time.Hour); return nil },
	}
	want := map[string]string{} // by operator, the id of its token
	for _, name := range []string{"revoked", "disabled", "deleted", "expired"} {
		token := c.hire(t, name, access.Admin, func(r *keys.NewToken) {
			if name == "expired" {
				r.ExpiresAt = c.clock.Now().Add(time.Hour)
			}
		})
		id := token.Reveal()[4:16]
		keystest.WantCode(t, name, ends[name](id), "")
		_, refused := c.owner.Admit(t.Context(), token, office)
		keystest.WantCode(t, "Admit() once "+name, refused, fault.Unauthenticated)
		limited := fault.New(fault.RateLimited, "too many").WithCause(refused)
		for _, err := range []error{refused, limited} {
			keystest.WantCode(t, "Note()", r.Note(t.Context(), nil, office, "keys.list", err), "")
		}
		want[name] = id
	}
	if _, refused := c.owner.Admit(t.Context(), credential.NewSecret("kct_"+want["revoked"]+strings.Repeat("0", 49)), office); refused != nil {
		keystest.WantCode(t, "Note()", r.Note(t.Context(), nil, office, "keys.list", refused), "")
	}
	named := map[string]int{}
	for _, e := range c.refusals(t) {
		if e.Detail["token"] != want[e.Actor.Name] || e.Address != "192.0.2.7" || e.RequestID != "req_1" {
			t.Errorf("record = %+v, want the token %q", e, want[e.Actor.Name])
		}
		named[e.Actor.Name]++
	}
	for _, name := range []string{"revoked", "disabled", "deleted", "expired"} {
		if named[name] != 2 {
			t.Errorf("%d records name %q, want 2", named[name], name)
		}
	}
	if named[""] != 1 {
		t.Errorf("%d records name nobody, want 1", named[""])
	}
}

// TestRefusalsCapAFlood lets one address and then many knock, and expects few records, the right sums, and that quiet
// addresses are not hidden by a loud one.
func TestRefusalsCapAFlood(t *testing.T) {
	c := newTeam(t)
	r := keys.NewRefusals(c.owner)
	knock := func(address string, times int) {
		for range times {
			from := keys.Origin{Address: netip.MustParseAddr(address), RequestID: "req_2"}
			if err := r.Note(t.Context(), nil, from, "keys.list", errNotIn); err != nil {
				t.Fatal(err)
			}
		}
	}
	summary := func(want string) {
		t.Helper()
		var got []string
		for _, e := range c.refusals(t) {
			if e.Action == "refusals.suppressed" {
				got = append(got, "suppressed "+e.Detail["count"])
			} else if n := len(got); n > 0 && strings.HasPrefix(got[n-1], e.Address+" ") {
				count := 0
				fmt.Sscanf(got[n-1], e.Address+" %d", &count)
				got[n-1] = fmt.Sprintf("%s %d", e.Address, count+1)
			} else {
				got = append(got, e.Address+" 1")
			}
		}
		if text := strings.Join(got, ", "); text != want {
			t.Errorf("the log says %q, want %q", text, want)
		}
	}
	knock("192.0.2.1", 500)
	knock("2001:db8::1", 9)
	knock("2001:db8::2", 5) // the same /64
	summary("192.0.2.1 10, 2001:db8::1 9, 2001:db8::2 1")
	c.clock.Advance(time.Minute)
	knock("192.0.2.9", 1)
	summary("192.0.2.1 10, 2001:db8::1 9, 2001:db8::2 1, suppressed 494, 192.0.2.9 1")
	for i := range 200 {
		knock(fmt.Sprintf("198.51.100.%d", i), 1)
	}
	if err := r.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	events := c.refusals(t)
	if last := events[len(events)-1]; last.Detail["count"] != "141" || len(events) != 20+1+60+1 {
		t.Errorf("%d records, the last one %+v; want 82, the last one of 141", len(events), last)
	}
}

// TestOwnerResetsAnothersFactor is the way back for an operator who lost phone and recovery codes.
func TestOwnerResetsAnothersFactor(t *testing.T) {
	c := newTeam(t)
	ann, admin := c.admit(t, c.hire(t, "ann", access.Admin)), c.admit(t, c.hire(t, "bob", access.Admin))
	keystest.Enroll(t, ann, c.clock)
	keystest.Enroll(t, admin, c.clock)
	chief := c.admit(t, c.chief(t))
	auth := keystest.Enroll(t, chief, c.clock)

	reset := func(as *keys.Local, authority keys.OTPAuthority, want fault.Code) {
		t.Helper()
		authority.Operator = "ann"
		keystest.WantCode(t, fmt.Sprintf("ResetOTP(%+v)", authority), as.ResetOTP(t.Context(), authority), want)
	}
	reset(admin, keys.OTPAuthority{Code: "123456"}, fault.Forbidden)
	reset(chief, keys.OTPAuthority{}, fault.OTPRequired)
	reset(chief, keys.OTPAuthority{Code: auth.Wrong()}, fault.OTPWrong)
	reset(chief, keys.OTPAuthority{RecoveryCode: credential.NewSecret(strings.Repeat("A", 24))}, fault.Invalid)
	reset(chief, keys.OTPAuthority{BreakGlass: true}, fault.Forbidden)
	if status, err := ann.OTPStatus(t.Context()); err != nil || !status.Enrolled {
		t.Fatalf("OTPStatus() after refusals = %+v, %v", status, err)
	}
	reset(chief, keys.OTPAuthority{Code: auth.Next()}, "")
	reset(chief, keys.OTPAuthority{Code: auth.Next()}, fault.NotFound)
	if status, err := ann.OTPStatus(t.Context()); err != nil || status.Enrolled {
		t.Errorf("OTPStatus() after the reset = %+v, %v", status, err)
	}
	if status, err := chief.OTPStatus(t.Context()); err != nil || !status.Enrolled {
		t.Errorf("the owner's own second factor: %+v, %v", status, err)
	}
	keystest.Enroll(t, ann, c.clock)
	reset(c.owner, keys.OTPAuthority{BreakGlass: true}, "")
}

// chief makes a token of the operator that init made.
func (c *team) chief(t *testing.T) credential.Secret {
	t.Helper()
	request := keys.NewToken{Token: drawToken(t)}
	if _, err := c.owner.CreateToken(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	return request.Token
}

func TestWritable(t *testing.T) {
	c := newTeam(t)
	before, err := c.owner.AuditHead(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	keystest.WantCode(t, "Writable()", c.owner.Writable(t.Context()), "")
	if after, err := c.owner.AuditHead(t.Context()); err != nil || after != before {
		t.Errorf("AuditHead() = %v, %v, want %v still", after, err, before)
	}
}
