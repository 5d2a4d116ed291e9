package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"anyedge/configs"
)

// initFlags are the flags of init; what they leave open is asked for.
type initFlags struct {
	answers initAnswers

	file       string
	force, yes bool
}

func (a *app) initCommand() *cobra.Command {
	var f initFlags
	c := a.command(&cobra.Command{
		Use:   "init",
		Short: "write a first configuration file, which announces nothing; needs no daemon",
		Long: "Init asks six questions, or takes the answers as flags, and writes a configuration that passes config check. Its VIP\n" +
			"has announce.when: never, so nothing is announced before you change that. An existing file is not touched.",
	}, func(_ context.Context, _ []string) error { return a.init(f) })
	s, w := c.Flags(), &f.answers
	s.StringVar(&w.geo, "geo", "", "`NAME` of this geo, like fra")
	s.StringVar(&w.node, "node", "", "`NAME` of this machine, like fra-edge1")
	s.StringSliceVar(&w.vips, "vip", nil, "anycast `ADDRESS`[/LENGTH], one a family; the prefix is /24 or /48 unless LENGTH says more")
	s.StringSliceVar(&w.neighbors, "neighbor", nil, "`ADDRESS` of the router, one a family")
	s.Uint32Var(&w.neighborASN, "neighbor-asn", 0, "AS `NUMBER` of the router")
	s.Uint32Var(&w.asn, "asn", 0, "our AS `NUMBER`")
	s.StringVar(&w.host, "host", "", "`NAME` that clients ask for, like www.example.net")
	s.StringVar(&w.backend, "backend", "", "`URL` of the app, like http://127.0.0.1:3000")
	s.StringVar(&w.cert, "cert", "", "PEM `FILE` with the certificate; self-signed: one for a try")
	s.StringVar(&w.key, "key", "", "PEM `FILE` with its key")
	s.StringVar(&w.routerID, "router-id", "", "IPv4 `ADDRESS` that names this machine in BGP (default: the one from which it reaches the router)")
	s.StringVar(&f.file, "file", configs.DefaultFile, "where it is written")
	s.BoolVar(&f.force, "force", false, "overwrite what is there")
	s.BoolVar(&f.yes, "yes", false, "ask nothing; needed where nobody can answer")
	return c
}

// init writes a configuration file.
func (a *app) init(f initFlags) error {
	if err := mayWrite(f.file, f.force); err != nil {
		return err
	}
	if err := a.fill(&f); err != nil {
		return err
	}
	if err := f.answers.finish(); err != nil {
		return err
	}
	text, err := f.answers.render()
	if err != nil {
		return err
	}
	if _, report := configs.Parse(f.file, text); report.Err() != nil {
		_ = report.Print(a.stderr, a.color()) // the error says the same
		a.hint("Nothing was written.")
		return errConfig
	}
	if err := writeConfig(f.file, text, f.force); err != nil {
		return err
	}
	return a.print(view{
		data: map[string]string{"file": f.file}, names: []string{f.file},
		table: func(p *page) { p.line("%s is written. It announces nothing.", f.file) },
		hints: nextSteps(f),
	}, a.format)
}

// nextSteps are the commands that come after init.
func nextSteps(f initFlags) []string {
	check, run := "edgectl config check", "systemctl enable --now edged"
	doctor := "edgectl doctor"
	if f.file != configs.DefaultFile {
		check += " " + f.file
		doctor += " --config " + f.file
		run = "edged --config " + f.file
	}
	var steps []string
	if f.answers.cert != "" {
		steps = append(steps, "The unit runs as user edged, who must be able to read the key: sudo chown edged "+f.answers.key)
	}
	return append(steps,
		"Next:",
		"  "+check,
		"  sudo "+doctor,
		"  sudo "+run,
		"  edgectl status",
		"To announce, when status and edgectl routes say what you expect: announce.when: any_backend, and restart edged.")
}

// fill asks the questions whose answers are not flags.
func (a *app) fill(f *initFlags) error {
	open := f.answers.open()
	switch {
	case len(open) == 0:
		return nil
	case f.yes || !a.answers:
		var missing []string
		for _, q := range open {
			missing = append(missing, q.flags)
		}
		return usagef("init: nobody is asked here: give %s", strings.Join(missing, ", "))
	}
	in := bufio.NewReader(a.stdin)
	a.hint("%s will announce nothing until you change it. Enter takes what stands in brackets.", f.file)
	for i, q := range open {
		if err := a.askOne(in, fmt.Sprintf("%d/%d", i+1, len(open)), q); err != nil {
			return err
		}
	}
	return nil
}

// askOne asks until the answer can be used.
func (a *app) askOne(in *bufio.Reader, count string, q question) error {
	for {
		text := q.text
		if q.otherwise != "" {
			text += " [" + q.otherwise + "]"
		}
		_, _ = fmt.Fprintf(a.stderr, "%s %s: ", count, text) // an unseen question gets no answer
		line, err := in.ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		words := strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == ',' || r == '\t' || r == '\n' || r == '\r' })
		if len(words) == 0 && q.otherwise != "" {
			words = strings.Fields(q.otherwise)
		}
		bad := q.take(words)
		if bad == nil {
			return nil
		}
		if errors.Is(err, io.EOF) {
			return errors.New("the answers ended: nothing was written")
		}
		a.hint("%v", bad)
	}
}
