package routes

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestMux(t *testing.T) {
	m := New(func(w http.ResponseWriter, _ *http.Request, allow string) {
		w.Header().Set("Allowed", allow)
		w.WriteHeader(http.StatusTeapot)
	})
	for _, pattern := range []string{"GET /v1/keys", "POST /v1/keys", "PATCH /v1/keys/{key}", "/v1/any"} {
		m.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Route", r.Pattern)
			w.Header().Set("Key", r.PathValue("key"))
		})
	}
	for _, c := range []struct{ method, path, route, key, allow string }{
		{"GET", "/v1/keys", "GET /v1/keys", "", ""},
		{"HEAD", "/v1/keys", "GET /v1/keys", "", ""},
		{"PATCH", "/v1/keys/web-01", "PATCH /v1/keys/{key}", "web-01", ""},
		{"DELETE", "/v1/any", "/v1/any", "", ""},
		{"DELETE", "/v1/keys", "", "", "GET, HEAD, POST"},
		{"GET", "/v1/keys/web-01", "", "", "PATCH"},
		{"GET", "/v1/nothing", "", "", ""},
		{"GET", "/", "", "", ""},
	} {
		w := httptest.NewRecorder()
		m.ServeHTTP(w, httptest.NewRequest(c.method, c.path, nil))
		h := w.Header()
		if h.Get("Route") != c.route || h.Get("Key") != c.key || h.Get("Allowed") != c.allow || (w.Code == http.StatusTeapot) != (c.route == "") {
			t.Errorf("%s %s: %d, route %q, key %q, allowed %q; want %+v", c.method, c.path, w.Code, h.Get("Route"), h.Get("Key"), h.Get("Allowed"), c)
		}
	}
}
