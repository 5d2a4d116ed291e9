package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"anyedge/internal/admin/client"
	"anyedge/internal/api"
)

func (a *app) backendsCommand() *cobra.Command {
	return a.watched(a.command(&cobra.Command{
		Use:               "backends [SERVICE]",
		Aliases:           []string{"backend"},
		Short:             "backends of a service, or of all: health and requests",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.complete(a.serviceNames),
	}, func(ctx context.Context, args []string) error {
		service := ""
		if len(args) > 0 {
			service = args[0]
		}
		return a.show(ctx, func(ctx context.Context) (view, error) { return a.backendsOf(ctx, service) })
	}))
}

// backendsOf asks for the backends of one service, or of all.
func (a *app) backendsOf(ctx context.Context, service string) (view, error) {
	b, err := ask(ctx, a, callTimeout, func(ctx context.Context, c *client.Client) (api.Backends, error) { return c.Backends(ctx, service) })
	if err != nil {
		return view{}, err
	}
	if service != "" && len(b.Backends) == 0 {
		s, err := a.services(ctx)
		if err != nil {
			return view{}, err
		}
		if _, err := onlyService(s.Services, service); err != nil {
			return view{}, err
		}
	}
	return a.backendsView(b), nil
}

func (a *app) backendsView(b api.Backends) view {
	v := view{data: b, rows: anys(b.Backends)}
	t := newTable("SERVICE", "BACKEND", "URL", "HEALTH", "ACTIVE", "REQUESTS", "FAILURES", "LAST ERROR")
	for _, x := range b.Backends {
		v.names = append(v.names, x.Service+"/"+x.Name)
		health := cell{fmt.Sprintf("%s %s", x.Health, a.since(x.Since)), doubtful}
		lastError := x.LastError
		switch x.Health {
		case "up":
			health.mood = good
			if x.Share > 0 && x.Share < 1 {
				health.text += fmt.Sprintf(" at %.0f%%", 100*x.Share)
			}
		case "ejected":
			health.mood, lastError = ill, x.Why
		case "down":
			health = cell{"DOWN " + a.since(x.Since), ill}
		}
		t.row(x.Service, x.Name, x.URL, health, x.Active, count(float64(x.Requests)), count(float64(x.Failures)), lastError)
	}
	v.table = func(p *page) { p.table(t) }
	return v
}
