package httpapi_test

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// whole is a stream that nobody cuts.
const whole = -1

// cut says after how many bytes a connection breaks: of what the client sends, or of what the server answers. A stream is
// cut when there is a byte more than that, so what is cut away was certainly sent.
type cut struct{ request, answer int }

// faultProxy stands between a client and a server, and breaks the first connection that is made to it. Later ones are
// left alone.
type faultProxy struct {
	server   string
	listener net.Listener
	first    cut
	wires    sync.WaitGroup

	connections, requested, answered atomic.Int64 // how many, and their bytes
}

func newFaultProxy(t testing.TB, server string, first cut) *faultProxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &faultProxy{server: server, listener: listener, first: first}
	p.wires.Go(p.accept)
	return p
}

func (p *faultProxy) url() string { return "http://" + p.listener.Addr().String() }

// close ends the proxy once all connections through it have ended.
func (p *faultProxy) close() {
	_ = p.listener.Close()
	p.wires.Wait()
}

func (p *faultProxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		where := cut{whole, whole}
		if p.connections.Add(1) == 1 {
			where = p.first
		}
		p.wires.Go(func() { p.carry(client, where) })
	}
}

// carry connects a client with the server until either ends, or the cut is reached. A cut ends the connection as a
// machine that goes down does, for both sides at once.
func (p *faultProxy) carry(client net.Conn, where cut) {
	defer client.Close()
	server, err := net.DialTimeout("tcp", p.server, 5*time.Second)
	if err != nil {
		return
	}
	defer server.Close()
	var ends sync.WaitGroup
	way := func(to, from net.Conn, limit int, count *atomic.Int64) {
		n := pump(to, from, limit)
		count.Add(n)
		_ = client.Close()
		_ = server.Close()
	}
	ends.Go(func() { way(server, client, where.request, &p.requested) })
	ends.Go(func() { way(client, server, where.answer, &p.answered) })
	ends.Wait()
}

// pump copies limit bytes and returns when there is one more to copy, or the stream ends.
func pump(to io.Writer, from io.Reader, limit int) int64 {
	if limit == whole {
		n, _ := io.Copy(to, from)
		return n
	}
	n, err := io.CopyN(to, from, int64(limit))
	if err == nil {
		_, _ = io.ReadFull(from, make([]byte, 1))
	}
	return n
}
