package main

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"anyedge/internal/api"
)

// topData is what top shows.
type topData struct {
	At       time.Time     `json:"at"`
	Services []api.Service `json:"services"`
	Backends []api.Backend `json:"backends"`
}

// topRefresh is how often top looks.
const topRefresh = 2 * time.Second

// orders are what top can sort by, the most first.
var orders = []string{"rate", "errors", "p99", "active", "name"}

func (a *app) topCommand() *cobra.Command {
	var once bool
	var by string
	var rows int
	c := a.command(&cobra.Command{
		Use:   "top",
		Short: "services and backends, the busiest first, again and again",
		Long:  "Top shows services and backends by rate, errors and times of the last ten seconds, every two seconds until it is interrupted.",
	}, func(ctx context.Context, _ []string) error {
		if !slices.Contains(orders, by) {
			return usagef("--sort %s: want %s", by, strings.Join(orders, ", "))
		}
		if rows < 1 {
			return usagef("--rows %d: want 1 or more", rows)
		}
		switch {
		case once:
			a.watch = 0
		case a.watch == 0:
			a.watch = topRefresh
		}
		return a.show(ctx, func(ctx context.Context) (view, error) { return a.top(ctx, by, rows) })
	})
	c.Flags().BoolVar(&once, "once", false, "show it once and end")
	c.Flags().StringVar(&by, "sort", "rate", strings.Join(orders, "|"))
	c.Flags().IntVar(&rows, "rows", 20, "at most so many of each")
	_ = c.RegisterFlagCompletionFunc("sort", cobra.FixedCompletions(orders, cobra.ShellCompDirectiveNoFileComp)) // the flag exists
	return a.watched(c)
}

// top asks for both tables.
func (a *app) top(ctx context.Context, by string, rows int) (view, error) {
	s, err := a.services(ctx)
	if err != nil {
		return view{}, err
	}
	b, err := a.backends(ctx, "")
	if err != nil {
		return view{}, err
	}
	here := map[string]int{} // requests under way at the backends of a service
	for _, x := range b.Backends {
		here[x.Service] += x.Active
	}
	slices.SortStableFunc(s.Services, func(x, y api.Service) int {
		return busier(by, load{x.Rate, x.ErrorRate, x.P99Millis, here[x.Name], x.Name}, load{y.Rate, y.ErrorRate, y.P99Millis, here[y.Name], y.Name})
	})
	slices.SortStableFunc(b.Backends, func(x, y api.Backend) int {
		return busier(by, load{x.Rate, x.ErrorRate, x.P99Millis, x.Active, x.Service + "/" + x.Name}, load{y.Rate, y.ErrorRate, y.P99Millis, y.Active, y.Service + "/" + y.Name})
	})
	s.Services, b.Backends = s.Services[:min(rows, len(s.Services))], b.Backends[:min(rows, len(b.Backends))]
	data := topData{a.now(), s.Services, b.Backends}
	v := view{data: data, rows: []any{data}}
	for _, x := range s.Services {
		v.names = append(v.names, x.Name)
	}
	v.table = func(p *page) { topTables(p, a.clock(data.At), data, here) }
	return v, nil
}

func topTables(p *page, at string, data topData, here map[string]int) {
	rate := 0.0
	t := newTable("SERVICE", "BACKENDS", "REQ/S", "5XX", "P50", "P99", "ACTIVE", "QUEUE", "REPLAYED", "SHED")
	for _, x := range data.Services {
		rate += x.Rate
		t.row(x.Name, backendsUp(x), count(x.Rate), errorShare(x.Rate, x.ErrorRate), millis(x.P50Millis), millis(x.P99Millis),
			here[x.Name], x.Local.Waiting, someRate(x.Replayed), someRate(x.Shed))
	}
	p.line("%s  %s", at, perSecond(rate))
	p.table(t)
	p.line("")
	t = newTable("BACKEND", "HEALTH", "REQ/S", "ERRORS", "P50", "P99", "ACTIVE", "LAST ERROR")
	for _, x := range data.Backends {
		health := cell{x.Health, good}
		if x.Health != "up" {
			health.mood = ill
		}
		t.row(x.Service+"/"+x.Name, health, count(x.Rate), errorShare(x.Rate, x.ErrorRate), millis(x.P50Millis), millis(x.P99Millis), active(x), cmp.Or(x.Why, x.LastError))
	}
	p.table(t)
}

// load is what services and backends are sorted by.
type load struct {
	rate, errors float64
	p99          *float64
	active       int
	name         string
}

// busier compares for a descending order by one of orders, then by name.
func busier(by string, x, y load) int {
	c := 0
	switch by {
	case "rate":
		c = cmp.Compare(y.rate, x.rate)
	case "errors":
		c = cmp.Compare(y.rate*y.errors, x.rate*x.errors)
	case "p99":
		c = cmp.Compare(orZero(y.p99), orZero(x.p99))
	case "active":
		c = cmp.Compare(y.active, x.active)
	}
	return cmp.Or(c, cmp.Compare(x.name, y.name))
}

func orZero(f *float64) float64 {
	if f == nil {
		return 0
	}
	return *f
}
