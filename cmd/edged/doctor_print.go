package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"anyedge/internal/host"
)

// A diagnosis is what doctor -o json prints.
type diagnosis struct {
	Fail   int            `json:"fail"`
	Warn   int            `json:"warn"`
	Checks []host.Finding `json:"checks"`
}

// print writes the findings in the form that was asked for.
func (o doctorOptions) print(found []host.Finding, w io.Writer) error {
	d := diagnosis{Checks: found}
	if d.Checks == nil {
		d.Checks = []host.Finding{}
	}
	for _, f := range found {
		switch f.Verdict {
		case host.Fail:
			d.Fail++
		case host.Warn:
			d.Warn++
		case host.OK:
		}
	}
	var text string
	switch {
	case o.fixScript:
		text = d.script()
	case o.format == "json":
		b, err := json.MarshalIndent(d, "", "  ")
		if err != nil {
			return err
		}
		text = string(b) + "\n"
	default:
		text = d.table(o.color == "always" || o.color == "auto" && colored(w))
	}
	_, err := io.WriteString(w, text)
	return err
}

// colored reports whether w is a terminal that shows colors.
func colored(w io.Writer) bool {
	f, isFile := w.(*os.File)
	return isFile && term.IsTerminal(int(f.Fd())) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

// table aligns area and verdict; the text is as long as it needs to be.
func (d diagnosis) table(color bool) string {
	var b strings.Builder
	width, mendable := 0, false
	for _, f := range d.Checks {
		width = max(width, len(f.Area))
		mendable = mendable || len(f.Script) > 0
	}
	colors := map[host.Verdict]string{host.OK: "32", host.Warn: "33", host.Fail: "31"}
	for _, f := range d.Checks {
		verdict := fmt.Sprintf("%-4s", f.Verdict)
		if color {
			verdict = "\x1b[" + colors[f.Verdict] + "m" + verdict + "\x1b[0m"
		}
		text := f.Text
		if f.Fix != "" {
			text += ". Fix: " + f.Fix
		}
		fmt.Fprintf(&b, "%-*s  %s  %s\n", width, f.Area, verdict, oneLine(text))
	}
	fmt.Fprintf(&b, "%d FAIL, %d warn", d.Fail, d.Warn)
	if mendable {
		b.WriteString(".  doctor --fix-script prints a script with the fixes above (it does not run them).")
	}
	b.WriteByte('\n')
	return b.String()
}

// script is a shell script with the fixes. What no command mends is a comment.
func (d diagnosis) script() string {
	var b strings.Builder
	b.WriteString("#!/bin/sh\n" +
		"# Fixes for what edged doctor found on this machine. Read it, then run it as root.\n" +
		"# They hold until the next start of the machine: put kernel settings that help\n" +
		"# into /etc/sysctl.d, and interface settings where this system keeps them.\n" +
		"rc=0\n")
	said := map[string]bool{}
	for _, f := range d.Checks {
		if f.Verdict == host.OK || f.Fix == "" {
			continue
		}
		fmt.Fprintf(&b, "\n# %s %s: %s\n", f.Area, f.Verdict, oneLine(f.Text))
		if len(f.Script) == 0 {
			fmt.Fprintf(&b, "# By hand: %s\n", oneLine(f.Fix))
		}
		for _, command := range f.Script {
			if !said[command] {
				fmt.Fprintf(&b, "%s || rc=1\n", command)
			}
			said[command] = true
		}
	}
	b.WriteString("\nexit $rc\n")
	return b.String()
}

// oneLine makes one line of a text, so that no part of it stands alone in a
// script.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
