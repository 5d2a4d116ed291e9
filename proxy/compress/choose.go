package compress

import "strings"

// choose returns which of the algorithms, the best first, the value of
// Accept-Encoding asks for (RFC 9110 section 12.5.3); "" for none of them. The
// client's weights go before our order.
func choose(accept string, algorithms []string) string {
	if accept == "" {
		return ""
	}
	best, weight := "", 0
	for _, a := range algorithms {
		if w, _ := weightOf(accept, a); w > weight {
			best, weight = a, w
		}
	}
	if w, named := weightOf(accept, "identity"); named && w > weight {
		return ""
	}
	return best
}

// weightOf returns the weight, in thousandths, that accept gives to a coding, and
// whether it names it; what is not named has that of "*".
func weightOf(accept, coding string) (weight int, named bool) {
	other := 0
	for element := range strings.SplitSeq(accept, ",") {
		name, params, _ := strings.Cut(element, ";")
		name = strings.Trim(name, " \t")
		switch {
		case strings.EqualFold(name, coding), coding == gzipName && strings.EqualFold(name, "x-gzip"):
			return quality(params), true
		case name == "*":
			other = quality(params)
		}
	}
	return other, false
}

// quality reads the weight among the parameters of an element (RFC 9110 section
// 12.4.2); a malformed one is 0, so that nobody gets what he may not want.
func quality(params string) int {
	if strings.Trim(params, " \t") == "" {
		return 1000
	}
	name, value, _ := strings.Cut(params, "=")
	value = strings.Trim(value, " \t")
	if !strings.EqualFold(strings.Trim(name, " \t"), "q") || len(value) == 0 || len(value) > 5 || len(value) > 1 && value[1] != '.' {
		return 0
	}
	n := 0
	for i := range 5 {
		switch {
		case i == 1:
			continue
		case i >= len(value):
			n *= 10
		case value[i] < '0' || value[i] > '9':
			return 0
		default:
			n = n*10 + int(value[i]-'0')
		}
	}
	if n > 1000 {
		return 0
	}
	return n
}
