// Command bench is what scripts/bench runs: benchmarks that compare edged with
// other programs, side by side in one run.
//
// A figure that judges is a ratio; absolute numbers stand beside it so that a
// reader can see where it comes from. Nothing here decides a test.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
)

// A Row is one figure of a benchmark.
type Row struct {
	Case      string  `json:"case"`
	Figure    float64 `json:"figure"`
	Unit      string  `json:"unit"`
	Reference string  `json:"reference"`        // what it was measured against in the same run
	Bar       string  `json:"bar,omitempty"`    // what it has to reach; absent: none is set
	Result    string  `json:"result,omitempty"` // met | missed; absent without a bar
}

// A Report is one run of a benchmark.
type Report struct {
	Bench   string `json:"bench"`
	Machine string `json:"machine"`
	Commit  string `json:"commit"`
	Rows    []Row  `json:"rows"`
}

// A runner measures and returns its rows; progress goes to w.
type runner func(ctx context.Context, w io.Writer) ([]Row, error)

// A bench has flags of its own, and runs by them.
type bench struct {
	about string
	flags func(*flag.FlagSet) runner
}

var benches = map[string]bench{
	"bpf":   {"net time per packet of the packet path against a constant-IPIP floor (root)", func(*flag.FlagSet) runner { return benchBPF }},
	"proxy": {"CPU per request, memory per idle connection and latency of edged, nginx, HAProxy and Caddy", proxyFlags},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		return usage()
	}
	if args[0] == holdArg && len(args) == 2 {
		return hold(ctx, args[1])
	}
	b, ok := benches[args[0]]
	if !ok {
		return usage()
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	file := flags.String("json", "", "write the rows to this `FILE`")
	measure := b.flags(flags)
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	rows, err := measure(ctx, os.Stderr)
	if err != nil {
		return err
	}
	report := Report{Bench: args[0], Machine: machine(ctx), Commit: commit(ctx), Rows: rows}
	if err := table(os.Stdout, report); err != nil {
		return err
	}
	if *file == "" {
		return nil
	}
	out, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(*file, append(out, '\n'), 0o600)
}

func usage() error {
	var names strings.Builder
	for _, name := range slices.Sorted(maps.Keys(benches)) {
		fmt.Fprintf(&names, "\n  %-8s %s", name, benches[name].about)
	}
	return fmt.Errorf("want NAME [--json FILE] [--help]; there are:%s", names.String())
}

// table writes the report as a table.
func table(w io.Writer, r Report) error {
	fmt.Fprintf(w, "%s on %s, commit %s\n", r.Bench, r.Machine, r.Commit)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "CASE\tFIGURE\tUNIT\tREFERENCE\tBAR\tRESULT")
	for _, row := range r.Rows {
		fmt.Fprintf(t, "%s\t%.2f\t%s\t%s\t%s\t%s\n", row.Case, row.Figure, row.Unit, row.Reference, row.Bar, row.Result)
	}
	return t.Flush()
}

// machine names processor, cores and kernel.
func machine(ctx context.Context) string {
	model := runtime.GOARCH
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
				model = strings.TrimSpace(v)
				break
			}
		}
	}
	kernel, _ := exec.CommandContext(ctx, "uname", "-r").Output()
	return fmt.Sprintf("%s, %d cores, Linux %s, %s", model, runtime.NumCPU(), strings.TrimSpace(string(kernel)), runtime.Version())
}

// commit names the checkout, with a mark when it has changes.
func commit(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}
