package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"anyedge/configs"
	"anyedge/internal/admin/client"
)

// An app is one invocation: its flags and what it sees of the world.
type app struct {
	env

	socket    string
	format    string
	noHeaders bool
	colors    string
	watch     time.Duration // 0: once

	started bool // a command's own code runs: later errors are no usage errors
}

// callTimeout bounds one question to the daemon: it answers from memory.
const callTimeout = 10 * time.Second

// run does what args say.
func run(ctx context.Context, e env, args []string) error {
	a := &app{env: e}
	root := a.root() //nolint:contextcheck // cobra hands ctx to the commands
	root.SetArgs(joinWatch(args))
	err := root.ExecuteContext(ctx)
	if err != nil && !a.started {
		return usagef("%s", oneLine(err.Error()))
	}
	return err
}

// root returns the tree of commands.
func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "edgectl",
		Short:         "show what edged does and why, and give it orders",
		Long:          "edgectl shows what edged does and why, and gives it orders.",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	f := root.PersistentFlags()
	f.StringVar(&a.socket, "socket", "", "admin socket of edged (default: EDGECTL_SOCKET, admin.socket of "+configs.DefaultFile+", or /run/edged/edged.sock)")
	f.StringVarP(&a.format, "output", "o", "table", strings.Join(formats, "|"))
	f.BoolVar(&a.noHeaders, "no-headers", false, "leave out the tables' headers")
	f.StringVar(&a.colors, "color", "auto", strings.Join(colorChoices, "|"))
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp)) // the flag exists
	_ = root.RegisterFlagCompletionFunc("color", cobra.FixedCompletions(colorChoices, cobra.ShellCompDirectiveNoFileComp))
	root.AddCommand(
		a.statusCommand(), a.geosCommand(), a.routesCommand(), a.servicesCommand(), a.backendsCommand(), a.topCommand(), a.explainCommand(), a.traceCommand(),
		a.fabricCommand(), a.l4Command(), a.labCommand(), a.drainCommand(), a.undrainCommand(), a.eventsCommand(),
		a.configCommand(), a.initCommand(), a.doctorCommand(), a.versionCommand(),
	)
	root.AddCommand(topics()...)
	return root
}

// formats are the values of -o.
var formats = []string{"table", "json", "jsonl", "yaml", "name"}

// colorChoices are the values of --color.
var colorChoices = []string{"auto", "always", "never"}

// command fills in what all commands have: run is called with valid flags.
func (a *app) command(c *cobra.Command, run func(ctx context.Context, args []string) error) *cobra.Command {
	c.RunE = func(c *cobra.Command, args []string) error {
		if !slices.Contains(formats, a.format) {
			return usagef("-o %s: want %s", a.format, strings.Join(formats, ", "))
		}
		if !slices.Contains(colorChoices, a.colors) {
			return usagef("--color %s: want %s", a.colors, strings.Join(colorChoices, ", "))
		}
		a.started = true
		return run(c.Context(), args)
	}
	if c.Args == nil {
		c.Args = cobra.NoArgs
	}
	if c.ValidArgsFunction == nil {
		c.ValidArgsFunction = cobra.NoFileCompletions
	}
	return c
}

// exactly returns a check that there are as many arguments as words; each word
// says what one is.
func exactly(words ...string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != len(words) {
			return usagef("%s needs %s: %s", c.CommandPath(), strings.Join(words, " and "), c.UseLine())
		}
		return nil
	}
}

// watched adds --watch to a command that shows something.
func (a *app) watched(c *cobra.Command) *cobra.Command {
	c.Flags().DurationVarP(&a.watch, "watch", "w", 0, "show it again and again, every so often")
	c.Flags().Lookup("watch").NoOptDefVal = "2s"
	return c
}

// group returns a command that only has others under it.
func (a *app) group(use, short string, inner ...*cobra.Command) *cobra.Command {
	var names []string
	for _, c := range inner {
		names = append(names, c.Name())
	}
	g := &cobra.Command{Use: use, Short: short, Args: cobra.ArbitraryArgs}
	g.RunE = func(c *cobra.Command, args []string) error {
		want := strings.Join(names, ", ")
		if len(args) == 0 {
			return usagef("%s: say which: %s", c.CommandPath(), want)
		}
		return usagef("%s has no command %q: there are %s", c.CommandPath(), args[0], want)
	}
	g.AddCommand(inner...)
	return g
}

// joinWatch makes -w=5s of -w 5s: a flag whose value may be absent takes it
// only with an equals sign.
func joinWatch(args []string) []string {
	var out []string
	for i := 0; i < len(args); i++ {
		if w := args[i]; (w == "-w" || w == "--watch") && i+1 < len(args) {
			if _, err := time.ParseDuration(args[i+1]); err == nil {
				out = append(out, w+"="+args[i+1])
				i++
				continue
			}
		}
		out = append(out, args[i])
	}
	return out
}

// usagef returns a usage error.
func usagef(format string, args ...any) error {
	return &usageError{fmt.Sprintf(format, args...)}
}

// A usageError is a mistake on the command line, with its own text.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

// Is makes it an errUsage.
func (e *usageError) Is(target error) bool { return target == errUsage }

// oneLine joins the lines of cobra's errors.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// client returns a client of the daemon.
func (a *app) client() *client.Client { return client.New(a.socketPath()) }

// socketPath returns where the daemon is.
func (a *app) socketPath() string {
	if a.socket != "" {
		return a.socket
	}
	if s := a.getenv("EDGECTL_SOCKET"); s != "" {
		return s
	}
	if c, _ := configs.Load(configs.DefaultFile); c != nil {
		return c.Socket()
	}
	return configs.DefaultSocket()
}

// ask calls the daemon once, and says so when it takes too long.
func ask[T any](ctx context.Context, a *app, timeout time.Duration, call func(context.Context, *client.Client) (T, error)) (T, error) {
	c := a.client()
	defer c.Close()
	bounded, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	v, err := call(bounded, c)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		err = fmt.Errorf("%w at %s: no answer within %s. It hangs: look at its log", client.ErrUnreachable, a.socketPath(), timeout)
	}
	return v, err
}
