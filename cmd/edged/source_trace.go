package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"time"

	"anyedge/internal/admin"
	"anyedge/internal/api"
	"anyedge/proxy"
)

// Traces lists the requests that are kept and that q chooses.
func (s source) Traces(q url.Values) (api.Traces, error) {
	out := api.Traces{Geo: s.geo, Node: s.name, Traces: []api.Trace{}}
	f, err := traceFilter(q)
	if err != nil {
		return out, err
	}
	for _, t := range s.proxy.Traces(f) {
		out.Traces = append(out.Traces, traceRow(t))
	}
	return out, nil
}

// WatchTraces has show called with the requests that q chooses until ctx ends or
// show fails. The first call says that it has begun.
func (s source) WatchTraces(ctx context.Context, q url.Values, show func(api.TraceEvent) error) error {
	f, err := traceFilter(q)
	if err != nil {
		return err
	}
	w, err := s.proxy.Watch(f)
	if err != nil {
		return &admin.BadRequestError{Text: err.Error()}
	}
	defer w.Close()
	if err := show(api.TraceEvent{}); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case t := <-w.C:
			row := traceRow(t)
			if err := show(api.TraceEvent{Trace: &row, Dropped: w.Dropped()}); err != nil {
				return err
			}
		}
	}
}

// traceFilter reads what a caller wants to see.
func traceFilter(q url.Values) (proxy.TraceFilter, error) {
	f := proxy.TraceFilter{ID: q.Get("id"), Service: q.Get("service"), Rule: proxy.Rule(q.Get("rule")), Path: q.Get("path")}
	var errs [3]error
	if text := q.Get("status"); text != "" {
		var err error
		if f.Status, err = strconv.Atoi(text); err != nil || f.Status < 1 || f.Status > 599 || f.Status > 5 && f.Status < 100 {
			errs[0] = fmt.Errorf("status: %q is no status, and no class like 5", text)
		}
	}
	if text := q.Get("client"); text != "" {
		var err error
		if f.Client, err = netip.ParsePrefix(text); err != nil {
			a, err := netip.ParseAddr(text)
			if err != nil {
				errs[1] = fmt.Errorf("client: %q is no address and no prefix", text)
			} else {
				f.Client = netip.PrefixFrom(a, a.BitLen())
			}
		}
	}
	if text := q.Get("slow_ms"); text != "" {
		ms, err := strconv.ParseFloat(text, 64)
		if err != nil || ms < 0 || ms > 1e9 {
			errs[2] = fmt.Errorf("slow_ms: %q is no number of milliseconds", text)
		}
		f.Slow = time.Duration(ms * float64(time.Millisecond))
	}
	if err := errors.Join(errs[:]...); err != nil {
		return f, &admin.BadRequestError{Text: err.Error()}
	}
	return f, nil
}

func traceRow(t *proxy.Trace) api.Trace {
	row := api.Trace{
		ID: t.ID, At: t.At, Listener: t.Listener, Service: t.Service, Version: t.Version,
		Method: t.Method, Host: t.Host, Path: t.Path, Status: t.Status, Rule: string(t.Rule), Error: t.Error,
		Entry: t.Entry, Geo: t.Geo, Moved: t.Moved, Hop: t.Hop, Backend: t.Backend, Tries: t.Tries,
		Received: t.Received, Sent: t.Sent, TookMillis: *millis(t.Took), Steps: []api.TraceStep{},
	}
	if t.Client.IsValid() {
		row.Client = t.Client.String()
	}
	if t.FirstByte > 0 {
		row.FirstByteMillis = millis(t.FirstByte)
	}
	for _, step := range t.Steps {
		row.Steps = append(row.Steps, api.TraceStep{AfterMillis: *millis(step.After), Text: step.Text})
	}
	return row
}
