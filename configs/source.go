package configs

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Bounds of a file: what is beyond them is a mistake or an attack, and would
// cost seconds or gigabytes to read.
const (
	maxBytes   = 4 << 20
	maxDepth   = 64      // of nested lists and mappings
	maxKeys    = 10_000  // in one mapping written over several lines
	maxTokens  = 500_000 // words and signs
	maxValues  = 200_000 // after aliases are expanded
	tabMessage = "a tab cannot indent YAML: use spaces"
)

// A source is the text of one file.
type source struct {
	name  string
	lines []string
}

// A place is where something stands in a source.
type place struct {
	src       *source
	line, col int // from 1, col in characters
	width     int // characters
}

// A mistake is a problem without its file's context.
type mistake struct {
	at      place
	path    string
	code    string
	message string
}

// problem completes m.
func (m mistake) problem(s Severity) Problem {
	p := Problem{
		File: m.at.src.name, Line: m.at.line, Column: m.at.col, width: m.at.width,
		Path: m.path, Code: m.code, Message: m.message, Severity: s,
	}
	if i := m.at.line - 1; i >= 0 && i < len(m.at.src.lines) {
		p.source = m.at.src.lines[i]
	}
	return p
}

// readSource parses data and returns its one document; nil when it is empty or
// cannot be read, which mistakes tell.
func readSource(name string, data []byte) (*source, *value, []mistake) {
	src := &source{name: name}
	if len(data) > maxBytes {
		return src, nil, []mistake{src.whole("file-too-large", fmt.Sprintf("the file has %d bytes, the limit is %d (4 MiB)", len(data), maxBytes))}
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	src.lines = strings.Split(strings.ReplaceAll(string(data), "\r\n", "\n"), "\n")
	if m := src.badText(data); m != nil {
		return src, nil, []mistake{*m}
	}
	file, m := src.parse(string(data))
	if m != nil {
		return src, nil, []mistake{*m}
	}
	body, m := src.document(file)
	if m != nil {
		return src, nil, []mistake{*m}
	}
	if body == nil {
		return src, nil, nil
	}
	c := &converter{src: src, anchors: map[string]ast.Node{}}
	v := c.convert(body, 0)
	if c.gaveUp {
		return src, nil, c.mistakes
	}
	return src, v, c.mistakes
}

// whole returns a mistake that concerns the whole file.
func (s *source) whole(code, message string) mistake {
	return mistake{at: place{src: s, line: 1, col: 1, width: 1}, code: code, message: message}
}

// badText finds bytes that are no text.
func (s *source) badText(data []byte) *mistake {
	for i, line := range bytes.Split(data, []byte("\n")) {
		col := 0
		for len(line) > 0 {
			r, n := utf8.DecodeRune(line)
			col++
			at := place{src: s, line: i + 1, col: col, width: 1}
			if r == utf8.RuneError && n == 1 {
				// The line would spoil a terminal: it is not shown.
				s.lines[i] = ""
				return &mistake{at: at, code: "not-utf8", message: fmt.Sprintf("byte 0x%02x is not UTF-8", line[0])}
			}
			if r < ' ' && r != '\t' && r != '\r' || r == 0x7f {
				s.lines[i] = ""
				return &mistake{at: at, code: "control-character", message: fmt.Sprintf("control character 0x%02x", r)}
			}
			line = line[n:]
		}
	}
	return nil
}

// parse reads the syntax. The library's panic is a mistake in the file.
func (s *source) parse(text string) (file *ast.File, m *mistake) {
	defer func() {
		if e := recover(); e != nil {
			file = nil
			bad := s.whole("yaml-syntax", fmt.Sprintf("cannot be read as YAML (%v)", e))
			m = &bad
		}
	}()
	tokens := lexer.Tokenize(text)
	if m := s.checkTokens(tokens); m != nil {
		return nil, m
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return nil, s.syntaxMistake(err)
	}
	return file, nil
}

// syntaxMistake turns a parser's error into ours.
func (s *source) syntaxMistake(err error) *mistake {
	m := s.whole("yaml-syntax", err.Error())
	if y, ok := errors.AsType[yaml.Error](err); ok {
		m.message = y.GetMessage()
		if t := y.GetToken(); t != nil && t.Position != nil {
			m.at = s.placeOf(t)
		}
	}
	if strings.Contains(m.message, "found character '\t'") {
		m.code, m.message = "tab", tabMessage
	}
	return &m
}

// checkTokens refuses what would cost the parser too much.
func (s *source) checkTokens(tokens token.Tokens) *mistake {
	tooMuch := func(t *token.Token, what string) *mistake {
		return &mistake{at: s.placeOf(t), code: "file-too-complex", message: what}
	}
	flow, entries, line := 0, 0, 0
	keys := map[int]int{} // block mapping keys by column, of the mappings that are open
	for i, t := range tokens {
		if i >= maxTokens {
			return tooMuch(t, fmt.Sprintf("more than %d words and signs", maxTokens))
		}
		if t.Position.Line != line {
			line, entries = t.Position.Line, 0
		}
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			flow++
		case token.SequenceEndType, token.MappingEndType:
			flow--
		case token.SequenceEntryType, token.MappingKeyType, token.TagType, token.AnchorType:
			entries++
			deeper(keys, t.Position.Column)
		case token.MappingValueType:
			if flow == 0 && i > 0 {
				col := tokens[i-1].Position.Column
				deeper(keys, col+1)
				keys[col]++
				if keys[col] > maxKeys {
					return tooMuch(t, fmt.Sprintf("more than %d fields in one mapping", maxKeys))
				}
			}
		default:
		}
		if flow > maxDepth || entries > maxDepth {
			return tooMuch(t, fmt.Sprintf("nested deeper than %d", maxDepth))
		}
	}
	return nil
}

// deeper forgets the mappings at col and to its right: they have ended.
func deeper(keys map[int]int, col int) {
	for c := range keys {
		if c >= col {
			delete(keys, c)
		}
	}
}

// document returns the body of the file's only document, nil when it is empty.
func (s *source) document(file *ast.File) (ast.Node, *mistake) {
	var body ast.Node
	for _, d := range file.Docs {
		switch d.Body.(type) {
		case nil, *ast.CommentGroupNode, *ast.DirectiveNode:
			continue
		}
		if body != nil {
			m := mistake{
				at: s.placeOf(first(d.Body).GetToken()), code: "several-documents",
				message: "a second YAML document; a configuration is one document, without \"---\" inside",
			}
			return nil, &m
		}
		body = d.Body
	}
	return body, nil
}

// placeOf returns where t stands and how wide it is on its line.
func (s *source) placeOf(t *token.Token) place {
	p := place{src: s, line: t.Position.Line, col: max(t.Position.Column, 1), width: 1}
	text, _, _ := strings.Cut(strings.TrimSpace(t.Origin), "\n")
	if text == "" || t.Type == token.LiteralType || t.Type == token.FoldedType {
		text = t.Value
	}
	p.width = max(utf8.RuneCountInString(strings.TrimSpace(text)), 1)
	return p
}
