// Command edged is the edge: it announces anycast prefixes, terminates TLS,
// forwards requests to local backends and, when its geo is ill or too busy,
// moves as much as needed to the next one.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

// DefaultConfig is where the configuration is read from.
const DefaultConfig = "/etc/edged/edged.yaml"

// Exit codes, the same for edged and edgectl.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
	exitConfig = 3
)

// errUsage is a mistake on the command line.
var errUsage = errors.New("usage")

// errConfig means that the configuration has errors; they were printed.
var errConfig = errors.New("configuration is not valid")

func main() {
	// Listening from the first moment on: a signal during start counts too.
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR2)
	os.Exit(exitCode(run(context.Background(), signals, os.Args[1:], os.Stdout, os.Stderr), os.Stderr))
}

// exitCode prints err, unless it was printed, and maps it to an exit code.
func exitCode(err error, stderr io.Writer) int {
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return exitOK
	case errors.Is(err, errConfig):
		return exitConfig
	case errors.Is(err, errUsage):
		fmt.Fprintf(stderr, "edged: %s\n", strings.TrimPrefix(err.Error(), "usage: "))
		return exitUsage
	}
	for line := range strings.Lines(err.Error()) {
		fmt.Fprintf(stderr, "edged: %s\n", strings.TrimRight(line, "\n"))
	}
	return exitFailed
}

// run chooses the command: the daemon, unless the first word says otherwise.
// The end of ctx, like SIGINT, means: end now.
func run(ctx context.Context, signals <-chan os.Signal, args []string, stdout, stderr io.Writer) error {
	if len(args) > 0 {
		switch word := args[0]; word {
		case "demo":
			return runDemo(untilSignal(ctx, signals), args[1:], stdout, stderr)
		case "doctor":
			return runDoctor(untilSignal(ctx, signals), args[1:], stdout, stderr)
		case "cleanup":
			return runCleanup(untilSignal(ctx, signals), args[1:], stdout, stderr)
		case "run":
			args = args[1:]
		case "help":
			args = []string{"--help"}
		default:
			if !strings.HasPrefix(word, "-") {
				return fmt.Errorf("%w: %q is not a command; there are run (the default), demo, doctor, cleanup and help", errUsage, word)
			}
		}
	}
	roomyHeap()
	return runDaemon(ctx, signals, args, stdout, stderr)
}

// untilSignal returns a context that ends with the first signal.
func untilSignal(ctx context.Context, signals <-chan os.Signal) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer cancel()
		select {
		case <-signals:
		case <-ctx.Done():
		}
	}()
	return ctx
}

// options are what the daemon's command line says.
type options struct {
	config   string
	check    bool
	version  bool
	logLevel string
	noBGP    bool
	noXDP    bool
}

// parse reads the daemon's command line.
func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("edged", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, "edged [run] [flags]        serve as the configuration says\n"+
			"edged demo [flags]         three geos on this machine, no root (edged demo --help)\n"+
			"edged doctor [flags]       what of this machine and around it should be mended\n"+
			"edged cleanup [flags]      remove what an edged that was killed left on this machine\n\n")
		flags.PrintDefaults()
	}
	flags.StringVar(&o.config, "config", envOr("EDGED_CONFIG", DefaultConfig), "configuration `FILE`; also EDGED_CONFIG")
	flags.BoolVar(&o.check, "check", false, "check the configuration and exit: 0 valid, 3 not")
	flags.BoolVar(&o.version, "version", false, "print the version and exit")
	flags.StringVar(&o.logLevel, "log-level", os.Getenv("EDGED_LOG_LEVEL"), "debug, info, warn or error, in place of log.level; also EDGED_LOG_LEVEL")
	flags.BoolVar(&o.noBGP, "no-bgp", false, "announce nothing, whatever the configuration says")
	flags.BoolVar(&o.noXDP, "no-xdp", false, "attach no packet program, whatever l4 says")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return o, err
		}
		return o, fmt.Errorf("%w: see edged --help", errUsage)
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("%w: unexpected %q; the file is named with --config", errUsage, flags.Arg(0))
	}
	return o, nil
}

func envOr(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}
