package fabric

// ParseNegotiation reads what answers a probe.
var ParseNegotiation = parseNegotiation
