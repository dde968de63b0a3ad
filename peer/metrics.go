package peer

import (
	"net/http"
	"net/http/pprof"
	"reflect"
	"strings"
	"unicode"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"charter/gossip"
)

// debugHandler serves /metrics and /debug/pprof.
func (p *Peer) debugHandler() http.Handler {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), p.agent, meter{p})
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(r, promhttp.HandlerOpts{}))
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}

// meter is a prometheus.Collector of what the agent does not tell: gossip, store, clock.
type meter struct{ p *Peer }

var (
	descDisk    = prometheus.NewDesc("charter_store_disk_bytes", "Size of the store's files.", []string{"database"}, nil)
	descDrift   = prometheus.NewDesc("charter_clock_drift_seconds", "How far the other peers' clocks are ahead of ours: the median, weighted by shares.", nil, nil)
	descAdrift  = prometheus.NewDesc("charter_clock_adrift", "1 while the peer makes no blocks because its clock is off, else 0.", nil, nil)
	descSyncing = prometheus.NewDesc("charter_syncing", "1 while the peer catches up from far behind, else 0.", nil, nil)
	descBytes   = prometheus.NewDesc("charter_transport_bytes_total", "Bytes exchanged with other peers, as UDP carries them.", []string{"direction"}, nil)
	descGossip  = gossipDescs()
)

// The fields of gossip.Stats that are as of now; all others count.
var gauges = map[string]bool{"Links": true, "Wanted": true, "Queued": true, "SyncFrom": true, "SyncAt": true, "SyncTo": true}

// gossipDescs has a metric for each number in gossip.Stats, by the field's name.
func gossipDescs() map[string]*prometheus.Desc {
	out := make(map[string]*prometheus.Desc)
	for _, f := range reflect.VisibleFields(reflect.TypeFor[gossip.Stats]()) {
		if f.Type.Kind() == reflect.Bool {
			continue // Syncing, which the chain tells
		}
		name := "charter_gossip" + snake(f.Name)
		if !gauges[f.Name] {
			name += "_total"
		}
		out[f.Name] = prometheus.NewDesc(name, "Field "+f.Name+" of gossip.Stats, where it is explained.", nil, nil)
	}
	return out
}

// snake is BytesIn as _bytes_in.
func snake(s string) string {
	var b strings.Builder
	for _, r := range s {
		if unicode.IsUpper(r) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// Describe implements prometheus.Collector.
func (m meter) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descDisk, descDrift, descAdrift, descSyncing, descBytes} {
		out <- d
	}
	for _, d := range descGossip {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (m meter) Collect(out chan<- prometheus.Metric) {
	put := func(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, kind, v, labels...)
	}
	is := func(b bool) float64 {
		if b {
			return 1
		}
		return 0
	}
	log, state := m.p.store.DiskBytes()
	put(descDisk, prometheus.GaugeValue, float64(log), "log")
	put(descDisk, prometheus.GaugeValue, float64(state), "state")
	put(descDrift, prometheus.GaugeValue, float64(m.p.drift.Load())/1000)
	s := m.p.chain.Status()
	put(descAdrift, prometheus.GaugeValue, is(s.Adrift))
	put(descSyncing, prometheus.GaugeValue, is(s.Syncing))
	received, sent := m.p.endpoint.Bytes()
	put(descBytes, prometheus.CounterValue, float64(received), "in")
	put(descBytes, prometheus.CounterValue, float64(sent), "out")
	stats := reflect.ValueOf(m.p.gossip.Stats())
	for name, d := range descGossip {
		kind := prometheus.CounterValue
		if gauges[name] {
			kind = prometheus.GaugeValue
		}
		f := stats.FieldByName(name)
		if f.CanInt() {
			put(d, kind, float64(f.Int()))
		} else {
			put(d, kind, float64(f.Uint()))
		}
	}
}
