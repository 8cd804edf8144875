package keys

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"keyctl/internal/fault"
)

// scanBatch is how many keys a filtered list reads at a time, once it is clear that the filter lets few through.
const scanBatch = 500

// Keys implements Service.
func (l *Local) Keys(ctx context.Context, filter KeyFilter) (Page[KeyView], error) {
	var page Page[KeyView]
	err := l.view(ctx, func(tx Tx, now time.Time) error {
		records, next, err := selectKeys(tx, filter, now)
		if err != nil {
			return err
		}
		page = Page[KeyView]{Items: make([]KeyView, len(records)), NextCursor: next}
		for i, rec := range records {
			page.Items[i] = rec.View(now)
		}
		return nil
	})
	return page, err
}

// selectKeys reads one page of what a filter lets through. States are computed, not stored, so filtering happens here and
// reads on until the page is full or the keys are at an end.
func selectKeys(tx Tx, filter KeyFilter, now time.Time) ([]KeyRecord, *string, error) {
	limit, err := pageLimit(filter.Limit)
	if err != nil {
		return nil, nil, err
	}
	page, err := filter.firstPage(tx, limit)
	if err != nil {
		return nil, nil, err
	}
	var matched []KeyRecord
	for {
		records, err := tx.Keys(page)
		if err != nil {
			return nil, nil, err
		}
		for _, rec := range records {
			if !filter.matches(rec, now) {
				continue
			}
			if len(matched) == limit {
				next := encodeCursor(filter.list(), keyCursor{filter.Order, filter.Descending, page.Order.Position(matched[limit-1].Key)})
				return matched, &next, nil
			}
			matched = append(matched, rec)
		}
		if len(records) < page.Limit {
			return matched, nil, nil
		}
		after := page.Order.Position(records[len(records)-1].Key)
		page.After = &after
		page.Limit = max(page.Limit, min(4*page.Limit, scanBatch))
	}
}

// firstPage checks the filter and turns it into the first read from the store: one more than the page, to know whether
// it is the last.
func (f *KeyFilter) firstPage(tx Tx, limit int) (KeyPage, error) {
	if f.Order == "" {
		f.Order = OrderName
	}
	if !slices.Contains([]KeyOrder{OrderName, OrderCreated, OrderExpires, OrderLastUsed}, f.Order) {
		return KeyPage{}, fault.New(fault.Invalid, "keys cannot be sorted by %q", f.Order).
			WithHint("sort by name, created, expires or last-used; a leading dash reverses")
	}
	for _, s := range f.States {
		if !slices.Contains(KeyStates(), s) {
			return KeyPage{}, fault.New(fault.Invalid, "no key state %q", s).
				WithHint("the states are pending, active, disabled, compromised, expired and deleted")
		}
	}
	if _, err := path.Match(f.NameGlob, ""); err != nil {
		return KeyPage{}, fault.New(fault.Invalid, "%q is not a name pattern", f.NameGlob).WithHint("use * and ?, as in web-*")
	}
	page := KeyPage{
		Order: f.Order, Descending: f.Descending, Limit: limit + 1, Deleted: slices.Contains(f.States, KeyDeleted), Rolled: f.InGrace,
		NamePrefix: f.namePrefix(),
	}
	isOn := func(s KeyState) bool { return s != KeyDisabled && s != KeyCompromised }
	page.Off = len(f.States) > 0 && !slices.ContainsFunc(f.States, isOn)
	if f.Dataset != "" {
		d, err := findDataset(tx, f.Dataset)
		if err != nil {
			return page, err
		}
		page.DatasetID = d.ID
	}
	if f.Cursor == "" {
		return page, nil
	}
	var cursor keyCursor
	if err := decodeCursor(f.list(), f.Cursor, &cursor); err != nil {
		return page, err
	}
	if cursor.Order != f.Order || cursor.Descending != f.Descending {
		return page, fault.New(fault.Invalid, "the cursor belongs to a list sorted otherwise").WithHint("repeat the flags of the first page")
	}
	page.After = &cursor.After
	return page, nil
}

// namePrefix is what every name begins with that the pattern lets through.
func (f KeyFilter) namePrefix() string {
	if i := strings.IndexAny(f.NameGlob, `*?[\`); i >= 0 {
		return f.NameGlob[:i]
	}
	return f.NameGlob
}

// matches decides whether the filter lets a key through.
func (f KeyFilter) matches(rec KeyRecord, now time.Time) bool {
	if rec.lapsed(now) || len(f.States) > 0 && !slices.Contains(f.States, rec.State(now)) {
		return false
	}
	for name, value := range f.Labels {
		if got, ok := rec.Labels[name]; !ok || got != value {
			return false
		}
	}
	if f.NameGlob != "" {
		if ok, _ := path.Match(f.NameGlob, rec.Name); !ok {
			return false
		}
	}
	used := rec.LastUsedAt
	if used.IsZero() {
		used = rec.CreatedAt
	}
	switch {
	case f.UnusedFor > 0 && now.Sub(used) < f.UnusedFor,
		f.NeverUsed && !rec.LastUsedAt.IsZero(),
		f.ExpiresWithin > 0 && (rec.ExpiresAt.IsZero() || rec.ExpiresAt.After(now.Add(f.ExpiresWithin))),
		f.OlderThan > 0 && now.Sub(rec.CreatedAt) < f.OlderThan,
		f.InGrace && rec.View(now).Grace == nil:
		return false
	}
	return true
}

// list names the list that the filter's cursors belong to.
func (f KeyFilter) list() string {
	if f.InGrace {
		return "rolls"
	}
	return "keys"
}

// keyCursor is what a key list's cursor holds: the order it belongs to and the last key before it.
type keyCursor struct {
	Order      KeyOrder    `json:"o"`
	Descending bool        `json:"d"`
	After      KeyPosition `json:"a"`
}

// pageLimit checks a page size; 0 stands for the largest.
func pageLimit(limit int) (int, error) {
	if limit == 0 {
		return MaxPage, nil
	}
	if limit < 1 || limit > MaxPage {
		return 0, fault.New(fault.Invalid, "a page of %d items", limit).WithHint("the limit is 1 to %d", MaxPage)
	}
	return limit, nil
}

// listCursor is a cursor as it is written: the list it belongs to, and a place in that.
type listCursor struct {
	List  string `json:"l"`
	Place any    `json:"p"`
}

// encodeCursor writes a cursor: opaque to its bearer, not secret, and safe in a URL or a shell.
func encodeCursor(list string, place any) string {
	encoded, err := json.Marshal(listCursor{list, place})
	if err != nil {
		panic("keys: a cursor does not encode: " + err.Error())
	}
	return base64.RawURLEncoding.EncodeToString(encoded)
}

// decodeCursor reads a cursor of the same list into place, a pointer. Any other text is invalid.
func decodeCursor(list, text string, place any) error {
	cursor := listCursor{Place: place}
	encoded, err := base64.RawURLEncoding.DecodeString(text)
	if err == nil {
		err = json.Unmarshal(encoded, &cursor)
	}
	if err != nil || cursor.List != list {
		return fault.New(fault.Invalid, "not a cursor of this list").WithHint("pass next_cursor of the page before, unchanged")
	}
	return nil
}

// pageByName reads one page of a list that is ordered by a unique name, which is its cursor too.
func pageByName[R, V any](list, cursor string, limit int, read func(after string, limit int) ([]R, error), view func(R) V, name func(R) string) (Page[V], error) {
	var page Page[V]
	limit, err := pageLimit(limit)
	if err != nil {
		return page, err
	}
	var after string
	if cursor != "" {
		if err := decodeCursor(list, cursor, &after); err != nil {
			return page, err
		}
	}
	records, err := read(after, limit+1)
	if err != nil {
		return page, err
	}
	if len(records) > limit {
		records = records[:limit]
		next := encodeCursor(list, name(records[limit-1]))
		page.NextCursor = &next
	}
	page.Items = make([]V, len(records))
	for i, r := range records {
		page.Items[i] = view(r)
	}
	return page, nil
}

func formatUint(n uint32) string { return strconv.FormatUint(uint64(n), 10) }

func formatMinutes(d time.Duration) string { return strconv.Itoa(int(d.Minutes())) + " minutes" }
