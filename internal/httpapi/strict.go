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

// unmarshal reads a request's body. Every body is read twice, first into any, to hold it against the schema, which knows no
// unknown field; that is where it is read with the strictness that the library lacks. What the errors say never repeats a value.
func unmarshal(data []byte, v any) error {
	if whole, first := v.(*any); first {
		value, err := readJSON(data)
		*whole = value
		return err
	}
	err := json.Unmarshal(data, v)
	if f := fault.From(err); err == nil || f != nil {
		return err
	}
	return errors.New("not the JSON that was expected")
}

// errNoJSON is said of what no program takes for JSON.
var errNoJSON = errors.New("not valid JSON")

// readJSON reads one JSON value. It refuses what is more than that, nests too deep, or has a field twice: of two equal fields
// one program takes the first and another the last. Of bytes that are no UTF-8 the library would make other characters.
func readJSON(data []byte) (any, error) {
	if !utf8.Valid(data) {
		return nil, errors.New("not valid UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(data))
	value, err := readValue(d, 0)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one JSON value")
	}
	return value, nil
}

// readValue reads one value and all that is in it.
func readValue(d *json.Decoder, depth int) (any, error) {
	token, err := d.Token()
	if err != nil {
		return nil, errNoJSON
	}
	delim, nested := token.(json.Delim)
	if !nested {
		return token, nil
	}
	if depth == maxDepth {
		return nil, errors.New("nested too deep")
	}
	fields, items := map[string]any{}, []any{}
	for d.More() {
		name := ""
		if delim == '{' {
			token, err := d.Token()
			if err != nil {
				return nil, errNoJSON
			}
			name, _ = token.(string)
			if _, there := fields[name]; there {
				return nil, errors.New("a field is there twice")
			}
		}
		value, err := readValue(d, depth+1)
		if err != nil {
			return nil, err
		}
		if delim == '{' {
			fields[name] = value
		} else {
			items = append(items, value)
		}
	}
	if _, err := d.Token(); err != nil {
		return nil, errNoJSON
	}
	if delim == '{' {
		return fields, nil
	}
	return items, nil
}
