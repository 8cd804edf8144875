package store

import (
	"errors"
	"sync"

	"keyctl/internal/structured"
)

// maxFormats is how many formats a store remembers at most.
const maxFormats = 256

// formats remembers what the JSON of formats means. To read one takes as long as the rest of the row that it comes in, and a
// store has few, which every release of data keys reads again. The zero value remembers none.
type formats struct {
	mu    sync.Mutex
	known map[string]*structured.Format
}

// column reads a format that is stored as JSON; NULL leaves it alone. The format is shared: nobody may change it.
func (f *formats) column(into **structured.Format) formatColumn { return formatColumn{f, into} }

type formatColumn struct {
	formats *formats
	into    **structured.Format
}

// Scan implements sql.Scanner.
func (c formatColumn) Scan(value any) (err error) {
	text, ok := value.(string)
	if !ok {
		return document{c.into}.Scan(value)
	}
	*c.into, err = c.formats.read(text)
	return err
}

func (f *formats) read(text string) (*structured.Format, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if format, ok := f.known[text]; ok {
		return format, nil
	}
	var format *structured.Format
	if err := (document{&format}).Scan(text); err != nil {
		return nil, err
	}
	if format == nil {
		return nil, errors.New("a format stored as null")
	}
	if f.known == nil || len(f.known) >= maxFormats {
		f.known = map[string]*structured.Format{}
	}
	f.known[text] = format
	return format, nil
}
