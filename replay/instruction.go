package replay

import (
	"errors"
	"slices"
	"time"

	"anyedge/internal/message"

	"github.com/dunglas/httpsfv"
)

// A Fallback says what happens when no target of an instruction served the
// request.
type Fallback string

// The fallbacks of this version.
const (
	FallbackNone Fallback = "none" // the client gets the error
	FallbackSelf Fallback = "self" // the geo the client reached serves it, and is told why
	FallbackNext Fallback = "next" // the nearest geo that has not seen it
)

// An Instruction is a parsed Replay-Geo.
type Instruction struct {
	Items    []Item        // at least one, in the order to try
	State    string        // opaque to the edge; "" for none
	Timeout  time.Duration // to the first byte of each try; 0: the edge's default
	Fallback Fallback
	Hops     int // replays this request may see; 0: the service's limit
}

// An Item is one element of an instruction: a set of names, nearest first. A
// bare item has one name.
type Item struct {
	Names []string // geos, groups or words
}

// Words that stand for geos.
const (
	wordNext      = "next"
	wordElsewhere = "elsewhere"
	wordAny       = "any"
	wordOwner     = "owner"
)

// Parse returns the instruction in a response's header; nil when there is
// none. Several field lines are one list (RFC 9651 section 4.2). The error is
// an [*Error] with the code [BadInstruction].
func Parse(h message.Header) (*Instruction, error) {
	lines := slices.Collect(h.Values(Field))
	if len(lines) == 0 {
		if isJSON(h) {
			return nil, Errorf(BadInstruction, "the JSON form of %s is known, not in this version", Field)
		}
		return nil, nil
	}
	list, err := httpsfv.UnmarshalList(lines)
	if err != nil {
		return nil, malformed(err)
	}
	if len(list) == 0 {
		return nil, Errorf(BadInstruction, "%s is empty: name a geo", Field)
	}
	in := &Instruction{Fallback: FallbackNone}
	p := params{in: in, seen: map[string]string{}}
	for i, m := range list {
		item, err := p.member(m)
		if err != nil {
			return nil, Errorf(BadInstruction, "item %d: %v", i+1, err)
		}
		in.Items = append(in.Items, item)
	}
	return in, nil
}

// malformed explains a value that is no list of structured fields. The
// library's text ends in the offset: "invalid list format: character 5".
func malformed(err error) *Error {
	return Errorf(BadInstruction, "%s is no structured field list (RFC 9651): %v", Field, err)
}

// member reads one element of the list and its parameters.
func (p *params) member(m httpsfv.Member) (Item, error) {
	switch m := m.(type) {
	case httpsfv.Item:
		name, err := nameOf(m)
		if err != nil {
			return Item{}, err
		}
		return Item{Names: []string{name}}, p.apply(m.Params)
	case httpsfv.InnerList:
		item, err := p.innerList(m)
		if err != nil {
			return Item{}, err
		}
		return item, p.apply(m.Params)
	}
	return Item{}, errors.New("want a name or a list of names in parentheses")
}

// innerList reads a group without a name.
func (p *params) innerList(l httpsfv.InnerList) (Item, error) {
	if len(l.Items) == 0 {
		return Item{}, errors.New("() is empty: name a geo")
	}
	var item Item
	for _, it := range l.Items {
		name, err := nameOf(it)
		if err != nil {
			return Item{}, err
		}
		if err := p.apply(it.Params); err != nil {
			return Item{}, err
		}
		item.Names = append(item.Names, name)
	}
	return item, nil
}
