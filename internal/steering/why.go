package steering

import (
	"fmt"
	"time"
)

// explain returns the rules that hold the VIP where it is: at least one.
func (s *vipStep) explain() []Reason {
	rule, text := s.main()
	why := []Reason{{rule, s.plan.Name, text + s.upcoming()}}
	if s.plan.Blocked == "guard" {
		why = append(why, Reason{"guard", s.plan.Name, "stays " + string(s.plan.State) + ": " + guardText(s.others, s.rules.minOthers)})
	}
	return why
}

// main returns the rule that matters most and what it saw.
func (s *vipStep) main() (rule, text string) {
	order := s.ordered()
	switch {
	case !s.vip.Here:
		return "not-here", s.v.self() + " is not among its geos"
	case s.gate.hard != "":
		return "hard-fail", s.gate.hard
	case order != nil && order.Kind == "stop":
		return "stopping", order.Reason
	case order != nil:
		return "operator-drain", fmt.Sprintf("%s drains %s %q", order.Who, s.drainedBy().Target, order.Reason)
	case s.waits() && s.plan.State == Idle:
		return "reports", s.gate.unjudged() + ": not judged yet"
	case !s.mem.GateOK:
		return "gate-false", s.gate.text
	case s.plan.Want == Announced && s.plan.Blocked != "":
		return s.plan.Blocked, s.gate.text
	}
	return "gate-true", s.gate.text
}

// upcoming says what a timer will do.
func (s *vipStep) upcoming() string {
	n := s.plan.Next
	if n == nil {
		return ""
	}
	return fmt.Sprintf("; %s in %s", n.State, short(n.At.Sub(s.v.Now).Round(10*time.Millisecond)))
}
