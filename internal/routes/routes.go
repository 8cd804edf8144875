// Package routes is a table of routes that leaves it to its owner to say what it does not have: http.ServeMux says so in a text of its
// own.
package routes

import "net/http"

// Mux is an http.ServeMux with an answer of its owner's for everything else.
type Mux struct {
	known *http.ServeMux // the routes
	all   *http.ServeMux // the routes, and what is said of all else
}

// New makes a Mux. unknown answers a request for which there is no route; allow names the methods that its path takes, as in an Allow
// header (RFC 9110 section 10.2.1), and is empty if there is no such path.
func New(unknown func(w http.ResponseWriter, r *http.Request, allow string)) *Mux {
	m := &Mux{http.NewServeMux(), http.NewServeMux()}
	m.all.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { unknown(w, r, m.allow(r)) })
	return m
}

// HandleFunc adds a route, as that of http.ServeMux does.
func (m *Mux) HandleFunc(pattern string, handler func(http.ResponseWriter, *http.Request)) {
	m.known.HandleFunc(pattern, handler)
	m.all.HandleFunc(pattern, handler)
}

// ServeHTTP implements http.Handler.
func (m *Mux) ServeHTTP(w http.ResponseWriter, r *http.Request) { m.all.ServeHTTP(w, r) }

// allow finds the methods that a path takes. Only the answer to a wrong one tells.
func (m *Mux) allow(r *http.Request) string {
	said := unsaid{header: http.Header{}}
	refuse, _ := m.known.Handler(r)
	refuse.ServeHTTP(&said, r)
	if said.status != http.StatusMethodNotAllowed {
		return ""
	}
	return said.header.Get("Allow")
}

// unsaid keeps what would have been answered, but for the body.
type unsaid struct {
	header http.Header
	status int
}

func (u *unsaid) Header() http.Header         { return u.header }
func (u *unsaid) WriteHeader(status int)      { u.status = status }
func (u *unsaid) Write(b []byte) (int, error) { return len(b), nil }
