package replay

import (
	"slices"
	"strings"

	"anyedge/internal/world"
)

// A Scene is what an instruction is judged against: the service's rules, the
// geos as the edge the client reached knows them, and where the request has
// been.
type Scene struct {
	Config  Config
	Geos    []Candidate         // every configured geo: this one first, then nearest first
	Groups  []world.GroupConfig // every configured group
	Visited []string            // geos that handled the request, the first one first
	Hops    int                 // replays the request has seen
}

// A Candidate is a geo that an instruction may lead to.
type Candidate struct {
	Geo  string
	Down string // why it cannot take the request now; "" when it can
}

// Resolve returns the geos to try, in order and each once. The error is an
// [*Error]: the instruction names something unknown or not allowed, the
// request has seen too many hops, or nobody is left to ask.
func (in *Instruction) Resolve(s Scene) ([]string, error) {
	if err := in.checkHops(s); err != nil {
		return nil, err
	}
	var t targets
	for _, item := range in.Items {
		if err := t.item(s, item); err != nil {
			return nil, err
		}
	}
	if len(t.geos) == 0 {
		return nil, t.none(s)
	}
	return t.geos, nil
}

// Next returns the nearest geo that [FallbackNext] means: one that can take
// the request, has not seen it and is not among those tried. "" when there is
// none.
func (s Scene) Next(tried []string) string {
	for _, c := range s.others() {
		if c.Down == "" && !slices.Contains(s.Visited, c.Geo) && !slices.Contains(tried, c.Geo) && s.Config.Allows(c.Geo, s.Groups) {
			return c.Geo
		}
	}
	return ""
}

func (s Scene) others() []Candidate { return s.Geos[min(1, len(s.Geos)):] }

// checkHops reports an instruction that goes past its or the service's limit.
func (in *Instruction) checkHops(s Scene) error {
	limit := s.Config.hops()
	if in.Hops > limit {
		return Errorf(NotAllowed, "hops=%d is over the service's limit of %d", in.Hops, limit)
	}
	if in.Hops > 0 {
		limit = in.Hops
	}
	if s.Hops >= limit {
		return Errorf(Loop, "all hops are used, %d of %d: %s", s.Hops, limit, strings.Join(s.Visited, ", "))
	}
	return nil
}

// targets gathers the geos an instruction leads to.
type targets struct {
	geos    []string
	visited []string // left out: they handled the request before
	down    []string // left out, each with its reason
}

// item adds the geos of one item, nearest first.
func (t *targets) item(s Scene, item Item) error {
	named := map[string]bool{} // the geos of this item
	next := false              // the nearest that can take it counts alone
	for _, name := range item.Names {
		switch name {
		case wordNext:
			next = true
		case wordElsewhere:
			s.add(named, s.others())
		case wordAny:
			s.add(named, s.Geos)
		default:
			geos, err := s.members(name)
			if err != nil {
				return err
			}
			for _, g := range geos {
				named[g] = true
			}
		}
	}
	for i, c := range s.Geos {
		isNext := next && i > 0 && s.Config.Allows(c.Geo, s.Groups)
		if !isNext && !named[c.Geo] {
			continue
		}
		if t.take(s, c) && isNext {
			next = false
		}
	}
	return nil
}

// add marks the allowed ones of cs as named.
func (s Scene) add(named map[string]bool, cs []Candidate) {
	for _, c := range cs {
		if s.Config.Allows(c.Geo, s.Groups) {
			named[c.Geo] = true
		}
	}
}

// members returns the geos that name stands for.
func (s Scene) members(name string) ([]string, error) {
	for _, g := range s.Groups {
		if g.Name != name {
			continue
		}
		var allowed []string
		for _, geo := range g.Geos {
			if s.Config.Allows(geo, s.Groups) {
				allowed = append(allowed, geo)
			}
		}
		if len(allowed) == 0 {
			return nil, Errorf(NotAllowed, "the service may not replay to group %q", name)
		}
		return allowed, nil
	}
	if !slices.ContainsFunc(s.Geos, func(c Candidate) bool { return c.Geo == name }) {
		return nil, Errorf(BadInstruction, "%.80q is no configured geo or group", name)
	}
	if !s.Config.Allows(name, s.Groups) {
		return nil, Errorf(NotAllowed, "the service may not replay to geo %q", name)
	}
	return []string{name}, nil
}

// take adds c unless it has seen the request or cannot take it, and reports
// whether c is a target.
func (t *targets) take(s Scene, c Candidate) bool {
	switch {
	case slices.Contains(t.geos, c.Geo):
		return true
	case slices.Contains(s.Visited, c.Geo):
		t.visited = append(t.visited, c.Geo)
		return false
	case c.Down != "":
		t.down = append(t.down, c.Geo+": "+c.Down)
		return false
	}
	t.geos = append(t.geos, c.Geo)
	return true
}

// none explains why no geo is left to ask.
func (t *targets) none(s Scene) *Error {
	switch {
	case len(t.down) > 0:
		return Errorf(NoCandidate, "no geo can take it (%s)", strings.Join(distinct(t.down), "; "))
	case len(t.visited) > 0:
		return Errorf(Loop, "%s handled this request before (%s)", strings.Join(distinct(t.visited), " and "), strings.Join(s.Visited, ", "))
	}
	return Errorf(NoCandidate, "the instruction leads to no geo")
}

// distinct returns the elements of list, each once, in order.
func distinct(list []string) []string {
	var out []string
	for _, s := range list {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}
