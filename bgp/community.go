package bgp

import (
	"fmt"
	"strconv"
	"strings"
)

// A Community is a standard community (RFC 1997): the high 16 bits are an AS.
type Community uint32

// Well-known communities that this package has an opinion about.
const (
	GracefulShutdown Community = 0xffff0000 // RFC 8326: prefer any other path
	NoExport         Community = 0xffffff01 // RFC 1997: not beyond the neighbor's AS
)

// String returns c as ASN:VALUE.
func (c Community) String() string {
	return fmt.Sprintf("%d:%d", uint32(c)>>16, uint32(c)&0xffff)
}

// ParseCommunity reads ASN:VALUE, both 0 to 65535.
func ParseCommunity(s string) (Community, error) {
	var n [2]uint32
	if err := parseNumbers(s, 16, n[:]); err != nil {
		return 0, fmt.Errorf("community %q: %w (want ASN:VALUE, each 0 to 65535)", s, err)
	}
	return Community(n[0]<<16 | n[1]), nil
}

// ParseCommunities reads a list of ASN:VALUE and stops at the first mistake.
func ParseCommunities(list []string) ([]Community, error) {
	return parseAll(list, ParseCommunity)
}

// A LargeCommunity is a large community (RFC 8092).
type LargeCommunity struct {
	ASN, A, B uint32
}

// String returns c as ASN:A:B.
func (c LargeCommunity) String() string {
	return fmt.Sprintf("%d:%d:%d", c.ASN, c.A, c.B)
}

// ParseLargeCommunity reads ASN:A:B, each 0 to 4294967295.
func ParseLargeCommunity(s string) (LargeCommunity, error) {
	var n [3]uint32
	if err := parseNumbers(s, 32, n[:]); err != nil {
		return LargeCommunity{}, fmt.Errorf("large community %q: %w (want ASN:A:B, each 0 to 4294967295)", s, err)
	}
	return LargeCommunity{ASN: n[0], A: n[1], B: n[2]}, nil
}

func parseAll[T any](list []string, parse func(string) (T, error)) ([]T, error) {
	var out []T
	for _, s := range list {
		c, err := parse(s)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

// parseNumbers reads len(into) colon-separated decimal numbers of so many bits.
// One number has one spelling: no sign, no leading zero.
func parseNumbers(s string, bits int, into []uint32) error {
	parts := strings.Split(s, ":")
	if len(parts) != len(into) {
		return fmt.Errorf("want %d numbers, got %d", len(into), len(parts))
	}
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 10, bits)
		if err != nil || strconv.FormatUint(n, 10) != p {
			return fmt.Errorf("%q is no number of %d bits", p, bits)
		}
		into[i] = uint32(n)
	}
	return nil
}
