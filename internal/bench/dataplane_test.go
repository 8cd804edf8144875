package bench

import (
	"bytes"
	"crypto/sha512"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	crand "crypto/rand"

	"keyctl/internal/access"
	"keyctl/internal/credential"
	"keyctl/internal/iprange"
	"keyctl/internal/keys"
	"keyctl/internal/signature"
	"keyctl/internal/structured"
)

const (
	stored   = 100_000 // keys in the store
	callers  = 256     // credentials that are asked with
	dataKeys = 8       // of the structured dataset

	verifies = 8000 // in one run
	releases = 1600
	waits    = 2000 // of one client
)

// application is a store for the data plane: many keys, and the credentials of some that reach both datasets.
type application struct {
	home
	credentials []credential.Credential
	token       string // of a verifier
	owner       string // the token of the owner
}

// newApplication fills a store and leaves it to the servers.
func newApplication(b *testing.B) application {
	b.Helper()
	a := application{home: newHome(b, stored)}
	defer a.close(b)
	preset, err := structured.PresetNamed("ssn")
	if err != nil {
		b.Fatal(err)
	}
	format, err := structured.New(preset.Spec, crand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	if _, _, err := a.local.CreateDataset(b.Context(), keys.NewDataset{Name: "ssn", Type: keys.Structured, Format: &format}); err != nil {
		b.Fatal(err)
	}
	for range dataKeys - 1 {
		if _, err := a.local.RotateDataset(b.Context(), "ssn"); err != nil {
			b.Fatal(err)
		}
	}
	here, err := iprange.ParseList([]string{"127.0.0.0/8"})
	if err != nil {
		b.Fatal(err)
	}
	pair := newPair(b)
	for i := range callers {
		cred, err := credential.Draw(crand.Reader)
		if err != nil {
			b.Fatal(err)
		}
		pending, err := a.local.CreateKey(b.Context(), keys.NewKey{
			Name: fmt.Sprintf("app-%03d", i), IPRanges: here, Datasets: []string{"payments", "ssn"}, Offer: keys.NewOffer(cred, pair),
		})
		if err != nil {
			b.Fatal(err)
		}
		proof := credential.Proof(cred.SigningKey, pending.KeyID, cred.AccessKeyID, pending.Challenge)
		if _, err := a.local.Prove(b.Context(), cred.AccessKeyID, proof); err != nil {
			b.Fatal(err)
		}
		a.credentials = append(a.credentials, cred)
	}
	if _, err := a.local.CreateOperator(b.Context(), keys.NewOperator{Name: "gateway", Role: access.Verifier}); err != nil {
		b.Fatal(err)
	}
	a.owner = a.home.token(b)
	token, err := credential.DrawOperatorToken(crand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := a.local.CreateToken(b.Context(), keys.NewToken{Token: token, Operator: "gateway"}); err != nil {
		b.Fatal(err)
	}
	a.token = token.Reveal()
	return a
}

// copyStore copies the store of a closed home, for a server of its own.
func (a application) copyStore(b *testing.B) string {
	b.Helper()
	content, err := os.ReadFile(a.store())
	if err != nil {
		b.Fatal(err)
	}
	path := filepath.Join(b.TempDir(), "bare.db")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		b.Fatal(err)
	}
	return path
}

// question makes the request that a caller is asked about with; it is written down before time is taken.
type question func(b *testing.B, c credential.Credential) *http.Request

func request(b *testing.B, method, target, body string) *http.Request {
	b.Helper()
	r, err := http.NewRequest(method, "http://keyctl.example"+target, strings.NewReader(body))
	if err != nil {
		b.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	return r
}

func (a application) forwardAuth(b *testing.B, c credential.Credential) *http.Request {
	r := request(b, "GET", "/v1/forward-auth", "")
	r.SetBasicAuth(c.AccessKeyID, c.SigningKey.Reveal())
	return r
}

func (a application) verify(b *testing.B, c credential.Credential) *http.Request {
	body, err := json.Marshal(map[string]string{
		"access_key_id": c.AccessKeyID, "secret_signing_key": c.SigningKey.Reveal(), "address": "127.0.0.1",
	})
	if err != nil {
		b.Fatal(err)
	}
	r := request(b, "POST", "/v1/verify", string(body))
	r.Header.Set("Authorization", "Bearer "+a.token)
	return r
}

// signed signs a request as the libraries do. The server forgives its age as long as a run takes.
func signed(b *testing.B, c credential.Credential, method, target, body string) *http.Request {
	r := request(b, method, target, body)
	signature.Sign(r, sha512.Sum512([]byte(body)), c.AccessKeyID, c.SigningKey, signature.GoOrder, time.Now())
	return r
}

func encryptionKey(b *testing.B, c credential.Credential) *http.Request {
	return signed(b, c, "POST", "/api/v0/encryption/key", `{"uses":1}`)
}

func defKeys(b *testing.B, c credential.Credential) *http.Request {
	return signed(b, c, "GET", "/api/v0/fpe/def_keys?ffs_name=ssn&papi="+c.AccessKeyID, "")
}

// written are the requests of all callers as bytes.
func (a application) written(b *testing.B, ask question) [][]byte {
	b.Helper()
	all := make([][]byte, len(a.credentials))
	for i, c := range a.credentials {
		var text bytes.Buffer
		if err := ask(b, c).Write(&text); err != nil {
			b.Fatal(err)
		}
		all[i] = text.Bytes()
	}
	return all
}

// run has the clients send n of the requests.
func (l *load) run(b *testing.B, n int, requests [][]byte) time.Duration {
	b.Helper()
	return l.all(b, func(client int) error {
		for i := range n / clients {
			if _, err := l.send(client, requests[(client*61+i*7)%len(requests)]); err != nil {
				return err
			}
		}
		return nil
	})
}

// waited has one client send n of the requests, and returns how long 99 of 100 take at most.
func (l *load) waited(b *testing.B, n int, requests [][]byte) time.Duration {
	b.Helper()
	took := make([]time.Duration, n)
	for i := range took {
		begun := time.Now()
		if _, err := l.send(0, requests[i*7%len(requests)]); err != nil {
			b.Fatal(err)
		}
		took[i] = time.Since(begun)
	}
	slices.Sort(took)
	return took[n*99/100]
}

// BenchmarkRatioDataPlane compares what applications and gateways ask, 16 at once, of a server of 100,000 keys with bare
// handlers on a copy of the store.
func BenchmarkRatioDataPlane(b *testing.B) {
	a := newApplication(b)
	bareStore := a.copyStore(b)
	server, other := a.serve(b), serveBare(b, bareStore)
	ours, bare := newLoad(b, server.address, a.owner), newLoad(b, other.address, a.owner)
	for _, c := range []struct {
		what  string
		ask   question
		n     int
		limit float64
	}{
		{"forward-auth", a.forwardAuth, verifies, 0.75},
		{"POST /v1/verify", a.verify, verifies, 0.75},
	} {
		b.Run(c.what, func(b *testing.B) {
			requests := a.written(b, c.ask)
			rate(b, fmt.Sprintf("%s, 16 clients, 100,000 keys", c.what), c.limit,
				func() time.Duration { return ours.run(b, c.n, requests) }, func() time.Duration { return bare.run(b, c.n, requests) })
		})
		b.Run(c.what+" beside commits", func(b *testing.B) {
			requests := a.written(b, c.ask)
			ratio(b, fmt.Sprintf("%s, p99 of one client beside 100 commits/s, to that without", c.what), 3,
				func() (p99 time.Duration) {
					beside(b, ours, func() { p99 = ours.waited(b, waits, requests) })
					return p99
				},
				func() time.Duration { return ours.waited(b, waits, requests) })
		})
	}
	b.Run("memory", func(b *testing.B) {
		peak, ok := server.peakMemory(b)
		if !ok {
			b.Skip("this system does not tell the peak memory of a process")
		}
		for b.Loop() { // there is one peak
		}
		record(b, figure{what: "peak memory of the server under both", value: float64(peak) / (1 << 20), limit: 64, unit: "%.0f MiB"}, "MiB")
	})
	for _, c := range []struct {
		what  string
		ask   question
		limit float64
	}{
		{fmt.Sprintf("fpe/def_keys of %d data keys", dataKeys), defKeys, 0.7},
		{"encryption/key", encryptionKey, 0.8},
	} {
		b.Run(c.what, func(b *testing.B) {
			requests := a.written(b, c.ask)
			rate(b, fmt.Sprintf("%s, 16 clients, 100,000 keys", c.what), c.limit,
				func() time.Duration { return ours.run(b, releases, requests) }, func() time.Duration { return bare.run(b, releases, requests) })
		})
	}
}

// beside runs work while one client of the server has it commit 100 changes a second.
func beside(b *testing.B, l *load, work func()) {
	b.Helper()
	const client = clients - 1 // not the one that waits
	stop := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		tick := time.NewTicker(time.Second / 100)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			body := []byte(`{"description":"` + strconv.Itoa(i) + `"}`)
			if _, err := l.ask(client, "PATCH", fmt.Sprintf("/v1/keys/web-%06d", i%1000), body); err != nil {
				b.Error(err)
				return
			}
		}
	})
	work()
	close(stop)
	done.Wait()
}

// peakMemory is the most memory that the process had so far, where the system tells.
func (s server) peakMemory(b *testing.B) (bytes int64, ok bool) {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.Process.Pid))
	if err != nil {
		return 0, false
	}
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	var kib int64
	if _, err := fmt.Sscanf(rest, "%d kB", &kib); err != nil {
		b.Fatalf("the status of the process has no peak: %v", err)
	}
	return kib << 10, true
}
