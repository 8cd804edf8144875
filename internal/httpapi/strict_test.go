package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestR17_Strict(t *testing.T) {
	nested := func(depth int) string { return strings.Repeat("[", depth) + strings.Repeat("]", depth) }
	for text, good := range map[string]bool{
		`{}`: true, `{"a":1}`: true, `[]`: true, `1`: true, ` null `: true, `{"a":{"b":1},"c":{"b":1}}`: true, `[{"a":1},{"a":1}]`: true, nested(16): true,
		`{"a":1,"A":1}`: true, // the schema knows no such field
		"":              false, " ": false, `{`: false, `{}}`: false, `{}{}`: false, `{} 1`: false, `{"a":1,}`: false, `{"a" 1}`: false, `{1:1}`: false, nested(17): false,
		`{"a":1,"a":1}`: false, `{"a":1,"\u0061":2}`: false, `{"x":{"a":1,"b":2,"a":3}}`: false, `[{"":1,"":2}]`: false,
		"\"\xff\"": false, "{\"\xff\":1}": false, "\ufeff{}": false, `{"a":1}x`: false, "{}\x00": false, `"\x"`: false, `01`: false, `+1`: false, `NaN`: false,
	} {
		var v any
		if err := unmarshal([]byte(text), &v); (err == nil) != good {
			t.Errorf("unmarshal(%q) = %v, want it read: %t", text, err, good)
		}
	}
	var b newOperatorBody
	if err := unmarshal([]byte(`{"name":17}`), &b); err == nil || strings.Contains(err.Error(), "17") {
		t.Errorf("unmarshal() of a number in place of a text = %v, want an error without it", err)
	}
}

// fields counts the fields in a text as they are written, with a reader of tokens; and in a value that was read from it. A
// field that was there twice is in the value once.
func fieldsWritten(data []byte) (n, depth int) {
	d := json.NewDecoder(bytes.NewReader(data))
	type level struct{ object, name bool }
	var open []level
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return n, depth
		}
		if err != nil {
			return -1, -1
		}
		top := len(open) - 1
		if delim, ok := token.(json.Delim); ok && (delim == '}' || delim == ']') {
			open = open[:top]
			continue
		}
		if top >= 0 && open[top].object {
			if open[top].name = !open[top].name; open[top].name {
				n++
				continue
			}
		}
		if delim, ok := token.(json.Delim); ok {
			open = append(open, level{object: delim == '{'})
			depth = max(depth, len(open))
		}
	}
}

func fieldsRead(v any) (n int) {
	switch v := v.(type) {
	case map[string]any:
		n = len(v)
		for _, inner := range v {
			n += fieldsRead(inner)
		}
	case []any:
		for _, inner := range v {
			n += fieldsRead(inner)
		}
	}
	return n
}

// FuzzUnmarshal: what is read is one whole JSON value in UTF-8, not too deep, with no field twice; everything else of that
// kind is read; and no error repeats what was sent.
func FuzzUnmarshal(f *testing.F) {
	for _, seed := range []string{
		`{"name":"web-01","labels":{"a":"b"}}`, `{"a":1,"a":2}`, `{"a":1,"\u0061":2}`, `[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]`, `{}{}`, `{"a":"` + "\xff" + `"}`, `"\ud800"`, `1e400`, "", "{", `{"role":17}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var v any
		err := unmarshal(data, &v)
		written, depth := fieldsWritten(data)
		whole := json.Valid(data) && utf8.Valid(data) && depth <= maxDepth
		var plain any
		if whole && json.Unmarshal(data, &plain) != nil {
			return // a number that is too large for this machine
		}
		if want := whole && fieldsRead(plain) == written; (err == nil) != want {
			t.Fatalf("unmarshal(%q) = %v, want it read: %t", data, err, want)
		}
		var b newKeyBody
		for _, err := range []error{err, unmarshal(data, &b)} {
			if err != nil && len(data) > 12 && strings.Contains(err.Error(), string(data)) {
				t.Fatalf("unmarshal(%q) = %v, which repeats it", data, err)
			}
		}
	})
}
