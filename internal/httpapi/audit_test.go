package httpapi_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"keyctl/internal/access"
	"keyctl/internal/fault"
	"keyctl/internal/keys"
	"keyctl/internal/keys/keystest"
)

// TestAuditOfRequests makes changes, reads and refused requests, and looks for each where it belongs: changes and refusals in
// the audit log, with operator, token, address and the request id that the answer had; reads in the request log alone, with
// the same.
func TestAuditOfRequests(t *testing.T) {
	s := newServed(t, keystest.NewClock().Env(), nil)
	w := &wire{t: t, address: s.address}
	t.Cleanup(w.hangUp)
	for _, name := range []string{"audrey", "gone"} {
		if _, err := s.owner.CreateOperator(t.Context(), keys.NewOperator{Name: name, Role: access.Auditor}); err != nil {
			t.Fatal(err)
		}
	}
	owner, audrey, gone := s.token(t, ""), s.token(t, "audrey"), s.token(t, "gone")
	if _, err := s.owner.DisableOperator(t.Context(), "gone"); err != nil {
		t.Fatal(err)
	}
	begun := len(keystest.Events(t, s.owner, keys.AuditFilter{}))
	recorded := 0
	for _, c := range []struct {
		what, method, path, token string
		body                      any
		status                    int
		action, operator, outcome string // of the record; no action: none
		reason                    fault.Code
	}{
		{"a change", "POST", "/v1/operators", owner.Reveal(), object{"name": "bob", "role": "ci"}, 200, "operators.create", "alex", "ok", ""},
		{"a change again", "POST", "/v1/operators/bob/disable", owner.Reveal(), nil, 200, "operators.disable", "alex", "ok", ""},
		{"a change that changes nothing", "POST", "/v1/operators/bob/disable", owner.Reveal(), nil, 200, "operators.disable", "alex", "noop", ""},
		{"a read", "GET", "/v1/operators", owner.Reveal(), nil, 200, "", "alex", "", ""},
		{"a read of another", "GET", "/v1/keys", audrey.Reveal(), nil, 200, "", "audrey", "", ""},
		{"a mistake", "POST", "/v1/operators", owner.Reveal(), object{"name": "bob", "role": "king"}, 400, "", "alex", "", fault.Invalid},
		{"nothing there", "GET", "/v1/operators/nobody", owner.Reveal(), nil, 404, "", "alex", "", fault.NotFound},
		{"a conflict", "POST", "/v1/operators", owner.Reveal(), object{"name": "bob", "role": "ci"}, 409, "", "alex", "", fault.Exists},
		{"a role that may not", "POST", "/v1/operators", audrey.Reveal(), object{"name": "eve", "role": "owner"}, 403, "operators.create", "audrey", "refused", fault.Forbidden},
		{"a rule that forbids", "POST", "/v1/operators/alex/disable", owner.Reveal(), nil, 403, "operators.disable", "alex", "refused", fault.Forbidden},
		{"no token", "GET", "/v1/keys", "", nil, 401, "keys.list", "", "refused", fault.Unauthenticated},
		{"an unknown token", "GET", "/v1/keys", drawToken(t).Reveal(), nil, 401, "keys.list", "", "refused", fault.Unauthenticated},
		{"a disabled operator's token", "GET", "/v1/keys", gone.Reveal(), nil, 401, "keys.list", "gone", "refused", fault.Unauthenticated},
	} {
		var body []byte
		headers := []string{}
		if c.token != "" {
			headers = append(headers, "Authorization: Bearer "+c.token)
		}
		if c.body != nil {
			body, _ = json.Marshal(c.body)
			headers = append(headers, jsonHeader)
		}
		answer := w.exchange(raw(c.method, c.path, body, headers...))
		if answer.status != c.status {
			t.Fatalf("%s is answered %d %s", c.what, answer.status, answer.body)
		}
		id := answer.header.Get("Request-Id")
		tokenID := ""
		if c.operator != "" {
			tokenID = c.token[4:16]
		}
		records := keystest.Events(t, s.owner, keys.AuditFilter{})[begun+recorded:]
		if c.action == "" {
			if len(records) != 0 {
				t.Errorf("%s is in the audit log: %+v", c.what, records[0].Event)
			}
		} else if len(records) != 1 {
			t.Fatalf("%s leaves %d records", c.what, len(records))
		} else {
			recorded++
			e := records[0].Event
			got := fmt.Sprint(e.Action, " ", e.Actor.Name, " ", e.Detail["token"], " ", e.Address, " ", e.RequestID, " ", e.Outcome, " ", e.Reason)
			if want := fmt.Sprint(c.action, " ", c.operator, " ", tokenID, " 127.0.0.1 ", id, " ", c.outcome, " ", c.reason); got != want {
				t.Errorf("%s is recorded as %q, want %q", c.what, got, want)
			}
		}
		line := lineOf(t, s, id)
		operator, token := line["operator"], line["token"]
		if c.status == http.StatusUnauthorized { // it was not let in as anybody
			operator, token = c.operator, tokenID
		}
		if line["address"] != "127.0.0.1" || line["status"] != float64(c.status) || operator != c.operator || token != tokenID {
			t.Errorf("%s has the line %v", c.what, line)
		}
		if code, _ := line["code"].(string); c.reason != "" && c.action == "" && code != string(c.reason) && c.reason != fault.Invalid {
			t.Errorf("%s has the code %q in the log, want %q", c.what, code, c.reason)
		}
	}
}

// lineOf is the line of a request in the log; it is written after the answer.
func lineOf(t *testing.T, s *served, id string) map[string]any {
	t.Helper()
	for range 10_000 {
		for line := range strings.Lines(s.log(t)) {
			if strings.Contains(line, id) && strings.HasSuffix(line, "\n") {
				fields := map[string]any{}
				if err := json.Unmarshal([]byte(line), &fields); err != nil {
					t.Fatal(err)
				}
				return fields
			}
		}
	}
	t.Fatalf("the log has no line of %s", id)
	return nil
}

// TestFloodOfRefusals knocks a thousand times: the audit log gets a few records and the sum of the rest, the request log all.
func TestFloodOfRefusals(t *testing.T) {
	clock := keystest.NewClock()
	s := newServed(t, clock.Env(), nil)
	w := &wire{t: t, address: s.address}
	t.Cleanup(w.hangUp)
	knock := func(times int) {
		for range times {
			if got := w.exchange(raw("GET", "/v1/keys", nil, "Authorization: Bearer kct_x")); got.status != 401 && got.status != 429 {
				t.Fatalf("answered %d", got.status)
			}
		}
	}
	before := len(keystest.Events(t, s.owner, keys.AuditFilter{}))
	knock(1000)
	if n := len(keystest.Events(t, s.owner, keys.AuditFilter{})) - before; n != 10 {
		t.Errorf("a thousand refusals in a minute left %d records, want 10", n)
	}
	clock.Advance(keystest.Morning.AddDate(0, 0, 1).Sub(keystest.Morning))
	knock(1)
	records := keystest.Events(t, s.owner, keys.AuditFilter{Action: "refusals.suppressed"})
	if len(records) != 1 || records[0].Event.Detail["count"] != "990" {
		t.Errorf("the sum of the others is %+v, want one record of 990", records)
	}
	if n := strings.Count(s.log(t), `"msg":"request"`); n < 1000 {
		t.Errorf("the request log has %d lines, want all 1001", n)
	}
}
