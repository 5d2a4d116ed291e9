package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"anyedge/internal/admin/client"
	"anyedge/internal/api"
)

// traceFlags are what the caller wants to see.
type traceFlags struct {
	service, status, rule, client, path string
	slow, during                        time.Duration
	recent                              bool
	most                                int
}

func (a *app) traceCommand() *cobra.Command {
	var f traceFlags
	c := a.command(&cobra.Command{
		Use:   "trace [ID]",
		Short: "what becomes of requests, as they end; or of one",
		Long: "Trace shows requests as they end, until it is interrupted. --recent shows those that are kept in place of it: the last ones that failed,\n" +
			"took more than a second, were tried more than once, or were sent or served by another geo. ID (of the log, or of Edge-Request in an\n" +
			"error of the edge) shows what happened to one of them, step by step. A trace that is slow to read misses requests, and says how many.",
		Args: cobra.MaximumNArgs(1),
	}, func(ctx context.Context, args []string) error {
		q, err := f.query()
		switch {
		case err != nil:
			return err
		case len(args) > 0:
			return a.traceOne(ctx, args[0])
		case f.recent:
			return a.show(ctx, func(ctx context.Context) (view, error) {
				t, err := a.traces(ctx, q)
				if n := len(t.Traces); f.most > 0 && n > f.most {
					t.Traces = t.Traces[n-f.most:]
				}
				return a.tracesView(t), err
			})
		}
		return a.traceLive(ctx, q, f)
	})
	fl := c.Flags()
	fl.StringVar(&f.service, "service", "", "only requests of this service")
	fl.StringVar(&f.status, "status", "", "only answers of this class (5xx) or with this status (503)")
	fl.StringVar(&f.rule, "rule", "", "only errors of the edge's own by this rule (no_backend, timeout, full, …)")
	fl.StringVar(&f.client, "client", "", "only of this client: an address or a prefix")
	fl.StringVar(&f.path, "path", "", "only where the path begins so")
	fl.DurationVar(&f.slow, "slow", 0, "only those that took at least so long")
	fl.BoolVar(&f.recent, "recent", false, "those that are kept, and end")
	fl.IntVarP(&f.most, "limit", "n", 0, "end after so many")
	fl.DurationVar(&f.during, "for", 0, "end after so long")
	_ = c.RegisterFlagCompletionFunc("service", a.complete(a.serviceNames)) // the flag exists
	return c
}

// query is what the flags ask the daemon for.
func (f *traceFlags) query() (url.Values, error) {
	q := url.Values{}
	set := func(key, value string) {
		if value != "" {
			q.Set(key, value)
		}
	}
	status := strings.TrimSuffix(strings.ToLower(f.status), "xx")
	if f.status != "" && !regexp.MustCompile(`^[1-5](xx|\d\d)$`).MatchString(strings.ToLower(f.status)) {
		return nil, usagef("--status %s: want a class like 5xx, or a status like 503", f.status)
	}
	if f.slow < 0 || f.most < 0 || f.during < 0 {
		return nil, usagef("--slow, --limit and --for cannot be below 0")
	}
	set("service", f.service)
	set("status", status)
	set("rule", f.rule)
	set("client", f.client)
	set("path", f.path)
	if f.slow > 0 {
		q.Set("slow_ms", strconv.FormatFloat(float64(f.slow)/float64(time.Millisecond), 'f', -1, 64))
	}
	return q, nil
}

func (a *app) traces(ctx context.Context, q url.Values) (api.Traces, error) {
	return ask(ctx, a, callTimeout, func(ctx context.Context, c *client.Client) (api.Traces, error) { return c.Traces(ctx, q) })
}

var errEnough = errors.New("enough")

// traceLive prints requests as they end.
func (a *app) traceLive(ctx context.Context, q url.Values, f traceFlags) error {
	format := a.format
	if format == "json" || format == "yaml" {
		format = "jsonl" // an endless document helps nobody
	}
	if f.during > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, f.during)
		defer cancel()
	}
	c := a.client()
	defer c.Close()
	shown := 0
	err := c.TraceLive(ctx, q, func(e api.TraceEvent) error {
		if e.Dropped > 0 {
			a.hint("%d more were not shown: they come faster than this is read", e.Dropped)
		}
		if e.Trace == nil {
			a.hint("requests of %s as they end; Ctrl-C ends this", a.socketPath())
			return nil
		}
		if err := a.print(a.tracesView(api.Traces{Traces: []api.Trace{*e.Trace}}), format); err != nil {
			return err
		}
		a.noHeaders = true
		if shown++; shown == f.most {
			return errEnough
		}
		return nil
	})
	switch {
	case errors.Is(err, errEnough), ctx.Err() != nil:
		return nil
	case err == nil:
		return io.ErrUnexpectedEOF
	}
	return err
}

func (a *app) tracesView(t api.Traces) view {
	v := view{data: t, rows: anys(t.Traces)}
	for _, x := range t.Traces {
		v.names = append(v.names, x.ID)
	}
	v.table = func(p *page) {
		tab := newTable("AT", "ID", "STATUS", "TOOK", "SERVED BY", "REQUEST, AND WHAT WAS DECIDED")
		tab.min = []int{8, 16, 6, 8, 12} // tables follow each other
		for _, x := range t.Traces {
			tab.row(a.clock(x.At), x.ID, statusCell(x.Status), millis(&x.TookMillis), servedBy(x), x.Method+" "+x.Host+x.Path)
			if why := decided(x); why != "" {
				tab.row(" ", " ", " ", " ", " ", why)
			}
		}
		p.table(tab)
	}
	if len(t.Traces) == 0 {
		v.hints = []string{"none is kept: no request failed, was slow, or went to another geo"}
	}
	return v
}

func statusCell(status int) cell {
	c := cell{text: strconv.Itoa(status)}
	switch {
	case status >= 500:
		c.mood = ill
	case status >= 400:
		c.mood = doubtful
	}
	return c
}

// servedBy is who made the answer.
func servedBy(t api.Trace) string {
	switch {
	case t.Rule != "":
		return t.Geo + " itself"
	case t.Moved != "" && t.Geo != t.Entry || t.Backend == "":
		return t.Geo
	}
	return t.Geo + "/" + t.Backend
}

// decided is why a request was served as it was, in a few words.
func decided(t api.Trace) string {
	var words []string
	add := func(ok bool, format string, args ...any) {
		if ok {
			words = append(words, fmt.Sprintf(format, args...))
		}
	}
	add(t.Rule != "", "%s: %s", t.Rule, t.Error)
	add(t.Rule == "" && t.Error != "", "%s", t.Error)
	add(t.Moved != "", "%s to %s", t.Moved, t.Geo)
	add(t.Hop != "", "%s of %s", t.Hop, t.Entry)
	add(t.Tries > 1, "%d backends asked", t.Tries)
	return strings.Join(words, "; ")
}

// traceOne shows the steps of one request.
func (a *app) traceOne(ctx context.Context, id string) error {
	t, err := a.traces(ctx, url.Values{"id": {id}})
	if err != nil {
		return err
	}
	if len(t.Traces) == 0 {
		return fmt.Errorf("request %s is not kept here. Kept are the last ones that failed, were slow, or concern other geos: edgectl trace --recent; "+
			"the geo that served it may have it, and the log has what log.access asks for", id)
	}
	x := t.Traces[len(t.Traces)-1]
	return a.print(a.traceView(x), a.format)
}

func (a *app) traceView(x api.Trace) view {
	v := view{data: x, rows: []any{x}, names: []string{x.ID}}
	v.table = func(p *page) {
		p.line("%s %s%s", x.Method, x.Host, x.Path)
		came := "listener " + x.Listener
		if x.Hop != "" {
			came = fmt.Sprintf("the fabric (%s of %s)", x.Hop, x.Entry)
		}
		p.line("%s at %s, client %s over %s, through %s, %s", x.ID, a.clock(x.At), orNone(x.Client), x.Version, came, serviceOf(x))
		steps := newTable("", "")
		for _, s := range append(slices.Clone(x.Steps), ending(x)...) {
			steps.row(fmt.Sprintf("%10s", millis(&s.AfterMillis)), s.Text)
		}
		p.table(steps)
		if why := decided(x); why != "" {
			p.line("=> %s", why)
		}
	}
	if x.Geo != x.Entry && x.Hop == "" {
		v.hints = []string{fmt.Sprintf("What happened in %s is known there: edgectl trace %s", x.Geo, x.ID)}
	}
	return v
}

// ending are the last two steps.
func ending(x api.Trace) []api.TraceStep {
	var out []api.TraceStep
	if x.FirstByteMillis != nil {
		out = append(out, api.TraceStep{AfterMillis: *x.FirstByteMillis, Text: fmt.Sprintf("%d, by %s", x.Status, servedBy(x))})
	}
	text := fmt.Sprintf("over: %s received, %s sent", size(uint64(x.Received)), size(uint64(x.Sent)))
	return append(out, api.TraceStep{AfterMillis: x.TookMillis, Text: text})
}

func orNone(s string) string {
	if s == "" {
		return none
	}
	return s
}

func serviceOf(x api.Trace) string {
	if x.Service == "" {
		return "no service"
	}
	return "service " + x.Service
}
