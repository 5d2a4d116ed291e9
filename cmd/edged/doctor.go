package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"anyedge/bpf"
	"anyedge/configs"
	"anyedge/internal/host"
)

// doctorTime bounds all checks together; what has not ended by then is told.
const doctorTime = 4500 * time.Millisecond

// errIll means that a check found a fault; the table says which.
var errIll = errors.New("")

// doctorOptions are what the command line of doctor says.
type doctorOptions struct {
	config    string
	named     bool // somebody named that file: it must be there
	format    string
	only      []string // areas; empty: all
	color     string
	fixScript bool
}

// parseDoctor reads the command line of doctor.
func parseDoctor(args []string, stderr io.Writer) (doctorOptions, error) {
	var o doctorOptions
	var only string
	flags := flag.NewFlagSet("edged doctor", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, "edged doctor [flags]       looks at this machine and says what to mend; changes nothing\n\n")
		flags.PrintDefaults()
	}
	flags.StringVar(&o.config, "config", envOr("EDGED_CONFIG", DefaultConfig), "configuration `FILE`; also EDGED_CONFIG")
	flags.StringVar(&o.format, "o", "table", "table or json")
	flags.StringVar(&only, "only", "", "check these `AREAS` alone: "+strings.Join(areas(), ","))
	flags.StringVar(&o.color, "color", "auto", "auto (on a terminal), always or never")
	flags.BoolVar(&o.fixScript, "fix-script", false, "print a shell script with the fixes; it is not run")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return o, err
		}
		return o, fmt.Errorf("%w: see edged doctor --help", errUsage)
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("%w: unexpected %q", errUsage, flags.Arg(0))
	}
	if o.format != "table" && o.format != "json" {
		return o, fmt.Errorf("%w: -o %s: want table or json", errUsage, o.format)
	}
	if !slices.Contains([]string{"auto", "always", "never"}, o.color) {
		return o, fmt.Errorf("%w: --color %s: want auto, always or never", errUsage, o.color)
	}
	for word := range strings.SplitSeq(only, ",") {
		switch word = strings.TrimSpace(word); {
		case word == "":
		case !slices.Contains(areas(), word):
			return o, fmt.Errorf("%w: --only %s: there are %s", errUsage, word, strings.Join(areas(), ", "))
		default:
			o.only = append(o.only, word)
		}
	}
	o.named = os.Getenv("EDGED_CONFIG") != ""
	flags.Visit(func(f *flag.Flag) { o.named = o.named || f.Name == "config" })
	return o, nil
}

// runDoctor checks what edged needs of this machine and its surroundings.
func runDoctor(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parseDoctor(args, stderr)
	if err != nil {
		return err
	}
	cfg, file, broken := doctorConfig(o, stderr)
	d := &doctor{cfg: cfg, machine: host.Here(), now: time.Now(), program: sync.OnceValues(bpf.CheckLoad)}
	found := d.examine(ctx, o.only)
	if len(o.only) == 0 || slices.Contains(o.only, areaConfig) {
		found = append([]host.Finding{file}, found...)
	}
	if err := o.print(found, stdout); err != nil {
		return err
	}
	switch {
	case broken:
		return errConfig
	case slices.ContainsFunc(found, func(f host.Finding) bool { return f.Verdict == host.Fail }):
		return errIll
	}
	return nil
}

// doctorConfig reads the configuration as edged would. It is nil when there is
// none: then the machine alone is looked at. broken means that edged would not
// start with it; what is wrong is printed.
func doctorConfig(o doctorOptions, stderr io.Writer) (cfg *configs.Config, f host.Finding, broken bool) {
	f = host.Finding{Area: areaConfig, Verdict: host.OK}
	if _, err := os.Stat(o.config); errors.Is(err, os.ErrNotExist) && !o.named {
		f.Verdict = host.Warn
		f.Text = o.config + " is not there: only the machine is checked"
		f.Fix = "name one with --config"
		return nil, f, false
	}
	cfg, report := configs.Load(o.config)
	_ = report.Print(stderr, false) // nobody is left to tell
	switch {
	case cfg == nil:
		f.Verdict = host.Fail
		f.Text = fmt.Sprintf("%s: %s: only the machine is checked", o.config, report.Summary())
		f.Fix = "edgectl config check " + host.Quote(o.config)
		return nil, f, true
	case report.Warnings() > 0:
		f.Verdict = host.Warn
		f.Text = fmt.Sprintf("%s: valid, %s", o.config, report.Summary())
		f.Fix = "edgectl config check " + host.Quote(o.config)
		return cfg, f, false
	}
	f.Text = fmt.Sprintf("%s: valid, digest %s", o.config, cfg.Digest())
	return cfg, f, false
}

// examine runs the checks side by side, and returns what they found in their
// order. One that does not end in time is a finding itself.
func (d *doctor) examine(ctx context.Context, only []string) []host.Finding {
	ctx, cancel := context.WithTimeout(ctx, doctorTime)
	defer cancel()
	type running struct {
		area  string
		found chan []host.Finding
	}
	var all []running
	for _, c := range checks() {
		if len(only) > 0 && !slices.Contains(only, c.area) {
			continue
		}
		r := running{c.area, make(chan []host.Finding, 1)}
		go func() { r.found <- c.run(d, ctx) }()
		all = append(all, r)
	}
	var out []host.Finding
	for _, r := range all {
		select {
		case found := <-r.found:
			out = append(out, found...)
		case <-ctx.Done():
			select {
			case found := <-r.found:
				out = append(out, found...)
			default:
				out = append(out, host.Finding{Area: r.area, Verdict: host.Warn, Text: "not finished within " + doctorTime.String()})
			}
		}
	}
	return out
}
