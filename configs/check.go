package configs

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// A check holds what the rules look at and what they find.
type check struct {
	cfg      Config
	index    map[string]*value // by path
	root     *value
	broken   []string  // paths that the schema refused
	own      []finding // what the packages say of their own types, inner ones first
	problems []Problem
}

// A finding is what a package's Validate says of the section at path.
type finding struct {
	path string
	err  error
}

func newCheck(root *value) *check {
	c := &check{root: root, index: map[string]*value{}}
	root.walk("", func(path string, v *value) { c.index[path] = v })
	return c
}

// error reports a mistake in the field at path.
func (c *check) error(path, code, message string) { c.report(Error, path, code, message) }

// errorf is error with a format.
func (c *check) errorf(path, code, format string, args ...any) {
	c.report(Error, path, code, fmt.Sprintf(format, args...))
}

// warnf reports something that works, though hardly as meant.
func (c *check) warnf(path, code, format string, args ...any) {
	c.report(Warning, path, code, fmt.Sprintf(format, args...))
}

// report adds a problem, unless the schema refused something there: what a
// rule says about a value that could not be read misleads.
func (c *check) report(s Severity, path, code, message string) {
	for _, b := range c.broken {
		if b == path || within(b, path) || within(path, b) && b != "" {
			return
		}
	}
	m := mistake{at: c.place(path), path: path, code: code, message: message}
	c.problems = append(c.problems, m.problem(s))
}

// whole reports whether nothing at or under path was refused.
func (c *check) whole(path string) bool {
	return !slices.ContainsFunc(c.broken, func(b string) bool { return b == path || within(b, path) })
}

// named reports whether the names of all entries of list could be read: what
// refers to them is judged only then.
func (c *check) named(list string) bool {
	return !slices.ContainsFunc(c.broken, func(b string) bool {
		entry := indexForm.ReplaceAllString(b, "[]")
		return b == list || entry == list+"[]" || entry == list+"[].name"
	})
}

var indexForm = regexp.MustCompile(`\[\d+\]`)

// within reports whether path stands somewhere under parent.
func within(path, parent string) bool {
	rest, ok := strings.CutPrefix(path, parent)
	return ok && (parent == "" || strings.HasPrefix(rest, ".") || strings.HasPrefix(rest, "["))
}

// given reports whether the file has the field at path.
func (c *check) given(path string) bool { return c.index[path] != nil }

// place returns where path stands; a field that is absent stands where its
// section begins.
func (c *check) place(path string) place {
	for path != "" {
		if v, ok := c.index[path]; ok {
			return v.underline()
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	return c.root.underline()
}

// ref reports name at path when it is not among known, which are the names of
// all entries of list.
func (c *check) ref(path, kind, name string, known []string, list string) {
	if slices.Contains(known, name) || !c.named(list) {
		return
	}
	hint := suggestion(name, known)
	if hint == "" && len(known) == 0 {
		hint = fmt.Sprintf(": there is no %s in %s", kind, list)
	}
	c.errorf(path, "unknown-"+strings.ReplaceAll(strings.ToLower(kind), " ", "-"), "unknown %s %q%s", kind, name, hint)
}

// pick returns one field of every entry.
func pick[T any](list []T, f func(*T) string) []string {
	out := make([]string, 0, len(list))
	for i := range list {
		out = append(out, f(&list[i]))
	}
	return out
}
