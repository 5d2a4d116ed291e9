package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"
)

// completeTimeout bounds what a person waits for after the tab key.
const completeTimeout = time.Second

// complete completes the first argument with names that the daemon knows.
func (a *app) complete(names func(context.Context) ([]string, error)) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(c.Context(), completeTimeout)
		defer cancel()
		found, err := names(ctx)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return found, cobra.ShellCompDirectiveNoFileComp
	}
}

func (a *app) geoNames(ctx context.Context) ([]string, error) {
	g, err := a.geos(ctx)
	return geosView(g).names, err
}

func (a *app) nodeNames(ctx context.Context) ([]string, error) {
	all, err := a.geos(ctx)
	var names []string
	for i := range all.Geos {
		for j := range all.Geos[i].Nodes {
			names = append(names, all.Geos[i].Nodes[j].Name)
		}
	}
	return names, err
}

func (a *app) vipNames(ctx context.Context) ([]string, error) {
	r, err := a.routes(ctx)
	return a.routesView(r).names, err
}

func (a *app) serviceNames(ctx context.Context) ([]string, error) {
	s, err := a.services(ctx)
	return servicesView(s).names, err
}
