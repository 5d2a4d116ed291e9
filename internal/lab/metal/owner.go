package metal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"anyedge/internal/api"
	"anyedge/internal/lab"
)

// A Status is what a lab is like.
type Status struct {
	Dir     string         `json:"dir"`
	Edges   []EdgeStatus   `json:"edges"`
	Routers []RouterStatus `json:"routers"`
	Clients []ClientStatus `json:"clients"`
	Faults  []string       `json:"faults"`
}

// An EdgeStatus is one edge machine.
type EdgeStatus struct {
	Name    string `json:"name"`
	Running bool   `json:"running"`
	Socket  string `json:"socket"` // for edgectl --socket
	Health  string `json:"health"` // what its edgectl status says in one word; "" when it does not answer
	BGP     string `json:"bgp"`
	Fabric  string `json:"fabric"`
	L4      string `json:"l4"`
}

// A RouterStatus is one router.
type RouterStatus struct {
	Name    string `json:"name"`
	Kind    string `json:"kind"` // BIRD | FRR
	Running bool   `json:"running"`
	Hops    int    `json:"hops"` // ways to the IPv4 VIP in its kernel, which keeps them when the router dies
}

// A ClientStatus is what a region's clients see.
type ClientStatus struct {
	Region string `json:"region"`
	VIP    string `json:"vip"`
	Geo    string `json:"geo"` // where they enter; "" when nobody answers
	Error  string `json:"error,omitempty"`
}

// Status looks at everything.
func (l *Lab) Status(ctx context.Context) Status {
	s := Status{Dir: l.dir, Faults: l.Faults()}
	for _, e := range l.edges {
		s.Edges = append(s.Edges, e.status(ctx))
	}
	for _, g := range Geos() {
		kind := "BIRD"
		if g.FRR {
			kind = "FRR"
		}
		s.Routers = append(s.Routers, l.routerStatus(g.Name, g.Name+"-router", kind))
	}
	s.Routers = append(s.Routers, l.routerStatus("transit", "transit", "BIRD"))
	for _, r := range Regions() {
		for _, vip := range VIPs() {
			c := l.Client(r.Name, vip, lab.H1)
			one, cancel := context.WithTimeout(ctx, 2*time.Second)
			answer := c.Get(one, "/")
			cancel()
			c.Close()
			row := ClientStatus{Region: r.Name, VIP: vip.String()}
			if answer.Err != nil {
				row.Error = answer.Err.Error()
			} else {
				row.Geo = answer.Entered()
			}
			s.Clients = append(s.Clients, row)
		}
	}
	return s
}

func (l *Lab) routerStatus(name, machine, kind string) RouterStatus {
	r := RouterStatus{Name: name, Kind: kind, Running: l.routers[name].alive()}
	r.Hops, _ = l.NextHops(machine, VIPs()[0]) // none when it cannot be read
	return r
}

// Well reports whether nothing is broken, everything runs and is well, and all
// clients are served.
func (s Status) Well() bool {
	return len(s.Faults) == 0 &&
		!slices.ContainsFunc(s.Edges, func(e EdgeStatus) bool { return e.Health != string(api.OK) }) &&
		!slices.ContainsFunc(s.Routers, func(r RouterStatus) bool { return !r.Running }) &&
		!slices.ContainsFunc(s.Clients, func(c ClientStatus) bool { return c.Geo == "" })
}

func (e *Edge) status(ctx context.Context) EdgeStatus {
	s := EdgeStatus{Name: e.Name, Running: e.Running(), Socket: e.Socket}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	answer, err := e.Ask().Status(ctx)
	if err != nil {
		return s
	}
	s.Health = string(answer.Health)
	for _, p := range answer.Parts {
		switch p.Name {
		case "BGP":
			s.BGP = p.Text
		case "fabric":
			s.Fabric = p.Text
		case "L4":
			s.L4 = p.Text
		}
	}
	return s
}

// Break breaks what words name: link A-B [loss=1%], router GEO, node NAME,
// cable NAME, process NAME [kill|stop], session NAME, backend NAME.
func (l *Lab) Break(words []string) error {
	const usage = "break link A-B [loss=1%] | router GEO | node NAME | cable NAME | process NAME [kill|stop] | session NAME | backend NAME"
	if len(words) < 2 || len(words) > 3 {
		return errors.New("want: " + usage)
	}
	kind, name, more := words[0], words[1], strings.Join(words[2:], "")
	if more != "" && kind != "link" && kind != "process" {
		return fmt.Errorf("%s %s takes nothing more; want: %s", kind, name, usage)
	}
	switch kind {
	case "link":
		return l.breakLink(name, more)
	case "process":
		switch more {
		case "", "kill":
			return l.KillProcess(name)
		case "stop":
			return l.StopProcess(name)
		}
		return fmt.Errorf("process %s: want kill or stop, not %q", name, more)
	case "router":
		return l.BreakRouter(name)
	case "node":
		return l.KillNode(name)
	case "cable":
		return l.PullCable(name)
	case "session":
		return l.BreakSession(name)
	case "backend":
		return l.BreakBackend(name)
	}
	return fmt.Errorf("%q cannot be broken; want: %s", kind, usage)
}

func (l *Lab) breakLink(name, more string) error {
	a, b, ok := strings.Cut(name, "-")
	if !ok {
		return fmt.Errorf("link %q: want A-B, as fra-iad", name)
	}
	share := 1.0
	if text, ok := strings.CutPrefix(more, "loss="); ok {
		percent, err := strconv.ParseFloat(strings.TrimSuffix(text, "%"), 64)
		if err != nil || !(percent > 0 && percent <= 100) {
			return fmt.Errorf("%s: want a share above 0%%, at most 100%%", more)
		}
		share = percent / 100
	} else if more != "" {
		return fmt.Errorf("link %s: want loss=1%%, not %q", name, more)
	}
	return l.BreakLink(a, b, share)
}

// Own makes a lab, tells ready, and obeys on a socket until it is told to end or
// ctx ends.
func Own(ctx context.Context, opts Options, ready func(Status)) (err error) {
	l, err := Up(ctx, opts)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	ctx, end := context.WithCancel(ctx)
	defer end()
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "unix", l.path(ownerSocket))
	if err != nil {
		return err
	}
	server := &http.Server{Handler: l.handler(end), ReadHeaderTimeout: time.Second}
	go func() { _ = server.Serve(listener) }() // until Close
	defer func() {
		// Who asked for the end still gets its answer.
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = errors.Join(server.Shutdown(late), server.Close())
	}()
	ready(l.Status(ctx))
	<-ctx.Done()
	return nil
}

func (l *Lab) handler(end func()) http.Handler {
	mux := http.NewServeMux()
	var change sync.Mutex // one at a time breaks and mends
	answer := func(w http.ResponseWriter, v any, err error) {
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		_ = json.NewEncoder(w).Encode(v) // nobody is left to tell
	}
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, r *http.Request) { answer(w, l.Status(r.Context()), nil) })
	mux.HandleFunc("POST /break", func(w http.ResponseWriter, r *http.Request) {
		var words []string
		err := json.NewDecoder(r.Body).Decode(&words)
		change.Lock()
		defer change.Unlock()
		if err == nil {
			err = l.Break(words)
		}
		answer(w, l.Faults(), err)
	})
	mux.HandleFunc("POST /heal", func(w http.ResponseWriter, r *http.Request) {
		change.Lock()
		defer change.Unlock()
		err := l.Heal(r.Context())
		answer(w, l.Faults(), err)
	})
	mux.HandleFunc("POST /down", func(w http.ResponseWriter, _ *http.Request) { answer(w, nil, nil); end() })
	return mux
}
