package keystest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"keyctl/internal/fault"
	"keyctl/internal/keys"
)

// names lists keys page by page.
func (w *world) names(t testing.TB, filter keys.KeyFilter) []string {
	t.Helper()
	names := []string{}
	for _, k := range All(t, func(cursor string) (keys.Page[keys.KeyView], error) {
		filter.Cursor = cursor
		page, err := w.Keys(t.Context(), filter)
		if filter.Limit > 0 && len(page.Items) > filter.Limit {
			t.Errorf("a page of %d has %d keys", filter.Limit, len(page.Items))
		}
		return page, err
	}) {
		names = append(names, k.Name)
	}
	return names
}

func testKeyFilters(t *testing.T, w *world) {
	w.dataset(t, "files")
	label := func(l map[string]string) func(*keys.NewKey) { return func(r *keys.NewKey) { r.Labels = l } }
	old := w.active(t, "old", label(map[string]string{"env": "prod", "tier": "1"}), withDatasets("files"))
	deleted := w.active(t, "deleted")
	withdrawn, _ := w.create(t, "withdrawn")
	WantCode(t, "Withdraw()", w.Withdraw(t.Context(), withdrawn.AccessKeyID), "")
	w.clock.Advance(10 * day)
	soon := w.now().Add(10 * day)
	w.active(t, "web-01", label(map[string]string{"env": "prod"}), withExpiry(soon))
	w.active(t, "web-02", label(map[string]string{"env": "test"}), withExpiry(soon.Add(day)), withDatasets("files"))
	w.active(t, "expired", withExpiry(w.now().Add(time.Minute)))
	for name, compromised := range map[string]bool{"off": false, "leaked": true} {
		if _, err := w.DisableKey(t.Context(), w.active(t, name).id, compromised); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.DeleteKey(t.Context(), deleted.id); err != nil {
		t.Fatal(err)
	}
	w.roll(t, old, grace(day))
	w.clock.Set(soon.Add(-10 * day).Add(10 * time.Minute))
	w.create(t, "pending")

	for _, c := range []struct {
		what   string
		filter keys.KeyFilter
		want   string
	}{
		{"nothing", keys.KeyFilter{}, "expired leaked off old pending web-01 web-02"},
		{"active", keys.KeyFilter{States: []keys.KeyState{keys.KeyActive}}, "old web-01 web-02"},
		{"pending", keys.KeyFilter{States: []keys.KeyState{keys.KeyPending}}, "pending"},
		{"disabled", keys.KeyFilter{States: []keys.KeyState{keys.KeyDisabled}}, "off"},
		{"compromised", keys.KeyFilter{States: []keys.KeyState{keys.KeyCompromised}}, "leaked"},
		{"expired", keys.KeyFilter{States: []keys.KeyState{keys.KeyExpired}}, "expired"},
		{"deleted", keys.KeyFilter{States: []keys.KeyState{keys.KeyDeleted}}, "deleted"},
		{"two states", keys.KeyFilter{States: []keys.KeyState{keys.KeyDisabled, keys.KeyDeleted}}, "deleted off"},
		{"every state", keys.KeyFilter{States: keys.KeyStates()}, "deleted expired leaked off old pending web-01 web-02"},
		{"dataset", keys.KeyFilter{Dataset: "files"}, "old web-02"},
		{"label", keys.KeyFilter{Labels: map[string]string{"env": "prod"}}, "old web-01"},
		{"two labels", keys.KeyFilter{Labels: map[string]string{"env": "prod", "tier": "1"}}, "old"},
		{"a label without a value", keys.KeyFilter{Labels: map[string]string{"env": ""}}, ""},
		{"name", keys.KeyFilter{NameGlob: "web-*"}, "web-01 web-02"},
		{"name exactly", keys.KeyFilter{NameGlob: "web-01"}, "web-01"},
		{"beginning of a name", keys.KeyFilter{NameGlob: "o*"}, "off old"},
		{"beginning and end of a name", keys.KeyFilter{NameGlob: "o*d"}, "old"},
		{"beginning of a name that nobody has", keys.KeyFilter{NameGlob: "web-01~*"}, ""},
		{"sign that could be special", keys.KeyFilter{NameGlob: `web\-0[12]`}, "web-01 web-02"},
		{"beginnings of names, paged the other way", keys.KeyFilter{NameGlob: "web*", Descending: true}, "web-02 web-01"},
		{"name in other letters", keys.KeyFilter{NameGlob: "WEB-*"}, ""},
		{"one letter", keys.KeyFilter{NameGlob: "o??"}, "off old"},
		{"never used", keys.KeyFilter{NeverUsed: true, NameGlob: "web*"}, "web-01 web-02"},
		{"unused for days", keys.KeyFilter{UnusedFor: 10 * day}, "old"},
		{"unused for exactly that long", keys.KeyFilter{UnusedFor: 10*day + 10*time.Minute}, "old"},
		{"unused for a little longer", keys.KeyFilter{UnusedFor: 10*day + 10*time.Minute + time.Microsecond}, ""},
		{"exactly that old", keys.KeyFilter{OlderThan: 10*day + 10*time.Minute}, "old"},
		{"a little older", keys.KeyFilter{OlderThan: 10*day + 10*time.Minute + time.Microsecond}, ""},
		{"older than a day", keys.KeyFilter{OlderThan: day}, "old"},
		{"in grace", keys.KeyFilter{InGrace: true}, "old"},
		{"expires in time", keys.KeyFilter{ExpiresWithin: 10 * day, States: []keys.KeyState{keys.KeyActive}}, "web-01"},
		{"expires in more time", keys.KeyFilter{ExpiresWithin: 11 * day, States: []keys.KeyState{keys.KeyActive}}, "web-01 web-02"},
		{"expires just in time", keys.KeyFilter{ExpiresWithin: 10*day - 10*time.Minute, NameGlob: "web-*"}, "web-01"},
		{"expires a little later", keys.KeyFilter{ExpiresWithin: 10*day - 10*time.Minute - time.Microsecond, NameGlob: "web-*"}, ""},
		{"dataset and state", keys.KeyFilter{Dataset: "files", States: []keys.KeyState{keys.KeyActive}, NameGlob: "w*"}, "web-02"},
	} {
		for _, limit := range []int{0, 1, 2} {
			c.filter.Limit = limit
			if got := strings.Join(w.names(t, c.filter), " "); got != c.want {
				t.Errorf("keys by %s, %d a page = %q, want %q", c.what, limit, got, c.want)
			}
		}
	}
	for what, c := range map[string]struct {
		filter keys.KeyFilter
		want   fault.Code
	}{
		"an unknown state":         {keys.KeyFilter{States: []keys.KeyState{"Active"}}, fault.Invalid},
		"an unknown order":         {keys.KeyFilter{Order: "age"}, fault.Invalid},
		"a malformed pattern":      {keys.KeyFilter{NameGlob: "["}, fault.Invalid},
		"an unknown dataset":       {keys.KeyFilter{Dataset: "nope"}, fault.NotFound},
		"a negative limit":         {keys.KeyFilter{Limit: -1}, fault.Invalid},
		"a limit beyond the pages": {keys.KeyFilter{Limit: keys.MaxPage + 1}, fault.Invalid},
	} {
		_, err := w.Keys(t.Context(), c.filter)
		WantCode(t, "Keys() with "+what, err, c.want)
	}
}

func testKeyOrders(t *testing.T, w *world) {
	// Many keys share their times, so that pages end in the middle of equal values.
	var made []keys.KeyView
	for i := range 12 {
		changes := []func(*keys.NewKey){}
		if i%3 > 0 {
			changes = append(changes, withExpiry(Morning.Add(time.Duration(i%3)*90*day)))
		}
		s := w.active(t, fmt.Sprintf("%c-%02d", 'a'+i*7%12, i), changes...)
		if i%4 == 3 {
			w.clock.Advance(time.Hour)
		}
		if i%5 == 4 { // tombstones have their places in between
			if _, err := w.DeleteKey(t.Context(), s.id); err != nil {
				t.Fatal(err)
			}
		}
		made = append(made, w.key(t, s.id))
	}
	never := time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
	end := func(k keys.KeyView) time.Time {
		if k.ExpiresAt == nil {
			return never // comes last
		}
		return *k.ExpiresAt
	}
	for _, order := range []struct {
		order   keys.KeyOrder
		compare func(a, b keys.KeyView) int
	}{
		{"", func(a, b keys.KeyView) int { return strings.Compare(a.Name, b.Name) }},
		{keys.OrderName, func(a, b keys.KeyView) int { return strings.Compare(a.Name, b.Name) }},
		{keys.OrderCreated, func(a, b keys.KeyView) int { return a.CreatedAt.Compare(b.CreatedAt) }},
		{keys.OrderExpires, func(a, b keys.KeyView) int { return end(a).Compare(end(b)) }},
		{keys.OrderLastUsed, func(a, b keys.KeyView) int { return 0 }}, // none was used: all are equal
	} {
		for _, all := range []bool{false, true} {
			filter := keys.KeyFilter{Order: order.order}
			if all {
				filter.States = keys.KeyStates()
			}
			var want []string
			sorted := slices.SortedFunc(slices.Values(made), func(a, b keys.KeyView) int {
				if c := order.compare(a, b); c != 0 {
					return c
				}
				return strings.Compare(a.ID, b.ID)
			})
			for _, k := range sorted {
				if all || k.State != keys.KeyDeleted {
					want = append(want, k.Name)
				}
			}
			for _, descending := range []bool{false, true} {
				if filter.Descending = descending; descending {
					slices.Reverse(want)
				}
				for _, limit := range []int{0, 1, 3, 5, len(want)} {
					filter.Limit = limit
					Diff(t, fmt.Sprintf("keys by %q, descending %t, deleted %t, %d a page", order.order, descending, all, limit), w.names(t, filter), want)
				}
			}
		}
	}
	// A page goes on behind the last key seen, also when keys come and go meanwhile.
	page, err := w.Keys(t.Context(), keys.KeyFilter{Limit: 3})
	if err != nil || page.NextCursor == nil {
		t.Fatalf("Keys() = %+v, %v", page, err)
	}
	if _, err := w.DeleteKey(t.Context(), page.Items[2].ID); err != nil {
		t.Fatal(err)
	}
	w.active(t, "0-before")
	next, err := w.Keys(t.Context(), keys.KeyFilter{Limit: 1000, Cursor: *page.NextCursor})
	WantCode(t, "Keys() with a cursor", err, "")
	for _, k := range next.Items {
		if k.Name <= page.Items[2].Name {
			t.Errorf("the next page has %s, which does not come after %s", k.Name, page.Items[2].Name)
		}
	}
}

func testCursors(t *testing.T, w *world) {
	for i := range 2 {
		name := fmt.Sprintf("n-%d", i)
		w.dataset(t, name)
		w.roll(t, w.active(t, name), grace(day))
	}
	cursors := map[string]string{}
	lists := map[string]func(cursor string) (*string, error){
		"Keys": func(c string) (*string, error) {
			p, err := w.Keys(t.Context(), keys.KeyFilter{Cursor: c, Limit: 1})
			return p.NextCursor, err
		},
		"Keys by creation": func(c string) (*string, error) {
			p, err := w.Keys(t.Context(), keys.KeyFilter{Cursor: c, Limit: 1, Order: keys.OrderCreated})
			return p.NextCursor, err
		},
		"Keys backwards": func(c string) (*string, error) {
			p, err := w.Keys(t.Context(), keys.KeyFilter{Cursor: c, Limit: 1, Descending: true})
			return p.NextCursor, err
		},
		"Rolls":       func(c string) (*string, error) { p, err := w.Rolls(t.Context(), c, 1); return p.NextCursor, err },
		"Datasets":    func(c string) (*string, error) { p, err := w.Datasets(t.Context(), c, 1); return p.NextCursor, err },
		"PrimaryKeys": func(c string) (*string, error) { p, err := w.PrimaryKeys(t.Context(), c, 1); return p.NextCursor, err },
		"AuditRecords": func(c string) (*string, error) {
			p, err := w.AuditRecords(t.Context(), keys.AuditFilter{Cursor: c, Limit: 1})
			return p.NextCursor, err
		},
	}
	for name, list := range lists {
		next, err := list("")
		if err != nil || next == nil {
			t.Fatalf("%s: no second page, %v", name, err)
		}
		cursors[name] = *next
	}
	cursors["nonsense"], cursors["base64"], cursors["JSON"], cursors["null"] = "%%", "AAAA", "e30", "bnVsbA"
	for list, read := range lists {
		for owner, cursor := range cursors {
			want := fault.Invalid
			if owner == list {
				want = ""
			}
			_, err := read(cursor)
			WantCode(t, list+" with a cursor of "+owner, err, want)
		}
	}
}

func testPagesByName(t *testing.T, w *world) {
	var want []string
	for i := range 7 {
		name := fmt.Sprintf("%c-%d", 'a'+i*3%7, i)
		w.dataset(t, name)
		want = append(want, name)
	}
	slices.Sort(want)
	for _, limit := range []int{0, 1, 3, 7} {
		var datasets []string
		for _, d := range All(t, func(c string) (keys.Page[keys.DatasetView], error) { return w.Datasets(t.Context(), c, limit) }) {
			datasets = append(datasets, d.Name)
		}
		Diff(t, fmt.Sprintf("Datasets() by %d", limit), datasets, want)
		var primaryKeys []string
		for _, k := range All(t, func(c string) (keys.Page[keys.PrimaryKeyView], error) { return w.PrimaryKeys(t.Context(), c, limit) }) {
			primaryKeys = append(primaryKeys, k.Name)
		}
		Diff(t, fmt.Sprintf("PrimaryKeys() by %d", limit), primaryKeys, want)
	}
	for _, limit := range []int{-1, keys.MaxPage + 1} {
		_, err := w.Datasets(t.Context(), "", limit)
		WantCode(t, "Datasets()", err, fault.Invalid)
		_, err = w.PrimaryKeys(t.Context(), "", limit)
		WantCode(t, "PrimaryKeys()", err, fault.Invalid)
		_, err = w.Rolls(t.Context(), "", limit)
		WantCode(t, "Rolls()", err, fault.Invalid)
		_, err = w.AuditRecords(t.Context(), keys.AuditFilter{Limit: limit})
		WantCode(t, "AuditRecords()", err, fault.Invalid)
	}
}
