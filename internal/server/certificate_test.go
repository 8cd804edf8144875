package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// files are a certificate and its key on the disk.
type files struct{ cert, key string }

// newFiles writes a certificate for 127.0.0.1.
func newFiles(t testing.TB) files {
	t.Helper()
	dir := t.TempDir()
	f := files{filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.key")}
	cert, key := drawPair(t, 1)
	f.write(t, f.cert, cert)
	f.write(t, f.key, key)
	return f
}

func (f files) write(t testing.TB, name string, text []byte) {
	t.Helper()
	if err := os.WriteFile(name, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// drawPair makes a certificate with a serial number, and its key, in PEM.
func drawPair(t testing.TB, serial int64) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "keyctl test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	text, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: text})
}

// shake connects and returns what was agreed on. The certificate is its own issuer, so nothing can vouch for it.
func (r *running) shake(config *tls.Config) (tls.ConnectionState, error) {
	config.InsecureSkipVerify = true
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", r.Address(), config)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer conn.Close()
	return conn.ConnectionState(), nil
}

// TestCertificateIsReadAgain renews a certificate in the ways it happens: whole, one file after the other, half-written,
// gone for a moment. What does not make a pair is never served.
func TestCertificateIsReadAgain(t *testing.T) {
	f := newFiles(t)
	var mu sync.Mutex
	now := time.Now()
	later := func() {
		mu.Lock()
		defer mu.Unlock()
		now = now.Add(lookEvery)
	}
	s := start(t, saying("ok"), func(o *Options, _ *limits) {
		o.CertFile, o.KeyFile = f.cert, f.key
		o.Now = func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			return now
		}
	})
	want := func(when string, serial int64) {
		t.Helper()
		state, err := s.shake(&tls.Config{})
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		if got := state.PeerCertificates[0].SerialNumber.Int64(); got != serial {
			t.Errorf("%s the certificate is number %d, want %d", when, got, serial)
		}
	}
	want("at first", 1)

	cert, key := drawPair(t, 22)
	f.write(t, f.cert, cert)
	f.write(t, f.key, key)
	want("in the same second", 1)
	later()
	want("a second later", 22)

	cert, key = drawPair(t, 333)
	f.write(t, f.cert, cert)
	later()
	want("with the certificate of another key", 22)
	f.write(t, f.key, key)
	later()
	want("once both are there", 333)

	cert, key = drawPair(t, 4444)
	f.write(t, f.cert, cert[:len(cert)/2])
	f.write(t, f.key, key)
	later()
	want("with half a certificate", 333)
	f.write(t, f.cert, cert)
	f.write(t, f.key, nil)
	later()
	want("with an empty key", 333)
	if err := os.Remove(f.key); err != nil {
		t.Fatal(err)
	}
	later()
	want("without a key", 333)
	f.write(t, f.key, key)
	later()
	want("once the renewal is done", 4444)

	if got := len(s.log.lines(t, "the changed certificate is not used")); got != 4 {
		t.Errorf("the log has %d lines about files that make no pair, want 4", got)
	}
	if got := len(s.log.lines(t, "the certificate was read again")); got != 3 {
		t.Errorf("the log has %d lines about new certificates, want 3", got)
	}
	if strings.Contains(s.log.String(), "PRIVATE") {
		t.Error("the log has a key")
	}
}

func TestR24_VersionsOfTLS(t *testing.T) {
	f := newFiles(t)
	s := start(t, saying("ok"), func(o *Options, _ *limits) { o.CertFile, o.KeyFile = f.cert, f.key })
	for version, good := range map[uint16]bool{tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		state, err := s.shake(&tls.Config{MinVersion: version, MaxVersion: version})
		if (err == nil) != good || good && state.Version != version {
			t.Errorf("%s: %v, want it to work: %t", tls.VersionName(version), err, good)
		}
	}
	// What is agreed on beside it: no HTTP/2, whose headers have no limit in time.
	if _, err := s.shake(&tls.Config{NextProtos: []string{"h2"}}); err == nil {
		t.Error("HTTP/2 alone was agreed on")
	}
	if state, err := s.shake(&tls.Config{NextProtos: []string{"h2", "http/1.1"}}); err != nil || state.NegotiatedProtocol != "http/1.1" {
		t.Errorf("agreed on %q, %v, want http/1.1", state.NegotiatedProtocol, err)
	}
	for _, suite := range append(tls.InsecureCipherSuites(), &tls.CipherSuite{ID: tls.TLS_RSA_WITH_AES_128_GCM_SHA256, Name: "TLS_RSA_WITH_AES_128_GCM_SHA256"}) {
		if _, err := s.shake(&tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{suite.ID}}); err == nil {
			t.Errorf("the weak cipher suite %s was agreed on", suite.Name)
		}
	}
	conn, err := net.Dial("tcp", s.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = conn.Write([]byte("GET / HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer CANARY\r\n\r\n"))
	answer := make([]byte, 1000)
	n, _ := conn.Read(answer)
	if text := string(answer[:n]); !strings.HasPrefix(text, "HTTP/1.0 400 ") || strings.Contains(text, "CANARY") {
		t.Errorf("plain HTTP is answered %q", text)
	}
	if strings.Contains(s.log.String(), "CANARY") {
		t.Errorf("the log repeats what came over plain HTTP: %s", s.log)
	}
}
