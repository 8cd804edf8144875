//go:build unix

package cluster

import (
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keyctl/internal/access"
	"keyctl/internal/credential"
	"keyctl/internal/fault"
	"keyctl/internal/iprange"
	"keyctl/internal/keys"
	"keyctl/internal/keys/keystest"
	"keyctl/internal/postgrestest"
)

// TestSeveral holds servers on one database to what several Services on one store promise; to open it again is to start one
// more server.
func TestSeveral(t *testing.T) {
	keystest.Several(t, func(t *testing.T, env keys.Env) func(testing.TB) keys.Service {
		c := newClusterIn(t, postgrestest.Database(t), 1, env)
		token := c.token("")
		return func(testing.TB) keys.Service { return c.client(c.serve(), token) }
	})
}

// TestR20_ObeyedByAll changes something at one server and looks at the very next request what another makes of it.
func TestR20_ObeyedByAll(t *testing.T) {
	c := newCluster(t, postgrestest.Database(t), 2)
	owner := c.clients(c.token(""))
	phone := keystest.Enroll(t, owner[0], c.clock)
	if _, _, err := owner[0].CreateDataset(t.Context(), keys.NewDataset{Name: "files", Type: keys.Unstructured}); err != nil {
		t.Fatal(err)
	}
	everywhere, err := iprange.ParseList([]string{"10.0.0.0/8", "192.0.2.0/24"})
	if err != nil {
		t.Fatal(err)
	}
	here := netip.MustParseAddr("192.0.2.7")
	for round := range 4 {
		changed, other := owner[round%2], owner[(round+1)%2]
		subject := func(what string) (keystest.Drawn, string) {
			t.Helper()
			name := fmt.Sprintf("%s-%d", what, round)
			d := keystest.Draw(t)
			pending, err := changed.CreateKey(t.Context(), keys.NewKey{Name: name, IPRanges: everywhere, Datasets: []string{"files"}, Offer: d.Offer})
			if err == nil {
				_, err = changed.Prove(t.Context(), d.AccessKeyID, d.Proof(pending))
			}
			if err != nil {
				t.Fatal(err)
			}
			return d, name
		}
		says := func(what string, d keystest.Drawn, want keys.Reason) {
			t.Helper()
			q := d.Question()
			q.Address, q.Dataset = here, "files"
			if v, err := other.Verify(t.Context(), q); err != nil || v.Reason != want {
				t.Errorf("%s: the other server says %q, %v; want %q", what, v.Reason, err, want)
			}
		}
		must := func(what string, err error) {
			t.Helper()
			if err != nil {
				t.Fatalf("%s = %v", what, err)
			}
		}
		for _, test := range []struct {
			what string
			do   func(name string) error
			want keys.Reason
		}{
			{"disable", func(name string) error { _, err := changed.DisableKey(t.Context(), name, false); return err }, keys.ReasonDisabled},
			{"compromise", func(name string) error { _, err := changed.DisableKey(t.Context(), name, true); return err }, keys.ReasonCompromised},
			{"delete", func(name string) error { _, err := changed.DeleteKey(t.Context(), name); return err }, keys.ReasonUnknown},
			{"detach", func(name string) error {
				_, err := changed.DetachKeys(t.Context(), "files", []string{name})
				return err
			}, keys.ReasonDatasetNotAttached},
			{"shut-out", func(name string) error {
				_, err := changed.EditKey(t.Context(), name, keys.KeyEdit{RemoveRanges: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}})
				return err
			}, keys.ReasonAddressNotAllowed},
			{"roll", func(name string) error {
				next := keystest.Draw(t)
				pending, err := changed.Roll(t.Context(), keys.RollRequest{Key: name, Offer: next.Offer, Code: phone.Next()})
				if err == nil {
					_, err = changed.Prove(t.Context(), next.AccessKeyID, next.Proof(pending))
				}
				return err
			}, keys.ReasonRetired},
		} {
			d, name := subject(test.what)
			says("before the "+test.what, d, keys.ReasonOK)
			must(test.what, test.do(name))
			says("after the "+test.what, d, test.want)
		}

		// The same for who administers.
		clerk := fmt.Sprintf("clerk-%d", round)
		c.operator(clerk, access.Admin)
		token := c.token(clerk)
		there := c.client(c.nodes[(round+1)%2], token)
		knocks := func(what string, want fault.Code) {
			t.Helper()
			_, err := there.CreatePrimaryKey(t.Context(), fmt.Sprintf("%s-%s", clerk, what), "")
			keystest.WantCode(t, "a change by the clerk "+what, err, want)
		}
		knocks("at-first", "")
		_, err := changed.SetRole(t.Context(), clerk, access.Auditor, "")
		must("SetRole", err)
		knocks("as-auditor", fault.Forbidden)
		_, err = changed.SetRole(t.Context(), clerk, access.Admin, "")
		must("SetRole", err)
		knocks("as-admin-again", "")
		_, err = changed.DisableOperator(t.Context(), clerk)
		must("DisableOperator", err)
		knocks("disabled", fault.Unauthenticated)
		_, err = changed.EnableOperator(t.Context(), clerk)
		must("EnableOperator", err)
		knocks("enabled", "")
		id, err := credential.OperatorTokenID(token)
		must("OperatorTokenID", err)
		_, err = changed.RevokeToken(t.Context(), id)
		must("RevokeToken", err)
		knocks("revoked", fault.Unauthenticated)
	}
}

// TestR20_NoneAcceptedAfterTheAnswer asks all servers about a credential without a pause while it is disabled. No question
// that was asked after the answer is answered with yes.
func TestR20_NoneAcceptedAfterTheAnswer(t *testing.T) {
	c := newCluster(t, postgrestest.Database(t), 2)
	all := c.clients(c.token(""))
	asked := 0
	for round := range 10 {
		d := keystest.NewKey(t, all[0], fmt.Sprintf("web-%d", round))
		var over, end atomic.Bool
		var askers sync.WaitGroup
		var late, yes, no atomic.Int64
		for i := range 4 {
			askers.Go(func() {
				for !end.Load() {
					after := over.Load()
					v, err := all[i%2].Verify(t.Context(), d.Question())
					switch {
					case err != nil:
						t.Error(err)
						return
					case v.Allowed && after:
						late.Add(1)
					case v.Allowed:
						yes.Add(1)
					default:
						no.Add(1)
					}
				}
			})
		}
		eventually(t, func() bool { return yes.Load() >= 8 })
		if _, err := all[round%2].DisableKey(t.Context(), d.AccessKeyID, false); err != nil {
			t.Error(err)
		}
		over.Store(true)
		eventually(t, func() bool { return t.Failed() || no.Load() >= 8 })
		end.Store(true)
		askers.Wait()
		if late.Load() > 0 {
			t.Errorf("%d questions asked after the disable were answered with yes", late.Load())
		}
		asked += int(yes.Load() + no.Load())
	}
	t.Logf("%d questions", asked)
}

// eventually waits until something is so.
func eventually(t *testing.T, so func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it takes too long")
		}
	}
}
