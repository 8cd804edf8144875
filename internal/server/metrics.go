package server

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	vm "github.com/VictoriaMetrics/metrics"
)

// metrics are the server's own figures, in the text form of Prometheus.
type metrics struct {
	set     *vm.Set
	running atomic.Int64
}

func newMetrics() *metrics {
	m := &metrics{set: vm.NewSet()}
	m.set.NewGauge("keyctl_http_requests_in_flight", func() float64 { return float64(m.running.Load()) })
	return m
}

func (m *metrics) begin() { m.running.Add(1) }

// end counts an answered request. route is one of the patterns there are.
func (m *metrics) end(route string, status int, took time.Duration) {
	m.running.Add(-1)
	m.set.GetOrCreateCounter(fmt.Sprintf(`keyctl_http_requests_total{route=%q,code="%dxx"}`, route, status/100)).Inc()
	m.set.GetOrCreatePrometheusHistogram(fmt.Sprintf(`keyctl_http_request_duration_seconds{route=%q}`, route)).Update(took.Seconds())
}

func (m *metrics) serve(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	m.set.WritePrometheus(w)
	vm.WriteProcessMetrics(w)
}
