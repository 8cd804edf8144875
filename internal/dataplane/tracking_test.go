package dataplane

import (
	"encoding/json"
	"testing"
)

// FuzzReport reads whatever somebody sends as a report of use: it is refused as no JSON, or bounded and harmless.
func FuzzReport(f *testing.F) {
	for _, seed := range []string{
		`{"usage":[{"datasets":"ssn","count":"4","key_number":"1","action":"encrypt","user-agent":"u","product":"c","first_call_timestamp":"2026-03-01T07:00:00Z"}]}`,
		`{"usage":[{"datasets":"a,b,,c","count":4.5,"action":"decrypt","user_defined":{"a":[1]},"last_call_timestamp":"2026-03-01 07:30:00.123456+00:00"}]}`,
		`{"usage":[1,null,"",[],{},{"datasets":null,"count":null}]}`, `{"usage":{}}`, `{"usage":null}`, `[]`, `{"usage":[{"count":-1e999}]`, "{\"usage\":[{\"datasets\":\"\xff\\ud800\"}]}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var in struct {
			Usage report `json:"usage"`
		}
		err := json.Unmarshal(body, &in)
		if err != nil && json.Valid(body) && body[0] == '{' {
			t.Errorf("what is JSON was refused: %v", err)
		}
		if len(in.Usage) > maxEvents {
			t.Errorf("%d events", len(in.Usage))
		}
		for _, e := range in.Usage {
			if e.Count > maxUses {
				t.Errorf("the event %+v counts too much", e)
			}
		}
	})
}
