package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"time"

	"anyedge/internal/lab"
)

// demoPort is the port of the first region's entry; the others follow.
const demoPort = 8443

// demoOptions are what the command line of `edged demo` says.
type demoOptions struct {
	dir    string
	app    string
	port   uint
	tour   bool
	output string
}

// runDemo is `edged demo`: three geos on this machine, by hand or as a tour.
func runDemo(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) > 0 && args[0] == "ctl" {
		return runDemoControl(ctx, args[1:], stdout, stderr)
	}
	o, err := parseDemo(args, stderr)
	if err != nil {
		return err
	}
	screen := stdout
	if o.output == "json" {
		screen = stderr // stdout is for the one document
	}
	fmt.Fprintln(screen, "Starting three geos, three regional routers and the links between them ...")
	opts := lab.Options{
		Dir: o.dir, App: o.app, Port: uint16(o.port),
		Log: slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
	if !o.tour {
		opts.Report = func(line string) { fmt.Fprintf(screen, "%s  %s\n", time.Now().Format(time.TimeOnly), line) }
	}
	demo, err := lab.Start(ctx, opts)
	if errors.Is(err, context.Canceled) {
		return nil // interrupted while it started
	}
	if err != nil {
		return err
	}
	if o.tour {
		return tour(ctx, demo, o, stdout, screen)
	}
	demo.Screen(screen)
	err = demo.Wait(ctx)
	if err == nil {
		fmt.Fprintln(screen, "The demo is gone.")
	}
	return err
}

// tour runs the story and fails unless all of it was seen to be true.
func tour(ctx context.Context, demo *lab.Demo, o demoOptions, stdout, screen io.Writer) error {
	result, err := lab.Tour(ctx, demo, screen)
	if err == nil && !result.OK {
		demo.Keep()
		fmt.Fprintf(screen, "The geos' logs and files stay in %s\n", demo.Dir())
	}
	if err := errors.Join(err, demo.Close()); err != nil {
		return err
	}
	if o.output == "json" {
		text, err := json.MarshalIndent(result, "", "  ")
		if err != nil {
			return err
		}
		fmt.Fprintln(stdout, string(text))
	}
	if !result.OK {
		return errors.New("the tour saw something that it should not")
	}
	return nil
}

func parseDemo(args []string, stderr io.Writer) (demoOptions, error) {
	var o demoOptions
	flags := flag.NewFlagSet("edged demo", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, "edged demo [flags]         three geos on this machine, until Ctrl-C\n"+
			"edged demo --tour          the story by itself; ends 0 if every step was seen to be true\n"+
			"edged demo ctl COMMAND     steer a demo that runs (edged demo ctl --help)\n\n")
		flags.PrintDefaults()
	}
	flags.StringVar(&o.dir, "dir", "", "run `DIR`ectory, new or empty; the default is a temporary one")
	flags.StringVar(&o.app, "app", "", "`URL` of your own app, served by all three geos, like http://127.0.0.1:3000")
	flags.UintVar(&o.port, "port", demoPort, "`PORT` of the first region's entry; the others take the next two")
	flags.BoolVar(&o.tour, "tour", false, "run the story by itself")
	flags.StringVar(&o.output, "o", "table", "output of the tour: table or json")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return o, err
		}
		return o, fmt.Errorf("%w: see edged demo --help", errUsage)
	}
	switch {
	case flags.NArg() > 0:
		return o, fmt.Errorf("%w: unexpected %q; see edged demo --help", errUsage, flags.Arg(0))
	case o.port < 1 || o.port > 65533:
		return o, fmt.Errorf("%w: --port %d: want 1 to 65533", errUsage, o.port)
	case o.output != "table" && o.output != "json":
		return o, fmt.Errorf("%w: -o %s: want table or json", errUsage, o.output)
	case o.output == "json" && !o.tour:
		return o, fmt.Errorf("%w: -o json belongs to --tour; a demo writes DIR/%s", errUsage, lab.FileName)
	case o.tour && o.app != "":
		return o, fmt.Errorf("%w: the tour looks into the answers of the demo's own app: leave --app or --tour out", errUsage)
	}
	return o, nil
}

// runDemoControl is `edged demo ctl`: one command to a demo that runs.
func runDemoControl(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("edged demo ctl", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, "edged demo ctl [--dir DIR] kill|revive backend|geo NAME\n"+
			"edged demo ctl [--dir DIR] cut|join A-B\n"+
			"edged demo ctl [--dir DIR] load REGION RATE DURATION     (load eu 600 30s)\n\n")
		flags.PrintDefaults()
	}
	dir := flags.String("dir", "", "run `DIR`ectory of the demo; the default is the one that runs in a temporary directory")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return fmt.Errorf("%w: see edged demo ctl --help", errUsage)
	}
	if flags.NArg() == 0 {
		return fmt.Errorf("%w: want a command; see edged demo ctl --help", errUsage)
	}
	if *dir == "" {
		found, err := lab.FindDir()
		if err != nil {
			return err
		}
		*dir = found
	}
	file, err := lab.ReadFile(*dir)
	if err != nil {
		return fmt.Errorf("no demo in %s: %w", *dir, err)
	}
	text, err := lab.Control(ctx, file.Control, flags.Args())
	if err != nil {
		return err
	}
	fmt.Fprintln(stdout, text)
	return nil
}
