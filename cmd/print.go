package cmd

import (
	"bufio"
	"bytes"
	"cmp"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/itchyny/gojq"

	"keyctl/internal/fault"
	"keyctl/internal/keys"
	"keyctl/internal/term"
)

// outputs are the values of -o; the first is the default.
var outputs = []string{"table", "json", "jsonl", "yaml", "csv", "name"}

// column is one column of a table of T, or one line about a single T.
type column[T any] struct {
	title  string
	shrink bool // may be cut on a narrow terminal
	cell   func(p *printer, item T) term.Cell
}

// shape says how things of one kind are shown: in a table, one by one, by id, by name. JSON, and what derives from it,
// comes from the thing itself.
type shape[T any] struct {
	columns []column[T]    // of a table
	details []column[T]    // of a single thing
	note    func(T) string // what a table says below a row, under the last column; nil or empty: nothing
	id      func(T) string
	name    func(T) string
}

// printer writes answers to standard output in the form that was asked for.
type printer struct {
	out       io.Writer
	form      string // one of outputs
	fields    []string
	jq        *gojq.Code
	quiet     bool
	noHeaders bool
	width     int // of the terminal; 0: no limit
	color     bool
	unicode   bool // the terminal draws blocks
	relative  bool // times relative to now, for a person
	now       time.Time
}

// printer reads the output flags.
func (a *app) printer() (*printer, error) {
	screen, err := a.terminal()
	if err != nil {
		return nil, err
	}
	stdout := screen.Stdout()
	p := &printer{
		out: a.sys.Stdout, form: a.output, quiet: a.quiet, noHeaders: a.noHeaders,
		width: stdout.Width, color: stdout.Color, unicode: stdout.Unicode, relative: screen.StdoutIsTerminal(), now: a.now(),
	}
	return p, a.selection(p)
}

// barePrinter is printer by the flags alone, for commands that open no file, the configuration included.
func (a *app) barePrinter() (*printer, error) {
	form := cmp.Or(a.output, outputs[0])
	if !slices.Contains(outputs, form) {
		return nil, fault.New(fault.Invalid, "no output format %q", form).WithHint("-o takes %s", strings.Join(outputs, ", "))
	}
	p := &printer{out: a.sys.Stdout, form: form, quiet: a.quiet, noHeaders: a.noHeaders, now: a.now()}
	return p, a.selection(p)
}

// selection reads --json and --jq.
func (a *app) selection(p *printer) (err error) {
	if a.fields != "" {
		p.fields = strings.Split(a.fields, ",")
	}
	if p.jq, err = compileJQ(a.jq); err != nil {
		return err
	}
	if p.jq != nil && p.form != "jsonl" && p.form != "yaml" || p.fields != nil && (p.form == "table" || p.form == "name") {
		p.form = "json"
	}
	return nil
}

// printOne writes a single thing.
func printOne[T any](p *printer, s shape[T], item T) error {
	switch {
	case p.quiet:
		return p.line(s.id(item))
	case p.form == "name":
		return p.line(s.name(item))
	case p.form == "table":
		return s.printDetails(p, item)
	case p.form == "csv":
		return printCSV(p, single(item))
	}
	return p.document(item)
}

// single is an item as a list of one.
func single[T any](item T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) { yield(item, nil) }
}

// listing is a list that is fetched page by page as it is printed: whole without a limit, else the one page asked for.
type listing[T any] struct {
	limit  int
	cursor string
	fetch  func(limit int, cursor string) (keys.Page[T], error)
	next   *string // cursor of the page behind the last item, once all were read
	totals any     // whose fields stand beside the items in JSON; nil: none
}

// items fetches and yields the items. After an error it ends.
func (l *listing[T]) items() iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for cursor := l.cursor; ; {
			page, err := l.fetch(l.limit, cursor)
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, item := range page.Items {
				if !yield(item, nil) {
					return
				}
			}
			if page.NextCursor == nil || l.limit > 0 {
				l.next = page.NextCursor
				return
			}
			cursor = *page.NextCursor
		}
	}
}

// printList writes a list, in few writes: what arrived before a failure is written, too.
func printList[T any](p *printer, s shape[T], l *listing[T]) error {
	out := bufio.NewWriter(p.out)
	p.out = out
	err := writeList(p, s, l)
	if flushErr := out.Flush(); err == nil {
		err = flushErr
	}
	return err
}

// writeList writes a list as it arrives where the form allows, and whole where columns must be measured or a filter needs
// all of it.
func writeList[T any](p *printer, s shape[T], l *listing[T]) error {
	if p.fields != nil {
		// An unknown field is told before anything is fetched, also where nothing is there to have fields.
		if _, err := p.selected(*new(T)); err != nil {
			return err
		}
	}
	switch {
	case p.quiet:
		return each(l.items(), func(item T) error { return p.line(s.id(item)) })
	case p.form == "name":
		return each(l.items(), func(item T) error { return p.line(s.name(item)) })
	case p.form == "csv":
		return printCSV(p, l.items())
	case p.form == "table":
		return s.printTable(p, l)
	case p.form == "jsonl" && p.jq == nil:
		return each(l.items(), func(item T) error { return p.document(item) })
	case p.form == "json" && p.jq == nil:
		return listJSON(p, p.out, l)
	}
	var whole bytes.Buffer
	if err := listJSON(p, &whole, l); err != nil {
		return err
	}
	return p.encoded(whole.Bytes())
}

// showsCursor reports whether the form of a list has room for the cursor of the next page.
func (p *printer) showsCursor() bool {
	return !p.quiet && (p.form == "json" || p.form == "yaml")
}

// each calls fn with every item, until one of them fails.
func each[T any](items iter.Seq2[T, error], fn func(T) error) error {
	for item, err := range items {
		if err != nil {
			return err
		}
		if err := fn(item); err != nil {
			return err
		}
	}
	return nil
}

// line writes one line of text.
func (p *printer) line(text string) error {
	_, err := fmt.Fprintln(p.out, text)
	return err
}

// printTable draws a list, whole, because its columns have to be measured.
func (s shape[T]) printTable(p *printer, l *listing[T]) error {
	table := term.Table{NoHeader: p.noHeaders}
	for _, c := range s.columns {
		table.Columns = append(table.Columns, term.Column{Title: c.title, Shrink: c.shrink})
	}
	err := each(l.items(), func(item T) error {
		row := make([]term.Cell, len(s.columns))
		for i, c := range s.columns {
			row[i] = c.cell(p, item)
		}
		table.Rows = append(table.Rows, row)
		if s.note != nil && s.note(item) != "" {
			below := make([]term.Cell, len(s.columns))
			below[len(below)-1] = term.Cell{Text: s.note(item), Tone: term.Dim}
			table.Rows = append(table.Rows, below)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return table.Render(p.out, p.width, p.color)
}

// printDetails writes one line about each property of a single thing. A thing with one property that has no title is
// that value alone, for scripts to take as it is.
func (s shape[T]) printDetails(p *printer, item T) error {
	if len(s.details) == 1 && s.details[0].title == "" {
		return p.line(s.details[0].cell(p, item).Text)
	}
	table := term.Table{NoHeader: true, Columns: []term.Column{{}, {}}}
	for _, c := range s.details {
		table.Rows = append(table.Rows, []term.Cell{{Text: c.title, Tone: term.Dim}, c.cell(p, item)})
	}
	return table.Render(p.out, 0, p.color)
}

// time shows an instant: relative to now for a person, else RFC 3339; zero and nil are never.
func (p *printer) time(t *time.Time) string {
	if t == nil || t.IsZero() {
		return "never"
	}
	if p.relative {
		return term.RelativeTime(*t, p.now)
	}
	return t.UTC().Format(time.RFC3339)
}

// text makes a cell of plain text; an empty one is a dash, so that columns can be cut by scripts.
func text(s string) term.Cell {
	if s == "" {
		s = "-"
	}
	return term.Cell{Text: s}
}
