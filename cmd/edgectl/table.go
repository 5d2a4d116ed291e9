package main

import (
	"fmt"
	"strings"

	"github.com/mattn/go-runewidth"
)

// A page collects lines and tables for a person.
type page struct {
	b       strings.Builder
	headers bool
	color   bool
	width   int // of the terminal; 0: no limit
}

// line adds one line of text.
func (p *page) line(format string, args ...any) {
	fmt.Fprintf(&p.b, format+"\n", args...)
}

// A mood colors a cell.
type mood int

// Moods.
const (
	plain mood = iota
	good
	doubtful
	ill
)

// A cell is a text in a table.
type cell struct {
	text string
	mood mood
}

// A table has aligned columns.
type table struct {
	head []string
	rows [][]cell
	min  []int // least widths of the first columns
}

func newTable(head ...string) *table { return &table{head: head} }

// row adds a row; a cell is a cell or a string. An empty one is shown as "-".
func (t *table) row(cells ...any) {
	var row []cell
	for _, c := range cells {
		x, ok := c.(cell)
		if !ok {
			x = cell{text: fmt.Sprint(c)}
		}
		if x.text == "" {
			x.text = "-"
		}
		row = append(row, x)
	}
	t.rows = append(t.rows, row)
}

// table adds t, its columns two spaces apart, without a header when its first
// one is "". On a terminal the last column is
// cut at the right edge.
func (p *page) table(t *table) {
	rows := t.rows
	if p.headers && t.head[0] != "" {
		var head []cell
		for _, h := range t.head {
			head = append(head, cell{text: h})
		}
		rows = append([][]cell{head}, rows...)
	}
	widths := make([]int, len(t.head))
	copy(widths, t.min)
	for _, r := range rows {
		for i, c := range r {
			widths[i] = max(widths[i], runewidth.StringWidth(c.text))
		}
	}
	for _, r := range rows {
		p.b.WriteString(p.rowText(r, widths))
		p.b.WriteByte('\n')
	}
}

// rowText joins the cells of one row.
func (p *page) rowText(row []cell, widths []int) string {
	var b strings.Builder
	used := 0
	for i, c := range row {
		if i == len(row)-1 {
			if p.width > 0 && used < p.width {
				c.text = runewidth.Truncate(c.text, p.width-used, "…")
			}
			b.WriteString(p.paint(c))
			break
		}
		b.WriteString(p.paint(c))
		b.WriteString(strings.Repeat(" ", widths[i]-runewidth.StringWidth(c.text)+2))
		used += widths[i] + 2
	}
	return strings.TrimRight(b.String(), " ")
}

// paint colors a cell by its mood.
func (p *page) paint(c cell) string {
	code := map[mood]string{good: "32", doubtful: "33", ill: "31"}[c.mood]
	if !p.color || code == "" {
		return c.text
	}
	return "\x1b[" + code + "m" + c.text + "\x1b[0m"
}
