package store

import (
	"fmt"
	"testing"

	"keyctl/internal/structured"
)

func TestFormats(t *testing.T) {
	var f formats
	read := func(value any) (*structured.Format, error) {
		var into *structured.Format
		err := f.column(&into).Scan(value)
		return into, err
	}
	first, err := read(`{"data_type":"token"}`)
	if err != nil || first.DataType != structured.Token {
		t.Fatalf("a format = %+v, %v", first, err)
	}
	if again, err := read(`{"data_type":"token"}`); again != first || err != nil {
		t.Errorf("the same text again = %p, %v, want %p", again, err, first)
	}
	if other, err := read(`{"data_type":"date"}`); err != nil || other.DataType != structured.Date {
		t.Errorf("another text = %+v, %v", other, err)
	}
	if none, err := read(nil); none != nil || err != nil {
		t.Errorf("NULL = %+v, %v", none, err)
	}
	for _, damaged := range []any{`{"data_type":`, `{"data_type":1}`, "null", "", int64(1)} {
		if got, err := read(damaged); got != nil || err == nil {
			t.Errorf("%q = %+v, want an error", damaged, got)
		}
	}
	for i := range 2 * maxFormats {
		if _, err := read(fmt.Sprintf(`{"tweak_min_len":%d}`, i)); err != nil {
			t.Fatal(err)
		}
	}
	if len(f.known) > maxFormats {
		t.Errorf("%d formats are remembered, want at most %d", len(f.known), maxFormats)
	}
}
