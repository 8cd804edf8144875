//go:build unix

package cluster

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
)

// proxy stands between a server and PostgreSQL and cuts connections: at a random byte of either direction, or around a
// COMMIT, which it knows from the messages of the protocol (PostgreSQL manual, chapter "Frontend/Backend Protocol").
type proxy struct {
	listener net.Listener
	target   string
	cutting  atomic.Bool
	all      sync.WaitGroup

	mu   sync.Mutex
	open map[net.Conn]bool
	cuts map[string]int // by where
}

// newProxy listens for the rest of the test.
func newProxy(t *testing.T, target string) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: listener, target: target, open: map[net.Conn]bool{}, cuts: map[string]int{}}
	p.all.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			p.all.Go(func() { p.carry(client) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		p.cut("the end")
		p.all.Wait()
	})
	return p
}

func (p *proxy) address() string { return p.listener.Addr().String() }

// cut cuts every connection, as far as it came.
func (p *proxy) cut(where string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.open {
		_ = c.Close()
	}
	if len(p.open) > 0 {
		p.cuts[where]++
	}
}

func (p *proxy) noteCut(where string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cuts[where]++
}

// missing are the places where nothing was cut yet.
func (p *proxy) missing() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	places := []string{"before COMMIT", "in the answer to COMMIT", "on the way to PostgreSQL", "on the way from PostgreSQL"}
	return slices.DeleteFunc(places, func(place string) bool { return p.cuts[place] > 0 })
}

// plan is what becomes of one connection.
type plan struct {
	up, down int // after so many bytes of what goes to PostgreSQL, or comes from it; negative: never

	commits int // before the last of so many COMMITs is passed on, or after; negative: never
	passed  bool
	answer  int // of the answer to that so many bytes are passed on
}

// draw makes a plan.
func draw() plan {
	d := plan{-1, -1, -1, false, 0}
	switch rand.IntN(4) {
	case 0:
		d.up = rand.IntN(20_000)
	case 1:
		d.down = rand.IntN(20_000)
	default:
		d.commits, d.passed, d.answer = 1+rand.IntN(6), rand.IntN(4) > 0, rand.IntN(24)
	}
	return d
}

var errCut = errors.New("cut on purpose")

// carry carries one connection to its end, which is the end of both directions.
func (p *proxy) carry(client net.Conn) {
	defer client.Close()
	backend, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer backend.Close()
	d := plan{-1, -1, -1, false, 0}
	if p.cutting.Load() {
		d = draw()
	}
	p.mu.Lock()
	p.open[client], p.open[backend] = true, true
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.open, client)
		delete(p.open, backend)
	}()
	committed := make(chan struct{})
	ended := make(chan error, 2)
	go func() { ended <- p.upward(client, backend, d, committed) }()
	go func() { ended <- p.downward(backend, client, d, committed) }()
	<-ended
	_ = client.Close()
	_ = backend.Close()
	<-ended
}

// upward passes on what goes to PostgreSQL, message by message.
func (p *proxy) upward(from io.Reader, to io.Writer, d plan, committed chan struct{}) error {
	left, statement := d.up, []byte(nil)
	for first := true; ; first = false {
		message, err := readMessage(from, first)
		if err != nil {
			return err
		}
		if !first && message[0] == 'P' { // Parse: the name of a statement and its text
			if name, text, ok := bytes.Cut(message[5:], []byte{0}); ok && bytes.HasPrefix(text, []byte("COMMIT\x00")) {
				statement = name
			}
		}
		if !first && message[0] == 'B' && statement != nil { // Bind: a portal and the name of its statement
			if _, name, ok := bytes.Cut(message[5:], []byte{0}); ok && bytes.HasPrefix(name, append(bytes.Clone(statement), 0)) {
				if d.commits--; d.commits == 0 {
					if !d.passed {
						p.noteCut("before COMMIT")
						return errCut
					}
					close(committed)
				}
			}
		}
		if left >= 0 && left < len(message) {
			_, _ = to.Write(message[:left])
			p.noteCut("on the way to PostgreSQL")
			return errCut
		}
		if left >= 0 {
			left -= len(message)
		}
		if _, err := to.Write(message); err != nil {
			return err
		}
	}
}

// readMessage reads one message; the first one of a connection has no type.
func readMessage(from io.Reader, first bool) ([]byte, error) {
	kind := 1
	if first {
		kind = 0
	}
	message := make([]byte, kind+4)
	if _, err := io.ReadFull(from, message); err != nil {
		return nil, err
	}
	length := int(binary.BigEndian.Uint32(message[kind:]))
	if length < 4 || length > 1<<24 {
		return nil, errors.New("no message")
	}
	message = append(message, make([]byte, length-4)...)
	_, err := io.ReadFull(from, message[kind+4:])
	return message, err
}

// downward passes on what comes from PostgreSQL.
func (p *proxy) downward(from io.Reader, to io.Writer, d plan, committed chan struct{}) error {
	left, where, some := d.down, "on the way from PostgreSQL", make([]byte, 4096)
	for {
		n, err := from.Read(some)
		if err != nil {
			return err
		}
		select {
		case <-committed: // the answer to it is what comes now
			if left < 0 {
				left, where = d.answer, "in the answer to COMMIT"
			}
		default:
		}
		if left >= 0 && left < n {
			_, _ = to.Write(some[:left])
			p.noteCut(where)
			return errCut
		}
		if left >= 0 {
			left -= n
		}
		if _, err := to.Write(some[:n]); err != nil {
			return err
		}
	}
}
