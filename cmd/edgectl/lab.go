package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"anyedge/internal/lab/metal"
)

// labWait bounds what is asked of a lab's owner; labUp the time until it is up.
const (
	labWait = 30 * time.Second
	labUp   = 90 * time.Second
)

// labFlags are the flags of lab's commands.
type labFlags struct{ prefix, edged, l4 string }

func (a *app) labCommand() *cobra.Command {
	var f labFlags
	g := a.group("lab", "three geos in network namespaces, with BIRD, FRR and XDP",
		a.labUpCommand(&f), a.labStatusCommand(&f), a.labBreakCommand(&f), a.labHealCommand(&f), a.labDownCommand(&f), a.labOwnCommand(&f))
	g.Long = "The lab shows edged as it is racked, on one machine: `edgectl lab up` makes it, break and heal play with it, down ends it.\n" +
		"It needs root, and bird2 and frr from Debian (apt-get install bird2 frr); the machine's own network is not touched."
	g.PersistentFlags().StringVar(&f.prefix, "prefix", metal.DefaultPrefix, "begins the names of the namespaces")
	for _, c := range g.Commands() {
		run := c.RunE
		c.RunE = func(c *cobra.Command, args []string) error {
			if err := metal.CheckPrefix(f.prefix); err != nil {
				return usagef("--%s", err)
			}
			return run(c, args)
		}
	}
	return g
}

func (a *app) labUpCommand(f *labFlags) *cobra.Command {
	c := a.command(&cobra.Command{
		Use:   "up",
		Short: "make the lab; it runs until edgectl lab down",
		Long: "Up makes machines out of network namespaces: two edges in fra, one each in iad and nrt, a BIRD or FRR router\n" +
			"in each, a transit router with clients in eu and asia, and links with distance. It needs root, bird2 and frr.",
	}, func(ctx context.Context, _ []string) error {
		if err := metal.Check(); err != nil {
			return err
		}
		if _, err := metal.Find(f.prefix); err == nil {
			return fmt.Errorf("a lab is there already: see %s, or end it with %s", metal.Command("status", f.prefix), metal.Command("down", f.prefix))
		}
		s, err := a.startLab(ctx, f)
		if err != nil {
			return err
		}
		return a.print(labView(s, a.labHints(s, f.prefix)...), a.format)
	})
	f.register(c)
	return c
}

func (f *labFlags) register(c *cobra.Command) {
	c.Flags().StringVar(&f.edged, "edged", "", "program of the edges; default: edged beside edgectl, or in PATH")
	c.Flags().StringVar(&f.l4, "l4", "native", "l4.mode of the edges: native, generic, auto or off")
}

// program finds edged.
func (f *labFlags) program() (string, error) {
	if f.edged != "" {
		p, err := exec.LookPath(f.edged)
		if err != nil {
			return "", fmt.Errorf("--edged: %w", err)
		}
		return filepath.Abs(p)
	}
	if self, err := os.Executable(); err == nil {
		if p, err := exec.LookPath(filepath.Join(filepath.Dir(self), "edged")); err == nil {
			return p, nil
		}
	}
	p, err := exec.LookPath("edged")
	if err != nil {
		return "", errors.New("edged is neither beside edgectl nor in PATH: name it with --edged, or build it with: go build -o bin/ ./cmd/edged ./cmd/edgectl")
	}
	return filepath.Abs(p)
}

// startLab starts the owner in the background and waits until it is up.
func (a *app) startLab(ctx context.Context, f *labFlags) (metal.Status, error) {
	var s metal.Status
	program, err := f.program()
	if err != nil {
		return s, err
	}
	self, err := os.Executable()
	if err != nil {
		return s, err
	}
	cmd := exec.Command(self, "lab", "own", "--prefix", f.prefix, "--edged", program, "--l4", f.l4) //nolint:noctx // it outlives this command
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return s, err
	}
	var why strings.Builder
	cmd.Stderr = &why
	if err := cmd.Start(); err != nil {
		return s, err
	}
	line := make(chan string, 1)
	go func() {
		text, _ := bufio.NewReader(out).ReadString('\n') // "" when it ended before
		line <- text
	}()
	select {
	case text := <-line:
		if text == "" {
			_ = cmd.Wait() // its own words say more
			return s, errors.New(strings.TrimPrefix(strings.TrimSpace(why.String()), "edgectl: "))
		}
		return s, json.Unmarshal([]byte(text), &s)
	case <-time.After(labUp):
		err = fmt.Errorf("the lab is not up after %s", labUp)
	case <-ctx.Done():
		err = ctx.Err()
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	_ = cmd.Wait()
	return s, err
}

// labOwnCommand is the process behind a lab.
func (a *app) labOwnCommand(f *labFlags) *cobra.Command {
	c := a.command(&cobra.Command{Use: "own", Hidden: true, Short: "be the process behind a lab"}, func(ctx context.Context, _ []string) error {
		ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
		defer stop()
		// Nobody reads what it says once the lab is up; that must not end it.
		signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
		opts := metal.Options{Prefix: f.prefix, Edged: f.edged, L4: f.l4, Log: slog.New(slog.DiscardHandler)}
		if f.l4 == "off" {
			opts.L4 = ""
		}
		return metal.Own(ctx, opts, func(s metal.Status) {
			_ = json.NewEncoder(a.stdout).Encode(s) // whoever waits for it reads it
		})
	})
	f.register(c)
	return c
}

func (a *app) labStatusCommand(f *labFlags) *cobra.Command {
	return a.command(&cobra.Command{
		Use:   "status",
		Short: "machines, routers, who serves the clients, what is broken",
		Long:  "Status looks at the whole lab. Exit code 1 means that something is broken or not well, or that some clients are not served.",
	}, func(ctx context.Context, _ []string) error {
		var s metal.Status
		if err := f.ask(ctx, "GET /status", nil, &s); err != nil {
			return err
		}
		v := labView(s)
		v.bad = !s.Well()
		return a.print(v, a.format)
	})
}

func (f *labFlags) ask(ctx context.Context, request string, body, answer any) error {
	r, err := metal.Find(f.prefix)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, labWait)
	defer cancel()
	return r.Ask(ctx, request, body, answer)
}

func (a *app) labBreakCommand(f *labFlags) *cobra.Command {
	return a.command(&cobra.Command{
		Use:   "break WHAT NAME [HOW]",
		Short: "break something; heal mends it",
		Long: "  link fra-iad [loss=1%]        what two geos send each other gets lost, all of it or a share\n" +
			"  router fra                    a geo's router is killed\n" +
			"  node fra-edge2                a machine dies: its cable is dead, its process gone\n" +
			"  cable fra-edge2               its cable is pulled at the switch; nobody is told\n" +
			"  process fra-edge2 [kill|stop] edged gets SIGKILL or SIGSTOP\n" +
			"  session fra-edge2             its router disables the BGP session\n" +
			"  backend fra-a                 an app is killed",
		Example: "  edgectl lab break process fra-edge2",
		Args:    cobra.RangeArgs(2, 3),
	}, func(ctx context.Context, args []string) error {
		var faults []string
		err := f.ask(ctx, "POST /break", args, &faults)
		switch {
		case errors.Is(err, metal.ErrNoLab), errors.Is(err, metal.ErrUnreachable), errors.Is(err, fs.ErrPermission):
			return err
		case err != nil:
			return usagef("%s", err)
		}
		return a.print(faultsView(faults), a.format)
	})
}

func (a *app) labHealCommand(f *labFlags) *cobra.Command {
	return a.command(&cobra.Command{Use: "heal", Short: "mend all that is broken"}, func(ctx context.Context, _ []string) error {
		var faults []string
		if err := f.ask(ctx, "POST /heal", nil, &faults); err != nil {
			return err
		}
		return a.print(faultsView(faults), a.format)
	})
}

func (a *app) labDownCommand(f *labFlags) *cobra.Command {
	return a.command(&cobra.Command{Use: "down", Short: "end the lab and leave nothing behind"}, func(ctx context.Context, _ []string) error {
		ctx, cancel := context.WithTimeout(ctx, labWait)
		defer cancel()
		removed, err := metal.Down(ctx, f.prefix)
		for _, r := range removed {
			a.hint("its owner was gone: removed %s", r)
		}
		if err == nil {
			a.hint("the lab %s is gone, with its namespaces and files", f.prefix)
		}
		return err
	})
}

func faultsView(faults []string) view {
	return view{data: faults, names: faults, table: func(p *page) {
		if len(faults) == 0 {
			p.line("Nothing is broken.")
		}
		for _, f := range faults {
			p.line("%s", f)
		}
	}}
}

// labView shows a lab, and then more lines.
func labView(s metal.Status, more ...string) view {
	v := view{data: s, rows: anys(s.Edges)}
	edges := newTable("EDGE", "PROCESS", "HEALTH", "BGP", "FABRIC", "L4")
	for _, e := range s.Edges {
		v.names = append(v.names, e.Name)
		edges.row(e.Name, labProcess(e.Running), e.Health, e.BGP, e.Fabric, e.L4)
	}
	routers := newTable("ROUTER", "PROCESS", "KIND", "WAYS TO THE VIP")
	for _, r := range s.Routers {
		routers.row(r.Name, labProcess(r.Running), r.Kind, r.Hops)
	}
	clients := newTable("CLIENTS", "VIP", "ENTER", "ERROR")
	for _, c := range s.Clients {
		geo := cell{c.Geo, plain}
		if c.Geo == "" {
			geo = cell{"NOWHERE", ill}
		}
		clients.row(c.Region, c.VIP, geo, c.Error)
	}
	v.table = func(p *page) {
		p.table(edges)
		p.line("")
		p.table(routers)
		p.line("")
		p.table(clients)
		for _, f := range s.Faults {
			p.line("broken: %s", f)
		}
		for _, m := range more {
			p.line("%s", m)
		}
	}
	return v
}

func labProcess(runs bool) cell {
	if runs {
		return cell{"runs", good}
	}
	return cell{"DEAD", ill}
}

// vipURL is where a VIP is asked over HTTPS.
func vipURL(vip netip.Addr) string {
	if vip.Is6() {
		return "https://[" + vip.String() + "]/"
	}
	return "https://" + vip.String() + "/"
}

// labHints are commands to try, as they work where this edgectl was started.
func (a *app) labHints(s metal.Status, prefix string) []string {
	edgectl, sudo := a.self, ""
	if a.getenv("SUDO_UID") != "" { // all of them need root
		sudo = "sudo "
	}
	lab := func(command string) string {
		if prefix == metal.DefaultPrefix {
			return edgectl + " lab " + command
		}
		return edgectl + " lab " + command + " --prefix " + prefix
	}
	get := fmt.Sprintf("ip netns exec %s-client-eu curl --cacert %s/ca.crt ", prefix, s.Dir)
	show := "status"
	if s.Edges[0].L4 != "" {
		show = "l4 status"
	}
	hints := []string{"", fmt.Sprintf("Its files: %s. Try:", s.Dir)}
	for _, c := range []string{
		get + vipURL(metal.VIPs()[0]),
		get + "'" + vipURL(metal.VIPs()[1]) + "'",
		fmt.Sprintf("birdc -s %s/bird-fra/bird.ctl show route", s.Dir),
		fmt.Sprintf("vtysh --vty_socket %s/frr-iad -c 'show bgp ipv4 unicast'", s.Dir),
		fmt.Sprintf("%s --socket %s %s", edgectl, s.Edges[0].Socket, show),
		lab("break process fra-edge2") + "      # then lab status, lab heal",
		lab("down"),
	} {
		hints = append(hints, "  "+sudo+c)
	}
	return hints
}
