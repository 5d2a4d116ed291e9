package main

import (
	"net/http"
	"strconv"

	"anyedge/bgp"
	"anyedge/internal/api"
	"anyedge/internal/metrics"
	"anyedge/proxy"
	"anyedge/proxy/upstream"
)

// ServeMetrics answers with what this node counts.
func (s source) ServeMetrics(w http.ResponseWriter, r *http.Request) { s.counted.ServeHTTP(w, r) }

// collect hands over what this node counts.
func (s source) collect(v *metrics.Values) {
	s.nodeMetrics(v)
	for _, l := range s.proxy.Listeners() {
		listenerMetrics(v, l)
	}
	for _, r := range s.proxy.Refused() {
		v.Set(metrics.RefusedRequests, float64(r.Count), r.Listener, r.Service, r.Protocol, string(r.Rule))
	}
	for _, one := range s.proxy.Services() {
		serviceMetrics(v, one)
		for _, b := range one.Backends {
			backendMetrics(v, one.Name, b)
		}
	}
	s.geoMetrics(v)
	for _, c := range s.L4().Counters {
		v.Set(metrics.L4Packets, float64(c.Packets), c.Kind, c.Name)
		v.Set(metrics.L4Bytes, float64(c.Bytes), c.Kind, c.Name)
	}
}

func (s source) nodeMetrics(v *metrics.Values) {
	is := s.Version()
	v.Set(metrics.Info, 1, is.Daemon, is.Commit, is.Go, s.geo, s.name)
	v.Set(metrics.ConfigInfo, 1, s.cfg.Digest())
	for _, p := range s.Status().Parts {
		for _, state := range []api.Health{api.OK, api.Off, api.Warning, api.Bad} {
			v.Flag(metrics.Healthy, p.Health == state, p.Name, string(state))
		}
	}
}

func listenerMetrics(v *metrics.Values, l proxy.ListenerStatus) {
	v.Flag(metrics.ListenerUp, l.Up, l.Name)
	v.Set(metrics.ListenerConnections, float64(l.Connections), l.Name)
	v.Set(metrics.ListenerArriving, float64(l.Arriving), l.Name)
	v.Set(metrics.ListenerAccepted, float64(l.Accepted), l.Name)
	for _, h := range l.Handshakes {
		v.Set(metrics.ListenerHandshakes, float64(h.Count), l.Name, h.Protocol, strconv.FormatBool(h.Resumed))
	}
	for _, r := range l.Requests {
		v.Set(metrics.ListenerRequests, float64(r.Count), l.Name, r.Protocol)
	}
	for _, r := range l.Refused {
		v.Set(metrics.RefusedConnections, float64(r.Count), l.Name, string(r.Rule))
	}
}

// classes are the values of the label code, by the first digit of a status.
var classes = [...]string{"gone", "1xx", "2xx", "3xx", "4xx", "5xx"}

func serviceMetrics(v *metrics.Values, s proxy.ServiceStatus) {
	for class, n := range s.Totals.Answers {
		v.Set(metrics.ServiceRequests, float64(n), s.Name, classes[class])
	}
	v.Observe(metrics.ServiceDuration, proxy.Bounds[:], s.Totals.Took.Counts[:], s.Totals.Took.Sum.Seconds(), s.Name)
	v.Set(metrics.ServiceActive, float64(s.Active), s.Name)
	v.Set(metrics.ServiceReceived, float64(s.Received), s.Name)
	v.Set(metrics.ServiceSent, float64(s.Sent), s.Name)
	v.Set(metrics.ServiceElsewhere, float64(s.Totals.Shed), s.Name, "shed")
	v.Set(metrics.ServiceElsewhere, float64(s.Totals.Failover), s.Name, "failover")
	v.Set(metrics.ServiceElsewhere, float64(s.Totals.Replay), s.Name, "replay")
	v.Set(metrics.ServiceReplays, float64(s.Totals.Replays), s.Name)
	v.Set(metrics.ServiceBackends, float64(s.Total), s.Name)
	v.Set(metrics.ServiceHealthy, float64(s.Healthy), s.Name)
	v.Set(metrics.ServiceQueue, float64(s.Counts.Waiting), s.Name)
	v.Set(metrics.ServiceQueued, float64(s.Counts.Queued), s.Name)
	v.Set(metrics.ServiceBusy, float64(s.Counts.Busy), s.Name)
	v.Set(metrics.ServiceEjected, float64(s.Counts.Ejected), s.Name)
	v.Set(metrics.ServiceRetried, float64(s.Counts.Retried), s.Name)
	v.Set(metrics.ServiceSpent, float64(s.Counts.Spent), s.Name)
	v.Set(metrics.ServiceHedged, float64(s.Counts.Hedged), s.Name)
	v.Set(metrics.ServicePanicked, float64(s.Counts.Panicked), s.Name)
}

func backendMetrics(v *metrics.Values, service string, b proxy.BackendStatus) {
	v.Flag(metrics.BackendUp, b.State == upstream.Healthy, service, b.Name)
	v.Set(metrics.BackendTries, float64(b.Requests), service, b.Name)
	v.Set(metrics.BackendFailures, float64(b.Failed), service, b.Name)
	for class, n := range b.Totals.Answers {
		if class > 0 { // a backend whose client left has not answered
			v.Set(metrics.BackendAnswers, float64(n), service, b.Name, classes[class])
		}
	}
	v.Observe(metrics.BackendDuration, proxy.Bounds[:], b.Totals.Took.Counts[:], b.Totals.Took.Sum.Seconds(), service, b.Name)
	v.Set(metrics.BackendActive, float64(b.Active), service, b.Name)
	v.Set(metrics.BackendShare, b.Share, service, b.Name)
}

func (s source) geoMetrics(v *metrics.Values) {
	p := s.steer.Plan()
	for i := range p.VIPs {
		v.Set(metrics.VIPState, 1, p.VIPs[i].Name, string(p.VIPs[i].State))
	}
	if s.speaker != nil {
		for _, n := range s.speaker.Status().Neighbors {
			v.Flag(metrics.NeighborUp, n.State == bgp.Established, n.Name)
			v.Set(metrics.NeighborFlaps, float64(n.Flaps), n.Name)
			v.Set(metrics.NeighborSent, float64(len(n.Sent)), n.Name)
			v.Set(metrics.NeighborReceived, float64(n.Received), n.Name)
		}
	}
	for _, peer := range s.FabricPeers().Peers {
		v.Flag(metrics.PeerUp, peer.State == "up", peer.Geo, peer.Node)
		if peer.RTTMillis != nil {
			v.Set(metrics.PeerRTT, *peer.RTTMillis/1000, peer.Geo, peer.Node)
		}
		v.Set(metrics.PeerIn, float64(peer.BytesIn), peer.Geo, peer.Node)
		v.Set(metrics.PeerOut, float64(peer.BytesOut), peer.Geo, peer.Node)
		v.Set(metrics.PeerRequests, float64(peer.Requests), peer.Geo, peer.Node)
	}
	v.Set(metrics.LoadOffered, p.Shed.Offered)
	if p.Shed.Capacity > 0 {
		v.Set(metrics.LoadCapacity, p.Shed.Capacity)
	}
	v.Flag(metrics.LoadShedding, p.Shed.Shedding)
}
