package httpapi_test

import (
	"bufio"
	"bytes"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"keyctl/internal/keys/keystest"
)

// FuzzRequest sends bytes to a server as they are. Whatever they are, it answers with a request's failure or what was asked
// for, or not at all; no handler breaks off, and what could be a secret does not come back. TOKEN stands for a valid token.
func FuzzRequest(f *testing.F) {
	const authorized = " HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer TOKEN\r\n"
	for _, seed := range []string{
		"GET /v1/whoami" + authorized + "\r\n", "GET /v1/keys?limit=3&state=active&label=a%3Db" + authorized + "\r\n", "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n",
		"POST /v1/verify" + authorized + "Content-Type: application/json\r\nContent-Length: 16\r\n\r\n{\"key\":\"web-01\"}",
		"POST /v1/operators" + authorized + "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n1a\r\n{\"name\":\"ann\",\"role\":\"ci\"}\r\n0\r\n\r\n",
		"PATCH /v1/keys/web-01" + authorized + "Content-Type: application/json\r\nContent-Length: 24\r\n\r\n{\"ip_ranges\":[\"::1/64\"]}", "DELETE /v1/keys/..%2f" + authorized + "\r\n",
		"GET /v1/audit/records?since=2026-01-01T00:00:00Z&cursor=kct_0123456789abcdef0123456789" + authorized + "\r\n", "OPTIONS * HTTP/1.1\r\n\r\n", "\x16\x03\x01", "GET /v1/keys/%00\xff" + authorized + "X: \x00\r\n\r\n",
		"POST /v1/keys/check" + authorized + "Content-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: 15\r\n\r\n{\"requests\":[]}", "GET / HTTP/1.0\r\n\r\nGET /docs HTTP/1.1\r\nHost: h\r\n\r\n",
	} {
		f.Add([]byte(seed))
	}
	s := newServed(f, keystest.NewClock().Env(), nil)
	token := []byte(s.token(f, "").Reveal())
	read := 0 // of the log
	f.Fuzz(func(t *testing.T, data []byte) {
		if bytes.Contains(data, []byte("/revoke")) || bytes.Contains(data, []byte("/disable")) {
			return // the token would let nobody in afterwards
		}
		request := bytes.ReplaceAll(data, []byte("TOKEN"), token)
		conn, err := net.Dial("tcp", s.address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		tcp, _ := conn.(*net.TCPConn)
		_ = tcp.SetLinger(0) // leaves no port behind that waits
		_ = conn.SetDeadline(time.Now().Add(patience))
		go func() {
			_, _ = conn.Write(request)
			_ = tcp.CloseWrite()
		}()
		for reader := bufio.NewReader(conn); ; {
			response, err := http.ReadResponse(reader, nil)
			if err != nil {
				break
			}
			var body bytes.Buffer
			_, err = body.ReadFrom(response.Body)
			ownProtocol := response.StatusCode == http.StatusNotImplemented || response.StatusCode == http.StatusHTTPVersionNotSupported
			if response.StatusCode >= 500 && !(ownProtocol && response.Header.Get("Keyctl-Api") == "") {
				t.Fatalf("%q is answered %d %s", data, response.StatusCode, body.String())
			}
			if response.StatusCode >= 400 && bytes.Contains(body.Bytes(), token) {
				t.Fatalf("%q is answered with the token", data)
			}
			if err != nil {
				break // HEAD, whose answer says how long the body would be
			}
		}
		log, err := os.ReadFile(s.logFile)
		if err != nil {
			t.Fatal(err)
		}
		fresh := string(log[read:])
		read = len(log)
		if strings.Contains(fresh, "broke off") || strings.Contains(fresh, `"level":"ERROR"`) || strings.Contains(fresh, string(token)) {
			t.Fatalf("%q leaves in the log: %s", data, fresh)
		}
	})
}

// TestClientGivesUp half-closes connections, which ends their requests at any moment: that is no defect of the server.
func TestClientGivesUp(t *testing.T) {
	s := newServed(t, keystest.NewClock().Env(), nil)
	request := raw("GET", "/v1/keys", nil, "Authorization: Bearer "+s.token(t, "").Reveal(), "Connection: close")
	for range 50 {
		conn, err := net.Dial("tcp", s.address)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(patience))
		_, _ = conn.Write(request)
		tcp, _ := conn.(*net.TCPConn)
		_ = tcp.CloseWrite()
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || response.StatusCode != 200 && response.StatusCode != 499 {
			t.Fatalf("answered %+v, %v; want 200 or 499", response, err)
		}
		_ = conn.Close()
	}
	if strings.Contains(s.log(t), `"internal"`) {
		t.Errorf("the log speaks of defects: %s", s.log(t))
	}
}
