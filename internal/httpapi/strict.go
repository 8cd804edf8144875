package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"unicode/utf8"

	"keyctl/internal/fault"
)

// maxDepth bounds how deep a request's JSON nests (R17).
const maxDepth = 16

// unmarshal reads a request's body. The router reads every body twice, first into any, to hold it against the schema, which
// knows no unknown field; then the strictness that its library lacks is added. What the errors say never repeats a value.
func unmarshal(data []byte, v any) error {
	if _, first := v.(*any); first {
		if err := checkJSON(data); err != nil {
			return err
		}
	}
	err := json.Unmarshal(data, v)
	if f := fault.From(err); err == nil || f != nil {
		return err
	}
	return errors.New("not the JSON that was expected")
}

// checkJSON refuses what is not one JSON value, nests too deep, or has a field twice: of two equal fields one program
// takes the first and another the last. Of bytes that are no UTF-8 the library would make other characters.
func checkJSON(data []byte) error {
	if !utf8.Valid(data) {
		return errors.New("not valid UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := checkValue(d, 0); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one JSON value")
	}
	return nil
}

// checkValue reads one value and all that is in it.
func checkValue(d *json.Decoder, depth int) error {
	token, err := d.Token()
	if err != nil {
		return errors.New("not valid JSON")
	}
	delim, nested := token.(json.Delim)
	if !nested {
		return nil
	}
	if depth == maxDepth {
		return errors.New("nested too deep")
	}
	seen := map[string]bool{}
	for d.More() {
		if delim == '{' {
			name, err := d.Token()
			if err != nil {
				return errors.New("not valid JSON")
			}
			text, _ := name.(string)
			if seen[text] {
				return errors.New("a field is there twice")
			}
			seen[text] = true
		}
		if err := checkValue(d, depth+1); err != nil {
			return err
		}
	}
	if _, err := d.Token(); err != nil {
		return errors.New("not valid JSON")
	}
	return nil
}
