package configs

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/mattn/go-runewidth"
)

// A Severity says whether a problem keeps the file from being used.
type Severity string

// Severities of a problem.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
)

// A Problem is one mistake in a configuration file.
type Problem struct {
	File     string   `json:"file"`
	Line     int      `json:"line"`   // from 1; 0 when the file could not be read
	Column   int      `json:"column"` // from 1, in characters
	Path     string   `json:"path"`   // of the field, like vips[0].prefixes[1]; "" for the whole file
	Code     string   `json:"code"`   // stable, kebab-case
	Message  string   `json:"message"`
	Severity Severity `json:"severity"`

	source string // the line it stands in
	width  int    // characters to underline
}

// String returns the problem on one line: FILE:LINE:COLUMN: SEVERITY: PATH: MESSAGE.
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", p.Line, p.Column)
	}
	fmt.Fprintf(&b, ": %s: ", p.Severity)
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	b.WriteString(p.Message)
	return b.String()
}

// A Report holds every problem of a configuration, in the order of the file.
type Report struct {
	Problems []Problem
}

// An InvalidError means that a configuration cannot be used.
type InvalidError struct{ Report Report }

// Error returns the first error of the report and how many others there are.
func (e *InvalidError) Error() string {
	for _, p := range e.Report.Problems {
		if p.Severity != Error {
			continue
		}
		if n := e.Report.Errors() - 1; n > 0 {
			return fmt.Sprintf("%s (and %s)", p, plural(n, "more error"))
		}
		return p.String()
	}
	return "invalid configuration"
}

// Err returns an [*InvalidError] when the configuration cannot be used.
func (r Report) Err() error {
	if r.Errors() == 0 {
		return nil
	}
	return &InvalidError{Report: r}
}

// Errors counts the problems that keep the file from being used.
func (r Report) Errors() int { return r.count(Error) }

// Warnings counts the problems that do not.
func (r Report) Warnings() int { return r.count(Warning) }

func (r Report) count(s Severity) int {
	n := 0
	for _, p := range r.Problems {
		if p.Severity == s {
			n++
		}
	}
	return n
}

// Summary says how many problems there are: "3 errors, 1 warning".
func (r Report) Summary() string {
	errs, warnings := r.Errors(), r.Warnings()
	switch {
	case errs == 0 && warnings == 0:
		return "no problems"
	case warnings == 0:
		return plural(errs, "error")
	case errs == 0:
		return plural(warnings, "warning")
	}
	return plural(errs, "error") + ", " + plural(warnings, "warning")
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// Print writes every problem with the line it stands in and a caret under the
// place.
func (r Report) Print(w io.Writer, color bool) error {
	var b strings.Builder
	for _, p := range r.Problems {
		p.print(&b, color)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (p Problem) print(b *strings.Builder, color bool) {
	head, mark, reset := "", "", ""
	if color {
		head, mark, reset = "\x1b[1m", "\x1b[31m", "\x1b[0m"
		if p.Severity == Warning {
			mark = "\x1b[33m"
		}
	}
	fmt.Fprintf(b, "%s%s%s\n", head, p, reset)
	if p.Line == 0 || strings.TrimSpace(p.source) == "" {
		return
	}
	number := fmt.Sprintf("%6d", p.Line)
	before, under := p.around()
	fmt.Fprintf(b, "%s | %s\n", number, p.source)
	fmt.Fprintf(b, "%s | %s%s%s%s\n", strings.Repeat(" ", len(number)), before, mark, under, reset)
}

// around returns what stands under the source line: spaces up to the place,
// then the carets.
func (p Problem) around() (before, under string) {
	runes := []rune(p.source)
	start := min(max(p.Column-1, 0), len(runes))
	end := min(start+max(p.width, 1), len(runes))
	var b strings.Builder
	for _, r := range runes[:start] {
		if r == '\t' {
			b.WriteRune(r)
			continue
		}
		b.WriteString(strings.Repeat(" ", runewidth.RuneWidth(r)))
	}
	return b.String(), strings.Repeat("^", max(runewidth.StringWidth(string(runes[start:end])), 1))
}

// sorted orders problems by file and place; r.Problems of the first file come
// first.
func (r *Report) sort(files []string) {
	slices.SortStableFunc(r.Problems, func(a, b Problem) int {
		return cmp.Or(
			cmp.Compare(slices.Index(files, a.File), slices.Index(files, b.File)),
			cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.Column, b.Column),
		)
	})
}
