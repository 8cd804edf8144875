package envelope

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// No way of printing, logging or encoding a key shows it, not even from inside another package's unexported field,
// where fmt calls no methods.
func TestR2_KeysDoNotPrint(t *testing.T) {
	canary := bytes.Repeat([]byte("K"), keySize) // 0x4b, 75
	ring, err := DrawKeyring(strings.NewReader(strings.Repeat("K", len(purposes)*keySize)))
	if err != nil {
		t.Fatal(err)
	}
	master, primary := MasterKey{newKey(canary)}, PrimaryKey{newKey(canary)}
	values := []any{
		master, primary, ring, &master, &primary, &ring, master.key,
		struct{ m MasterKey }{master}, struct{ p PrimaryKey }{primary}, struct{ r Keyring }{ring},
		map[string]MasterKey{"m": master}, []PrimaryKey{primary},
	}
	for _, v := range values {
		var out strings.Builder
		for _, verb := range "vsqxXdobcUeft" {
			for _, flag := range []string{"", "+", "#", " ", "080"} {
				fmt.Fprintf(&out, "%"+flag+string(verb)+"\n", v)
			}
		}
		fmt.Fprintln(&out, v)
		if b, err := json.Marshal(v); err == nil {
			out.Write(b)
		}
		slog.New(slog.NewTextHandler(&out, nil)).Info("test", "v", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("test", "v", v)
		for _, leak := range []string{ // long enough that no address looks like one
			"KKKK", strings.Repeat("4b", 8), strings.Repeat("4B", 8), "4b 4b", "4B 4B", "0x4b, 0x4b", "75 75", "75, 75",
			"113 113", "1001011 1001011", "U+004B", "S0tLS0tL",
		} {
			if strings.Contains(out.String(), leak) {
				t.Errorf("%T prints its key as %q", v, leak)
			}
		}
	}
}

func TestMaskedValuesSayThatTheyAreMasked(t *testing.T) {
	m := drawMaster(t)
	text, err := m.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	document, err := json.Marshal(map[string]any{"m": m})
	if err != nil {
		t.Fatal(err)
	}
	for _, got := range []string{m.String(), m.GoString(), m.LogValue().String(), string(text), fmt.Sprintf("%64x", m)} {
		if got != "[redacted]" {
			t.Errorf("got %q, want %q", got, "[redacted]")
		}
	}
	if want := `{"m":"[redacted]"}`; string(document) != want {
		t.Errorf("json.Marshal = %s, want %s", document, want)
	}
}
