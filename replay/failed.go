package replay

import (
	"fmt"
	"time"

	"github.com/dunglas/httpsfv"
)

// A Reason says why a target did not serve a request.
type Reason string

// The reasons that a fallback delivery tells.
const (
	ReasonTimeout     Reason = "timeout"      // no first byte in time
	ReasonNoCandidate Reason = "no-candidate" // nobody could be asked
	ReasonRefused     Reason = "refused"      // busy, or no connection
	ReasonStatus      Reason = "status"       // an answer that counts as failure
)

// A Failure is why a fallback gets a request: the last target's failure.
type Failure struct {
	Geo     string // who was asked last; "" when nobody was
	Reason  Reason
	Elapsed time.Duration // since the instruction came
}

// Value returns f as the value of Replay-Geo-Failed.
func (f Failure) Value() (string, error) {
	d := httpsfv.NewDictionary()
	if f.Geo != "" {
		d.Add("geo", nameItem(f.Geo))
	}
	d.Add("reason", httpsfv.NewItem(httpsfv.Token(f.Reason)))
	d.Add("elapsed-ms", httpsfv.NewItem(f.Elapsed.Milliseconds()))
	value, err := httpsfv.Marshal(d)
	if err != nil {
		return "", fmt.Errorf("%s: %w", FieldFailed, err)
	}
	return value, nil
}
