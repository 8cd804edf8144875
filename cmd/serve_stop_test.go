//go:build unix

package cmd

import (
	"bufio"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"keyctl/internal/credential"
	"keyctl/internal/keys"
)

// TestR50_ServerStops ends a server while a request is half sent: it takes no new ones, answers that one, and ends well.
func TestR50_ServerStops(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		t.Run(signal.String(), func(t *testing.T) {
			s := &servedTorture{t: t, w: newWorld(t)}
			s.w.ok("init")
			c := s.start("127.0.0.1:0")
			request, err := net.Dial("tcp", s.address)
			if err != nil {
				t.Fatal(err)
			}
			defer request.Close()
			if signal == syscall.SIGTERM { // somebody who connected and says nothing holds it up for five seconds
				idle, err := net.Dial("tcp", s.address)
				if err != nil {
					t.Fatal(err)
				}
				defer idle.Close()
			}
			const body = `{"requests":[{"name":"web-01"}]}`
			fmt.Fprintf(request, "POST /v1/keys/check HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
				s.ownersToken().Reveal(), len(body), body[:10])
			s.awaitRequest()
			if err := c.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			s.awaitRefusal()
			_, _ = io.WriteString(request, body[10:])
			answer, err := http.ReadResponse(bufio.NewReader(request), nil)
			if err != nil || answer.StatusCode != http.StatusOK {
				t.Errorf("the running request was answered with %v, %v", answer, err)
			}
			if err := c.Wait(); err != nil {
				t.Errorf("the server ended with %v:\n%s", err, s.words)
			}
			if log := s.words.String(); !strings.HasSuffix(log, `"msg":"stopped"}`+"\n") {
				t.Errorf("the log ends otherwise than with the stop:\n%s", log)
			}
		})
	}
}

// ownersToken makes a token beside the server.
func (s *servedTorture) ownersToken() credential.Secret {
	s.t.Helper()
	owner, done := s.w.open(time.Now())
	defer done()
	token, err := credential.DrawOperatorToken(rand.Reader)
	if err == nil {
		_, err = owner.CreateToken(s.t.Context(), keys.NewToken{Token: token})
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return token
}

// awaitRequest waits until the server has begun a request beside the one that asks.
func (s *servedTorture) awaitRequest() {
	s.t.Helper()
	s.await("a request in flight", func() bool {
		answer, err := http.Get("http://" + s.address + "/metrics")
		if err != nil {
			return false
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		return err == nil && strings.Contains(string(text), "keyctl_http_requests_in_flight 2")
	})
}

// awaitRefusal waits until nobody listens any more.
func (s *servedTorture) awaitRefusal() {
	s.t.Helper()
	s.await("a refusal", func() bool {
		c, err := net.Dial("tcp", s.address)
		if err == nil {
			_ = c.Close()
		}
		return errors.Is(err, syscall.ECONNREFUSED)
	})
}

func (s *servedTorture) await(what string, is func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(hang); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("there is no %s after %v", what, hang)
		}
	}
}
