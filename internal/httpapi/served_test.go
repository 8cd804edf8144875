package httpapi_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"keyctl/internal/envelope"
	"keyctl/internal/httpapi"
	"keyctl/internal/keys"
	"keyctl/internal/server"
	"keyctl/internal/store"
)

// patience is how long something may take on a loaded machine.
const patience = 30 * time.Second

// served is what `keyctl serve` runs: a server with the API in it, on a store.
type served struct {
	*world
	address string // where it listens
	logFile string
	api     *httpapi.Server
}

// serve serves a store as cmd does; change may change the options.
func serve(t testing.TB, path string, master envelope.MasterKey, env keys.Env, change func(*server.Options)) *served {
	t.Helper()
	db, err := store.Open(t.Context(), path, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	owner, err := keys.Open(t.Context(), db, master, env)
	if err != nil {
		t.Fatal(err)
	}
	logFile, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewJSONHandler(logFile, nil))
	api := httpapi.NewServer(httpapi.ServerOptions{
		Door: httpapi.NewStoreDoor(owner, env.Now, log), Version: "1.2.3", Annotate: server.Annotate,
		Origin: func(ctx context.Context) keys.Origin {
			address, id := server.Origin(ctx)
			return keys.Origin{Address: address, RequestID: id}
		},
	})
	options := server.Options{
		Listen: "127.0.0.1:0", Handler: api, Ready: owner.Writable, Log: log, Now: env.Now, Rand: rand.Reader,
		Refuse: func(w http.ResponseWriter, r *http.Request, status int, err error) {
			_, requestID := server.Origin(r.Context())
			httpapi.NewFailure(err, requestID).WithStatus(status).Write(w)
		},
	}
	if change != nil {
		change(&options)
	}
	s, err := server.New(options)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Serve() = %v", err)
		}
		_ = db.Close()
		_ = logFile.Close()
	})
	return &served{&world{owner, db, "http://" + s.Address(), api}, s.Address(), logFile.Name(), api}
}

// newServed is serve on a new store.
func newServed(t testing.TB, env keys.Env, change func(*server.Options)) *served {
	t.Helper()
	path, master := newStore(t, env)
	return serve(t, path, master, env, change)
}

// log is what the server has written to its log.
func (s *served) log(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile(s.logFile)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// page is the answer to a request for a path without a token.
func (s *served) page(t testing.TB, path string) string {
	t.Helper()
	response, err := http.Get(s.url + path)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// wire sends requests byte by byte as they are given. It keeps its connection as long as the server does.
type wire struct {
	t       testing.TB
	address string
	conn    net.Conn
	reader  *bufio.Reader
}

// message is an answer on the wire.
type message struct {
	status int
	header http.Header
	body   string
}

// exchange sends a request and reads the answer to it. A connection that was kept may have been closed meanwhile.
func (w *wire) exchange(request []byte) message {
	w.t.Helper()
	kept := w.conn != nil
	answer, err := w.try(request)
	if err != nil && kept {
		answer, err = w.try(request)
	}
	if err != nil {
		w.t.Fatalf("no answer to %.300q: %v", request, err)
	}
	return answer
}

func (w *wire) try(request []byte) (message, error) {
	if w.conn == nil {
		conn, err := net.DialTimeout("tcp", w.address, patience)
		if err != nil {
			return message{}, err
		}
		w.conn, w.reader = conn, bufio.NewReader(conn)
	}
	_ = w.conn.SetDeadline(time.Now().Add(patience))
	written := make(chan bool)
	go func() { // a server that has heard enough answers before it has read all
		defer close(written)
		_, _ = w.conn.Write(request)
	}()
	method, _, _ := strings.Cut(string(request[:min(len(request), 20)]), " ")
	response, err := http.ReadResponse(w.reader, &http.Request{Method: method})
	if err != nil {
		w.hangUp()
		<-written
		return message{}, err
	}
	body, err := io.ReadAll(response.Body)
	if response.Close || err != nil {
		w.hangUp()
	}
	<-written
	return message{response.StatusCode, response.Header, string(body)}, err
}

// hangUp ends the connection; the next request makes another.
func (w *wire) hangUp() {
	if w.conn != nil {
		_ = w.conn.Close()
		w.conn = nil
	}
}

// raw writes a request. Headers are whole lines.
func raw(method, target string, body []byte, headers ...string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: keys.example.com\r\n", method, target)
	for _, h := range headers {
		b.WriteString(h + "\r\n")
	}
	if body != nil {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(body))
	}
	b.WriteString("\r\n")
	b.Write(body)
	return b.Bytes()
}
