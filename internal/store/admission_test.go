package store

import (
	"errors"
	"testing"
	"time"

	"keyctl/internal/fault"
	"keyctl/internal/iprange"
	"keyctl/internal/keys"
	"keyctl/internal/structured"
)

// putReached stores two keys, and datasets under two Primary Keys of which the first key reaches some.
func putReached(t testing.TB, s keys.Store) keys.Credential {
	t.Helper()
	cred := testCredential(testKey(1).ID, 1)
	cred.ProvenAt, cred.LastUsedAt, cred.LastUsedFrom = morning, morning, "192.0.2.7"
	closed := testPrimaryKey(2)
	closed.DisabledAt = morning
	second := testDataset(2)
	second.PrimaryKeyID = closed.ID
	gone := testDataset(3)
	gone.DeletedAt = morning
	update(t, s, func(tx keys.Tx) error {
		steps := []error{
			tx.PutPrimaryKey(testPrimaryKey(1)), tx.PutPrimaryKey(closed), tx.PutKey(testKey(1)), tx.PutKey(testKey(2)), tx.PutCredential(cred),
			tx.PutDataset(testDataset(1)), tx.PutDataset(second), tx.PutDataset(gone), tx.PutDataset(testDataset(4)),
		}
		for id, grant := range map[string]keys.Grant{"ds_1": keys.FullGrant, "ds_2": {Decrypt: true}, "ds_3": keys.FullGrant} {
			_, err := tx.Attach(id, testKey(1).ID, grant, morning)
			steps = append(steps, err)
		}
		return firstError(steps)
	})
	return cred
}

func TestCandidate(t *testing.T) {
	onEach(t, func(t *testing.T, open func(testing.TB) keys.Store) {
		s := open(t)
		cred := putReached(t, s)
		cred.AccessKeyID = "KCb"
		other, wiped := testCredential(testKey(2).ID, 1), testCredential(testKey(2).ID, 2)
		other.AccessKeyID, wiped.AccessKeyID = "KCB", "KCc"
		wiped.EndedAt, wiped.EndedAs = morning, keys.EndRetired
		update(t, s, func(tx keys.Tx) error {
			first := testCredential(testKey(1).ID, 1) // of putReached
			first.EndedAt, first.EndedAs = morning, keys.EndRetired
			return firstError([]error{
				tx.PutCredential(first), tx.WipeCredential(first.AccessKeyID),
				tx.PutCredential(cred), tx.PutCredential(other), tx.PutCredential(wiped), tx.WipeCredential(wiped.AccessKeyID),
			})
		})
		candidate := func(id string) keys.Candidate {
			return view(t, s, func(tx keys.Tx) (keys.Candidate, error) { return tx.Candidate(id) })
		}
		want := keys.Candidate{Credential: keys.Credential{
			AccessKeyID: cred.AccessKeyID, KeyID: cred.KeyID, PendingUntil: cred.PendingUntil, ProvenAt: cred.ProvenAt,
			SigningKey: cred.SigningKey, LastUsedAt: cred.LastUsedAt,
		}, Key: testKey(1), Ranges: testKey(1).IPRanges.Text()}
		want.Key.Description, want.Key.Labels, want.Key.CreatedAt, want.Key.CreatedBy, want.Key.IPRanges = "", nil, time.Time{}, "", iprange.List{}
		diff(t, "Candidate()", candidate(cred.AccessKeyID), want)
		for id, want := range map[string]string{
			"KCB": "KCB", "KCB0": "KCB", "KCa": "KCB", "KCb": "KCb", "KCb0": "KCb", wiped.AccessKeyID: "KCb", "nobody": "KCb",
		} {
			if got := candidate(id).Credential.AccessKeyID; got != want {
				t.Errorf("Candidate(%q) is %s, want %s", id, got, want)
			}
		}
		for _, id := range []string{"", "KC", "KCA", "KC0"} {
			wantCode(t, s, "Candidate() of what comes before all", fault.NotFound, func(tx keys.Tx) error { _, err := tx.Candidate(id); return err })
		}
	})
}

// A View that is led by the reading of a credential sees one state without a transaction, and lets go of it at its end.
func TestLeads(t *testing.T) {
	onEach(t, func(t *testing.T, open func(testing.TB) keys.Store) {
		s, other := open(t), open(t)
		cred := putReached(t, s)
		names := []string{testDataset(1).Name, testDataset(2).Name}
		detach := func(datasetID string) {
			update(t, other, func(tx keys.Tx) error { _, err := tx.Detach(datasetID, cred.KeyID); return err })
		}
		runs := 0
		led := func(ids ...string) (seen [][]string) {
			t.Helper()
			runs = 0
			err := s.View(t.Context(), func(tx keys.Tx) error {
				runs, seen = runs+1, nil
				tx.Leads()
				for _, id := range ids {
					if _, err := tx.Candidate(id); err != nil && !fault.Is(err, fault.NotFound) {
						return err
					}
				}
				for range 2 {
					names, err := tx.ReachedNames(cred.KeyID)
					if err != nil {
						return err
					}
					seen = append(seen, names)
					if runs == 1 {
						detach("ds_2")
					}
				}
				return nil
			})
			if err != nil {
				t.Errorf("View = %v", err)
			}
			return seen
		}
		if seen := led("KC"); len(seen) != 2 || len(seen[0]) != len(seen[1]) {
			t.Errorf("a View that is led by nothing read %q", seen)
		}
		update(t, s, func(tx keys.Tx) error {
			_, err := tx.Attach("ds_2", cred.KeyID, keys.Grant{Decrypt: true}, morning)
			return err
		})
		diff(t, "what a led View reads while another one writes", led(cred.AccessKeyID), [][]string{names, names})
		if runs != 1 {
			t.Errorf("it took %d runs, want 1", runs)
		}
		diff(t, "the next one", led(cred.AccessKeyID), [][]string{names[:1], names[:1]})
		diff(t, "one that asks twice", led(cred.AccessKeyID, "nobody"), [][]string{names[:1], names[:1]})
		if twice := map[bool]int{true: 1, false: 2}[s.(*DB).postgres]; runs != twice {
			t.Errorf("it took %d runs, want %d", runs, twice)
		}

		err := s.View(t.Context(), func(tx keys.Tx) error {
			tx.Leads()
			_, err := tx.Candidate(cred.AccessKeyID)
			return errors.Join(err, errEnough)
		})
		if !errors.Is(err, errEnough) {
			t.Errorf("View = %v, want what its function returned", err)
		}
		detach("ds_1")
		diff(t, "one after a View that failed", led(cred.AccessKeyID), [][]string{nil, nil})
	})
}

// The state that a led View saw does not hang on its connection, which would keep the log from being emptied.
func TestLeadsLeavesNothingOpen(t *testing.T) {
	db := openStore(t, newStore(t))
	cred := putReached(t, db)
	for _, ids := range [][]string{{cred.AccessKeyID}, {cred.AccessKeyID, cred.AccessKeyID}, {"KC"}} {
		view(t, db, func(tx keys.Tx) (c keys.Candidate, err error) {
			tx.Leads()
			for _, id := range ids {
				if c, err = tx.Candidate(id); err != nil && !fault.Is(err, fault.NotFound) {
					return c, err
				}
			}
			return c, nil
		})
		putKeys(t, db, testKey(3))
		err := db.run(t.Context(), db.writer, db.wait, func(c *connection) (bool, error) {
			if !c.truncateLog() {
				t.Errorf("after a View led by %v the log cannot be emptied", ids)
			}
			return false, nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestBearerAndCandidate(t *testing.T) {
	onEach(t, func(t *testing.T, open func(testing.TB) keys.Store) {
		s := open(t)
		cred := putReached(t, s)
		token := keys.Token{
			ID: "t1", OperatorID: testOperator.ID, MAC: []byte("mac"), Datasets: []string{"ds_1"}, CreatedAt: morning, ExpiresAt: morning.Add(time.Hour),
			RevokedAt: morning, LastUsedAt: morning,
		}
		update(t, s, func(tx keys.Tx) error {
			return firstError([]error{tx.PutOperator(testOperator), tx.PutToken(token), tx.PutToken(keys.Token{ID: "t2", OperatorID: testOperator.ID, MAC: []byte("2"), CreatedAt: morning})})
		})
		type both struct {
			Token     keys.Token
			Operator  keys.Operator
			Candidate keys.Candidate
		}
		for _, id := range []string{cred.AccessKeyID, cred.AccessKeyID + "0"} {
			got := view(t, s, func(tx keys.Tx) (b both, err error) {
				b.Token, b.Operator, b.Candidate, err = tx.BearerAndCandidate(token.ID, id)
				return b, err
			})
			want := view(t, s, func(tx keys.Tx) (b both, err error) {
				if b.Token, b.Operator, err = tx.Bearer(token.ID); err == nil {
					b.Candidate, err = tx.Candidate(id)
				}
				return b, err
			})
			diff(t, "BearerAndCandidate()", got, want)
			if got.Token.ExpiresAt != token.ExpiresAt || got.Candidate.Credential.AccessKeyID != cred.AccessKeyID {
				t.Errorf("BearerAndCandidate() = %+v", got)
			}
		}
		got := view(t, s, func(tx keys.Tx) (b both, err error) {
			b.Token, b.Operator, b.Candidate, err = tx.BearerAndCandidate("t3", cred.AccessKeyID)
			return b, err
		})
		if got.Token.ID != "" || got.Token.MAC != nil || got.Operator.ID != "" || got.Operator.Role != "" || got.Candidate.Credential.AccessKeyID != cred.AccessKeyID {
			t.Errorf("BearerAndCandidate() of no token = %+v", got)
		}
		wantCode(t, s, "BearerAndCandidate() of what comes before all", fault.NotFound, func(tx keys.Tx) error {
			_, _, _, err := tx.BearerAndCandidate(token.ID, "KC")
			return err
		})
	})
}

func TestReach(t *testing.T) {
	onEach(t, func(t *testing.T, open func(testing.TB) keys.Store) {
		s := open(t)
		putReached(t, s)
		id := testKey(1).ID
		first := keys.Reach{Attachment: keys.Attachment{Dataset: testDataset(1), Grant: keys.FullGrant}}
		second := keys.Reach{Attachment: keys.Attachment{Dataset: testDataset(2), Grant: keys.Grant{Decrypt: true}}, PrimaryKeyDisabled: true}
		second.PrimaryKeyID = testPrimaryKey(2).ID
		diff(t, "Reached()", view(t, s, func(tx keys.Tx) ([]keys.Reach, error) { return tx.Reached(id) }), []keys.Reach{first, second})
		diff(t, "ReachedNames()", view(t, s, func(tx keys.Tx) ([]string, error) { return tx.ReachedNames(id) }), []string{first.Name, second.Name})
		diff(t, "Reach()", view(t, s, func(tx keys.Tx) (keys.Reach, error) { return tx.Reach(id, second.Name) }), second)
		diff(t, "Reach()", view(t, s, func(tx keys.Tx) (keys.Reach, error) { return tx.Reach(id, first.Name) }), first)
		for what, read := range map[string]func(tx keys.Tx) (keys.Reach, error){
			"a deleted dataset":         func(tx keys.Tx) (keys.Reach, error) { return tx.Reach(id, testDataset(3).Name) },
			"a dataset it has not":      func(tx keys.Tx) (keys.Reach, error) { return tx.Reach(id, testDataset(4).Name) },
			"a dataset that is not one": func(tx keys.Tx) (keys.Reach, error) { return tx.Reach(id, "nothing") },
			"another key":               func(tx keys.Tx) (keys.Reach, error) { return tx.Reach(testKey(2).ID, first.Name) },
		} {
			wantCode(t, s, what, fault.NotFound, func(tx keys.Tx) error { _, err := read(tx); return err })
		}
	})
}

var testMaterial = keys.Material{PublicKey: []byte("public"), PrivateKeyPEM: []byte("private")}

// rotated is the first Primary Key with a second version.
func rotated(at, disabledAt time.Time) keys.PrimaryKey {
	k := testPrimaryKey(1)
	k.Versions = append(k.Versions, keys.PrimaryKeyVersion{Version: 2, CreatedAt: at, DisabledAt: disabledAt, Sealed: []byte("second")})
	return k
}

func TestRelease(t *testing.T) {
	onEach(t, func(t *testing.T, open func(testing.TB) keys.Store) {
		s := open(t)
		cred := putReached(t, s)
		id, material, primary := testKey(1).ID, testMaterial, rotated(morning, morning)
		keyless := testCredential(testKey(2).ID, 1)
		update(t, s, func(tx keys.Tx) error {
			_, err := tx.Attach("ds_1", testKey(2).ID, keys.FullGrant, morning)
			return firstError([]error{err, tx.PutMaterial(cred.AccessKeyID, material), tx.PutPrimaryKey(primary), tx.PutCredential(keyless)})
		})
		reach := func(n int, primary string, grant keys.Grant, disabled bool) keys.Reach {
			d := testDataset(n)
			return keys.Reach{Attachment: keys.Attachment{
				Dataset: keys.Dataset{ID: d.ID, Name: d.Name, Type: d.Type, Algorithm: d.Algorithm, PrimaryKeyID: primary}, Grant: grant,
			}, PrimaryKeyDisabled: disabled}
		}
		first, second := reach(1, "pk_1", keys.FullGrant, false), reach(2, "pk_2", keys.Grant{Decrypt: true}, true)
		for _, c := range []struct {
			dataset string
			version uint32
			want    keys.Release
		}{
			{"ds_1", 1, keys.Release{Reach: first, Version: primary.Versions[0], Material: material}},
			{"ds_1", 2, keys.Release{Reach: first, Version: primary.Versions[1], Material: material}},
			{"ds_1", 3, keys.Release{Reach: first, Material: material}},
			{"ds_2", 1, keys.Release{Reach: second, Version: testPrimaryKey(2).Versions[0], Material: material}},
		} {
			diff(t, "OldRelease()", view(t, s, func(tx keys.Tx) (keys.Release, error) {
				return tx.OldRelease(id, cred.AccessKeyID, c.dataset, c.version)
			}), c.want)
		}
		for _, dataset := range []string{"ds_3", "ds_4", "ds_9", ""} {
			wantCode(t, s, "OldRelease() of "+dataset, fault.NotFound, func(tx keys.Tx) error { _, err := tx.OldRelease(id, cred.AccessKeyID, dataset, 1); return err })
		}
		update(t, s, func(tx keys.Tx) error { _, err := tx.Detach("ds_2", id); return err })
		diff(t, "NewRelease()", view(t, s, func(tx keys.Tx) (keys.Release, error) { return tx.NewRelease(id, cred.AccessKeyID) }),
			keys.Release{Reach: first, Version: primary.Versions[1], Material: material})
		wantCode(t, s, "NewRelease() without a key pair", fault.StoreDamaged, func(tx keys.Tx) error { _, err := tx.NewRelease(testKey(2).ID, keyless.AccessKeyID); return err })
		update(t, s, func(tx keys.Tx) error { _, err := tx.Detach("ds_1", id); return err })
		wantCode(t, s, "NewRelease() without a dataset", fault.NotFound, func(tx keys.Tx) error { _, err := tx.NewRelease(id, cred.AccessKeyID); return err })
	})
}

func TestStructuredReleases(t *testing.T) {
	onEach(t, func(t *testing.T, open func(testing.TB) keys.Store) {
		s := open(t)
		cred := putReached(t, s)
		id, primary := testKey(1).ID, rotated(morning, time.Time{})
		format := structured.Format{DataType: structured.FormattedString, InputCharacterSet: "0123456789"}
		var want []keys.Release
		update(t, s, func(tx keys.Tx) error {
			steps := []error{tx.PutMaterial(cred.AccessKeyID, testMaterial), tx.PutPrimaryKey(primary)}
			for _, n := range []int{1, 2, 5} { // ds_1 stays unstructured
				d := testDataset(n)
				if n > 1 {
					d.Type, d.Format = keys.Structured, &format
				}
				steps = append(steps, tx.PutDataset(d))
				if n == 1 {
					continue
				}
				_, err := tx.Attach(d.ID, id, keys.Grant{Decrypt: true}, morning)
				steps = append(steps, err)
				want = append(want, keys.Release{
					Reach: keys.Reach{Attachment: keys.Attachment{Dataset: keys.Dataset{
						ID: d.ID, Name: d.Name, Type: d.Type, Algorithm: d.Algorithm, Format: &format, PrimaryKeyID: d.PrimaryKeyID,
					}, Grant: keys.Grant{Decrypt: true}}},
					Version: primary.Versions[1], Material: testMaterial,
				})
			}
			return firstError(steps)
		})
		for _, c := range []struct {
			what, key, name string
			want            []keys.Release
		}{
			{"all", id, "", want},
			{"one", id, want[1].Reach.Name, want[1:]},
			{"an unstructured one", id, testDataset(1).Name, nil},
			{"one that is not there", id, "nothing", nil},
			{"another key's", testKey(2).ID, "", nil},
		} {
			got := view(t, s, func(tx keys.Tx) ([]keys.Release, error) {
				return tx.StructuredReleases(c.key, cred.AccessKeyID, c.name)
			})
			diff(t, "StructuredReleases() of "+c.what, got, c.want)
		}
		wantCode(t, s, "StructuredReleases() without a key pair", fault.StoreDamaged, func(tx keys.Tx) error {
			_, err := tx.StructuredReleases(id, "KCnobody", "")
			return err
		})
	})
}

func TestAttachChangesTheGrant(t *testing.T) {
	onEach(t, func(t *testing.T, open func(testing.TB) keys.Store) {
		s := open(t)
		putReached(t, s)
		for _, c := range []struct {
			grant keys.Grant
			want  bool
		}{{keys.FullGrant, false}, {keys.Grant{Encrypt: true}, true}, {keys.Grant{Encrypt: true}, false}, {keys.FullGrant, true}} {
			update(t, s, func(tx keys.Tx) error {
				changed, err := tx.Attach("ds_1", testKey(1).ID, c.grant, morning)
				if changed != c.want {
					t.Errorf("Attach(%v) changed something: %t, want %t", c.grant, changed, c.want)
				}
				return err
			})
			got := view(t, s, func(tx keys.Tx) (keys.Reach, error) { return tx.Reach(testKey(1).ID, testDataset(1).Name) })
			if got.Grant != c.grant {
				t.Errorf("the grant is %v, want %v", got.Grant, c.grant)
			}
		}
	})
}

func TestTouch(t *testing.T) {
	onEach(t, func(t *testing.T, open func(testing.TB) keys.Store) {
		s := open(t)
		cred := putReached(t, s)
		later := morning.Add(time.Hour)
		for _, at := range []time.Time{later, morning.Add(time.Minute)} { // the second one is known to be older
			update(t, s, func(tx keys.Tx) error { return tx.Touch(cred.AccessKeyID, at, "10.0.0."+at.Format("4")) })
		}
		got := view(t, s, func(tx keys.Tx) (keys.Credential, error) { return tx.Credential(cred.AccessKeyID) })
		if !got.LastUsedAt.Equal(later) || got.LastUsedFrom != "10.0.0.0" {
			t.Errorf("last used at %v from %s, want %v", got.LastUsedAt, got.LastUsedFrom, later)
		}
		key := view(t, s, func(tx keys.Tx) (keys.KeyRecord, error) { return tx.Key(cred.KeyID) })
		if !key.LastUsedAt.Equal(later) {
			t.Errorf("the key was last used at %v, want %v", key.LastUsedAt, later)
		}
		wantCode(t, s, "Touch() of nobody", fault.NotFound, func(tx keys.Tx) error { return tx.Touch("nobody", later, "") })
	})
}

func TestPrimaryKeyVersion(t *testing.T) {
	onEach(t, func(t *testing.T, open func(testing.TB) keys.Store) {
		s := open(t)
		k := rotated(morning, morning)
		update(t, s, func(tx keys.Tx) error { return tx.PutPrimaryKey(k) })
		for version, want := range map[uint32]keys.PrimaryKeyVersion{1: k.Versions[0], 2: k.Versions[1], 0: k.Versions[1]} {
			got := view(t, s, func(tx keys.Tx) (keys.PrimaryKeyVersion, error) { return tx.PrimaryKeyVersion(k.ID, version) })
			diff(t, "PrimaryKeyVersion()", got, want)
		}
		wantCode(t, s, "a version that is not there", fault.NotFound, func(tx keys.Tx) error { _, err := tx.PrimaryKeyVersion(k.ID, 3); return err })
	})
}

func TestDataKeys(t *testing.T) {
	onEach(t, func(t *testing.T, open func(testing.TB) keys.Store) {
		s := open(t)
		putReached(t, s)
		var want []keys.DataKey
		for n := range 3 {
			want = append(want, keys.DataKey{DatasetID: "ds_1", Number: n, CreatedAt: morning, CreatedBy: "test", Sealed: []byte{byte(n + 1)}})
		}
		update(t, s, func(tx keys.Tx) error {
			return errors.Join(tx.PutDataKey(want[2]), tx.PutDataKey(want[0]), tx.PutDataKey(want[1]))
		})
		for i := range want {
			want[i].CreatedAt, want[i].CreatedBy = time.Time{}, ""
		}
		diff(t, "DataKeys()", view(t, s, func(tx keys.Tx) ([]keys.DataKey, error) { return tx.DataKeys("ds_1") }), want)
		wantCode(t, s, "a number twice", fault.Exists, func(tx keys.Tx) error { return tx.PutDataKey(want[1]) })
		nowhere := want[0]
		nowhere.DatasetID = "ds_9"
		wantCode(t, s, "no dataset", fault.NotFound, func(tx keys.Tx) error { return tx.PutDataKey(nowhere) })
	})
}

func TestUsage(t *testing.T) {
	onEach(t, func(t *testing.T, open func(testing.TB) keys.Store) {
		s := open(t)
		putReached(t, s)
		day := morning.Truncate(24 * time.Hour)
		u := keys.Usage{
			KeyID: testKey(1).ID, DatasetID: "ds_1", Action: keys.ActionEncrypt, Product: "lib", Version: "1", Day: day,
			Count: 2, FirstAt: morning, LastAt: morning.Add(time.Minute),
		}
		more, other := u, u
		more.Count, more.FirstAt, more.LastAt = 40, morning.Add(-time.Hour), morning.Add(-time.Minute)
		other.DatasetID, other.Day = "ds_2", day.Add(-24*time.Hour)
		for _, add := range []keys.Usage{u, more, other} {
			update(t, s, func(tx keys.Tx) error { return tx.AddUsage(add) })
		}
		sum := u
		sum.Count, sum.FirstAt = 42, more.FirstAt
		for _, c := range []struct {
			filter keys.UsageFilter
			want   []keys.Usage
		}{
			{keys.UsageFilter{}, []keys.Usage{sum, other}},
			{keys.UsageFilter{Since: morning}, []keys.Usage{sum}},
			{keys.UsageFilter{KeyID: u.KeyID, DatasetID: "ds_2"}, []keys.Usage{other}},
			{keys.UsageFilter{KeyID: testKey(2).ID}, nil},
		} {
			diff(t, "Usage()", view(t, s, func(tx keys.Tx) ([]keys.Usage, error) { return tx.Usage(c.filter) }), c.want)
		}
		nobody := u
		nobody.KeyID = "nobody"
		wantCode(t, s, "no key", fault.NotFound, func(tx keys.Tx) error { return tx.AddUsage(nobody) })
	})
}
