package main

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

// none is shown where there is no value.
const none = "-"

// count writes a number of things or a rate: 4.3, 310, 58.2k, 1.41M.
func count(f float64) string {
	switch a := math.Abs(f); {
	case a < 9.95 && f != math.Trunc(f):
		return strconv.FormatFloat(f, 'f', 1, 64)
	case a < 999.5:
		return strconv.FormatFloat(f, 'f', 0, 64)
	case a < 999_950:
		return strconv.FormatFloat(f/1e3, 'f', 1, 64) + "k"
	default:
		return strconv.FormatFloat(f/1e6, 'f', 2, 64) + "M"
	}
}

// countOf writes a count that may be unknown.
func countOf(f *float64) string {
	if f == nil {
		return "?"
	}
	return count(*f)
}

// some writes a count, and nothing for zero.
func some(f *float64) string {
	if f == nil || *f < 0.05 {
		return none
	}
	return count(*f)
}

// perSecond writes a rate.
func perSecond(f float64) string { return count(f) + "/s" }

// percent writes a share of 1.
func percent(f *float64) string {
	if f == nil {
		return "?"
	}
	return strconv.FormatFloat(*f*100, 'f', 0, 64) + "%"
}

// millis writes milliseconds.
func millis(f *float64) string {
	switch {
	case f == nil:
		return none
	case *f < 99.95:
		return strconv.FormatFloat(*f, 'f', 1, 64) + " ms"
	}
	return strconv.FormatFloat(*f, 'f', 0, 64) + " ms"
}

// age writes how long something lasts or has lasted: 0.4s, 41s, 4m12s, 3h12m,
// 12d4h.
func age(d time.Duration) string {
	d = max(d, 0)
	s := int(d.Seconds())
	switch {
	case d < 10*time.Second:
		return strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + "s"
	case d < time.Minute:
		return fmt.Sprintf("%ds", s)
	case d < time.Hour:
		return fmt.Sprintf("%dm%ds", s/60, s%60)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%dm", s/3600, s%3600/60)
	}
	return fmt.Sprintf("%dd%dh", s/86400, s%86400/3600)
}

// ageOf writes an age in milliseconds that may be unknown.
func ageOf(ms *int64) string {
	if ms == nil {
		return none
	}
	return age(time.Duration(*ms) * time.Millisecond)
}

// since writes how long ago t was.
func (a *app) since(t time.Time) string {
	if t.IsZero() {
		return none
	}
	return age(a.now().Sub(t))
}

// clock writes a time of day, and the date when it is not today.
func (a *app) clock(t time.Time) string {
	t = t.Local()
	now := a.now().Local()
	if t.YearDay() == now.YearDay() && t.Year() == now.Year() {
		return t.Format(time.TimeOnly)
	}
	return t.Format(time.DateTime)
}

// size writes bytes in IEC units.
func size(n uint64) string {
	f, unit := float64(n), "B"
	for _, u := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if f < 1023.95 {
			break
		}
		f, unit = f/1024, u
	}
	if unit == "B" || f >= 99.95 {
		return fmt.Sprintf("%.0f %s", f, unit)
	}
	return fmt.Sprintf("%.1f %s", f, unit)
}

// plural writes a number of things.
func plural(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}
