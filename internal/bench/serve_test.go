package bench

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	crand "crypto/rand"

	"keyctl/internal/credential"
	"keyctl/internal/keys"
)

// server is a server that runs as a process of its own.
type server struct {
	*exec.Cmd
	address string
}

// start starts a server and waits until its output, which goes to a file as a service's does, says where it listens.
func start(b *testing.B, c command, addressIn func(output []byte) string) server {
	b.Helper()
	name := filepath.Join(b.TempDir(), "output")
	output, err := os.Create(name)
	if err != nil {
		b.Fatal(err)
	}
	defer output.Close()
	s := server{Cmd: exec.Command(c.path, c.args...)}
	s.Env, s.Stdout, s.Stderr = c.env, output, output
	if err := s.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(s.kill)
	for begun := time.Now(); s.address == ""; time.Sleep(time.Millisecond) {
		text, err := os.ReadFile(name)
		if err != nil || time.Since(begun) > time.Minute {
			b.Fatalf("%q does not say where it listens: %v\n%s", c.args, err, text)
		}
		s.address = addressIn(text)
	}
	return s
}

// kill ends the server at once, as a crash does; a second time is a no-op.
func (s server) kill() {
	_ = s.Process.Kill()
	_ = s.Wait()
}

// serve starts `keyctl serve` on the store of a home.
func (h home) serve(b *testing.B, flags ...string) server {
	b.Helper()
	args := append([]string{"serve", "--listen", "127.0.0.1:0"}, flags...)
	return start(b, command{program(b, "keyctl"), args, h.env()}, func(output []byte) string {
		for line := range bytes.Lines(output) {
			var said struct{ Msg, Address string }
			if err := json.Unmarshal(line, &said); err == nil && said.Msg == "serving" {
				return said.Address
			}
		}
		return ""
	})
}

// serveBare starts the bare program on a store.
func serveBare(b *testing.B, store string) server {
	b.Helper()
	return start(b, command{program(b, "keyctl/internal/bench/bare/serve"), []string{store}, nil}, addressLine)
}

// addressLine is the first line of what a server that is not keyctl prints.
func addressLine(output []byte) string {
	line, _, found := bytes.Cut(output, []byte("\n"))
	if !found || !bytes.HasPrefix(line, []byte("http://")) {
		return ""
	}
	return string(line)
}

// token makes a token of the home's owner.
func (h home) token(b *testing.B) string {
	b.Helper()
	token, err := credential.DrawOperatorToken(crand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := h.local.CreateToken(b.Context(), keys.NewToken{Token: token}); err != nil {
		b.Fatal(err)
	}
	return token.Reveal()
}

// engines are where a server's store can be.
var engines = []struct {
	name string
	new  func(*testing.B) (url string) // of an empty database; empty: a file
}{
	{"SQLite", func(*testing.B) string { return "" }},
	{"PostgreSQL", newDatabase},
}

// sides starts both servers, each on a store of its own with a thousand keys, and connects to them.
func sides(b *testing.B, newStore func(*testing.B) string) (ours, bare *load) {
	b.Helper()
	h, other := newHomeOn(b, newStore(b), 1000), newHomeOn(b, newStore(b), 1000)
	token := h.token(b)
	h.close(b)
	other.close(b)
	return newLoad(b, h.serve(b).address, token), newLoad(b, serveBare(b, other.store()).address, token)
}

// rate compares the throughput of two servers that do the same work: the figure is what is reached of the bare one's.
func rate(b *testing.B, what string, limit float64, ours, bare func() time.Duration) samples {
	b.Helper()
	keyctl, other := pairs(b, ours, bare)
	f := figure{what: what, keyctl: keyctl.median(), bare: other.median(), limit: limit, least: true, unit: "%.2f×"}
	f.value = float64(f.bare) / float64(f.keyctl)
	record(b, f, "of-bare")
	return keyctl
}

// shows and issues are how many keys a run shows and issues.
const (
	shows  = 2000
	issues = 320
)

// What OpenBao's AppRole does in memory, without a disk, for orientation.
const (
	baoCreate  = 1.07 // ms, median
	baoLookups = 763  // a second
)

// BenchmarkRatioShow compares `keyctl serve` showing one key to the holder of a token with a bare handler that selects it.
func BenchmarkRatioShow(b *testing.B) {
	for _, engine := range engines {
		b.Run(engine.name, func(b *testing.B) {
			ours, bare := sides(b, engine.new)
			took := rate(b, "show a key over HTTP, 16 clients, 2,000 requests, "+engine.name, 0.5,
				func() time.Duration { return ours.show(b, shows) }, func() time.Duration { return bare.show(b, shows) })
			record(b, figure{what: "the same, to OpenBao's lookups", value: shows / took.median().Seconds(), limit: baoLookups, least: true, unit: "%.0f/s"}, "shows/s")
		})
	}
}

// BenchmarkRatioIssue compares creating and proving keys with bare handlers that commit the same two transactions.
func BenchmarkRatioIssue(b *testing.B) {
	pair := newPair(b)
	for _, engine := range engines {
		b.Run(engine.name, func(b *testing.B) {
			ours, bare := sides(b, engine.new)
			side := func(l *load) func() time.Duration {
				return func() time.Duration { return l.issue(b, draw(b, pair, issues)) }
			}
			rate(b, "create and prove over HTTP, 16 writers, 320 keys, "+engine.name, 0.7, side(ours), side(bare))
		})
	}
}

func newPair(b *testing.B) credential.KeyPair {
	b.Helper()
	cred, err := credential.Draw(crand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	pair, err := credential.GenerateKeyPair(cred.CryptoAccessKey)
	if err != nil {
		b.Fatal(err)
	}
	return pair
}

// BenchmarkRatioRemote compares `keys list` of 50 keys of a server, over TLS on this machine, with the same of a local store.
func BenchmarkRatioRemote(b *testing.B) {
	h := newHome(b, 50)
	token := h.token(b)
	h.close(b)
	cert, key := certificate(b)
	s := h.serve(b, "--tls-cert", cert, "--tls-key", key)
	args := []string{"keys", "list", "-o", "json"}
	local := command{program(b, "keyctl"), args, h.env()}
	remote := command{local.path, args, append(home{dir: b.TempDir()}.env(),
		"KEYCTL_SERVER="+s.address, "KEYCTL_TOKEN="+token, "KEYCTL_CA_FILE="+cert)}
	ratio(b, "keys list of 50 keys over TLS, to local", 2,
		func() time.Duration { return remote.run(b) }, func() time.Duration { return local.run(b) })
}

// certificate makes a certificate for this machine that vouches for itself, and returns the files of it and of its key.
func certificate(b *testing.B) (certFile, keyFile string) {
	b.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bench"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	cert, err := x509.CreateCertificate(crand.Reader, template, template, key.Public(), key)
	if err != nil {
		b.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		b.Fatal(err)
	}
	dir := b.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			b.Fatal(err)
		}
		return path
	}
	return write("cert.pem", "CERTIFICATE", cert), write("key.pem", "PRIVATE KEY", private)
}

// BenchmarkCreate tells what one client waits for a key to be created, on the disk.
func BenchmarkCreate(b *testing.B) {
	h := newHome(b, 1000)
	token := h.token(b)
	h.close(b)
	l, pair := newLoad(b, h.serve(b).address, token), newPair(b)
	var took samples
	for b.Loop() {
		_, _, once, err := l.create(0, draw(b, pair, 1)[0])
		if err != nil {
			b.Fatal(err)
		}
		took = append(took, once)
	}
	f := figure{what: "POST /v1/keys, one client, to OpenBao's create", limit: baoCreate, unit: "%.2f ms"}
	f.value = float64(took.median().Microseconds()) / 1000
	record(b, f, "ms")
}

// BenchmarkR50 tells how soon a server of 100,000 keys serves again that was killed when it had just made some more.
func BenchmarkR50(b *testing.B) {
	h := newHome(b, 100_000)
	token := h.token(b)
	h.close(b)
	pair := newPair(b)
	var took samples
	for b.Loop() {
		s := h.serve(b)
		l := newLoad(b, s.address, token)
		l.issue(b, draw(b, pair, issues))
		s.kill()
		begun := time.Now()
		s = h.serve(b)
		ready, err := http.Get(s.address + "/readyz")
		took = append(took, time.Since(begun))
		if err != nil || ready.StatusCode != http.StatusOK {
			b.Fatalf("readyz after a crash: %v, %v", ready, err)
		}
		_ = ready.Body.Close()
		s.kill()
	}
	f := figure{what: "R50: start after a kill, 100,000 keys", keyctl: took.median(), limit: 2, unit: "%.2f s"}
	f.value = f.keyctl.Seconds()
	record(b, f, "s")
}
