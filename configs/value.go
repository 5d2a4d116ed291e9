package configs

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// A value is one value of the file and where it stands. Aliases are expanded.
type value struct {
	at     place
	key    place             // of its field's name; of the value in a list
	fields map[string]*value // of a mapping, else nil
	names  []string          // its fields' names in order
	items  []*value          // of a list
	list   bool
	scalar any // string, bool, float64, int64, uint64 or nil
}

// isMap reports whether v is a mapping.
func (v *value) isMap() bool { return v.fields != nil }

// underline returns the place to point at for a problem with v.
func (v *value) underline() place {
	if v.isMap() || v.list {
		return v.key
	}
	return v.at
}

// plain returns v as the values that encoding/json makes.
func (v *value) plain() any {
	switch {
	case v.isMap():
		m := make(map[string]any, len(v.fields))
		for name, f := range v.fields {
			m[name] = f.plain()
		}
		return m
	case v.list:
		l := make([]any, 0, len(v.items))
		for _, item := range v.items {
			l = append(l, item.plain())
		}
		return l
	}
	return v.scalar
}

// walk calls f for v and all below it, with their paths.
func (v *value) walk(path string, f func(path string, v *value)) {
	f(path, v)
	for _, name := range v.names {
		v.fields[name].walk(join(path, name), f)
	}
	for i, item := range v.items {
		item.walk(fmt.Sprintf("%s[%d]", path, i), f)
	}
}

// join appends a field's name to a path.
func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// A converter turns the parser's nodes into values.
type converter struct {
	src      *source
	anchors  map[string]ast.Node
	values   int
	gaveUp   bool
	mistakes []mistake
}

// bad notes a mistake at n.
func (c *converter) bad(n ast.Node, code, format string, args ...any) {
	c.mistakes = append(c.mistakes, mistake{at: c.src.placeOf(first(n).GetToken()), code: code, message: fmt.Sprintf(format, args...)})
}

// convert returns n as a value; depth counts the nesting.
func (c *converter) convert(n ast.Node, depth int) *value {
	v := &value{}
	if n == nil || c.gaveUp {
		return v
	}
	v.at = c.src.placeOf(first(n).GetToken())
	v.key = v.at
	c.values++
	if c.values > maxValues || depth > maxDepth {
		c.gaveUp = true
		c.bad(n, "file-too-complex", "more than %d values, or nested deeper than %d (aliases count each time)", maxValues, maxDepth)
		return v
	}
	if text, ok := c.glued(n); ok {
		v.scalar = text
		v.at.width = utf8.RuneCountInString(text)
		return v
	}
	switch n := n.(type) {
	case *ast.MappingNode:
		c.mapping(v, n.Values, depth)
	case *ast.MappingValueNode:
		c.mapping(v, []*ast.MappingValueNode{n}, depth)
	case *ast.SequenceNode:
		v.list = true
		for _, item := range n.Values {
			v.items = append(v.items, c.convert(item, depth+1))
		}
	case *ast.AnchorNode:
		return c.anchor(n, depth)
	case *ast.AliasNode:
		return c.alias(v, n, depth)
	case *ast.TagNode:
		c.bad(n, "yaml-tag", "YAML tags like %s have no meaning here", n.Start.Value)
	default:
		v.scalar = c.scalar(n)
	}
	return v
}

// glued returns the text of a plain value like 192.0.2.1:8443 in a flow list
// inside a flow mapping. The parser takes its colon for a mapping's, which
// needs a space after it (YAML 1.2.2 section 7.3.3).
func (c *converter) glued(n ast.Node) (string, bool) {
	if m, ok := n.(*ast.MappingNode); ok && !m.IsFlowStyle && len(m.Values) == 1 {
		n = m.Values[0]
	}
	m, ok := n.(*ast.MappingValueNode)
	if !ok || m.Value == nil || m.Start == nil {
		return "", false
	}
	key, colon, val := m.Key.GetToken(), m.Start.Position, first(m.Value).GetToken().Position
	if key.Indicator == token.QuotedScalarIndicator || colon.Line != val.Line || val.Column != colon.Column+1 || key.Position.Line != val.Line {
		return "", false
	}
	line := []rune(c.src.lines[key.Position.Line-1])
	text := string(line[min(key.Position.Column-1, len(line)):])
	if end := strings.IndexAny(text, ",[]{}"); end >= 0 {
		text = text[:end]
	}
	text, _, _ = strings.Cut(text, " #")
	return strings.TrimSpace(text), true
}

// mapping fills v with fields. A field without a value is as good as absent.
func (c *converter) mapping(v *value, fields []*ast.MappingValueNode, depth int) {
	v.fields = map[string]*value{}
	seen := map[string]int{}
	for _, f := range fields {
		switch f.Key.(type) {
		case *ast.StringNode, *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.NullNode:
		default:
			c.bad(f.Key, "yaml-key", "a field's name is plain text; %q has no meaning here", f.Key.GetToken().Value)
			continue
		}
		key := f.Key.GetToken()
		name := key.Value
		if line, ok := seen[name]; ok {
			c.bad(f.Key, "duplicate-field", "%q was already given in line %d", name, line)
			continue
		}
		seen[name] = key.Position.Line
		inner := c.convert(f.Value, depth+1)
		inner.key = c.src.placeOf(key)
		if inner.scalar == nil && !inner.isMap() && !inner.list {
			continue
		}
		v.fields[name] = inner
		v.names = append(v.names, name)
	}
}

// anchor remembers n's value under its name, once it is complete: no value
// contains itself.
func (c *converter) anchor(n *ast.AnchorNode, depth int) *value {
	name := n.Name.GetToken().Value
	v := c.convert(n.Value, depth)
	c.anchors[name] = n.Value
	return v
}

// alias returns the value of the anchor that n names.
func (c *converter) alias(v *value, n *ast.AliasNode, depth int) *value {
	name := n.Value.GetToken().Value
	target, ok := c.anchors[name]
	if !ok {
		c.bad(n, "unknown-anchor", "no anchor &%s stands before this", name)
		return v
	}
	inner := c.convert(target, depth+1)
	inner.at, inner.key = v.at, v.key
	return inner
}

// scalar returns a plain value's Go value.
func (c *converter) scalar(n ast.Node) any {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value
	case *ast.LiteralNode:
		return n.Value.Value
	case *ast.BoolNode:
		return n.Value
	case *ast.IntegerNode:
		return integer(n)
	case *ast.FloatNode:
		return n.Value
	case *ast.NullNode:
		return nil
	case *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value
	}
	c.bad(n, "yaml-syntax", "%q has no meaning here", n.GetToken().Value)
	return nil
}

// integer returns the number; 010 is ten for some readers and eight for
// others, so it stays text, which no numeric field takes.
func integer(n *ast.IntegerNode) any {
	text := n.Token.Value
	if len(text) > 1 && text[0] == '0' && strings.Trim(text, "0123456789") == "" {
		return text
	}
	switch x := n.Value.(type) {
	case int64:
		return x
	case uint64:
		return x
	}
	if i, err := strconv.ParseInt(fmt.Sprint(n.Value), 10, 64); err == nil {
		return i
	}
	return text
}

// first returns the node whose token is leftmost in n: a block mapping's own
// token is the colon of its first field.
func first(n ast.Node) ast.Node {
	switch n := n.(type) {
	case *ast.MappingNode:
		if !n.IsFlowStyle && len(n.Values) > 0 {
			return n.Values[0].Key
		}
	case *ast.MappingValueNode:
		return n.Key
	}
	return n
}
