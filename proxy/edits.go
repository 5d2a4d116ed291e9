package proxy

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"anyedge/internal/message"
	"anyedge/replay"
)

// HeadersConfig says which fields of a service's messages are changed on the way.
type HeadersConfig struct {
	Request  EditsConfig `json:"request,omitzero" yaml:"request"`   // to a backend
	Response EditsConfig `json:"response,omitzero" yaml:"response"` // to the client, also of errors of the edge's own
}

// EditsConfig changes fields: it removes, then sets, then adds.
type EditsConfig struct {
	Remove []string          `json:"remove,omitempty" yaml:"remove"` // names; all lines of them
	Set    map[string]string `json:"set,omitempty" yaml:"set"`       // name: the one value that it has then
	Add    map[string]string `json:"add,omitempty" yaml:"add"`       // name: the value of one more line
}

// Validate reports every problem in c.
func (c EditsConfig) Validate() error {
	var errs []error
	seen := map[string]bool{}
	name := func(at, n string) {
		if err := editable(n); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", at, err))
		}
		if key := strings.ToLower(n); seen[key] {
			errs = append(errs, fmt.Errorf("%s: %s is there twice: set alone gives a field one value", at, n))
		} else {
			seen[key] = true
		}
	}
	for i, n := range c.Remove {
		name(fmt.Sprintf("remove[%d]", i), n)
	}
	for _, part := range []struct {
		at     string
		fields map[string]string
	}{{"set", c.Set}, {"add", c.Add}} {
		for _, n := range slices.Sorted(maps.Keys(part.fields)) {
			name(part.at, n)
			if v := part.fields[n]; !message.IsValue(v) {
				errs = append(errs, fmt.Errorf("%s: the value of %s, %q, has bytes that no value has, or white space around it", part.at, n, v))
			}
		}
	}
	return errors.Join(errs...)
}

// framing are the fields that say how a message is sent and to whom, which engines
// make themselves.
var framing = []string{
	"connection", "keep-alive", "proxy-connection", "transfer-encoding", "te", "upgrade", "trailer", "http2-settings",
	"content-length", "host", "expect",
}

// editable reports why nobody may change a field.
func editable(name string) error {
	switch {
	case !message.IsToken(name):
		return fmt.Errorf("%q is no field name", name)
	case slices.Contains(framing, strings.ToLower(name)):
		return fmt.Errorf("%s says how a message is sent: it cannot be changed", name)
	case hasPrefix(name, edgePrefix), replay.Owns(name):
		return fmt.Errorf("%s is between edges and apps: it cannot be changed", name)
	}
	return nil
}

// edits is an EditsConfig at work.
type edits struct {
	remove   []string
	set, add message.Header
}

// edits returns what c changes in requests and in answers.
func (c HeadersConfig) edits() (toBackend, toClient *edits, err error) {
	if err := errors.Join(c.Request.Validate(), c.Response.Validate()); err != nil {
		return nil, nil, err
	}
	return newEdits(c.Request), newEdits(c.Response), nil
}

// newEdits returns nil where nothing is changed.
func newEdits(c EditsConfig) *edits {
	if len(c.Remove)+len(c.Set)+len(c.Add) == 0 {
		return nil
	}
	e := &edits{remove: c.Remove}
	for _, n := range slices.Sorted(maps.Keys(c.Set)) {
		e.set.Add(n, c.Set[n])
	}
	for _, n := range slices.Sorted(maps.Keys(c.Add)) {
		e.add.Add(n, c.Add[n])
	}
	return e
}

// apply changes h.
func (e *edits) apply(h *message.Header) {
	if e == nil {
		return
	}
	for _, n := range e.remove {
		h.Del(n)
	}
	for _, f := range e.set {
		h.Set(f.Name, f.Value)
	}
	*h = append(*h, e.add...)
}
