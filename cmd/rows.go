package cmd

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"keyctl/internal/fault"
	"keyctl/internal/iprange"
	"keyctl/internal/keys"
)

// A list of keys to create is CSV with a header (RFC 4180), or JSON, one object a line. Both have the same columns; where
// one takes several values, a CSV cell separates them by semicolons, and JSON may have an array.

// rowColumns are the columns of a list of keys. Only name has to be there.
var rowColumns = []string{"name", "description", "ip", "dataset", "expires", "labels"}

// row is one key of a list.
type row struct {
	line    int
	request keys.NewKey
}

// mistake is what is wrong in a line of a list.
type mistake struct {
	line  int
	about string
}

// maxListBytes bounds a list of keys: some hundred thousand lines.
const maxListBytes = 64 << 20

// readRows reads a list of keys whole, and everything that is wrong with it by itself. now is what times count from. The
// error is that of reading.
func readRows(r io.Reader, now time.Time) ([]row, []mistake, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxListBytes+1))
	if err != nil {
		return nil, nil, err
	}
	if len(text) > maxListBytes {
		return nil, nil, fault.New(fault.Invalid, "the list is larger than %d bytes", maxListBytes).WithHint("split it")
	}
	text = bytes.TrimPrefix(text, []byte("\uFEFF"))
	list := &rowList{now: now, lines: map[string]int{}}
	if bytes.HasPrefix(bytes.TrimSpace(text), []byte("{")) {
		list.readJSON(text)
	} else {
		list.readCSV(text)
	}
	if len(list.rows) == 0 && len(list.mistakes) == 0 {
		list.wrong(1, "there is no key in the list")
	}
	return list.rows, list.mistakes, nil
}

// rowList is a list as it is read.
type rowList struct {
	now      time.Time
	rows     []row
	mistakes []mistake
	lines    map[string]int // of each name
}

func (l *rowList) wrong(line int, format string, args ...any) {
	l.mistakes = append(l.mistakes, mistake{line, fmt.Sprintf(format, args...)})
}

func (l *rowList) readCSV(text []byte) {
	r := csv.NewReader(bytes.NewReader(text))
	r.FieldsPerRecord = -1
	header, err := r.Read()
	if err != nil {
		l.wrongCSV(err)
		return
	}
	for i, name := range header {
		header[i] = strings.ToLower(strings.TrimSpace(name))
		switch {
		case !slices.Contains(rowColumns, header[i]):
			l.wrong(1, "there is no column %q: the columns are %s", name, strings.Join(rowColumns, ", "))
		case slices.Contains(header[:i], header[i]):
			l.wrong(1, "the column %q is there twice", name)
		}
	}
	if !slices.Contains(header, "name") {
		l.wrong(1, "the first line has to name the columns, and among them name")
	}
	if len(l.mistakes) > 0 {
		return // with other columns in mind nothing below it can be judged
	}
	for {
		record, err := r.Read()
		if err != nil {
			l.wrongCSV(err)
			return
		}
		line, _ := r.FieldPos(0)
		if len(record) != len(header) {
			l.wrong(line, "the header has %d columns, and this line %d", len(header), len(record))
			continue
		}
		cells := map[string][]string{}
		for i, name := range header {
			cells[name] = splitCell(name, record[i])
		}
		l.add(line, cells)
	}
}

// wrongCSV notes what ends the reading of CSV; the end of the text is nothing wrong.
func (l *rowList) wrongCSV(err error) {
	var wrong *csv.ParseError
	switch {
	case errors.As(err, &wrong):
		l.wrong(wrong.Line, "from here on it is no CSV: %s", wrong.Err)
	case !errors.Is(err, io.EOF):
		l.wrong(1, "%s", err)
	}
}

// splitCell takes the values out of a cell. A description is one value, whatever is in it.
func splitCell(column, text string) []string {
	if column == "description" {
		return []string{text}
	}
	if strings.TrimSpace(text) == "" {
		return nil
	}
	values := strings.Split(text, ";")
	for i, value := range values {
		values[i] = strings.TrimSpace(value)
	}
	return values
}

func (l *rowList) readJSON(text []byte) {
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, maxListBytes+1)
	for n := 1; lines.Scan(); n++ {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		cells, about := jsonCells(lines.Bytes())
		if about != "" {
			l.wrong(n, "%s", about)
			continue
		}
		l.add(n, cells)
	}
}

// jsonCells takes the values out of a JSON object, or says what is wrong with it.
func jsonCells(text []byte) (cells map[string][]string, about string) {
	if !json.Valid(text) || bytes.TrimSpace(text)[0] != '{' {
		return nil, "it is no JSON object"
	}
	members, err := object(json.RawMessage(text))
	if err != nil {
		return nil, "it is no JSON object"
	}
	cells = map[string][]string{}
	for _, m := range members {
		_, twice := cells[m.name]
		switch {
		case !slices.Contains(rowColumns, m.name):
			return nil, fmt.Sprintf("there is no member %q: the members are %s", m.name, strings.Join(rowColumns, ", "))
		case twice:
			return nil, fmt.Sprintf("the member %q is there twice", m.name)
		}
		values, ok := jsonValues(m)
		if !ok {
			return nil, fmt.Sprintf("%s: it takes text, or where several values make sense a list of text, which is not empty", m.name)
		}
		cells[m.name] = values
	}
	return cells, ""
}

// jsonValues reads a member: text as in a CSV cell, a list of text, null for nothing, or, for labels, an object.
func jsonValues(m field) ([]string, bool) {
	var text string
	var list []string
	var labels map[string]string
	switch {
	case string(m.value) == "null":
		return nil, true
	case json.Unmarshal(m.value, &text) == nil:
		return splitCell(m.name, text), true
	case (m.name == "ip" || m.name == "dataset" || m.name == "labels") && json.Unmarshal(m.value, &list) == nil:
		return list, len(list) > 0 // an empty list of ranges could mean everybody or nobody
	case m.name == "labels" && json.Unmarshal(m.value, &labels) == nil:
		for name, value := range labels {
			list = append(list, name+"="+value)
		}
		return list, true
	}
	return nil, false
}

// add reads one key, and notes everything that is wrong with it.
func (l *rowList) add(line int, cells map[string][]string) {
	request := keys.NewKey{Datasets: cells["dataset"]}
	before := len(l.mistakes)
	check := func(column string, err error) {
		if f := fault.From(err); f != nil {
			l.wrong(line, "%s: %s", column, f.Message)
		}
	}
	one := func(column string) string {
		values := cells[column]
		if len(values) > 1 {
			l.wrong(line, "%s: it takes one value, not %d", column, len(values))
		}
		return strings.Join(values, ";")
	}
	request.Name, request.Description = one("name"), one("description")
	var err error
	request.IPRanges, err = iprange.ParseList(cells["ip"])
	check("ip", err)
	request.Labels, err = parseLabels(cells["labels"])
	check("labels", err)
	if expires := one("expires"); expires != "" {
		request.ExpiresAt, err = keys.ParseExpiry(expires, l.now)
		check("expires", err)
	}
	if request.Name == "" {
		l.wrong(line, "name: it is empty")
	} else if len(l.mistakes) == before {
		if f := fault.From(request.Validate()); f != nil {
			l.wrong(line, "%s", f.Message)
		}
	}
	if first, twice := l.lines[request.Name]; twice && request.Name != "" {
		l.wrong(line, "name: %q is in line %d already", request.Name, first)
	} else {
		l.lines[request.Name] = line
	}
	if len(l.mistakes) == before {
		l.rows = append(l.rows, row{line, request})
	}
}
