package steering

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// aliveFor is how long the proxy may be silent: ten beats of 100 ms.
const aliveFor = time.Second

// maxSilence is how much one decision can add to a silence. When decisions come
// later than that, the process as a whole was kept from running, and the proxy
// could not beat either: an overloaded edge must not withdraw itself.
const maxSilence = 2 * tick

// A gate is what the signals of a VIP say together.
type gate struct {
	signals []Signal
	hard    string // the hard signal that fails and its text; "" when none does
	known   bool   // every service has been judged
	soft    bool   // `announce.when` holds
	text    string // `announce.when` and its numbers
}

// readGate evaluates the signals of vip.
func readGate(v *View, vip *VIPView, silent time.Duration, when When) gate {
	g := gate{known: true}
	g.add(Signal{Name: "listeners.up", OK: vip.ListenersUp, Hard: true, Text: pick(vip.ListenersUp, "every listener accepts", cmp.Or(vip.ListenersWhy, "a listener does not accept"))})
	g.add(proxyReady(vip.ProxyAlive, silent))

	var healthy, total, serving int
	for _, name := range vip.Services {
		s := v.service(name)
		healthy, total = healthy+s.Healthy, total+s.Total
		if s.Healthy > 0 {
			serving++
		}
		text := backends(s.Healthy, s.Total)
		if !s.Reported {
			g.known = false
			text = "not judged yet"
		}
		g.add(Signal{Name: "service." + name, OK: s.Healthy > 0, Text: text})
	}
	switch when.Kind {
	case Always, Never:
		g.soft, g.text = when.Kind == Always, when.String()
	case Fraction:
		g.soft = float64(healthy) >= when.Fraction*float64(total) && healthy > 0
		g.text = when.String() + ": " + backends(healthy, total)
	default:
		g.soft, g.text = serving > 0, when.String()+": "+backends(healthy, total)
	}
	if len(vip.Services) == 0 && when.Kind != Never {
		// Nothing to wait for: a listener that only redirects, for example.
		g.soft, g.text = true, when.String()+": no service on its listeners"
	}
	g.add(Signal{Name: "announce.when", OK: g.soft, Text: g.text})
	return g
}

// add appends s and notes the first hard failure.
func (g *gate) add(s Signal) {
	g.signals = append(g.signals, s)
	if s.Hard && !s.OK && g.hard == "" {
		g.hard = s.Name + ": " + s.Text
	}
}

// reason returns what the gate hangs on: the hard signal that fails, or
// `announce.when`.
func (g *gate) reason() string {
	if g.hard != "" {
		return g.hard
	}
	return g.text
}

// unjudged returns the name of the first service without a verdict.
func (g *gate) unjudged() string {
	i := slices.IndexFunc(g.signals, func(s Signal) bool { return s.Text == "not judged yet" })
	if i < 0 {
		return ""
	}
	return g.signals[i].Name
}

// proxyReady is the lease of the request path.
func proxyReady(alive time.Time, silent time.Duration) Signal {
	s := Signal{Name: "proxy.ready", Hard: true, Text: "never alive"}
	if !alive.IsZero() {
		s.Age = silent
		s.OK = s.Age <= aliveFor
		s.Text = "last alive " + short(s.Age) + " ago"
	}
	return s
}

// service returns the state of the named service; the zero state when there is
// none.
func (v *View) service(name string) ServiceView {
	for i := range v.Services {
		if v.Services[i].Name == name {
			return v.Services[i]
		}
	}
	return ServiceView{Name: name}
}

// backends says how many can serve.
func backends(healthy, total int) string {
	return fmt.Sprintf("%d of %d backend%s up", healthy, total, pick(total == 1, "", "s"))
}

// pick returns yes or no.
func pick(ok bool, yes, no string) string {
	if ok {
		return yes
	}
	return no
}

// short rounds d for a line that people read.
func short(d time.Duration) string {
	switch {
	case d >= time.Minute:
		return d.Round(time.Second).String()
	case d >= time.Second:
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Millisecond).String()
}
