package replay

import (
	"errors"
	"fmt"
	"math"
	"time"

	"anyedge/internal/world"

	"github.com/dunglas/httpsfv"
)

// Limits of an instruction's parameters.
const (
	MaxState   = 1 << 10   // bytes of state
	MaxTimeout = time.Hour // of timeout
	MaxHops    = 8         // of hops, whatever the configuration says
)

// params fills an instruction from the parameters of its items.
type params struct {
	in   *Instruction
	seen map[string]string // values so far as they stood, by parameter
}

// apply reads the parameters of one item.
func (p *params) apply(ps *httpsfv.Params) error {
	for _, key := range ps.Names() {
		v, _ := ps.Get(key)
		text := serialise(v)
		if old, again := p.seen[key]; again && old != text {
			return fmt.Errorf("parameter %s is given twice: %s and %s", key, clip(old), clip(text))
		}
		p.seen[key] = text
		if err := p.set(key, v); err != nil {
			return err
		}
	}
	return nil
}

// set reads one parameter.
func (p *params) set(key string, v any) error {
	var err error
	switch key {
	case "state":
		p.in.State, err = stateOf(v)
	case "timeout":
		p.in.Timeout, err = timeoutOf(v)
	case "fallback":
		p.in.Fallback, err = fallbackOf(v)
	case "hops":
		p.in.Hops, err = hopsOf(v)
	case "service", "backend", "prefer-backend", "on", "unsafe", "key", "cache", "ttl", "share", "by":
		return fmt.Errorf("parameter %s is known, not in this version", key)
	default:
		return fmt.Errorf("unknown parameter %.80q", key)
	}
	return err
}

func stateOf(v any) (string, error) {
	s, ok := v.(string)
	switch {
	case !ok:
		return "", fmt.Errorf(`state=%s: want a string, like state="user-42"`, show(v))
	case len(s) > MaxState:
		return "", fmt.Errorf("state has %d bytes, at most %d are handed on", len(s), MaxState)
	}
	return s, nil
}

func timeoutOf(v any) (time.Duration, error) {
	var seconds float64
	switch n := v.(type) {
	case int64:
		seconds = float64(n)
	case float64:
		seconds = n
	default:
		return 0, fmt.Errorf("timeout=%s: want decimal seconds, like timeout=0.8", show(v))
	}
	if seconds <= 0 || seconds > MaxTimeout.Seconds() {
		return 0, fmt.Errorf("timeout=%s: want more than 0 and at most %d seconds", show(v), int(MaxTimeout.Seconds()))
	}
	return time.Duration(math.Round(seconds*1000)) * time.Millisecond, nil
}

func fallbackOf(v any) (Fallback, error) {
	word, ok := v.(httpsfv.Token)
	if !ok {
		return "", fmt.Errorf("fallback=%s: want one of none, self, next", show(v))
	}
	switch f := Fallback(word); f {
	case FallbackNone, FallbackSelf, FallbackNext:
		return f, nil
	case "stale":
		return "", errors.New("fallback=stale needs the response cache, which is not in this version")
	}
	return "", fmt.Errorf("fallback=%s: want one of none, self, next", show(v))
}

func hopsOf(v any) (int, error) {
	n, ok := v.(int64)
	if !ok || n < 1 || n > MaxHops {
		return 0, fmt.Errorf("hops=%s: want a whole number from 1 to %d", show(v), MaxHops)
	}
	return int(n), nil
}

// nameOf reads an item that names geos.
func nameOf(it httpsfv.Item) (string, error) {
	t, ok := it.Value.(httpsfv.Token)
	if !ok {
		return "", fmt.Errorf("%s is not a name: want a bare geo, group or word", show(it.Value))
	}
	name := string(t)
	switch name {
	case wordNext, wordElsewhere, wordAny:
		return name, nil
	case wordOwner:
		return "", fmt.Errorf("%s is known, not in this version", name)
	}
	if err := world.CheckName(name); err != nil {
		return "", err
	}
	return name, nil
}

// serialise returns a value as structured fields write it.
func serialise(v any) string {
	text, err := httpsfv.Marshal(httpsfv.Item{Value: v, Params: httpsfv.NewParams()})
	if err != nil {
		return fmt.Sprint(v)
	}
	return text
}

// clip cuts text to what is readable in an error.
func clip(text string) string {
	const readable = 80
	if len(text) > readable {
		return text[:readable] + "..."
	}
	return text
}

// show returns a value for an error.
func show(v any) string { return clip(serialise(v)) }
