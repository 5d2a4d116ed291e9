package main

import "fmt"

// judge makes the rows of a report: what each contestant needed, and edged's
// figure as a ratio to each of the others. The bar is for the ratio to the
// better of the peers that others wrote.
func (r row) judge(all []*contestant, figures []float64) []Row {
	var rows []Row
	for i, c := range all {
		rows = append(rows, Row{Case: r.title + ", " + c.name, Figure: figures[i], Unit: r.unit, Reference: "itself"})
	}
	if r.absolute {
		rows[0].Bar, rows[0].Result = verdict(figures[0], r.bar)
	}
	best := 0
	for i := range all {
		if all[i].kind != "edged" && (best == 0 || figures[i] < figures[best]) {
			best = i
		}
	}
	for i := 1; i < len(all); i++ {
		one := Row{
			Case: r.title, Figure: figures[0] / figures[i], Unit: "ratio",
			Reference: fmt.Sprintf("%s, %.1f", all[i].name, figures[i]),
		}
		if i == best && !r.absolute && r.bar > 0 {
			one.Bar, one.Result = verdict(one.Figure, r.bar)
		}
		rows = append(rows, one)
	}
	return rows
}

// verdict compares a figure with the bar that it may reach.
func verdict(figure, bar float64) (text, result string) {
	result = "met"
	if figure > bar {
		result = "missed"
	}
	return fmt.Sprintf("<= %.2f", bar), result
}
