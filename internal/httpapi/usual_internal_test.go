package httpapi

import (
	"encoding/json"
	"reflect"
	"testing"
)

// FuzzUsualQuestion holds the reader of the usual question against that of all others: what it takes, both take for the same.
func FuzzUsualQuestion(f *testing.F) {
	for body, usual := range map[string]bool{
		`{"access_key_id":"KC1","secret_signing_key":"kcs_1"}`:                            true,
		`{"secret_signing_key":"kcs_1","address":"::1","access_key_id":"KC1"}`:            true,
		" {\n\t\"access_key_id\" : \"KC1\" , \"secret_signing_key\" :\r\n\"kcs_1\"\n}\n ": true,
		`{"access_key_id":"KC1","secret_signing_key":"}{,:"}`:                             true,
		``:                               false,
		`{}`:                             false,
		`{"access_key_id":"KC1"}`:        false,
		`{"secret_signing_key":"kcs_1"}`: false,
		`[{"access_key_id":"KC1","secret_signing_key":"kcs_1"}]`:                     false,
		`{"access_key_id":"KC1","secret_signing_key":"kcs_1"`:                        false,
		`{"access_key_id":"KC1","secret_signing_key":"kcs_1",}`:                      false,
		`{,"access_key_id":"KC1","secret_signing_key":"kcs_1"}`:                      false,
		`{"access_key_id":"KC1" "secret_signing_key":"kcs_1"}`:                       false,
		`{"access_key_id":"KC1","secret_signing_key":"kcs_1"}{}`:                     false,
		`{"access_key_id":"KC1","secret_signing_key":"kcs_1"} x`:                     false,
		`{"access_key_id":"KC1","secret_signing_key":"kcs_1","access_key_id":"KC1"}`: false,
		`{"access_key_id":"KC1","secret_signing_key":"kcs_1","address":""}`:          false,
		`{"access_key_id":"KC1","secret_signing_key":"kcs_1","address":null}`:        false,
		`{"access_key_id":"KC1","secret_signing_key":"kcs_1","private_key":true}`:    false,
		`{"access_key_id":"KC1","secret_signing_key":"kcs_1","key":"web-01"}`:        false,
		`{"Access_Key_Id":"KC1","secret_signing_key":"kcs_1"}`:                       false,
		`{"access_key_id":"KC1","secret_signing_key":"kcs\u005f1"}`:                  false,
		"{\"access_key_id\":\"KC\x001\",\"secret_signing_key\":\"kcs_1\"}":           false,
		"{\"access_key_id\":\"KC1\",\"secret_signing_key\":\"kcs_\xff\"}":            false,
		"{\"access_key_id\":\"KC1\",\"secret_signing_key\":\"kcs_1\"}\x00":           false,
		"\ufeff{\"access_key_id\":\"KC1\",\"secret_signing_key\":\"kcs_1\"}":         false,
	} {
		f.Add([]byte(body))
		if _, ok := usualQuestion([]byte(body)); ok != usual {
			f.Errorf("usualQuestion(%s) = %v, want %v", body, ok, usual)
		}
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		got, ok := usualQuestion(body)
		if !ok {
			return
		}
		var whole any
		if err := unmarshal(body, &whole); err != nil {
			t.Fatalf("%q is usual, and %v", body, err)
		}
		fields, _ := whole.(map[string]any)
		for name := range fields {
			switch name {
			case "access_key_id", "secret_signing_key", "address":
			default:
				t.Fatalf("%q is usual, and has %q", body, name)
			}
		}
		var want questionBody
		if err := json.Unmarshal(body, &want); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%q is read as %+v, and by the router as %+v, %v", body, got, want, err)
		}
	})
}
