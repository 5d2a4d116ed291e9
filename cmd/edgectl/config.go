package main

import (
	"context"

	"github.com/spf13/cobra"

	"anyedge/configs"
)

func (a *app) configCommand() *cobra.Command {
	return a.group("config", "the configuration file", a.configCheckCommand(), a.configSchemaCommand())
}

// A checked is what `config check -o json` prints.
type checked struct {
	File     string            `json:"file"`
	Valid    bool              `json:"valid"`
	Digest   string            `json:"digest,omitempty"` // of the fleet part
	Errors   int               `json:"errors"`
	Warnings int               `json:"warnings"`
	Problems []configs.Problem `json:"problems"`
}

func (a *app) configCheckCommand() *cobra.Command {
	return a.command(&cobra.Command{
		Use:   "check [FILE]",
		Short: "report every mistake of a configuration file; needs no daemon",
		Long: "Check reads a file, and node.yaml beside it, and reports every mistake with its place.\n" +
			"Exit code 3 means that edged would not start with it. Warnings do not count.",
		Args: cobra.MaximumNArgs(1),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return []string{"yaml", "yml"}, cobra.ShellCompDirectiveFilterFileExt
		},
	}, func(_ context.Context, args []string) error {
		file := configs.DefaultFile
		if len(args) > 0 {
			file = args[0]
		}
		return a.check(file)
	})
}

// check prints what is wrong with a file.
func (a *app) check(file string) error {
	c, report := configs.Load(file)
	out := checked{File: file, Valid: c != nil, Errors: report.Errors(), Warnings: report.Warnings(), Problems: report.Problems}
	if out.Problems == nil {
		out.Problems = []configs.Problem{}
	}
	v := view{data: out, rows: anys(report.Problems)}
	for _, p := range report.Problems {
		v.names = append(v.names, p.Path)
	}
	if c != nil {
		out.Digest = c.Digest()
		v.data = out
	}
	v.table = func(p *page) {
		_ = report.Print(&p.b, p.color) // a strings.Builder takes everything
		if c != nil {
			p.line("%s: %s. Digest %s", file, report.Summary(), out.Digest)
			return
		}
		p.line("%s. Nothing was changed.", report.Summary())
	}
	if err := a.print(v, a.format); err != nil {
		return err
	}
	if c == nil {
		return errConfig
	}
	return nil
}

func (a *app) configSchemaCommand() *cobra.Command {
	return a.command(&cobra.Command{
		Use:   "schema",
		Short: "print the JSON schema of the configuration file, for editors",
	}, func(context.Context, []string) error {
		_, err := a.stdout.Write(configs.Schema())
		return err
	})
}
