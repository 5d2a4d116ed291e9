package main

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// A node is what makeDoc reads of a schema.
type node struct {
	Type                 string            `json:"type"`
	Format               string            `json:"format"`
	Description          string            `json:"description"`
	Enum                 []any             `json:"enum"`
	Minimum              *float64          `json:"minimum"`
	Maximum              *float64          `json:"maximum"`
	Required             []string          `json:"required"`
	Properties           orderedProperties `json:"properties"`
	Items                *node             `json:"items"`
	AdditionalProperties json.RawMessage   `json:"additionalProperties"`
}

// orderedProperties keeps the order of the file.
type orderedProperties struct {
	names []string
	nodes map[string]*node
}

// UnmarshalJSON reads an object and remembers the order of its names.
func (o *orderedProperties) UnmarshalJSON(b []byte) error {
	if err := json.Unmarshal(b, &o.nodes); err != nil {
		return err
	}
	dec := json.NewDecoder(strings.NewReader(string(b)))
	if _, err := dec.Token(); err != nil {
		return err
	}
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return err
		}
		o.names = append(o.names, fmt.Sprint(t))
		var skip json.RawMessage
		if err := dec.Decode(&skip); err != nil {
			return err
		}
	}
	return nil
}

const docHead = `# Configuration

<!-- Generated from the Go types by "go generate ./configs". Edit the comments there. -->

` + "`edged` reads one file, `/etc/edged/edged.yaml`. Everything that belongs to one machine stands under `node:`, which may\n" +
	"live alone in `node.yaml` beside the file; the rest is identical in the whole fleet. [edged.yaml](../configs/edged.yaml) shows every field\n" +
	"in place, [examples](../configs/examples) small whole files. `edgectl config check FILE` reports every mistake with its line and column.\n" + `
Rules that hold everywhere: an unknown field is an error; durations and sizes need a unit ("9s", "64KiB"); absent means the default, and
0 means zero; a secret is never a value but ` + "`{file: PATH}`, `{env: NAME}` or `{credential: NAME}`" + `; names are a-z, then a-z, 0-9 or -.

A list is written ` + "`[]`" + ` in the paths below, a map ` + "`.*`" + `. **Required** means: where its section is given.

| path | type | default | meaning |
|---|---|---|---|
`

// makeDoc returns the table of all fields.
func makeDoc(schema []byte) ([]byte, error) {
	var root node
	if err := json.Unmarshal(schema, &root); err != nil {
		return nil, fmt.Errorf("read schema: %w", err)
	}
	var b strings.Builder
	b.WriteString(docHead)
	if err := rows(&b, "", &root); err != nil {
		return nil, err
	}
	return []byte(b.String()), nil
}

// rows writes a row for each property under n.
func rows(b *strings.Builder, path string, n *node) error {
	for _, name := range n.Properties.names {
		p := n.Properties.nodes[name]
		full := strings.TrimPrefix(path+"."+name, ".")
		meaning, def := splitDefault(p.Description)
		if slices.Contains(n.Required, name) {
			def = "**required**"
		}
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", full, cell(typeName(p)), cell(def), cell(meaning))
		if err := below(b, full, p); err != nil {
			return err
		}
	}
	return nil
}

// below writes the rows of what stands inside p: an object, a list, a map.
func below(b *strings.Builder, path string, p *node) error {
	switch {
	case isSecret(p):
		return nil
	case p.Items != nil:
		return below(b, path+"[]", p.Items)
	case p.Type == "object" && len(p.Properties.names) == 0:
		inner, err := mapValue(p)
		if err != nil || inner == nil {
			return err
		}
		return below(b, path+".*", inner)
	}
	return rows(b, path, p)
}

// isSecret reports whether p says where a secret is.
func isSecret(p *node) bool { return p.Properties.nodes["credential"] != nil }

// mapValue returns the schema of a map's values, nil when p is no map.
func mapValue(p *node) (*node, error) {
	if len(p.AdditionalProperties) == 0 || string(p.AdditionalProperties) == "false" {
		return nil, nil
	}
	var inner node
	if err := json.Unmarshal(p.AdditionalProperties, &inner); err != nil {
		return nil, fmt.Errorf("additionalProperties: %w", err)
	}
	return &inner, nil
}

// typeName says what may be written.
func typeName(p *node) string {
	switch {
	case p.Items != nil:
		return "list of " + typeName(p.Items)
	case len(p.Enum) > 0:
		var words []string
		for _, e := range p.Enum {
			words = append(words, fmt.Sprintf("`%v`", e))
		}
		return strings.Join(words, " | ")
	case isSecret(p):
		return "secret"
	case p.Format == "go-duration":
		return "duration"
	case p.Format != "":
		return p.Format
	case p.Type == "object" && len(p.Properties.names) == 0:
		return "map"
	case p.Type == "object":
		return "section"
	case p.Minimum != nil && p.Maximum != nil && *p.Maximum < 1<<16:
		return fmt.Sprintf("%s %v–%v", p.Type, *p.Minimum, *p.Maximum)
	}
	return p.Type
}

// defaultForm finds "default 9s" at the end of a description or before a ";".
var defaultForm = regexp.MustCompile(`(?:^|[;.,] |: )(?:the )?default:? (.+?)(?:; (.*))?$`)

// defaultWord finds the default among alternatives: a (default) | b.
var defaultWord = regexp.MustCompile(`(\S+) \(default\)`)

// splitDefault takes the default out of a description.
func splitDefault(text string) (meaning, def string) {
	if m := defaultWord.FindStringSubmatch(text); m != nil {
		return strings.Replace(text, " (default)", "", 1), m[1]
	}
	m := defaultForm.FindStringSubmatchIndex(text)
	if m == nil {
		return text, ""
	}
	meaning, def = text[:m[0]], text[m[2]:m[3]]
	if m[4] >= 0 {
		meaning = strings.TrimPrefix(meaning+"; "+text[m[4]:m[5]], "; ")
	}
	return meaning, def
}

// cell makes text safe inside a table.
func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }
