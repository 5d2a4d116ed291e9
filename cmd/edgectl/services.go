package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"anyedge/internal/admin/client"
	"anyedge/internal/api"
)

func (a *app) servicesCommand() *cobra.Command {
	return a.watched(a.command(&cobra.Command{
		Use:               "services [NAME]",
		Aliases:           []string{"service"},
		Short:             "services: backends, requests, what is served elsewhere",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.complete(a.serviceNames),
	}, func(ctx context.Context, args []string) error {
		return a.show(ctx, func(ctx context.Context) (view, error) {
			s, err := a.services(ctx)
			if err != nil {
				return view{}, err
			}
			if len(args) > 0 {
				if s.Services, err = onlyService(s.Services, args[0]); err != nil {
					return view{}, err
				}
			}
			return servicesView(s), nil
		})
	}))
}

func (a *app) services(ctx context.Context) (api.Services, error) {
	return ask(ctx, a, callTimeout, func(ctx context.Context, c *client.Client) (api.Services, error) { return c.Services(ctx) })
}

// onlyService returns the service of that name alone.
func onlyService(all []api.Service, name string) ([]api.Service, error) {
	var names []string
	for _, s := range all {
		if s.Name == name {
			return []api.Service{s}, nil
		}
		names = append(names, s.Name)
	}
	return nil, unknown("service", name, names)
}

func servicesView(s api.Services) view {
	v := view{data: s, rows: anys(s.Services)}
	t := newTable("SERVICE", "HOSTS", "BACKENDS", "REQ/S", "5XX", "P50", "P99", "REPLAYED", "SHED", "ELSEWHERE")
	for _, x := range s.Services {
		v.names = append(v.names, x.Name)
		t.row(x.Name, strings.Join(x.Hosts, ","), backendsUp(x), count(x.Rate), strconv.FormatFloat(x.ErrorRate*100, 'f', 2, 64)+"%",
			millis(x.P50Millis), millis(x.P99Millis), someRate(x.Replayed), someRate(x.Shed), strings.Join(x.Elsewhere, ","))
	}
	v.table = func(p *page) { p.table(t) }
	return v
}

// backendsUp writes how many backends of a service can serve.
func backendsUp(x api.Service) cell {
	c := cell{fmt.Sprintf("%d/%d", x.Healthy, x.Total), good}
	switch {
	case x.Healthy == 0:
		c.mood = ill
	case x.Healthy < x.Total:
		c.mood = doubtful
	}
	return c
}

// someRate writes a rate, and nothing for zero.
func someRate(f float64) string {
	if f < 0.05 {
		return none
	}
	return perSecond(f)
}
