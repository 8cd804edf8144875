package store

import (
	"fmt"
	"testing"
	"time"

	"keyctl/internal/access"
	"keyctl/internal/audit"
	"keyctl/internal/fault"
	"keyctl/internal/keys"
)

func TestDatasets(t *testing.T) {
	onEach(t, func(t *testing.T, open func(testing.TB) keys.Store) {
		s := open(t)
		full := testDataset(1)
		full.Description, full.FirstKeyID, full.OwnPrimaryKey = "files", testKey(1).ID, true
		wantCode(t, s, "PutDataset under an unknown Primary Key", fault.NotFound, func(tx keys.Tx) error { return tx.PutDataset(full) })
		update(t, s, func(tx keys.Tx) error {
			return firstError([]error{tx.PutPrimaryKey(testPrimaryKey(1)), tx.PutKey(testKey(1)), tx.PutKey(testKey(2)), tx.PutDataset(full)})
		})
		byName := func(tx keys.Tx) (keys.DatasetRecord, error) { return tx.DatasetByName(full.Name) }
		alone := func(tx keys.Tx) (keys.Dataset, error) { return tx.DatasetAlone(full.Name) }
		diff(t, "DatasetAlone()", view(t, s, alone), full)
		diff(t, "DatasetByName()", view(t, s, byName), keys.DatasetRecord{Dataset: full, PrimaryKey: "primary-1"})

		taken := testDataset(2)
		taken.Name = full.Name
		wantCode(t, s, "PutDataset with a taken name", fault.Exists, func(tx keys.Tx) error { return tx.PutDataset(taken) })
		for _, tt := range []struct {
			key    string
			attach bool
			want   bool
		}{
			{testKey(2).ID, true, true}, {testKey(2).ID, true, false}, {testKey(1).ID, true, true},
			{"key_nope", false, false}, {testKey(2).ID, false, true}, {testKey(2).ID, false, false}, {testKey(2).ID, true, true},
		} {
			update(t, s, func(tx keys.Tx) error {
				change := tx.Detach
				if tt.attach {
					change = func(d, k string) (bool, error) { return tx.Attach(d, k, keys.FullGrant, morning) }
				}
				got, err := change(full.ID, tt.key)
				if got != tt.want {
					t.Errorf("attach %q: %v = %v, want %v", tt.key, tt.attach, got, tt.want)
				}
				return err
			})
		}
		for _, ids := range [][2]string{{full.ID, "key_nope"}, {"ds_nope", testKey(1).ID}} {
			wantCode(t, s, "Attach of something unknown", fault.NotFound, func(tx keys.Tx) error {
				_, err := tx.Attach(ids[0], ids[1], keys.FullGrant, morning)
				return err
			})
		}
		gone := testKey(2)
		gone.DeletedAt = morning
		if got := view(t, s, byName).Keys; fmt.Sprint(got) != fmt.Sprint([]string{testKey(1).Name, testKey(2).Name}) {
			t.Errorf("Keys = %v, want both in order", got)
		}
		putKeys(t, s, gone)
		if got := view(t, s, byName).Keys; fmt.Sprint(got) != fmt.Sprint([]string{testKey(1).Name}) {
			t.Errorf("Keys = %v, want no deleted one", got)
		}

		tombstone := full
		tombstone.DeletedAt = morning
		update(t, s, func(tx keys.Tx) error { return tx.PutDataset(tombstone) })
		wantCode(t, s, "DatasetByName of a tombstone", fault.NotFound, func(tx keys.Tx) error { _, err := byName(tx); return err })
		wantCode(t, s, "DatasetAlone of a tombstone", fault.NotFound, func(tx keys.Tx) error { _, err := alone(tx); return err })
		if got := view(t, s, func(tx keys.Tx) (keys.DatasetRecord, error) { return tx.Dataset(full.ID) }); got.DeletedAt.IsZero() {
			t.Error("Dataset() of a tombstone has no DeletedAt")
		}
		update(t, s, func(tx keys.Tx) error { return tx.PutDataset(taken) }) // the name is free again
	})
}

func TestRemove(t *testing.T) {
	onEach(t, func(t *testing.T, open func(testing.TB) keys.Store) {
		s := open(t)
		update(t, s, func(tx keys.Tx) error {
			steps := []error{tx.PutPrimaryKey(testPrimaryKey(1)), tx.PutKey(testKey(1))}
			_, err := attachAfterPut(tx, testDataset(1), testKey(1).ID)
			return firstError(append(steps, err))
		})
		remove := func(tx keys.Tx) error { return tx.RemoveDataset(testDataset(1).ID) }
		removePrimary := func(tx keys.Tx) error { return tx.RemovePrimaryKey(testPrimaryKey(1).ID) }
		wantCode(t, s, "RemoveDataset with a key", fault.StillAttached, remove)
		wantCode(t, s, "RemovePrimaryKey with a dataset", fault.StillAttached, removePrimary)
		update(t, s, func(tx keys.Tx) error { _, err := tx.Detach(testDataset(1).ID, testKey(1).ID); return err })
		update(t, s, remove)
		update(t, s, removePrimary)
		wantCode(t, s, "RemoveDataset again", fault.NotFound, remove)
		wantCode(t, s, "RemovePrimaryKey again", fault.NotFound, removePrimary)
		wantCode(t, s, "Dataset removed", fault.NotFound, func(tx keys.Tx) error { _, err := tx.Dataset(testDataset(1).ID); return err })
		update(t, s, func(tx keys.Tx) error { return tx.PutPrimaryKey(testPrimaryKey(1)) }) // with version 1 again
	})
}

func TestPrimaryKeys(t *testing.T) {
	onEach(t, func(t *testing.T, open func(testing.TB) keys.Store) {
		s := open(t)
		k := testPrimaryKey(1)
		k.Description = "root"
		update(t, s, func(tx keys.Tx) error {
			return firstError([]error{tx.PutPrimaryKey(k), tx.PutDataset(testDataset(2)), tx.PutDataset(testDataset(1))})
		})
		k.Versions = append(k.Versions, keys.PrimaryKeyVersion{Version: 4294967295, CreatedAt: morning, Sealed: []byte("newer")})
		k.Versions[0].DisabledAt, k.DisabledAt = morning, morning
		update(t, s, func(tx keys.Tx) error { return tx.PutPrimaryKey(k) })
		want := keys.PrimaryKeyRecord{PrimaryKey: k, Datasets: []string{testDataset(1).Name, testDataset(2).Name}}
		diff(t, "PrimaryKey()", view(t, s, func(tx keys.Tx) (keys.PrimaryKeyRecord, error) { return tx.PrimaryKey(k.ID) }), want)

		short := k
		short.Versions = k.Versions[:1]
		update(t, s, func(tx keys.Tx) error { return tx.PutPrimaryKey(short) })
		diff(t, "PrimaryKeyByName() after a put with fewer versions",
			view(t, s, func(tx keys.Tx) (keys.PrimaryKeyRecord, error) { return tx.PrimaryKeyByName(k.Name) }), want)

		taken := testPrimaryKey(2)
		taken.Name = k.Name
		wantCode(t, s, "PutPrimaryKey with a taken name", fault.Exists, func(tx keys.Tx) error { return tx.PutPrimaryKey(taken) })
		for _, read := range []func(keys.Tx) error{
			func(tx keys.Tx) error { _, err := tx.PrimaryKey("pk_nope"); return err },
			func(tx keys.Tx) error { _, err := tx.PrimaryKeyByName("nope"); return err },
		} {
			wantCode(t, s, "an unknown Primary Key", fault.NotFound, read)
		}
	})
}

func TestPagesByName(t *testing.T) {
	onEach(t, func(t *testing.T, open func(testing.TB) keys.Store) {
		s := open(t)
		const n = 9
		update(t, s, func(tx keys.Tx) error {
			var steps []error
			for i := n; i >= 1; i-- {
				steps = append(steps, tx.PutPrimaryKey(testPrimaryKey(i)))
			}
			for i := n; i >= 1; i-- {
				d := testDataset(i)
				if i == 5 {
					d.DeletedAt = morning
				}
				steps = append(steps, tx.PutDataset(d))
			}
			return firstError(steps)
		})
		pages := func(page func(tx keys.Tx, after string) ([]string, error)) (all []string) {
			for after := ""; ; {
				names := view(t, s, func(tx keys.Tx) ([]string, error) { return page(tx, after) })
				if len(names) == 0 {
					return all
				}
				all, after = append(all, names...), names[len(names)-1]
			}
		}
		datasets := pages(func(tx keys.Tx, after string) (names []string, err error) {
			records, err := tx.Datasets(after, 3)
			for _, r := range records {
				names = append(names, r.Name)
			}
			return names, err
		})
		if got, want := fmt.Sprint(datasets), "[files-1 files-2 files-3 files-4 files-6 files-7 files-8 files-9]"; got != want {
			t.Errorf("Datasets() in pages = %s, want %s", got, want)
		}
		primaryKeys := pages(func(tx keys.Tx, after string) (names []string, err error) {
			records, err := tx.PrimaryKeys(after, 2)
			for _, r := range records {
				names = append(names, r.Name)
			}
			return names, err
		})
		if len(primaryKeys) != n || primaryKeys[0] != "primary-1" || primaryKeys[n-1] != "primary-9" {
			t.Errorf("PrimaryKeys() in pages = %v, want %d in order", primaryKeys, n)
		}
	})
}

func TestOperators(t *testing.T) {
	onEach(t, func(t *testing.T, open func(testing.TB) keys.Store) {
		s := open(t)
		second := keys.Operator{ID: "op_0", Name: "Alice", Role: access.CI, CreatedAt: morning}
		update(t, s, func(tx keys.Tx) error {
			return firstError([]error{tx.PutOperator(testOperator), tx.PutOperator(second)})
		})
		changed := testOperator
		changed.Role = access.Auditor
		update(t, s, func(tx keys.Tx) error { return tx.PutOperator(changed) })
		diff(t, "Operators()", view(t, s, keys.Tx.Operators), []keys.Operator{changed, second})
		diff(t, "Operator()", view(t, s, func(tx keys.Tx) (keys.Operator, error) { return tx.Operator("Alice") }), second)
		wantCode(t, s, "Operator of another case", fault.NotFound, func(tx keys.Tx) error { _, err := tx.Operator("ALICE"); return err })
		second.Name = "alice"
		wantCode(t, s, "PutOperator with a taken name", fault.Exists, func(tx keys.Tx) error { return tx.PutOperator(second) })
	})
}

func TestSecondFactor(t *testing.T) {
	onEach(t, func(t *testing.T, open func(testing.TB) keys.Store) {
		s := open(t)
		id := testOperator.ID
		f := keys.SecondFactor{OperatorID: id, Seed: []byte("sealed"), CreatedAt: morning}
		wantCode(t, s, "PutSecondFactor of nobody", fault.NotFound, func(tx keys.Tx) error { return tx.PutSecondFactor(f) })
		wantCode(t, s, "PutRecoveryCodes of nobody", fault.NotFound, func(tx keys.Tx) error { return tx.PutRecoveryCodes(id, [][]byte{{1}}) })
		update(t, s, func(tx keys.Tx) error {
			return firstError([]error{tx.PutOperator(testOperator), tx.PutSecondFactor(f)})
		})
		read := func(tx keys.Tx) (keys.SecondFactor, error) { return tx.SecondFactor(id) }
		diff(t, "SecondFactor()", view(t, s, read), f)
		f.ConfirmedAt, f.LastStep = morning, 1<<40
		f.Throttle = access.Throttle{Failures: 99, LockedUntil: morning.Add(time.Hour), Disabled: true}
		update(t, s, func(tx keys.Tx) error { return tx.PutSecondFactor(f) })
		diff(t, "SecondFactor() replaced", view(t, s, read), f)

		macs := [][]byte{{1}, {2}, {3}}
		update(t, s, func(tx keys.Tx) error { return tx.PutRecoveryCodes(id, [][]byte{{9}, {1}}) })
		update(t, s, func(tx keys.Tx) error { return tx.PutRecoveryCodes(id, macs) })
		for _, tt := range []struct {
			operator string
			mac      byte
			want     bool
			left     int
		}{{id, 2, true, 2}, {id, 2, false, 2}, {id, 9, false, 2}, {"op_other", 1, false, 2}, {id, 1, true, 1}} {
			update(t, s, func(tx keys.Tx) error {
				used, err := tx.UseRecoveryCode(tt.operator, []byte{tt.mac}, morning)
				if used != tt.want {
					t.Errorf("UseRecoveryCode(%q, %d) = %v, want %v", tt.operator, tt.mac, used, tt.want)
				}
				return err
			})
			if left := view(t, s, func(tx keys.Tx) (int, error) { return tx.RecoveryCodesLeft(id) }); left != tt.left {
				t.Errorf("RecoveryCodesLeft() = %d, want %d", left, tt.left)
			}
		}
		for range 2 {
			update(t, s, func(tx keys.Tx) error { return tx.DeleteSecondFactor(id) })
			wantCode(t, s, "SecondFactor deleted", fault.NotFound, func(tx keys.Tx) error { _, err := read(tx); return err })
			if left := view(t, s, func(tx keys.Tx) (int, error) { return tx.RecoveryCodesLeft(id) }); left != 0 {
				t.Errorf("%d recovery codes left after DeleteSecondFactor, want 0", left)
			}
		}
	})
}

func TestR11_OfTwoTransactionsOneAdvances(t *testing.T) {
	onEach(t, func(t *testing.T, open func(testing.TB) keys.Store) {
		first := open(t)
		update(t, first, func(tx keys.Tx) error {
			return firstError([]error{tx.PutOperator(testOperator), tx.PutSecondFactor(keys.SecondFactor{
				OperatorID: testOperator.ID, Seed: []byte("sealed"), CreatedAt: morning, LastStep: 4,
			})})
		})
		for step := int64(3); step <= 8; step++ {
			const workers = 4
			told := make(chan bool, workers)
			for range workers {
				s := open(t)
				go func() {
					var advanced bool
					if err := s.Update(t.Context(), func(tx keys.Tx) (err error) {
						advanced, err = tx.AdvanceOTP(testOperator.ID, step)
						return err
					}); err != nil {
						t.Error(err)
					}
					told <- advanced
				}()
			}
			yes := 0
			for range workers {
				if <-told {
					yes++
				}
			}
			if want := min(1, max(0, int(step)-4)); yes != want {
				t.Errorf("step %d advanced in %d of %d transactions, want %d", step, yes, workers, want)
			}
		}
	})
}

func TestAudit(t *testing.T) {
	onEach(t, func(t *testing.T, open func(testing.TB) keys.Store) {
		s := open(t)
		wantCode(t, s, "AuditHead before the first record", fault.NotFound, func(tx keys.Tx) error { _, err := tx.AuditHead(); return err })
		var all []audit.Record
		var head audit.Head
		for i := int64(1); i <= 5; i++ {
			r := audit.Record{Seq: i, Body: fmt.Appendf(nil, `{"n":%d, "byte":"for byte"}`, i), MAC: []byte{byte(i)}}
			head = audit.Head{Seq: i, Hash: r.Hash(), MAC: []byte{byte(i), 0}}
			update(t, s, func(tx keys.Tx) error { return tx.AppendAudit(head, r) })
			all = append(all, r)
		}
		diff(t, "AuditHead()", view(t, s, keys.Tx.AuditHead), head)
		for _, tt := range []struct{ after, limit, from, to int }{{0, 9, 0, 5}, {0, 2, 0, 2}, {2, 2, 2, 4}, {4, 9, 4, 5}, {5, 9, 5, 5}, {-1, 0, 0, 0}} {
			got := view(t, s, func(tx keys.Tx) ([]audit.Record, error) { return tx.AuditRecords(int64(tt.after), tt.limit) })
			diff(t, fmt.Sprintf("AuditRecords(%d, %d)", tt.after, tt.limit), got, all[tt.from:tt.to])
		}
		wantCode(t, s, "AppendAudit of a record that is there", fault.StoreDamaged, func(tx keys.Tx) error { return tx.AppendAudit(head, all[2]) })
	})
}
