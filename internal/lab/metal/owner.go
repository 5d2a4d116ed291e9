package metal

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"anyedge/internal/lab"
	"anyedge/internal/lab/netns"
)

// A File describes a lab that runs: /run/PREFIX.json.
type File struct {
	PID    int    `json:"pid"` // of its owner
	Dir    string `json:"dir"`
	Socket string `json:"socket"` // of its owner
}

func filePath(prefix string) string {
	return filepath.Join("/run", cmp.Or(prefix, DefaultPrefix)+".json")
}

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
	Name string `json:"name"`
	Kind string `json:"kind"` // BIRD | FRR
	Hops int    `json:"hops"` // ways to the IPv4 VIP in its kernel
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
		r := RouterStatus{Name: g.Name, Kind: "BIRD"}
		if g.FRR {
			r.Kind = "FRR"
		}
		r.Hops, _ = l.NextHops(g.Name+"-router", VIPs()[0]) // none when it cannot be read
		s.Routers = append(s.Routers, r)
	}
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
	path := filePath(opts.Prefix)
	l, err := Up(ctx, opts)
	if err != nil {
		return err
	}
	defer func() { // the file goes last: whoever waits for the end waits for that
		closed := l.Close()
		if removed := os.Remove(path); !errors.Is(removed, fs.ErrNotExist) {
			closed = errors.Join(closed, removed)
		}
		err = errors.Join(err, closed)
	}()
	ctx, end := context.WithCancel(ctx)
	defer end()
	socket := l.path("owner.sock")
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "unix", socket)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: l.handler(end), ReadHeaderTimeout: time.Second}
	go func() { _ = server.Serve(listener) }() // until Close
	defer func() { _ = server.Close() }()
	text, err := json.MarshalIndent(File{PID: os.Getpid(), Dir: l.dir, Socket: socket}, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, append(text, '\n'), 0o600); err != nil {
		return err
	}
	ready(l.Status(ctx))
	<-ctx.Done()
	return nil
}

func (l *Lab) handler(end func()) http.Handler {
	mux := http.NewServeMux()
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
		if err == nil {
			err = l.Break(words)
		}
		answer(w, l.Faults(), err)
	})
	mux.HandleFunc("POST /heal", func(w http.ResponseWriter, r *http.Request) {
		err := l.Heal(r.Context())
		answer(w, l.Faults(), err)
	})
	mux.HandleFunc("POST /down", func(w http.ResponseWriter, _ *http.Request) { answer(w, nil, nil); end() })
	return mux
}

// ErrNoLab means that no lab runs.
var ErrNoLab = errors.New("no lab runs: start one with: edgectl lab up")

// A Remote asks the owner of a lab.
type Remote struct{ File }

// Find returns the lab of that prefix that runs.
func Find(prefix string) (*Remote, error) {
	text, err := os.ReadFile(filePath(prefix))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNoLab
	}
	if err != nil {
		return nil, err
	}
	r := &Remote{}
	if err := json.Unmarshal(text, &r.File); err != nil {
		return nil, fmt.Errorf("%s: %w", filePath(prefix), err)
	}
	return r, nil
}

// Ask sends a request: "GET /status", "POST /break", "POST /heal", "POST /down".
func (r *Remote) Ask(ctx context.Context, request string, body, answer any) error {
	method, path, _ := strings.Cut(request, " ")
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://lab"+path, bytes.NewReader(text))
	if err != nil {
		return err
	}
	var d net.Dialer
	c := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return d.DialContext(ctx, "unix", r.Socket)
	}}}
	defer c.CloseIdleConnections()
	resp, err := c.Do(req)
	if err != nil {
		return fmt.Errorf("the lab's owner (process %d) does not answer: %w; take the lab down with: edgectl lab down", r.PID, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		why, _ := io.ReadAll(resp.Body)
		return errors.New(strings.TrimSpace(string(why)))
	}
	return json.NewDecoder(resp.Body).Decode(answer)
}

// Down takes a lab down, whether its owner lives or not, and returns what it had
// to remove itself.
func Down(ctx context.Context, prefix string) (removed []string, err error) {
	r, err := Find(prefix)
	if err == nil {
		var nothing any
		if r.Ask(ctx, "POST /down", nil, &nothing) == nil {
			return nil, awaitCond(ctx, "the lab's end", func() bool { _, err := os.Stat(filePath(prefix)); return err != nil })
		}
	} else if !errors.Is(err, ErrNoLab) {
		return nil, err
	}
	left := netns.List(cmp.Or(prefix, DefaultPrefix) + "-")
	if r == nil && len(left) == 0 {
		return nil, ErrNoLab
	}
	// Its processes have died with it.
	for _, name := range left {
		if err := netns.Delete(name); err != nil {
			return removed, err
		}
		removed = append(removed, "namespace "+name)
	}
	if r != nil {
		if err := errors.Join(os.RemoveAll(pinDir(r.Dir)), os.RemoveAll(r.Dir), os.Remove(filePath(prefix))); err != nil {
			return removed, err
		}
		removed = append(removed, r.Dir)
	}
	return removed, nil
}
