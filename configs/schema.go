package configs

import (
	"bytes" // the schema
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"anyedge/internal/message"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
)

//go:embed edged.schema.json
var schemaJSON []byte

// Schema returns the JSON schema of the configuration file, for editors.
func Schema() []byte { return bytes.Clone(schemaJSON) }

// compiled returns the validator and the tree of the committed schema.
var compiled = sync.OnceValues(func() (*jsonschema.Schema, *shape) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(schemaJSON))
	if err != nil {
		panic(fmt.Sprintf("edged.schema.json: %v", err)) // a broken build, never an input
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	for _, f := range formats {
		c.RegisterFormat(f)
	}
	if err := c.AddResource("edged.schema.json", doc); err != nil {
		panic(fmt.Sprintf("edged.schema.json: %v", err))
	}
	tree := &shape{}
	if err := json.Unmarshal(schemaJSON, tree); err != nil {
		panic(fmt.Sprintf("edged.schema.json: %v", err))
	}
	return c.MustCompile("edged.schema.json"), tree
})

// formats of strings, by the names that the schema uses.
var formats = []*jsonschema.Format{
	format("address", func(s string) error {
		if _, err := netip.ParseAddr(s); err != nil {
			return fmt.Errorf("%q is not an IP address", s)
		}
		return nil
	}),
	format("prefix", checkPrefix),
	format("go-duration", checkDuration),
	format("size", func(s string) error {
		var size message.Size
		return size.UnmarshalText([]byte(s))
	}),
}

func format(name string, check func(string) error) *jsonschema.Format {
	return &jsonschema.Format{Name: name, Validate: func(v any) error {
		if s, ok := v.(string); ok {
			return check(s)
		}
		return nil
	}}
}

func checkPrefix(s string) error {
	p, err := netip.ParsePrefix(s)
	if a, aerr := netip.ParseAddr(s); err != nil && aerr == nil {
		return fmt.Errorf("%s has no length; did you mean %s/%d?", s, s, a.BitLen())
	}
	if err != nil {
		return fmt.Errorf("%q is not a prefix: want one like 203.0.113.0/24", s)
	}
	if p != p.Masked() {
		return fmt.Errorf("host bits set in %s; did you mean %s?", s, p.Masked())
	}
	return nil
}

func checkDuration(s string) error {
	d, err := time.ParseDuration(s)
	switch {
	case err != nil:
		return fmt.Errorf("%q is not a duration: want a number with ms, s, m or h, like 9s", s)
	case d < 0:
		return fmt.Errorf("%s is negative", s)
	}
	return nil
}

// A shape is the part of a schema that messages need.
type shape struct {
	Type                 string            `json:"type"`
	Format               string            `json:"format"`
	Enum                 []any             `json:"enum"`
	Minimum              *float64          `json:"minimum"`
	Maximum              *float64          `json:"maximum"`
	Properties           map[string]*shape `json:"properties"`
	Items                *shape            `json:"items"`
	AdditionalProperties json.RawMessage   `json:"additionalProperties"`
}

// at returns the shape that stands at a location, nil when there is none.
func (s *shape) at(location []string) *shape {
	for _, name := range location {
		switch {
		case s == nil:
			return nil
		case s.Items != nil:
			s = s.Items
		case s.Properties[name] != nil:
			s = s.Properties[name]
		default:
			var inner shape
			if json.Unmarshal(s.AdditionalProperties, &inner) != nil {
				return nil
			}
			s = &inner
		}
	}
	return s
}

// names returns the fields that s may have.
func (s *shape) names() []string {
	if s == nil {
		return nil
	}
	var out []string
	for n := range s.Properties {
		out = append(out, n)
	}
	return out
}

// validate reports every place where the schema refuses v.
func validate(v *value) []mistake {
	schema, tree := compiled()
	var bad *jsonschema.ValidationError
	if err := schema.Validate(v.plain()); !errors.As(err, &bad) {
		return nil
	}
	r := &refusals{root: v, tree: tree}
	r.collect(bad)
	return r.found
}

// refusals collects what a schema refused.
type refusals struct {
	root  *value
	tree  *shape
	found []mistake
}

// collect walks to the causes and describes each.
func (r *refusals) collect(e *jsonschema.ValidationError) {
	if len(e.Causes) > 0 {
		for _, c := range e.Causes {
			r.collect(c)
		}
		return
	}
	v, path := r.root.find(e.InstanceLocation)
	switch k := e.ErrorKind.(type) {
	case *kind.Required:
		for _, name := range k.Missing {
			r.add(v.underline(), join(path, name), "required", name+" is required")
		}
	case *kind.AdditionalProperties:
		for _, name := range k.Properties {
			r.unknownField(v, join(path, name), name, r.tree.at(e.InstanceLocation).names())
		}
	default:
		code, message := describe(e.ErrorKind, r.tree.at(e.InstanceLocation), path)
		r.add(v.underline(), path, code, message)
	}
}

func (r *refusals) add(at place, path, code, message string) {
	r.found = append(r.found, mistake{at: at, path: path, code: code, message: message})
}

func (r *refusals) unknownField(v *value, path, name string, known []string) {
	at := v.fields[name].key
	if isLater(path) {
		r.add(at, path, "not-in-this-version", fmt.Sprintf("%q is known, not in this version of edged", name))
		return
	}
	r.add(at, path, "unknown-field", fmt.Sprintf("unknown field %q%s", name, suggestion(name, known)))
}

// find returns the value at a location and its path.
func (v *value) find(location []string) (*value, string) {
	path := ""
	for _, name := range location {
		if v.isMap() {
			path, v = join(path, name), v.fields[name]
			continue
		}
		i := 0
		if _, err := fmt.Sscan(name, &i); err != nil || i >= len(v.items) {
			return v, path
		}
		path, v = fmt.Sprintf("%s[%d]", path, i), v.items[i]
	}
	return v, path
}

// describe says in our words what a schema keyword refused.
func describe(k jsonschema.ErrorKind, s *shape, path string) (code, message string) {
	switch k := k.(type) {
	case *kind.Type:
		return "wrong-type", describeType(k, s)
	case *kind.Enum:
		return describeEnum(k, path)
	case *kind.Format:
		return "wrong-form", k.Err.Error()
	case *kind.Minimum:
		got, _ := k.Got.Float64()
		return "out-of-range", fmt.Sprintf("got %s, want %s", decimal(got), s.bounds(got))
	case *kind.Maximum:
		got, _ := k.Got.Float64()
		return "out-of-range", fmt.Sprintf("got %s, want %s", decimal(got), s.bounds(got))
	case *kind.MinItems:
		return "wrong-length", fmt.Sprintf("got %s, want at least %d", plural(k.Got, "item"), k.Want)
	case *kind.MaxItems:
		return "wrong-length", fmt.Sprintf("got %s, want at most %d", plural(k.Got, "item"), k.Want)
	}
	return "invalid", strings.Join(k.KeywordPath(), " ") + " does not hold"
}

// bounds says which numbers are allowed.
func (s *shape) bounds(got float64) string {
	noun := "a number"
	if s.Type == "integer" {
		noun = "a whole number"
	}
	switch {
	case s.Minimum == nil:
		return noun + " up to " + decimal(*s.Maximum)
	case s.Maximum == nil:
		return noun + " from " + decimal(*s.Minimum) + " on"
	}
	hint := ""
	if *s.Maximum <= 1 && got > 1 && got <= 100 {
		hint = fmt.Sprintf(" (%v%% is %v)", got, got/100)
	}
	return fmt.Sprintf("%s between %s and %s%s", noun, decimal(*s.Minimum), decimal(*s.Maximum), hint)
}

// decimal writes a number without an exponent.
func decimal(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

func describeType(k *kind.Type, s *shape) string {
	want := strings.Join(k.Want, " or ")
	words := map[string]string{
		"object": "a section with fields", "array": "a list", "string": "text", "integer": "a whole number",
		"number": "a number", "boolean": "true or false", "null": "nothing",
	}
	got := words[k.Got]
	if k.Got == "number" {
		got = "a number"
	}
	switch {
	case s != nil && s.Format == "go-duration" && k.Got == "number":
		return `a duration needs a unit, like "9s" or "300ms"`
	case s != nil && s.Format == "size" && k.Got == "number":
		return `a size needs a unit, like "64KiB" or "0B"`
	case k.Got == "number" && want == "string":
		return "got a number, want text: put it in quotes"
	case s != nil && s.Items != nil && k.Got != "object":
		return fmt.Sprintf("got %s, want a list: [%s]", got, "…")
	}
	if w := words[want]; w != "" {
		want = w
	}
	return fmt.Sprintf("got %s, want %s", got, want)
}

func describeEnum(k *kind.Enum, path string) (code, message string) {
	var want []string
	for _, w := range k.Want {
		want = append(want, fmt.Sprint(w))
	}
	got := fmt.Sprint(k.Got)
	shown := got
	if _, ok := k.Got.(string); ok {
		shown = strconv.Quote(got)
	}
	if isLaterValue(path, got) {
		return "not-in-this-version", fmt.Sprintf("%q is known, not in this version of edged", got)
	}
	list := want[0]
	if n := len(want); n > 1 {
		list = strings.Join(want[:n-1], ", ") + " or " + want[n-1]
	}
	hint := ""
	if !slices.Contains(want, got) {
		hint = suggestion(got, want)
	}
	return "unknown-value", fmt.Sprintf("got %s, want %s%s", shown, list, hint)
}
