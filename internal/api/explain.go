package api

// PathExplain answers what would happen with a request: ?url=&method=&client=&listener=
// and, any number of times, header=NAME:VALUE, backend_down=NAME and geo_down=NAME.
const PathExplain = "/v1/explain"

// An Explanation is what would happen with a request now. None was sent.
type Explanation struct {
	Steps    []ExplainedStep `json:"steps"`
	Outcome  string          `json:"outcome"` // in one line
	Status   int             `json:"status"`  // of the edge's own answer; 0: somebody would serve it
	Rule     string          `json:"rule,omitempty"`
	Service  string          `json:"service,omitempty"`
	Geo      string          `json:"geo,omitempty"` // that would serve it
	Backends []string        `json:"backends"`      // of this geo, one of which would
}

// An ExplainedStep is one decision on the way.
type ExplainedStep struct {
	Name string `json:"name"`
	Text string `json:"text"`
}
