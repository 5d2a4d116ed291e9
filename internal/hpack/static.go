package hpack

import "anyedge/internal/message"

// static is the static table (RFC 7541 appendix A); index 1 is its first entry.
var static = [...]message.Field{
	{Name: ":authority"},
	{Name: ":method", Value: "GET"},
	{Name: ":method", Value: "POST"},
	{Name: ":path", Value: "/"},
	{Name: ":path", Value: "/index.html"},
	{Name: ":scheme", Value: "http"},
	{Name: ":scheme", Value: "https"},
	{Name: ":status", Value: "200"},
	{Name: ":status", Value: "204"},
	{Name: ":status", Value: "206"},
	{Name: ":status", Value: "304"},
	{Name: ":status", Value: "400"},
	{Name: ":status", Value: "404"},
	{Name: ":status", Value: "500"},
	{Name: "accept-charset"},
	{Name: "accept-encoding", Value: "gzip, deflate"},
	{Name: "accept-language"},
	{Name: "accept-ranges"},
	{Name: "accept"},
	{Name: "access-control-allow-origin"},
	{Name: "age"},
	{Name: "allow"},
	{Name: "authorization"},
	{Name: "cache-control"},
	{Name: "content-disposition"},
	{Name: "content-encoding"},
	{Name: "content-language"},
	{Name: "content-length"},
	{Name: "content-location"},
	{Name: "content-range"},
	{Name: "content-type"},
	{Name: "cookie"},
	{Name: "date"},
	{Name: "etag"},
	{Name: "expect"},
	{Name: "expires"},
	{Name: "from"},
	{Name: "host"},
	{Name: "if-match"},
	{Name: "if-modified-since"},
	{Name: "if-none-match"},
	{Name: "if-range"},
	{Name: "if-unmodified-since"},
	{Name: "last-modified"},
	{Name: "link"},
	{Name: "location"},
	{Name: "max-forwards"},
	{Name: "proxy-authenticate"},
	{Name: "proxy-authorization"},
	{Name: "range"},
	{Name: "referer"},
	{Name: "refresh"},
	{Name: "retry-after"},
	{Name: "server"},
	{Name: "set-cookie"},
	{Name: "strict-transport-security"},
	{Name: "transfer-encoding"},
	{Name: "user-agent"},
	{Name: "vary"},
	{Name: "via"},
	{Name: "www-authenticate"},
}

// slots is how many buckets byName has, a power of two.
const slots = 128

// byName finds the first static entry of a name: buckets of indexes.
var byName = func() (t [slots][]uint8) {
	for i, f := range static {
		if i > 0 && static[i-1].Name == f.Name {
			continue
		}
		s := slot(f.Name)
		t[s] = append(t[s], uint8(i+1))
	}
	return t
}()

// slot is the bucket of a name in any case.
func slot(name string) int {
	if name == "" {
		return 0
	}
	n := len(name)
	return (n*31 + int(name[0]|0x20)*7 + int(name[n-1]|0x20)*3 + int(name[n/2]|0x20)) % slots
}

// staticName returns the first static index of a name; 0: it has none.
func staticName(name string) int {
	for _, i := range byName[slot(name)] {
		if equal(name, static[i-1].Name) {
			return int(i)
		}
	}
	return 0
}

// equal reports whether name is lower in lower case.
func equal(name, lower string) bool {
	if len(name) != len(lower) {
		return false
	}
	for i := range len(name) {
		if c := name[i]; c != lower[i] && (c < 'A' || c > 'Z' || c+('a'-'A') != lower[i]) {
			return false
		}
	}
	return true
}
