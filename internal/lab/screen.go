package lab

import (
	"fmt"
	"io"
	"strings"
)

// Screen writes what a person needs to play with the demo.
func (d *Demo) Screen(w io.Writer) {
	f := d.File()
	eu := f.Regions[0].Entry
	fmt.Fprintf(w, "Three geos are up, each a real edged of its own: %s\n", d.Dir())
	fmt.Fprintf(w, "Each serves %d requests/s and sheds above %.0f%% of that. Its timers are the demo's own, short ones:\n  %s\n", Capacity, Target*100, d.layout.Timers)
	fmt.Fprintf(w, "\nThe anycast address, as each region's clients reach it (TCP and UDP):\n")
	for i, r := range f.Regions {
		fmt.Fprintf(w, "  %-5s %s   nearest first: %s\n", r.Name, r.Entry, strings.Join(d.regions[i].nearest, ", "))
	}
	fmt.Fprintf(w, "Links: ")
	for i, l := range linkPlans() {
		if i > 0 {
			fmt.Fprint(w, ", ")
		}
		fmt.Fprintf(w, "%s-%s %d ms", l.a, l.b, l.rtt.Milliseconds())
	}
	fmt.Fprintf(w, "\nCA:      %s\nControl: %s\nAll of this: %s/%s\n", f.CA, f.Control, d.Dir(), FileName)

	fmt.Fprintf(w, "\nThe geos:\n")
	for _, g := range f.Geos {
		fmt.Fprintf(w, "  %s  pid %-7d  edgectl --socket %s status\n", g.Name, g.PID, g.Socket)
	}
	fmt.Fprintf(w, "\nTry:\n")
	for _, c := range d.commands(f, eu) {
		fmt.Fprintf(w, "  %s\n", c)
	}
	fmt.Fprint(w, "\nCtrl-C ends it and leaves nothing behind.\n")
}

// commands are the commands to try.
func (d *Demo) commands(f File, eu string) []string {
	dir := " --dir " + d.Dir()
	fra := f.Geos[0]
	kill := "edged demo ctl" + dir + " kill backend fra-a   # and fra-b: the prefix leaves fra"
	replay := fmt.Sprintf("curl --cacert %s %s/replay/nrt -d hello   # fra's app asks for nrt", f.CA, eu)
	if len(d.backends) == 0 {
		kill = "edged demo ctl" + dir + " kill geo nrt"
		replay = fmt.Sprintf("curl --cacert %s -I %s/   # answer with Replay-Geo: nrt to be served there", f.CA, eu)
	}
	return []string{
		fmt.Sprintf("curl --cacert %s %s/", f.CA, eu),
		replay,
		fmt.Sprintf("curl --connect-to ::%s http://nrt.app.internal/   # an app in fra calls the one in nrt", fra.Private),
		fmt.Sprintf("edgectl --socket %s routes", fra.Socket),
		kill,
		"edged demo ctl" + dir + " load eu 600 30s       # twice fra's capacity: it sheds to iad and nrt",
		"edged demo ctl" + dir + " cut fra-iad           # and join fra-iad",
	}
}
