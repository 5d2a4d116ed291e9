package main

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"anyedge/internal/admin/client"
	"anyedge/internal/api"
)

// explainFlags describe the request.
type explainFlags struct {
	method, client, listener    string
	headers, backends, geosDown []string
}

func (a *app) explainCommand() *cobra.Command {
	var f explainFlags
	c := a.command(&cobra.Command{
		Use:   "explain [METHOD] URL",
		Short: "what would happen with a request now, and why; it is not sent",
		Long: "Explain follows a request through the running edged without sending it: listener, route, limits, the door, backends. --backend-down and\n" +
			"--geo-down ask what would happen if those were not there. Exit code 1 means that the edge would refuse it.",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 1 && len(args) != 2 {
				return usagef("%s needs a URL, after a method if it is not GET: %s", c.CommandPath(), c.UseLine())
			}
			return nil
		},
	}, func(ctx context.Context, args []string) error {
		if len(args) == 2 {
			if f.method != "" {
				return usagef("the method is given twice: %s and -X %s", args[0], f.method)
			}
			f.method = args[0]
		}
		q := url.Values{"url": {args[len(args)-1]}}
		for key, value := range map[string]string{"method": strings.ToUpper(f.method), "client": f.client, "listener": f.listener} {
			if value != "" {
				q.Set(key, value)
			}
		}
		q["header"], q["backend_down"], q["geo_down"] = f.headers, f.backends, f.geosDown
		return a.show(ctx, func(ctx context.Context) (view, error) {
			e, err := ask(ctx, a, callTimeout, func(ctx context.Context, c *client.Client) (api.Explanation, error) { return c.Explain(ctx, q) })
			return explainView(e), err
		})
	})
	fl := c.Flags()
	fl.StringVarP(&f.method, "request", "X", "", "method (default GET)")
	fl.StringArrayVarP(&f.headers, "header", "H", nil, "a field of the request, NAME: VALUE; may be repeated")
	fl.StringVar(&f.client, "client", "", "address of the client (default 127.0.0.1)")
	fl.StringVar(&f.listener, "listener", "", "listener that it comes through (default: found by the URL's scheme and port)")
	fl.StringArrayVar(&f.backends, "backend-down", nil, "as if this backend were down; may be repeated")
	fl.StringArrayVar(&f.geosDown, "geo-down", nil, "as if this geo were not there; may be repeated")
	_ = c.RegisterFlagCompletionFunc("geo-down", a.complete(a.geoNames)) // the flag exists
	return c
}

func explainView(e api.Explanation) view {
	v := view{data: e, rows: anys(e.Steps), bad: e.Status != 0}
	for _, s := range e.Steps {
		v.names = append(v.names, s.Name)
	}
	v.table = func(p *page) {
		t := newTable("", "", "")
		for i, s := range e.Steps {
			t.row(fmt.Sprintf("%2d", i+1), s.Name, s.Text)
		}
		p.table(t)
		p.line("=> %s", e.Outcome)
	}
	return v
}
