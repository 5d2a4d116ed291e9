package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"anyedge/bpf"
	"anyedge/configs"
	"anyedge/internal/host"
)

// errRemains means that something could not be cleaned up; it was printed.
var errRemains = errors.New("")

// cleanupOptions are what the command line of cleanup says.
type cleanupOptions struct {
	config string
	named  bool // somebody named that file: it must be there
	dry    bool
}

func parseCleanup(args []string, stderr io.Writer) (cleanupOptions, error) {
	var o cleanupOptions
	flags := flag.NewFlagSet("edged cleanup", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, "edged cleanup [flags]      removes what an edged that was killed left on this machine: addresses on lo, pins\n\n")
		flags.PrintDefaults()
	}
	flags.StringVar(&o.config, "config", envOr("EDGED_CONFIG", DefaultConfig), "configuration `FILE`, for its state.dir and admin.socket; also EDGED_CONFIG")
	flags.BoolVar(&o.dry, "dry-run", false, "tell what would be removed, and remove nothing")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return o, err
		}
		return o, fmt.Errorf("%w: see edged cleanup --help", errUsage)
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("%w: unexpected %q", errUsage, flags.Arg(0))
	}
	o.named = os.Getenv("EDGED_CONFIG") != ""
	flags.Visit(func(f *flag.Flag) { o.named = o.named || f.Name == "config" })
	return o, nil
}

// runCleanup removes what edged added to this machine, unless one runs.
func runCleanup(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parseCleanup(args, stderr)
	if err != nil {
		return err
	}
	cfg := &configs.Config{}
	if _, err := os.Stat(o.config); o.named || !errors.Is(err, os.ErrNotExist) {
		var report configs.Report
		cfg, report = configs.Load(o.config)
		if report.Err() != nil {
			_ = report.Print(stderr, false) // nobody is left to tell
			return errConfig
		}
	}
	if err := refuseWhileRunning(ctx, cfg.Socket()); err != nil {
		return err
	}
	traces, err := host.Cleanup(cfg.StateDir(), o.dry)
	if errors.Is(err, host.ErrInUse) {
		return fmt.Errorf("%w: stop it first; nothing was removed", err)
	}
	pins, perr := bpf.Cleanup(cfg.L4.PinDir(), o.dry)
	var all []host.Trace
	for _, p := range pins {
		all = append(all, host.Trace{What: "packet program " + p})
	}
	return errors.Join(err, perr, printTraces(append(all, traces...), o.dry, err != nil || perr != nil, stdout))
}

// refuseWhileRunning is an error when a daemon answers at the admin socket: what
// is on the machine is its own.
func refuseWhileRunning(ctx context.Context, socket string) error {
	const patience = time.Second
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil // nobody listens there, or nobody whom this user may ask: the state directory's lock tells then
	}
	_ = c.Close() // nothing was said
	return fmt.Errorf("an edged runs (it answers at %s): stop it first; nothing was removed", socket)
}

// printTraces tells what became of each thing. Failed says that not all was
// looked at.
func printTraces(all []host.Trace, dry, failed bool, w io.Writer) error {
	verb, remains := "removed", false
	if dry {
		verb = "would be removed"
	}
	for _, t := range all {
		if t.Err != nil {
			remains = true
			fmt.Fprintf(w, "%s stays: %v\n", t.What, t.Err)
			continue
		}
		fmt.Fprintf(w, "%s %s\n", t.What, verb)
	}
	if len(all) == 0 && !failed {
		fmt.Fprintln(w, "nothing of edged is left on this machine")
	}
	if remains {
		return errRemains
	}
	return nil
}
