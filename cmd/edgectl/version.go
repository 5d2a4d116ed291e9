package main

import (
	"cmp"
	"context"
	"runtime/debug"

	"github.com/spf13/cobra"

	"anyedge/internal/admin/client"
	"anyedge/internal/api"
)

// versions is what `version -o json` prints; without a daemon only the
// client's.
type versions struct {
	Client       string `json:"client"`
	ClientCommit string `json:"client_commit,omitempty"`
	*api.Version
}

func (a *app) versionCommand() *cobra.Command {
	return a.command(&cobra.Command{
		Use:   "version",
		Short: "versions of edgectl and of the daemon",
	}, func(ctx context.Context, _ []string) error {
		out := versions{Client: api.Software, ClientCommit: commit()}
		d, err := ask(ctx, a, callTimeout, func(ctx context.Context, c *client.Client) (api.Version, error) { return c.Version(ctx) })
		if err == nil {
			out.Version = &d
		}
		v := view{data: out, names: []string{out.Client}, table: func(p *page) {
			p.line("edgectl %s (commit %s)", out.Client, cmp.Or(out.ClientCommit, "unknown"))
			if err == nil {
				p.line("edged   %s (commit %s, %s, gobgp %s, quic-go %s, kernel %s)", d.Daemon, cmp.Or(d.Commit, "unknown"), d.Go, d.GoBGP, d.QUIC, cmp.Or(d.Kernel, "unknown"))
			}
		}}
		if err != nil {
			v.hints = append(v.hints, "no daemon: "+err.Error())
		}
		return a.print(v, a.format)
	})
}

// commit returns the commit that this binary was made from, "" when unknown.
func commit() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value[:min(len(s.Value), 12)]
		}
	}
	return ""
}
