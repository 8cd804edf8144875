package store

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"keyctl/internal/fault"
	"keyctl/internal/iprange"
	"keyctl/internal/keys"
)

func TestKeyRoundTrip(t *testing.T) {
	ranges, err := iprange.ParseList([]string{"192.0.2.0/24", "2001:db8::1"})
	if err != nil {
		t.Fatal(err)
	}
	full := keys.Key{
		ID: "key_full", Name: "full", Description: "für Größe ☃", Labels: map[string]string{"env": "prod", "q": `"<&'`},
		IPRanges: ranges, CreatedAt: morning, CreatedBy: "alice",
		ActivatedAt: morning.Add(time.Microsecond), ExpiresAt: time.Date(9999, 12, 31, 23, 59, 59, 999999000, time.UTC),
		DisabledAt: morning, CompromisedAt: morning, LastUsedAt: time.Date(1969, 12, 31, 23, 59, 59, 999999000, time.UTC),
	}
	onEach(t, func(t *testing.T, open func(testing.TB) keys.Store) {
		s := open(t)
		for _, k := range []keys.Key{full, testKey(1)} {
			putKeys(t, s, k)
			got := view(t, s, func(tx keys.Tx) (keys.KeyRecord, error) { return tx.Key(k.ID) })
			diff(t, "Key()", got, keys.KeyRecord{Key: k})
			if got.Labels == nil {
				t.Error("Key().Labels is nil, want a map to write to")
			}
			byName := view(t, s, func(tx keys.Tx) (keys.KeyRecord, error) { return tx.KeyByName(k.Name) })
			diff(t, "KeyByName()", byName, got)
		}
		changed := testKey(1)
		changed.Name, changed.ExpiresAt = "renamed", morning
		putKeys(t, s, changed)
		putKeys(t, s, testKey(1))
		diff(t, "Key() put back", view(t, s, func(tx keys.Tx) (keys.KeyRecord, error) { return tx.Key(testKey(1).ID) }).Key, testKey(1))
		fine := testKey(2)
		fine.CreatedAt = morning.Add(999 * time.Nanosecond)
		putKeys(t, s, fine)
		diff(t, "Key() below microseconds", view(t, s, func(tx keys.Tx) (keys.KeyRecord, error) { return tx.Key(fine.ID) }).CreatedAt, morning)
	})
}

func TestKeyNames(t *testing.T) {
	onEach(t, func(t *testing.T, open func(testing.TB) keys.Store) {
		s := open(t)
		putKeys(t, s, testKey(1))
		taken := testKey(2)
		taken.Name = testKey(1).Name
		wantCode(t, s, "PutKey with a taken name", fault.Exists, func(tx keys.Tx) error { return tx.PutKey(taken) })
		other := taken
		other.Name = strings.ToUpper(taken.Name)
		putKeys(t, s, other) // names compare byte for byte

		gone := testKey(1)
		gone.DeletedAt = morning
		putKeys(t, s, gone)
		wantCode(t, s, "KeyByName of a tombstone", fault.NotFound, func(tx keys.Tx) error { _, err := tx.KeyByName(gone.Name); return err })
		if got := view(t, s, func(tx keys.Tx) (keys.KeyRecord, error) { return tx.Key(gone.ID) }); got.DeletedAt.IsZero() {
			t.Error("Key() of a tombstone has no DeletedAt")
		}
		putKeys(t, s, taken) // the name is free again
		wantCode(t, s, "a tombstone brought back", fault.Exists, func(tx keys.Tx) error { return tx.PutKey(testKey(1)) })
		wantCode(t, s, "Key of an unknown id", fault.NotFound, func(tx keys.Tx) error { _, err := tx.Key("key_nope"); return err })
	})
}

func TestKeysByIDPrefix(t *testing.T) {
	onEach(t, func(t *testing.T, open func(testing.TB) keys.Store) {
		s := open(t)
		for i, id := range []string{"key_ab0", "key_abY", "key_abZ", "key_abz", "key_b00", "keyXab0"} {
			k := testKey(i)
			k.ID = id
			if id == "key_abY" {
				k.DeletedAt = morning
			}
			putKeys(t, s, k)
		}
		current, ended := testCredential("key_b00", 1), testCredential("key_ab0", 2)
		current.AccessKeyID, ended.AccessKeyID = "KCtest1", "KCtest2"
		ended.EndedAt, ended.EndedAs = morning, keys.EndPurged
		pending := testCredential("key_abz", 3)
		pending.AccessKeyID = "KCtest3"
		update(t, s, func(tx keys.Tx) error {
			return firstError([]error{tx.PutCredential(current), tx.PutCredential(ended), tx.PutCredential(pending)})
		})
		for _, tt := range []struct {
			prefix string
			limit  int
			want   []string
		}{
			{"key_ab", 9, []string{"key_ab0", "key_abZ", "key_abz"}},
			{"key_ab", 2, []string{"key_ab0", "key_abZ"}},
			{"key_abz", 9, []string{"key_abz"}},
			{"key_", 9, []string{"key_ab0", "key_abZ", "key_abz", "key_b00"}},
			{"key%", 9, nil},
			{"key_a_", 9, nil},
			{"%", 9, nil},
			{"key_abzz", 9, nil},
			{"key_abY", 9, nil},
			{"KCtest", 9, []string{"key_abz", "key_b00"}},
			{"KCtest1", 9, []string{"key_b00"}},
			{"KCtest2", 9, nil},
			{"KC_est", 9, nil},
			{"", 9, []string{"keyXab0", "key_ab0", "key_abZ", "key_abz", "key_b00"}},
		} {
			found := view(t, s, func(tx keys.Tx) ([]keys.KeyRecord, error) { return tx.KeysByIDPrefix(tt.prefix, tt.limit) })
			var got []string
			for _, r := range found {
				got = append(got, r.ID)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("KeysByIDPrefix(%q, %d) = %v, want %v", tt.prefix, tt.limit, got, tt.want)
			}
		}
	})
}

// pagingKeys has equal values in every order, keys without each of the times, and all kinds of tombstones.
func pagingKeys() []keys.Key {
	var all []keys.Key
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 60 {
		k := testKey(random.IntN(1 << 19))
		k.CreatedAt = morning.Add(time.Duration(i%7) * time.Hour)
		if i%3 > 0 {
			k.ExpiresAt = morning.Add(time.Duration(i%5) * time.Hour)
		}
		if i%4 > 0 {
			k.ActivatedAt = morning
			k.LastUsedAt = morning.Add(-time.Duration(i%5) * time.Hour)
		}
		if i%5 < 2 {
			k.DisabledAt = morning
		}
		if i%6 == 5 {
			k.Name, k.DeletedAt = fmt.Sprintf("old-%d", i%2), morning
		}
		all = append(all, k)
	}
	return all
}

// sortedKeys is what the pages of a list must add up to.
func sortedKeys(all []keys.Key, page keys.KeyPage) []string {
	var kept []keys.Key
	for _, k := range all {
		if !strings.HasPrefix(k.Name, page.NamePrefix) || page.Off && k.DisabledAt.IsZero() {
			continue
		}
		if k.DeletedAt.IsZero() || page.Deleted && !k.ActivatedAt.IsZero() {
			kept = append(kept, k)
		}
	}
	rank := func(k keys.Key) string {
		switch page.Order {
		case keys.OrderName:
			return k.Name
		case keys.OrderCreated:
			return k.CreatedAt.Format(time.RFC3339Nano)
		case keys.OrderExpires:
			if k.ExpiresAt.IsZero() {
				return "last"
			}
			return k.ExpiresAt.Format(time.RFC3339Nano)
		}
		if k.LastUsedAt.IsZero() {
			return "" // first
		}
		return k.LastUsedAt.Format(time.RFC3339Nano)
	}
	slices.SortFunc(kept, func(a, b keys.Key) int {
		c := strings.Compare(rank(a), rank(b))
		if c == 0 {
			c = strings.Compare(a.ID, b.ID)
		}
		if page.Descending {
			return -c
		}
		return c
	})
	ids := make([]string, len(kept))
	for i, k := range kept {
		ids[i] = k.ID
	}
	return ids
}

// eachOrder runs a test for every combination of order, direction and tombstones.
func eachOrder(t *testing.T, test func(t *testing.T, page keys.KeyPage)) {
	for _, order := range []keys.KeyOrder{keys.OrderName, keys.OrderCreated, keys.OrderExpires, keys.OrderLastUsed} {
		for _, descending := range []bool{false, true} {
			for _, deleted := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s,descending=%v,deleted=%v", order, descending, deleted), func(t *testing.T) {
					test(t, keys.KeyPage{Order: order, Descending: descending, Deleted: deleted})
				})
			}
		}
	}
}

func TestKeysPages(t *testing.T) {
	all := pagingKeys()
	onEach(t, func(t *testing.T, open func(testing.TB) keys.Store) {
		s := open(t)
		putKeys(t, s, all...)
		eachOrder(t, func(t *testing.T, page keys.KeyPage) {
			for _, page.NamePrefix = range []string{"", "web-1", "old-1", "web-%", "WEB", "~", "é"} {
				wantPages(t, s, page, sortedKeys(all, page))
			}
			page.NamePrefix, page.Off = "", true
			wantPages(t, s, page, sortedKeys(all, page))
		})
		wantCode(t, s, "Keys in an unknown order", fault.Invalid, func(tx keys.Tx) error {
			_, err := tx.Keys(keys.KeyPage{Order: "colour", Limit: 1})
			return err
		})
	})
}

// wantPages reads a list page by page, in small pages and large ones.
func wantPages(t *testing.T, s keys.Store, page keys.KeyPage, want []string) {
	t.Helper()
	for _, limit := range []int{1, 7, 1000} {
		page.Limit, page.After = limit, nil
		var got []string
		for {
			records := view(t, s, func(tx keys.Tx) ([]keys.KeyRecord, error) { return tx.Keys(page) })
			if len(records) > limit {
				t.Fatalf("a page of %d keys, want at most %d", len(records), limit)
			}
			if len(records) == 0 {
				break
			}
			for _, r := range records {
				got = append(got, r.ID)
			}
			position := page.Order.Position(records[len(records)-1].Key)
			page.After = &position
		}
		if !slices.Equal(got, want) {
			t.Errorf("names that begin with %q, off: %v, in pages of %d = %v, want %v", page.NamePrefix, page.Off, limit, got, want)
		}
	}
}

func TestKeysOfDataset(t *testing.T) {
	onEach(t, func(t *testing.T, open func(testing.TB) keys.Store) {
		s := open(t)
		var want [2][]string
		update(t, s, func(tx keys.Tx) error {
			if err := tx.PutPrimaryKey(testPrimaryKey(1)); err != nil {
				return err
			}
			// The first dataset has few keys, the second so many that the query walks through the order instead.
			for d := range want {
				if err := tx.PutDataset(testDataset(d)); err != nil {
					return err
				}
			}
			for i := range fewEnough + 500 {
				k := testKey(i)
				if err := tx.PutKey(k); err != nil {
					return err
				}
				for d, every := range []int{100, 1} {
					if i%every != 0 {
						continue
					}
					want[d] = append(want[d], k.ID)
					if _, err := tx.Attach(testDataset(d).ID, k.ID, keys.FullGrant, morning); err != nil {
						return err
					}
				}
			}
			return nil
		})
		for d := range want {
			page := keys.KeyPage{Order: keys.OrderName, Limit: 400, DatasetID: testDataset(d).ID, Deleted: true}
			var got []string
			for {
				records := view(t, s, func(tx keys.Tx) ([]keys.KeyRecord, error) { return tx.Keys(page) })
				if len(records) == 0 {
					break
				}
				for _, r := range records {
					got = append(got, r.ID)
				}
				position := page.Order.Position(records[len(records)-1].Key)
				page.After = &position
			}
			if !slices.Equal(got, want[d]) {
				t.Errorf("keys of dataset %d: %d, want %d in order", d, len(got), len(want[d]))
			}
		}
	})
}

func TestKeyRecords(t *testing.T) {
	onEach(t, func(t *testing.T, open func(testing.TB) keys.Store) {
		s := open(t)
		k := testKey(1)
		pending, current, grace, ended := testCredential(k.ID, 4), testCredential(k.ID, 3), testCredential(k.ID, 2), testCredential(k.ID, 1)
		current.ProvenAt, grace.ProvenAt, grace.GraceUntil = morning, morning, morning.Add(time.Hour)
		ended.ProvenAt, ended.GraceUntil, ended.EndedAt, ended.EndedAs = morning, morning, morning, keys.EndRetired
		datasets := []keys.Attachment{{Dataset: testDataset(1), Grant: keys.FullGrant}, {Dataset: testDataset(2), Grant: keys.Grant{Decrypt: true}}}
		update(t, s, func(tx keys.Tx) error {
			steps := []error{tx.PutPrimaryKey(testPrimaryKey(1)), tx.PutKey(k), tx.PutKey(testKey(2))}
			for _, c := range []keys.Credential{ended, grace, current, pending} {
				steps = append(steps, tx.PutCredential(c))
			}
			for _, d := range slices.Backward(datasets) {
				_, err := attachAfterPut(tx, d.Dataset, k.ID)
				steps = append(steps, err)
			}
			_, err := tx.Attach(datasets[1].ID, k.ID, datasets[1].Grant, morning)
			return firstError(append(steps, err))
		})
		want := keys.KeyRecord{Key: k, Current: &current, Grace: &grace, Pending: &pending, Datasets: datasets}
		diff(t, "Key()", view(t, s, func(tx keys.Tx) (keys.KeyRecord, error) { return tx.Key(k.ID) }), want)
		diff(t, "Keys()", view(t, s, allKeys), []keys.KeyRecord{want, {Key: testKey(2)}})
		rolled := view(t, s, func(tx keys.Tx) ([]keys.KeyRecord, error) {
			return tx.Keys(keys.KeyPage{Order: keys.OrderName, Limit: 10, Rolled: true})
		})
		diff(t, "Keys() of rolled keys", rolled, []keys.KeyRecord{want})
	})
}

func attachAfterPut(tx keys.Tx, d keys.Dataset, keyID string) (bool, error) {
	if err := tx.PutDataset(d); err != nil {
		return false, err
	}
	return tx.Attach(d.ID, keyID, keys.FullGrant, morning)
}

func firstError(steps []error) error {
	for _, err := range steps {
		if err != nil {
			return err
		}
	}
	return nil
}

// TestListPlans asks SQLite how it reads each list: through an index in the order of the list, without sorting and
// without reading rows that it does not return.
func TestListPlans(t *testing.T) {
	s := openStore(t, newStore(t))
	check := func(t *testing.T, query string, args ...any) {
		t.Helper()
		plan := queryPlan(t, s, query, args...)
		for line := range strings.Lines(plan) {
			line = strings.TrimSpace(line)
			sorts := strings.Contains(line, "TEMP B-TREE")
			// A scan over an index in list order stops at the limit; over a table it would not.
			scans := strings.HasPrefix(line, "SCAN") && !strings.Contains(line, "USING INDEX") && !strings.Contains(line, "CONSTANT ROW") &&
				!strings.Contains(line, "json_each") // the parameter itself
			if sorts || scans {
				t.Errorf("plan of %s\nhas %q:\n%s", query, line, plan)
			}
		}
	}
	eachOrder(t, func(t *testing.T, page keys.KeyPage) {
		page.Limit = 100
		for _, after := range []*keys.KeyPosition{nil, {Name: "web", Time: morning, ID: "key_1"}} {
			page.After = after
			query, args, err := keysQuery(page, false, false)
			if err != nil {
				t.Fatal(err)
			}
			check(t, query, args...)
			if after != nil && !strings.Contains(queryPlan(t, s, query, args...), "SEARCH keys USING INDEX keys_live") {
				t.Errorf("a later page does not begin with a search:\n%s", queryPlan(t, s, query, args...))
			}
		}
		if page.Order == keys.OrderName {
			page.NamePrefix = "web-"
			query, args, err := keysQuery(page, false, false)
			if err != nil {
				t.Fatal(err)
			}
			check(t, query, args...)
			if plan := queryPlan(t, s, query, args...); !strings.Contains(plan, "INDEX keys_live_name (name>? AND name<?)") || strings.Contains(plan, "SCAN keys") {
				t.Errorf("names with a prefix are not searched for:\n%s", plan)
			}
			page.NamePrefix = ""
		}
		page.DatasetID = "ds_1"
		query, args, err := keysQuery(page, false, false)
		if err != nil {
			t.Fatal(err)
		}
		check(t, query, args...)
		query, args, err = keysQuery(page, true, false)
		if err != nil {
			t.Fatal(err)
		}
		if plan := queryPlan(t, s, query, args...); !strings.Contains(plan, "SEARCH key_datasets") || strings.Contains(plan, "SCAN keys") {
			t.Errorf("the keys of a small dataset are not found through it:\n%s", plan)
		}
	})
	if plan := queryPlan(t, s, selectByPrefix, "key_ab", "key_ab~", 9); strings.Contains(plan, "SCAN keys") || strings.Contains(plan, "SCAN credentials") {
		t.Errorf("keys by prefix are not searched for:\n%s", plan)
	}
	check(t, `SELECT `+credentialColumns+` FROM credentials WHERE key_id IN (`+idList+`) AND ended_at IS NULL`, `["a","b"]`)
	check(t, selectCandidate, "KCa")
	if plan := queryPlan(t, s, selectCandidate, "KCa"); !strings.HasPrefix(plan, "SEARCH c USING INDEX credentials_admissible (access_key_id<?)\nSEARCH k") {
		t.Errorf("a candidate is not found by one search each:\n%s", plan)
	}
	check(t, selectBearerAndCandidate, "t", "KCa")
	for _, condition := range []string{"keys.id = $1", "keys.id = (SELECT key_id FROM credentials WHERE access_key_id = $1)", "keys.name = $1 AND keys.deleted_at IS NULL"} {
		plan := queryPlan(t, s, selectRecord+`WHERE `+condition, "a")
		if strings.Contains(plan, "SCAN") {
			t.Errorf("a key by %s is not searched for:\n%s", condition, plan)
		}
	}
	check(t, selectDataset+`WHERE datasets.deleted_at IS NULL AND datasets.name > $1 ORDER BY datasets.name LIMIT $2`, "", 10)
	check(t, selectPrimaryKey+`WHERE name > $1 ORDER BY name LIMIT $2`, "", 10)
}

func queryPlan(t *testing.T, db *DB, query string, args ...any) string {
	t.Helper()
	var plan strings.Builder
	err := db.view(t.Context(), func(tx *tx) error {
		_, err := list(tx, func(row scan) (struct{}, error) {
			var id, parent, unused int
			var line string
			err := row(&id, &parent, &unused, &line)
			plan.WriteString(line + "\n")
			return struct{}{}, err
		}, "EXPLAIN QUERY PLAN "+query, args...)
		return err
	})
	if err != nil {
		t.Fatalf("%s: %v (%v)", query, err, fault.From(err).Cause)
	}
	return plan.String()
}
