package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
)

// A view is something to show, in every format.
type view struct {
	data  any         // what -o json and yaml print
	rows  []any       // what -o jsonl prints, one a line; nil: data
	names []string    // what -o name prints, one a line
	table func(*page) // what -o table prints
	hints []string    // for people, on standard error, with -o table
	bad   bool        // what is shown is not well: exit code 1
}

// show prints what look returns: once, or again and again with --watch.
func (a *app) show(ctx context.Context, look func(context.Context) (view, error)) error {
	if a.watch > 0 {
		return a.showAgain(ctx, look)
	}
	v, err := look(ctx)
	if err != nil {
		return err
	}
	return a.print(v, a.format)
}

// print writes v once; its error is errUnhealthy when v is not well.
func (a *app) print(v view, format string) error {
	text, err := a.text(v, format)
	if err != nil {
		return err
	}
	if _, err := a.stdout.Write([]byte(text)); err != nil {
		return err
	}
	if format == "table" {
		for _, h := range v.hints {
			a.hint("%s", h)
		}
	}
	if v.bad {
		return errUnhealthy
	}
	return nil
}

// text returns v in a format.
func (a *app) text(v view, format string) (string, error) {
	switch format {
	case "json":
		b, err := json.MarshalIndent(v.data, "", "  ")
		return string(b) + "\n", err
	case "yaml":
		b, err := json.Marshal(v.data)
		if err != nil {
			return "", err
		}
		b, err = yaml.JSONToYAML(b)
		return string(b), err
	case "jsonl":
		return lines(v)
	case "name":
		var b strings.Builder
		for _, n := range v.names {
			b.WriteString(n + "\n")
		}
		return b.String(), nil
	}
	p := &page{headers: !a.noHeaders, color: a.color(), width: a.width}
	v.table(p)
	return p.b.String(), nil
}

// lines returns v as one JSON value a line.
func lines(v view) (string, error) {
	rows := v.rows
	if rows == nil {
		rows = []any{v.data}
	}
	var b strings.Builder
	for _, r := range rows {
		j, err := json.Marshal(r)
		if err != nil {
			return "", err
		}
		b.Write(j)
		b.WriteByte('\n')
	}
	return b.String(), nil
}

// anys returns a list's elements as rows.
func anys[T any](list []T) []any {
	out := make([]any, 0, len(list))
	for _, v := range list {
		out = append(out, v)
	}
	return out
}

// hint tells a person something that is no data.
func (a *app) hint(format string, args ...any) {
	_, _ = fmt.Fprintf(a.stderr, format+"\n", args...) // a hint that is not seen harms nobody
}

// color reports whether tables are colored.
func (a *app) color() bool {
	switch a.colors {
	case "always":
		return true
	case "never":
		return false
	}
	return a.width > 0 && a.getenv("NO_COLOR") == "" && a.getenv("TERM") != "dumb"
}

// clearScreen moves the cursor to the top left and clears from there.
const clearScreen = "\x1b[H\x1b[2J"

// showAgain redraws on a terminal; elsewhere it appends, one JSON value a
// line. The daemon must answer at first; later it may come and go. Only an
// interrupt ends it.
func (a *app) showAgain(ctx context.Context, look func(context.Context) (view, error)) error {
	format := a.format
	if a.width == 0 {
		format = "jsonl"
	}
	tick := time.NewTicker(a.watch)
	defer tick.Stop()
	for first := true; ; first = false {
		v, err := look(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && first:
			return err
		case err != nil:
			a.hint("%s %v", a.now().Format(time.TimeOnly), err)
		default:
			if a.width > 0 {
				_, _ = fmt.Fprint(a.stdout, clearScreen) // the next write reports it
			}
			if err := a.print(v, format); err != nil && !errors.Is(err, errUnhealthy) {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
