package server

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// dial opens a connection that ends with the test.
func (r *running) dial(t testing.TB) net.Conn {
	t.Helper()
	conn, err := net.DialTimeout("tcp", r.Address(), patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	return conn
}

// closedBy waits until the server has closed a connection, and returns what it said before.
func closedBy(t testing.TB, conn net.Conn) string {
	t.Helper()
	said, err := io.ReadAll(conn)
	if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
		t.Fatalf("the server keeps the connection, having said %q", said)
	}
	return string(said)
}

func TestR17_UsualLimits(t *testing.T) {
	want := limits{12 << 10, 5 * time.Second, 10 * time.Second, time.Minute, 2 * time.Minute, 10 * time.Second, 1500}
	if usual != want {
		t.Errorf("the limits are %+v, want %+v", usual, want)
	}
}

// TestR17_SlowConnections opens each kind of connection that is never done. Each is closed at its limit, and meanwhile
// others are served.
func TestR17_SlowConnections(t *testing.T) {
	const limit = 200 * time.Millisecond
	s := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n, err)
	}), func(_ *Options, l *limits) { l.readHeader, l.read, l.idle, l.write = limit, 2*limit, limit, 10*limit })
	const head = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n"
	for name, c := range map[string]struct {
		first string
		drip  string // again and again
	}{
		"nothing":            {"", ""},
		"half a line":        {"GET / HT", ""},
		"headers in drips":   {"GET / HTTP/1.1\r\nHost: h\r\n", "X-A: b\r\n"},
		"a header in drips":  {"GET / HTTP/1.1\r\nHost: h\r\nX-A: ", "a"},
		"no body":            {head + "\r\n", ""},
		"a body in drips":    {head + "\r\n", "a"},
		"chunks in drips":    {"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\na\r\n"},
		"a chunk's length":   {"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", "0"},
		"continue, no body":  {head + "Expect: 100-continue\r\n\r\n", ""},
		"idle after request": {"GET / HTTP/1.1\r\nHost: h\r\n\r\n", ""},
		"the next in drips":  {"GET / HTTP/1.1\r\nHost: h\r\n\r\nGET / HTTP/1.1\r\n", "X-A: b\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := s.dial(t)
			_, _ = io.WriteString(conn, c.first)
			done := make(chan bool)
			go func() {
				defer close(done)
				for c.drip != "" {
					time.Sleep(limit / 20)
					if _, err := io.WriteString(conn, c.drip); err != nil {
						return
					}
				}
			}()
			for range 5 {
				if response, body := s.get(t, "/healthz"); response.StatusCode != 200 || body != "ok\n" {
					t.Errorf("another client gets %d %q", response.StatusCode, body)
				}
			}
			closedBy(t, conn)
			conn.Close()
			<-done
		})
	}
}

// TestR17_SlowReader lets a client ask and not read: the answer is given up, not kept for ever.
func TestR17_SlowReader(t *testing.T) {
	gaveUp := make(chan error, 1)
	s := start(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for chunk := make([]byte, 1<<20); ; {
			if _, err := w.Write(chunk); err != nil {
				gaveUp <- err
				return
			}
		}
	}), func(_ *Options, l *limits) { l.write = 200 * time.Millisecond })
	conn := s.dial(t)
	_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	select {
	case <-gaveUp:
	case <-time.After(patience):
		t.Error("the handler still writes to who does not read")
	}
}

func TestR17_HeadersAreBounded(t *testing.T) {
	s := start(t, saying("ok"), nil)
	request := func(size int) string {
		begin, end := "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nX-A: ", "\r\n\r\n"
		return begin + strings.Repeat("a", size-len(begin)-len(end)) + end
	}
	for size, want := range map[int]string{1000: "200", 15 << 10: "200", 16 << 10: "200", 17 << 10: "431", 60 << 10: "431"} {
		conn := s.dial(t)
		go func() { _, _ = io.WriteString(conn, request(size)) }() // the server may not read all of it
		answer := make([]byte, 12)
		if _, err := io.ReadFull(conn, answer); err != nil || string(answer) != "HTTP/1.1 "+want {
			t.Errorf("%d bytes of headers are answered %q, %v, want %s", size, answer, err, want)
		}
	}
}

// TestConnectionsAreBounded holds more quiet connections open than there may be. The oldest make room, those that speak are
// heard, and one that has a request is left alone.
func TestConnectionsAreBounded(t *testing.T) {
	const limit, more = 20, 200
	entered, release := make(chan bool, 1), make(chan bool)
	s := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/long" {
			entered <- true
			<-release
		}
		_, _ = io.WriteString(w, "ok")
	}), func(_ *Options, l *limits) { l.connections = limit })
	busy := s.dial(t)
	_, _ = io.WriteString(busy, "GET /long HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
	<-entered
	var quiet []net.Conn
	for i := range more {
		conn := s.dial(t)
		if i%2 == 0 { // half of them have had a request
			_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
			response, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil || response.StatusCode != 200 {
				t.Fatalf("connection %d is not served: %v", i, err)
			}
			_, _ = io.Copy(io.Discard, response.Body)
		}
		quiet = append(quiet, conn)
	}
	// Which of them are the quietest depends on when the server came to see them, how many are left does not.
	open := func() (n int) {
		for _, conn := range quiet {
			_ = conn.SetReadDeadline(time.Now().Add(time.Millisecond))
			if _, err := conn.Read(make([]byte, 1)); err != nil && strings.Contains(err.Error(), "timeout") {
				n++
			}
		}
		return n
	}
	left := open()
	for deadline := time.Now().Add(patience); left > limit && time.Now().Before(deadline); left = open() {
		time.Sleep(10 * time.Millisecond)
	}
	if left < limit/2 || left > limit {
		t.Errorf("%d quiet connections are left, want about %d", left, limit)
	}
	if response, _ := s.get(t, "/healthz"); response.StatusCode != 200 {
		t.Errorf("among quiet connections /healthz = %d", response.StatusCode)
	}
	close(release)
	if answer := closedBy(t, busy); !strings.HasPrefix(answer, "HTTP/1.1 200 ") {
		t.Errorf("the connection with a request was answered %q", answer)
	}
}
