package bench

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	crand "crypto/rand"

	"keyctl/internal/credential"
)

// clients is how many clients ask a server at once. Each keeps its connection.
const clients = 16

// load asks one server. It takes as little of the machine as a client can: what is compared are the servers.
type load struct {
	conns [clients]net.Conn
	ins   [clients]*bufio.Reader
	head  string // of every request
}

// newLoad connects to a server at an address such as http://127.0.0.1:8420.
func newLoad(b *testing.B, address, token string) *load {
	b.Helper()
	host := strings.TrimPrefix(address, "http://")
	l := &load{head: "Host: " + host + "\r\nAuthorization: Bearer " + token + "\r\n"}
	for i := range l.conns {
		conn, err := net.Dial("tcp", host)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = conn.Close() })
		l.conns[i], l.ins[i] = conn, bufio.NewReader(conn)
	}
	return l
}

// ask sends a client's request and reads the answer.
func (l *load) ask(client int, method, path string, body []byte) ([]byte, error) {
	var request bytes.Buffer
	fmt.Fprintf(&request, "%s %s HTTP/1.1\r\n%s", method, path, l.head)
	if body != nil {
		fmt.Fprintf(&request, "Content-Type: application/json\r\nContent-Length: %d\r\n", len(body))
	}
	request.WriteString("\r\n")
	request.Write(body)
	answer, err := l.send(client, request.Bytes())
	if err != nil {
		err = fmt.Errorf("%s %s: %w", method, path, err)
	}
	return answer, err
}

// send sends a request as it stands and reads the answer.
func (l *load) send(client int, request []byte) ([]byte, error) {
	if _, err := l.conns[client].Write(request); err != nil {
		return nil, err
	}
	response, err := http.ReadResponse(l.ins[client], nil)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode/100 != 2 {
		err = fmt.Errorf("%s: %s", response.Status, answer)
	}
	return answer, err
}

// all has every client do a part of the work at once, and returns how long that took.
func (l *load) all(b *testing.B, work func(client int) error) time.Duration {
	b.Helper()
	var done sync.WaitGroup
	var errs [clients]error
	begun := time.Now()
	for i := range clients {
		done.Go(func() { errs[i] = work(i) })
	}
	done.Wait()
	took := time.Since(begun)
	for _, err := range errs {
		if err != nil {
			b.Fatal(err)
		}
	}
	return took
}

// show has the clients show n keys of the first thousand.
func (l *load) show(b *testing.B, n int) time.Duration {
	b.Helper()
	return l.all(b, func(client int) error {
		for i := range n / clients {
			if _, err := l.ask(client, "GET", fmt.Sprintf("/v1/keys/web-%06d", (client*61+i*7)%1000), nil); err != nil {
				return err
			}
		}
		return nil
	})
}

// newKey is a key to create, with the request for it.
type newKey struct {
	credential.Credential
	request []byte
}

// draw draws keys to create. All have the same key pair: to make another for each would take minutes, and no server can tell.
func draw(b *testing.B, pair credential.KeyPair, n int) []newKey {
	b.Helper()
	drawn := make([]newKey, n)
	for i := range drawn {
		cred, err := credential.Draw(crand.Reader)
		if err != nil {
			b.Fatal(err)
		}
		request, err := json.Marshal(map[string]any{"name": "new-" + cred.AccessKeyID[2:], "credential": map[string]any{
			"access_key_id": cred.AccessKeyID, "secret_signing_key": cred.SigningKey.Reveal(),
			"public_key": pair.PublicKey, "encrypted_private_key": pair.PrivateKeyPEM,
		}})
		if err != nil {
			b.Fatal(err)
		}
		drawn[i] = newKey{cred, request}
	}
	return drawn
}

// create creates a key and returns how long that took.
func (l *load) create(client int, k newKey) (keyID string, challenge []byte, took time.Duration, err error) {
	begun := time.Now()
	answer, err := l.ask(client, "POST", "/v1/keys", k.request)
	took = time.Since(begun)
	var pending struct {
		KeyID     string `json:"key_id"`
		Challenge []byte `json:"challenge"`
	}
	if err == nil {
		err = json.Unmarshal(answer, &pending)
	}
	return pending.KeyID, pending.Challenge, took, err
}

// issue has the clients create keys and prove that they have them.
func (l *load) issue(b *testing.B, drawn []newKey) time.Duration {
	b.Helper()
	return l.all(b, func(client int) error {
		for i := client; i < len(drawn); i += clients {
			k := drawn[i]
			keyID, challenge, _, err := l.create(client, k)
			if err != nil {
				return err
			}
			proof, err := json.Marshal(map[string]any{"proof": credential.Proof(k.SigningKey, keyID, k.AccessKeyID, challenge)})
			if err != nil {
				return err
			}
			if _, err := l.ask(client, "POST", "/v1/credentials/"+k.AccessKeyID+"/prove", proof); err != nil {
				return err
			}
		}
		return nil
	})
}
