package metrics

// The node itself.
var (
	Info       = Metric{"edged_info", Gauge, []string{"version", "commit", "go", "geo", "node"}, "What runs, and where. Always 1."}
	ConfigInfo = Metric{"edged_config_info", Gauge, []string{"digest"}, "Digest of the configuration that runs. Always 1."}
	Healthy    = Metric{"edged_part_state", Gauge, []string{"part", "state"}, "1 for the state of each part of the node that edgectl status shows: ok, off, warning or bad."}

	ofNode = []Metric{Info, ConfigInfo, Healthy}
)

// What happens where clients connect.
var (
	ListenerUp          = Metric{"edged_listener_up", Gauge, []string{"listener"}, "Whether the listener accepts at one address at least."}
	ListenerConnections = Metric{"edged_listener_connections", Gauge, []string{"listener"}, "TCP connections of clients."}
	ListenerArriving    = Metric{"edged_listener_arriving_connections", Gauge, []string{"listener"}, "TCP connections within their PROXY header or TLS handshake."}
	ListenerAccepted    = Metric{"edged_listener_accepted_connections_total", Counter, []string{"listener"}, "TCP connections accepted, those refused at once too."}
	ListenerHandshakes  = Metric{"edged_listener_handshakes_total", Counter, []string{"listener", "protocol", "resumed"}, "TLS handshakes over TCP that succeeded, by the protocol chosen (h1, h2) and whether they resumed a session."}
	ListenerRequests    = Metric{"edged_listener_requests_total", Counter, []string{"listener", "protocol"}, "Requests that came through the listener, by protocol (h1, h2, h3)."}
	RefusedConnections  = Metric{"edged_refused_connections_total", Counter, []string{"listener", "rule"}, "Connections that were refused or came to nothing before they spoke HTTP, by rule."}
	RefusedRequests     = Metric{"edged_refused_requests_total", Counter, []string{"listener", "service", "protocol", "rule"}, "Requests that the edge answered with an error of its own, by rule; protocol is the engine that refused what was no good HTTP, empty for others."}

	ofListeners = []Metric{ListenerUp, ListenerConnections, ListenerArriving, ListenerAccepted, ListenerHandshakes, ListenerRequests, RefusedConnections, RefusedRequests}
)

// Services.
var (
	ServiceRequests  = Metric{"edged_service_requests_total", Counter, []string{"service", "code"}, "Requests answered, by class of the status (2xx); gone: the client left before."}
	ServiceDuration  = Metric{"edged_service_first_byte_seconds", Histogram, []string{"service"}, "From the header section of a request to that of the answer of an app, here or in another geo."}
	ServiceActive    = Metric{"edged_service_requests_in_flight", Gauge, []string{"service"}, "Requests under way."}
	ServiceReceived  = Metric{"edged_service_received_bytes_total", Counter, []string{"service"}, "Content of requests that have ended."}
	ServiceSent      = Metric{"edged_service_sent_bytes_total", Counter, []string{"service"}, "Content of answers that have ended."}
	ServiceElsewhere = Metric{"edged_service_elsewhere_requests_total", Counter, []string{"service", "why"}, "Requests that another geo served, by why: shed, failover or replay."}
	ServiceReplays   = Metric{"edged_service_replay_instructions_total", Counter, []string{"service"}, "Answers of apps with a Replay-Geo."}
	ServiceBackends  = Metric{"edged_service_backends", Gauge, []string{"service"}, "Backends of this geo."}
	ServiceHealthy   = Metric{"edged_service_healthy_backends", Gauge, []string{"service"}, "Backends of this geo that can serve, by their checks."}
	ServiceQueue     = Metric{"edged_service_queue_length", Gauge, []string{"service"}, "Requests that wait for a backend with room."}
	ServiceQueued    = Metric{"edged_service_queued_requests_total", Counter, []string{"service"}, "Requests that waited for a backend with room."}
	ServiceBusy      = Metric{"edged_service_queue_failures_total", Counter, []string{"service"}, "Requests that found no backend with room in time."}
	ServiceEjected   = Metric{"edged_service_ejections_total", Counter, []string{"service"}, "Backends passed over for a while because requests failed there."}
	ServiceRetried   = Metric{"edged_service_retried_requests_total", Counter, []string{"service"}, "Requests sent once more although a backend may have executed them."}
	ServiceSpent     = Metric{"edged_service_retries_left_out_total", Counter, []string{"service"}, "Requests not sent once more because the budget for that was spent."}
	ServiceHedged    = Metric{"edged_service_hedged_requests_total", Counter, []string{"service"}, "Requests that a second backend was asked as well."}
	ServicePanicked  = Metric{"edged_service_last_resort_requests_total", Counter, []string{"service"}, "Requests given to any backend, well or not, because most were not."}

	ofServices = []Metric{ServiceRequests, ServiceDuration, ServiceActive, ServiceReceived, ServiceSent, ServiceElsewhere, ServiceReplays, ServiceBackends, ServiceHealthy, ServiceQueue, ServiceQueued, ServiceBusy, ServiceEjected, ServiceRetried, ServiceSpent, ServiceHedged, ServicePanicked}
)

// Backends of this geo.
var (
	BackendUp       = Metric{"edged_backend_up", Gauge, []string{"service", "backend"}, "Whether it takes requests, by its checks."}
	BackendTries    = Metric{"edged_backend_requests_total", Counter, []string{"service", "backend"}, "Requests given to it, repeated ones too."}
	BackendFailures = Metric{"edged_backend_failures_total", Counter, []string{"service", "backend"}, "Of those, without an answer although the client waited."}
	BackendAnswers  = Metric{"edged_backend_answers_total", Counter, []string{"service", "backend", "code"}, "Its answers, by class of the status."}
	BackendDuration = Metric{"edged_backend_first_byte_seconds", Histogram, []string{"service", "backend"}, "From when it was asked to the header section of its answer."}
	BackendActive   = Metric{"edged_backend_requests_in_flight", Gauge, []string{"service", "backend"}, "Requests under way, until their answer has ended."}
	BackendShare    = Metric{"edged_backend_share", Gauge, []string{"service", "backend"}, "Part of its weight that it has now, 0 to 1: less while it starts slowly or says that it is busy."}

	ofBackends = []Metric{BackendUp, BackendTries, BackendFailures, BackendAnswers, BackendDuration, BackendActive, BackendShare}
)

// What is announced, and what the node knows of others.
var (
	VIPState         = Metric{"edged_vip_state", Gauge, []string{"vip", "state"}, "1 for the state that each VIP is in."}
	NeighborUp       = Metric{"edged_bgp_neighbor_up", Gauge, []string{"neighbor"}, "Whether the session is established."}
	NeighborFlaps    = Metric{"edged_bgp_neighbor_flaps_total", Counter, []string{"neighbor"}, "How often the session went down."}
	NeighborSent     = Metric{"edged_bgp_neighbor_sent_prefixes", Gauge, []string{"neighbor"}, "Prefixes announced to it."}
	NeighborReceived = Metric{"edged_bgp_neighbor_received_prefixes", Gauge, []string{"neighbor"}, "Prefixes that it announced; none is used."}
	PeerUp           = Metric{"edged_fabric_peer_up", Gauge, []string{"geo", "node"}, "Whether another node is reached."}
	PeerRTT          = Metric{"edged_fabric_peer_rtt_seconds", Gauge, []string{"geo", "node"}, "Round trip to another node."}
	PeerIn           = Metric{"edged_fabric_peer_received_bytes_total", Counter, []string{"geo", "node"}, "Bytes from another node."}
	PeerOut          = Metric{"edged_fabric_peer_sent_bytes_total", Counter, []string{"geo", "node"}, "Bytes to another node."}
	PeerRequests     = Metric{"edged_fabric_peer_requests_total", Counter, []string{"geo", "node"}, "Requests sent to another node."}
	LoadOffered      = Metric{"edged_load_offered_requests_per_second", Gauge, nil, "Requests that clients bring to this node."}
	LoadCapacity     = Metric{"edged_load_capacity_requests_per_second", Gauge, nil, "Requests that it can serve; absent: unknown."}
	LoadShedding     = Metric{"edged_load_shedding", Gauge, nil, "Whether a part goes to other geos because this one is overloaded."}
	L4Packets        = Metric{"edged_l4_packets_total", Counter, []string{"kind", "name"}, "Packets of the packet path, by kind (server, vip, reason) and name, over all interfaces, since its program was loaded."}
	L4Bytes          = Metric{"edged_l4_bytes_total", Counter, []string{"kind", "name"}, "IP lengths of those packets."}

	ofGeos = []Metric{VIPState, NeighborUp, NeighborFlaps, NeighborSent, NeighborReceived, PeerUp, PeerRTT, PeerIn, PeerOut, PeerRequests, LoadOffered, LoadCapacity, LoadShedding, L4Packets, L4Bytes}
)
