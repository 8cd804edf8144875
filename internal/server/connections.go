package server

import (
	"container/list"
	"net"
	"net/http"
	"sync"
)

// connections keeps the number of connections within a limit, so that they cannot take all memory. Beyond it the one that
// has been without a request for the longest time is closed, which may be the newest: who speaks is heard, and who only
// holds on makes room.
type connections struct {
	limit int

	mu    sync.Mutex
	open  map[net.Conn]*list.Element // its place in quiet; nil while it has a request
	quiet *list.List                 // of net.Conn, from the one that is without a request for the longest time
}

func newConnections(limit int) *connections {
	return &connections{limit: limit, open: map[net.Conn]*list.Element{}, quiet: list.New()}
}

// changed is http.Server.ConnState.
func (c *connections) changed(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	place, known := c.open[conn]
	if !known && state != http.StateNew {
		return // closed below
	}
	if place != nil {
		c.quiet.Remove(place)
	}
	switch state {
	case http.StateNew, http.StateIdle:
		c.open[conn] = c.quiet.PushBack(conn)
	case http.StateActive:
		c.open[conn] = nil
	default:
		delete(c.open, conn)
	}
	for len(c.open) > c.limit && c.quiet.Len() > 0 {
		oldest, _ := c.quiet.Remove(c.quiet.Front()).(net.Conn)
		delete(c.open, oldest)
		go oldest.Close() // over TLS it says goodbye first, to somebody who may not listen
	}
}
