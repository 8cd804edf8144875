//go:build unix

package cluster

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"keyctl/internal/fault"
	"keyctl/internal/httpapi"
	"keyctl/internal/keys/keystest"
	"keyctl/internal/postgrestest"
	"keyctl/internal/store"
)

// loadWorkers is how many workers a load has; each changes keys one after the other.
const loadWorkers = 6

// moment is a random one of the next so many milliseconds.
func moment(milliseconds int) {
	time.Sleep(time.Duration(rand.IntN(milliseconds)) * time.Millisecond)
}

// TestR51_Failover kills the primary under load, promotes the standby, and makes a standby of the killed one. What was
// acknowledged stays, whoever dies.
func TestR51_Failover(t *testing.T) {
	pair := postgrestest.NewPair(t)
	c := newCluster(t, pair.URL("postgres"), 2)
	l := newLoad(t, c, loadWorkers)
	l.start()
	defer l.stop()
	n := rounds(t, 5, 100)
	for range n {
		time.Sleep(200 * time.Millisecond)
		moment(300)
		if err := pair.Primary.Kill(); err != nil {
			t.Fatal(err)
		}
		moment(500)
		if err := pair.Promote(); err != nil {
			t.Fatal(err)
		}
		l.back()
		l.recovers()
		moment(200)
		l.resting.Lock()
		err := pair.Rejoin()
		l.resting.Unlock()
		if err != nil {
			t.Fatal(err)
		}
	}
	l.stop()
	l.check()
	l.unavailable()
	t.Logf("%d rounds", n)
}

// TestR51_Restart kills and restarts the one PostgreSQL server there is, under load.
func TestR51_Restart(t *testing.T) {
	server := postgrestest.New(t, postgrestest.Options{TCP: true})
	c := newCluster(t, "postgres://test@"+server.Address()+"/postgres?sslmode=disable", 2)
	l := newLoad(t, c, loadWorkers)
	l.start()
	defer l.stop()
	n := rounds(t, 4, 100)
	for round := range n {
		time.Sleep(200 * time.Millisecond)
		end := server.Down
		if round%2 == 0 {
			end = server.Kill
		}
		if err := end(); err != nil {
			t.Fatal(err)
		}
		moment(300)
		if err := server.Up(); err != nil {
			t.Fatal(err)
		}
		l.back()
		l.recovers()
	}
	l.stop()
	l.check()
	l.unavailable()
	t.Logf("%d rounds", n)
}

// TestR51_TerminatedBackends ends all connections of all servers at once, again and again.
func TestR51_TerminatedBackends(t *testing.T) {
	server := postgrestest.New(t, postgrestest.Options{})
	c := newCluster(t, server.Database(t), 2)
	l := newLoad(t, c, loadWorkers)
	l.start()
	defer l.stop()
	n := rounds(t, 40, 1000)
	for range n {
		moment(100)
		if err := server.SQL("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'keyctl'"); err != nil {
			t.Fatal(err)
		}
	}
	l.back()
	l.recovers()
	l.stop()
	l.check()
	l.unavailable()
	t.Logf("%d rounds", n)
}

// TestR32_CutConnections cuts the connections of one of two servers to PostgreSQL, at random bytes of either direction and
// around COMMIT. Every answer is the right one, or says that it is not known.
func TestR32_CutConnections(t *testing.T) {
	server := postgrestest.New(t, postgrestest.Options{TCP: true})
	p := newProxy(t, server.Address())
	c := newCluster(t, "postgres://test@"+server.Address()+"/postgres?sslmode=disable", 1)
	c.nodes = append(c.nodes, c.serveOn(func(ctx context.Context) (*store.DB, error) {
		return store.OpenPostgres(ctx, "postgres://test@"+p.address()+"/postgres?sslmode=disable", store.Options{})
	}))
	l := newLoad(t, c, loadWorkers)
	p.cutting.Store(true)
	p.cut("all at once")
	l.start()
	defer l.stop()
	n := rounds(t, 15, 300)
	for round := 0; round < n || round < n+100 && len(p.missing()) > 0; round++ {
		time.Sleep(300 * time.Millisecond)
		p.cut("all at once")
	}
	l.stop()
	p.cutting.Store(false)
	l.check()
	if missing := p.missing(); len(missing) > 0 {
		t.Errorf("nothing was cut %v", missing)
	}
	t.Logf("cuts: %v", p.cuts)
}

// TestR51_FailsClosed asks about a good credential while there is no primary, but a standby that could be read: the answer
// is 503, from fresh connections and from stale ones. When a primary is back, the right answer comes by itself.
func TestR51_FailsClosed(t *testing.T) {
	pair := postgrestest.NewPair(t)
	c := newCluster(t, pair.URL("postgres"), 1)
	hasty := c.serveOn(func(ctx context.Context) (*store.DB, error) {
		return store.OpenPostgres(ctx, pair.URL("postgres"), store.Options{Wait: 300 * time.Millisecond})
	})
	token := c.token("")
	d := keystest.NewKey(t, c.client(hasty, token), "web-01")
	ask := func() (status int, allowed bool, code fault.Code) {
		body := `{"access_key_id":"` + d.AccessKeyID + `","secret_signing_key":"` + d.SigningKey.Reveal() + `"}`
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, hasty.url+"/v1/verify", strings.NewReader(body))
		if err != nil {
			t.Error(err)
			return 0, false, ""
		}
		request.Header.Set("Authorization", "Bearer "+token.Reveal())
		request.Header.Set("Content-Type", "application/json")
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Error(err)
			return 0, false, ""
		}
		defer response.Body.Close()
		var answer struct {
			Allowed bool                  `json:"allowed"`
			Error   httpapi.FailureDetail `json:"error"`
		}
		if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
			t.Error(err)
		}
		return response.StatusCode, answer.Allowed, answer.Error.Code
	}
	const askers = 16 // more than there are connections
	everyone := func(when string, wantStatus int, wantAllowed bool, wantCode fault.Code) {
		t.Helper()
		keystest.AtOnce(askers, func(int) error {
			if status, allowed, code := ask(); status != wantStatus || allowed != wantAllowed || code != wantCode {
				t.Errorf("%s: %d, allowed %t, %q; want %d, %t, %q", when, status, allowed, code, wantStatus, wantAllowed, wantCode)
			}
			return nil
		})
	}
	comesBack := func() {
		t.Helper()
		begun := time.Now()
		for {
			status, allowed, code := ask()
			if allowed {
				break
			}
			if status != http.StatusServiceUnavailable || code != fault.Unavailable {
				t.Errorf("on the way back: %d, %q", status, code)
			}
			if time.Since(begun) > 30*time.Second {
				t.Fatal("it does not come back")
			}
		}
		t.Logf("back after %v", time.Since(begun))
	}
	everyone("at first", http.StatusOK, true, "")
	if err := pair.Primary.Kill(); err != nil {
		t.Fatal(err)
	}
	everyone("with a standby alone", http.StatusServiceUnavailable, false, fault.Unavailable)
	everyone("once more", http.StatusServiceUnavailable, false, fault.Unavailable)
	if err := pair.Promote(); err != nil {
		t.Fatal(err)
	}
	comesBack()
	everyone("after the promotion", http.StatusOK, true, "")
	if err := pair.Primary.Kill(); err != nil {
		t.Fatal(err)
	}
	everyone("with nothing at all", http.StatusServiceUnavailable, false, fault.Unavailable)
	if err := pair.Primary.Up(); err != nil {
		t.Fatal(err)
	}
	comesBack()
	everyone("after the restart", http.StatusOK, true, "")
	if err := pair.Primary.Down(); err != nil {
		t.Fatal(err)
	}
	if err := pair.Primary.Up(); err != nil {
		t.Fatal(err)
	}
	comesBack() // from stale connections alone
	everyone("after a restart that nobody noticed", http.StatusOK, true, "")
}
