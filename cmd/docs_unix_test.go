//go:build unix

package cmd_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"keyctl/internal/desktoptest"
	"keyctl/internal/keyringtest"
	"keyctl/internal/postgrestest"
)

func init() {
	onTerminal = (*reader).runOnTerminal
	atDesk = (*reader).sitDown
}

// sitDown gives the reader a keyring and a clipboard, where the page uses them.
func (r *reader) sitDown(uses func(words string) bool) {
	r.t.Helper()
	if uses(`--keyring|keyctl credentials|keyring:|secret-tool`) {
		r.env = append(r.env, keyringtest.New(r.t).Env())
	}
	if uses(`--copy\b|xclip`) {
		desktoptest.Tool(r.t, "xclip")
		r.env = desktoptest.X11(r.t).Environ(r.env)
	}
	if uses(`psql|pg_dump`) {
		r.startPostgres()
	}
}

// startPostgres starts the database server of a page. The reader is its superuser by way of its socket; the user keyctl gets
// in from the network, with TLS and a password, as the page has it.
func (r *reader) startPostgres() {
	r.t.Helper()
	if err := postgrestest.Missing(); err != nil {
		leaveOut(r.t, "the page uses PostgreSQL: "+err.Error())
	}
	folder, err := os.MkdirTemp("", "pg-docs-")
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = os.RemoveAll(folder) })
	certificate, key := selfSigned(r.t, "localhost")
	hba := "local all test trust\nhostssl all keyctl samehost scram-sha-256\n"
	for name, content := range map[string]string{"tls.pem": certificate, "tls.key": key, "hba": hba} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o600); err != nil {
			r.t.Fatal(err)
		}
	}
	if err := postgrestest.Own(folder); err != nil {
		r.t.Fatal(err)
	}
	server := postgrestest.New(r.t, postgrestest.Options{TCP: true, Settings: []string{
		"ssl=on", "ssl_cert_file='" + folder + "/tls.pem'", "ssl_key_file='" + folder + "/tls.key'", "hba_file='" + folder + "/hba'",
	}})
	_, r.ports["5432"], _ = strings.Cut(server.Address(), ":")
	r.env = append(r.env, "PGHOST="+server.Socket(), "PGPORT="+r.ports["5432"], "PGUSER=test", "PGDATABASE=postgres")
	r.write(step{file: "/etc/keyctl/db-ca.pem", output: []string{certificate}})
}

// selfSigned makes a certificate for a host that nobody issued, and its key.
func selfSigned(t *testing.T, host string) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
}

// typed finds what a page shows behind a question: somebody typed it.
var typed = regexp.MustCompile(`^(.*(?:\[y/N\]|or a date|s left\)|to confirm): )(\S+)$`)

// runOnTerminal runs a command with a terminal of its own, and types what the page shows behind questions, each when it is
// asked. Whatever code the page shows, the one typed is the authenticator's next.
func (r *reader) runOnTerminal(command *exec.Cmd, shown []string) (screen string) {
	r.t.Helper()
	command.Env = append(command.Env, "NO_COLOR=1") // pages have none
	c, err := converse(command, 100)
	if err != nil {
		r.t.Fatal(err)
	}
	defer c.terminal.Close()
	codes := 0
	for _, line := range shown {
		m := typed.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		question := regexp.MustCompile(`(?m)^` + seconds.ReplaceAllString(regexp.QuoteMeta(m[1]), `\(\d+ s left\)`))
		if err := c.await(question); err != nil {
			r.t.Fatal(err)
		}
		answer := m[2]
		if strings.HasSuffix(m[1], "s left): ") {
			r.learnSeed(c.screen)
			answer = r.codeAfter(codes)
			codes++
		}
		if err := c.say(answer); err != nil {
			r.t.Fatal(err)
		}
	}
	if _, err := c.end(); err != nil {
		r.t.Fatal(err)
	}
	return c.screen
}

// seconds finds in a pattern how long a code is still good for.
var seconds = regexp.MustCompile(`\\\(\d+ s left\\\)`)
