package server

import (
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	vm "github.com/VictoriaMetrics/metrics"
)

// metrics are the server's own figures, in the text form of Prometheus.
type metrics struct {
	set     *vm.Set
	running atomic.Int64
	routes  sync.Map // of *routeMetrics by route: looking them up by their long names takes longer than counting
}

// routeMetrics are the figures of one route.
type routeMetrics struct {
	byClass [6]atomic.Pointer[vm.Counter] // of statuses: 2 for 200 to 299, made when there is one
	seconds *vm.PrometheusHistogram
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
	of, ok := m.routes.Load(route)
	if !ok {
		seconds := m.set.GetOrCreatePrometheusHistogram(fmt.Sprintf(`keyctl_http_request_duration_seconds{route=%q}`, route))
		of, _ = m.routes.LoadOrStore(route, &routeMetrics{seconds: seconds})
	}
	figures := of.(*routeMetrics)
	figures.seconds.Update(took.Seconds())
	counter := &figures.byClass[status/100]
	if counter.Load() == nil {
		counter.Store(m.set.GetOrCreateCounter(fmt.Sprintf(`keyctl_http_requests_total{route=%q,code="%dxx"}`, route, status/100)))
	}
	counter.Load().Inc()
}

func (m *metrics) serve(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	m.set.WritePrometheus(w)
	vm.WriteProcessMetrics(w)
}
