package cmd

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"

	"github.com/itchyny/gojq"
	"go.yaml.in/yaml/v3"

	"keyctl/internal/fault"
)

// field is one member of a JSON object, in the order in which it is written.
type field struct {
	name  string
	value json.RawMessage
}

// object encodes v, a struct or a map, and takes it apart again: JSON is the one description of a thing, and every other
// form of output is made of it.
func object(v any) ([]field, error) {
	encoded, err := encodeJSON(v)
	if err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(bytes.NewReader(encoded))
	if _, err := decoder.Token(); err != nil {
		return nil, err
	}
	var fields []field
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return nil, err
		}
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return nil, err
		}
		fields = append(fields, field{name.(string), value})
	}
	return fields, nil
}

// encodeJSON encodes without escaping <, > and &: the output is for programs and people, not for web pages.
func encodeJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// selected encodes a thing with only the fields that --json names, in that order. An unknown one is fault.Invalid.
func (p *printer) selected(v any) ([]byte, error) {
	if p.fields == nil {
		return encodeJSON(v)
	}
	all, err := object(v)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.WriteByte('{')
	for i, name := range p.fields {
		at := slices.IndexFunc(all, func(f field) bool { return f.name == name })
		if at < 0 {
			return nil, unknownField(name, all)
		}
		if i > 0 {
			b.WriteByte(',')
		}
		encoded, err := encodeJSON(name)
		if err != nil {
			return nil, err
		}
		b.Write(encoded)
		b.WriteByte(':')
		b.Write(all[at].value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

func unknownField(name string, all []field) error {
	names := make([]string, len(all))
	for i, f := range all {
		names[i] = f.name
	}
	return fault.New(fault.Invalid, "no field %q", name).WithHint("the fields are %s", strings.Join(names, ","))
}

// document writes one thing as JSON, on one line for jsonl, or as YAML.
func (p *printer) document(v any) error {
	encoded, err := p.selected(v)
	if err != nil {
		return err
	}
	return p.encoded(encoded)
}

// encoded writes something that is JSON already, through the jq expression if there is one.
func (p *printer) encoded(text []byte) error {
	if p.jq != nil {
		return p.filtered(text)
	}
	return p.plain(text)
}

func (p *printer) plain(text []byte) error {
	switch p.form {
	case "yaml":
		return p.yaml(text)
	case "jsonl":
		return p.line(string(text))
	}
	var b bytes.Buffer
	if err := json.Indent(&b, text, "", "  "); err != nil {
		return err
	}
	return p.line(b.String())
}

// yaml writes JSON as block-style YAML. JSON is YAML already; only its style changes, so order and types stay.
func (p *printer) yaml(text []byte) error {
	var node yaml.Node
	if err := yaml.Unmarshal(text, &node); err != nil {
		return err
	}
	blockStyle(&node)
	encoder := yaml.NewEncoder(p.out)
	encoder.SetIndent(2)
	return errors.Join(encoder.Encode(&node), encoder.Close())
}

func blockStyle(node *yaml.Node) {
	node.Style = 0
	for _, child := range node.Content {
		blockStyle(child)
	}
}

// listJSON writes a list as one JSON object, an item a line, while its pages arrive. It begins when the first page is there:
// where nothing can be answered, nothing is.
func listJSON[T any](p *printer, w io.Writer, l *listing[T]) error {
	lead := `{"items":[`
	err := each(l.items(), func(item T) error {
		encoded, err := p.selected(item)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(w, "%s\n%s", lead, encoded)
		lead = ","
		return err
	})
	if err != nil {
		return err
	}
	if lead == "," {
		lead = ""
	}
	next, err := encodeJSON(l.next)
	if err != nil {
		return err
	}
	if _, err = fmt.Fprintf(w, "%s],\"next_cursor\":%s", lead, next); err != nil {
		return err
	}
	if l.totals != nil {
		totals, err := object(l.totals)
		if err != nil {
			return err
		}
		for _, f := range totals {
			if _, err := fmt.Fprintf(w, ",%q:%s", f.name, f.value); err != nil {
				return err
			}
		}
	}
	_, err = io.WriteString(w, "}\n")
	return err
}

// columnsOf names the fields that a thing is written with: the selected ones, or all. It fails on an unknown selection.
func (p *printer) columnsOf(v any) ([]field, error) {
	encoded, err := p.selected(v)
	if err != nil {
		return nil, err
	}
	return object(json.RawMessage(encoded))
}

// printCSV writes things as CSV, with one column a field.
func printCSV[T any](p *printer, items iter.Seq2[T, error]) error {
	t, err := newCSVTable(p, *new(T))
	if err != nil {
		return err
	}
	return errors.Join(each(items, func(item T) error { return t.write(item) }), t.flush())
}

// csvTable is CSV that is written row by row.
type csvTable struct {
	p *printer
	w *csv.Writer
}

// newCSVTable begins a table of things like this one with its header.
func newCSVTable(p *printer, like any) (*csvTable, error) {
	t := &csvTable{p, csv.NewWriter(p.out)}
	columns, err := p.columnsOf(like)
	if err != nil || p.noHeaders {
		return t, err
	}
	names := make([]string, len(columns))
	for i, f := range columns {
		names[i] = f.name
	}
	return t, t.w.Write(names)
}

// write adds a row. It may stay in memory until flush.
func (t *csvTable) write(item any) error {
	fields, err := t.p.columnsOf(item)
	if err != nil {
		return err
	}
	values := make([]string, len(fields))
	for i, f := range fields {
		values[i] = csvCell(f.value)
	}
	return t.w.Write(values)
}

func (t *csvTable) flush() error {
	t.w.Flush()
	return t.w.Error()
}

// csvCell turns a JSON value into a cell: text as it is, a list of text joined by semicolons, null as nothing, anything
// else as JSON. A cell that a spreadsheet would run as a formula gets an apostrophe in front (CWE-1236).
func csvCell(value json.RawMessage) string {
	var s string
	var list []string
	switch {
	case string(value) == "null":
		return ""
	case json.Unmarshal(value, &s) == nil:
	case json.Unmarshal(value, &list) == nil:
		s = strings.Join(list, ";")
	default:
		return string(value)
	}
	if s != "" && strings.ContainsRune("=+-@\t\r", rune(s[0])) {
		return "'" + s
	}
	return s
}

// compileJQ reads a jq expression; none is nil.
func compileJQ(expression string) (*gojq.Code, error) {
	if expression == "" {
		return nil, nil
	}
	query, err := gojq.Parse(expression)
	if err == nil {
		var code *gojq.Code
		if code, err = gojq.Compile(query); err == nil {
			return code, nil
		}
	}
	return nil, fault.New(fault.Invalid, "--jq: %s", err).WithHint("an example: --jq '.items[].name'")
}

// filtered runs the jq expression over a JSON value and writes each result: text as it is, the rest as JSON or YAML.
func (p *printer) filtered(value []byte) error {
	var input any
	if err := json.Unmarshal(value, &input); err != nil {
		return err
	}
	results := p.jq.Run(input)
	for {
		result, ok := results.Next()
		if !ok {
			return nil
		}
		if err, failed := result.(error); failed {
			return fault.New(fault.Invalid, "--jq: %s", err).WithHint("`-o json` shows what the expression gets")
		}
		if s, isText := result.(string); isText {
			if err := p.line(s); err != nil {
				return err
			}
			continue
		}
		encoded, err := gojq.Marshal(result)
		if err != nil {
			return err
		}
		if err := p.plain(encoded); err != nil {
			return err
		}
	}
}
