// Package lab plays the world around edges: three geos as three real edged
// processes, the Internet between them and their clients, and the clients.
//
// A [Demo] owns all of it. Per client region there is a BGP [Router] that
// hears the prefix from every geo, and an [Entry] that sends each new
// connection where that router's best route points. Between the geos stand the
// [Links], which carry the fabric's datagrams late or not at all. [Load] is
// people with browsers. [Tour] breaks things in turn and says what it saw.
//
// Everything lives on 127.0.0.0/8 and needs no root. The package decides
// nothing about requests: what an edge does, its process does by itself.
package lab

import (
	"fmt"
	"net/netip"
	"time"
)

// A geoPlan is what is fixed about one geo of the demo.
type geoPlan struct {
	name   string
	number int
	city   string
	lat    float64
	lon    float64
}

// A regionPlan is what is fixed about one client region: its geos, nearest
// first.
type regionPlan struct {
	name    string
	asn     uint32
	nearest []string
}

// The demo's world. Documentation addresses and numbers, but for loopback.
const (
	fleetASN = 65010
	prefix4  = "192.0.2.0/24"
	prefix6  = "2001:db8:a::/48"

	// Capacity is what each geo says it can serve, in requests/s.
	Capacity = 300
	// Target is the share of Capacity above which a geo sheds.
	Target = 0.85
)

func geoPlans() []geoPlan {
	return []geoPlan{
		{"fra", 1, "Frankfurt", 50.11, 8.68},
		{"iad", 2, "Ashburn", 39.04, -77.49},
		{"nrt", 3, "Tokyo", 35.77, 140.39},
	}
}

func regionPlans() []regionPlan {
	return []regionPlan{
		{"eu", 64501, []string{"fra", "iad", "nrt"}},
		{"us", 64502, []string{"iad", "fra", "nrt"}},
		{"asia", 64503, []string{"nrt", "iad", "fra"}},
	}
}

// A linkPlan is the path between two geos.
type linkPlan struct {
	a, b string
	rtt  time.Duration
}

func linkPlans() []linkPlan {
	return []linkPlan{
		{"fra", "iad", 90 * time.Millisecond},
		{"iad", "nrt", 150 * time.Millisecond},
		{"fra", "nrt", 230 * time.Millisecond},
	}
}

// loopback returns 127.0.NET.HOST. Each kind of address has a net of its own,
// so that a packet's address says who sent it.
func loopback(network, host int) netip.Addr {
	return netip.AddrFrom4([4]byte{127, 0, byte(network), byte(host)})
}

// Nets of the demo inside 127.0.0.0/16.
const (
	geoNet    = 2 // a geo's own addresses: listener, fabric, backends, BGP source
	fabricNet = 3 // where the other geos reach a geo's fabric: the links
	routerNet = 4 // the regions' BGP routers
)

func nodeName(geo string) string { return geo + "-edge1" }

func backendName(geo string, i int) string { return fmt.Sprintf("%s-%c", geo, 'a'+i) }
