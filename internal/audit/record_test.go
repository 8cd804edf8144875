package audit

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"keyctl/internal/fault"
)

// vectors is the content of testdata/vectors/chain.json, which was not made by this package.
type vectors struct {
	Key        string `json:"key"`
	StoreID    string `json:"store_id"`
	GenesisMAC string `json:"genesis_mac"`
	Records    []struct {
		Event struct {
			At        time.Time         `json:"at"`
			Actor     Actor             `json:"actor"`
			Action    string            `json:"action"`
			Object    Object            `json:"object"`
			Outcome   Outcome           `json:"outcome"`
			Reason    string            `json:"reason"`
			Address   string            `json:"address"`
			RequestID string            `json:"request_id"`
			Detail    map[string]string `json:"detail"`
		} `json:"event"`
		Body    string `json:"body"`
		Hash    string `json:"hash"`
		MAC     string `json:"mac"`
		Head    string `json:"head"`
		HeadMAC string `json:"head_mac"`
	} `json:"records"`
}

func readVectors(t testing.TB) vectors {
	t.Helper()
	b, err := os.ReadFile("testdata/vectors/chain.json")
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The stored form does not drift: records and heads are byte for byte what another program makes from the format's
// description.
func TestR6_AuditVectors(t *testing.T) {
	v := readVectors(t)
	c := NewChain(unhex(t, v.Key), v.StoreID)
	head := c.Genesis()
	if got := hex.EncodeToString(head.MAC); got != v.GenesisMAC {
		t.Errorf("Genesis().MAC = %s, want %s", got, v.GenesisMAC)
	}
	verifier := c.Verifier()
	for _, want := range v.Records {
		var r Record
		r, head = mustAppend(t, c, head, Event(want.Event))
		if string(r.Body) != want.Body {
			t.Errorf("body = %s\nwant   %s", r.Body, want.Body)
		}
		hash := r.Hash()
		for _, pair := range [][2]string{
			{hex.EncodeToString(hash[:]), want.Hash},
			{hex.EncodeToString(r.MAC), want.MAC},
			{head.Value(), want.Head},
			{hex.EncodeToString(head.MAC), want.HeadMAC},
		} {
			if pair[0] != pair[1] {
				t.Errorf("record %d: got %s, want %s", r.Seq, pair[0], pair[1])
			}
		}
		if err := verifier.Next(Record{Seq: r.Seq, Body: []byte(want.Body), MAC: unhex(t, want.MAC)}); err != nil {
			t.Errorf("Next(stored record %d) = %v", r.Seq, err)
		}
	}
	if err := verifier.Finish(head); err != nil {
		t.Errorf("Finish = %v", err)
	}
}

func TestRecordRefusesForeignBodies(t *testing.T) {
	r, _ := mustAppend(t, testChain(t), testChain(t).Genesis(), testEvent())
	good := string(r.Body)
	for _, tt := range []struct{ name, old, new string }{
		{"newer version", `"v":1`, `"v":2`},
		{"no version", `"v":1,`, ``},
		{"unknown field", `"v":1`, `"v":1,"x":0`},
		{"another row's number", `"seq":1`, `"seq":2`},
		{"number 0", `"seq":1`, `"seq":0`},
		{"number as text", `"seq":1`, `"seq":"1"`},
		{"five fractional digits", `08.000009Z`, `08.00000Z`},
		{"decimal comma", `08.000009Z`, `08,000009Z`},
		{"offset", `08.000009Z`, `08.000009+00:00`},
		{"year 0", `"2026-`, `"0000-`},
		{"no such day", `-11-23T`, `-11-31T`},
		{"unknown outcome", `"outcome":"ok"`, `"outcome":"fine"`},
		{"no action", `"keys.edit"`, `""`},
		{"control character", `web-01`, `web\u001b01`},
		{"bidi override", `web-01`, "web\u202e01"},
		{"unclean detail", `10.0.0.0/8`, `10.0.0.0\n8`},
		{"short hash", `"prev":"00`, `"prev":"`},
		{"upper-case hash", `"prev":"00`, `"prev":"AA`},
		{"hash not hex", `"prev":"00`, `"prev":"gg`},
		{"two objects", `"}`, `"}{}`},
		{"cut", `"}`, `"`},
		{"empty", good, ``},
		{"null", good, `null`},
		{"array", good, `[]`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			body := strings.Replace(good, tt.old, tt.new, 1)
			if tt.old == `"}` { // the last one, not the actor's
				body = strings.TrimSuffix(good, tt.old) + tt.new
			}
			if body == good {
				t.Fatalf("%q is not in %s", tt.old, good)
			}
			if e, err := (Record{Seq: 1, Body: []byte(body)}).Event(); !fault.Is(err, fault.StoreDamaged) {
				t.Errorf("Event() of %s = %+v, %v, want %s", body, e, err, fault.StoreDamaged)
			}
		})
	}
}

// Decoding never panics, and what it accepts is stable: it encodes to a body that says the same and encodes to itself.
func FuzzRecord(f *testing.F) {
	for _, r := range readVectors(f).Records {
		f.Add([]byte(r.Body))
	}
	f.Add([]byte(`{"v":1,"seq":1,"at":"2026-01-01T00:00:00.000000Z","action":"x","outcome":"ok","detail":null,"prev":"` +
		strings.Repeat("0", 64) + `"}`))
	f.Add([]byte(`{"V":1}`))
	f.Add([]byte("{\"v\":1,\"action\":\"\xff\\ud800\"}"))
	f.Fuzz(func(t *testing.T, body []byte) {
		entry, err := decode(body)
		if err != nil {
			return
		}
		once, err := encode(entry)
		if err != nil {
			t.Fatalf("encode(%+v) = %v", entry, err)
		}
		again, err := decode(once)
		if err != nil {
			t.Fatalf("decode(%s), which encode made, = %v", once, err)
		}
		if diff := cmp.Diff(entry, again); diff != "" {
			t.Fatalf("entry changed on its way (-first +second):\n%s", diff)
		}
		if twice, err := encode(again); err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("encode gave %s, then %s, %v", once, twice, err)
		}
	})
}
