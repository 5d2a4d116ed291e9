package main

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"anyedge/internal/admin"
	"anyedge/internal/api"
	"anyedge/internal/message"
	"anyedge/proxy"
)

// Explain says what would happen with the request that q describes.
func (s source) Explain(q url.Values) (api.Explanation, error) {
	out := api.Explanation{Steps: []api.ExplainedStep{}, Backends: []string{}}
	ask := proxy.Question{
		Method: q.Get("method"), URL: q.Get("url"), Listener: q.Get("listener"),
		BackendsDown: q["backend_down"], GeosDown: q["geo_down"],
	}
	for _, line := range q["header"] {
		name, value, ok := strings.Cut(line, ":")
		if !ok || !message.IsToken(name) {
			return out, &admin.BadRequestError{Text: fmt.Sprintf("header %q: want NAME:VALUE", line)}
		}
		ask.Header.Add(name, strings.TrimSpace(value))
	}
	if text := q.Get("client"); text != "" {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return out, &admin.BadRequestError{Text: fmt.Sprintf("client %q is no address", text)}
		}
		ask.Client = a
	}
	x, err := s.proxy.Explain(ask)
	if err != nil {
		return out, &admin.BadRequestError{Text: err.Error()}
	}
	for _, step := range x.Steps {
		out.Steps = append(out.Steps, api.ExplainedStep(step))
	}
	out.Outcome, out.Status, out.Rule = x.Outcome, x.Status, string(x.Rule)
	out.Service, out.Geo, out.Backends = x.Service, x.Geo, orEmpty(x.Backends)
	return out, nil
}
