package server

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// TestPanics lets handlers break off before and within an answer: the one is a 500, the other is cut off, and neither ends
// the server or shows what was wrong.
func TestPanics(t *testing.T) {
	const secret = "kct_000000000000" + "0000000000000000000000000000000000000000000" + "000000"
	s := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/late" {
			_, _ = io.WriteString(w, strings.Repeat("x", 100_000))
		}
		panic("with " + secret)
	}), nil)
	response, body := s.get(t, "/early")
	if response.StatusCode != 500 || !strings.HasPrefix(body, "refused internal req_") || strings.Contains(body, "with") {
		t.Errorf("a handler that broke off answers %d %q", response.StatusCode, body)
	}
	late, err := http.Get(s.url + "/late")
	if err == nil {
		_, err = io.ReadAll(late.Body)
		late.Body.Close()
	}
	if err == nil {
		t.Error("half an answer looks like a whole one")
	}
	if response, _ := s.get(t, "/healthz"); response.StatusCode != 200 {
		t.Errorf("afterwards /healthz = %d", response.StatusCode)
	}
	broken := s.waitForLines(t, "a handler broke off", 2)
	for _, line := range broken {
		if line["request_id"] == "" || !strings.Contains(fmt.Sprint(line["stack"]), "handler_test.go") || line["problem"] != "with kct_[redacted]" {
			t.Errorf("the log says %v", line)
		}
	}
	if strings.Contains(s.log.String(), secret) {
		t.Error("the log has the secret that was in the panic")
	}
	if lines := s.waitForLines(t, "request", 3); lines[0]["status"] != 500.0 || lines[0]["request_id"] != broken[0]["request_id"] {
		t.Errorf("the request's line is %v", lines[0])
	}
}

func TestR18_OddPaths(t *testing.T) {
	s := start(t, saying("reached"), nil)
	for path, reached := range map[string]bool{
		"/": true, "/v1/keys": true, "/v1/keys/a.b": true, "/v1/keys/...": true, "/v1/keys/%20": true, "/v1/keys/%25": true, "/v1/keys/a%3Ab": true,
		"/v1//keys": false, "//v1/keys": false, "/v1/keys/": false, "/.": false, "/..": false, "/v1/./keys": false, "/v1/../v1/keys": false,
		"/v1/keys/..": false, "/v1/keys/a%2Fb": false, "/v1/keys/a%2fb": false, "/v1/%2e%2e/keys": false, "/v1/%2E/keys": false, "/v1/keys/a%2eb": false,
		`/v1/keys/a\b`: false, "/v1/keys/a%5Cb": true, "/v1/keys/%252f": true,
	} {
		conn, err := net.Dial("tcp", s.Address())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", path)
		answer, _ := io.ReadAll(conn)
		conn.Close()
		status, _, _ := strings.Cut(string(answer), "\r\n")
		if got := strings.HasSuffix(string(answer), "reached"); got != reached || !reached && !strings.HasPrefix(status, "HTTP/1.1 404 ") {
			t.Errorf("%s: %q, reached the handler: %t, want %t", path, status, got, reached)
		}
	}
}
