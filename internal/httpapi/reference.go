package httpapi

import (
	"bytes"
	"embed"
	"html/template"
	"net/http"
	"sync"
)

//go:embed reference.html
var referenceFile embed.FS

// referencePage is the page about the routes, made once.
var referencePage = sync.OnceValues(func() ([]byte, error) {
	page, err := template.ParseFS(referenceFile, "reference.html")
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	err = page.Execute(&text, Routes())
	return text.Bytes(), err
})

// Route is one line of the table, for those who describe or check it.
type Route struct {
	ID, Method, Path, Summary, Permission string
	Repeatable                            bool // a repetition does no harm
}

// Routes returns the table in its order.
func Routes() []Route {
	routes := make([]Route, len(table))
	for i, op := range table {
		r := op.describe()
		routes[i] = Route{r.id, r.method, r.path, r.summary, string(r.permission), r.repeats != counts}
	}
	return routes
}

// serveReference answers with a page that loads nothing else.
func (s *Server) serveReference(w http.ResponseWriter, r *http.Request) {
	page, err := referencePage()
	if err != nil {
		NewFailure(err, s.Origin(r.Context()).RequestID).Write(w)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
	_, _ = w.Write(page)
}
