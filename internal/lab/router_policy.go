package lab

import (
	"context"
	"fmt"

	"github.com/osrg/gobgp/v4/api"
)

// transitASN is the AS that a path gets once per hop between a geo and a
// region.
const transitASN = 64510

// setPolicy makes the router learn from each neighbor at that neighbor's
// distance, heed GRACEFUL_SHUTDOWN (RFC 8326 section 4.1) and announce nothing.
func (r *Router) setPolicy(ctx context.Context) error {
	gshut := &api.DefinedSet{DefinedType: api.DefinedType_DEFINED_TYPE_COMMUNITY, Name: "gshut", List: []string{"65535:0"}}
	if err := r.server.AddDefinedSet(ctx, &api.AddDefinedSetRequest{DefinedSet: gshut}); err != nil {
		return fmt.Errorf("set of communities: %w", err)
	}
	policy := &api.Policy{Name: "import", Statements: []*api.Statement{{
		Name:       "gshut",
		Conditions: &api.Conditions{CommunitySet: anyOf("gshut")},
		// The RFC recommends 0, which GoBGP takes for unset; 1 is as good.
		Actions: &api.Actions{LocalPref: &api.LocalPrefAction{Value: 1}},
	}}}
	for _, n := range r.cfg.Neighbors {
		set := &api.DefinedSet{DefinedType: api.DefinedType_DEFINED_TYPE_NEIGHBOR, Name: n.Geo, List: []string{n.Addr.String() + "/32"}}
		if err := r.server.AddDefinedSet(ctx, &api.AddDefinedSetRequest{DefinedSet: set}); err != nil {
			return fmt.Errorf("set of neighbors %s: %w", n.Geo, err)
		}
		actions := &api.Actions{RouteAction: api.RouteAction_ROUTE_ACTION_ACCEPT}
		if n.Hops > 0 {
			actions.AsPrepend = &api.AsPrependAction{Asn: transitASN, Repeat: uint32(n.Hops)}
		}
		policy.Statements = append(policy.Statements, &api.Statement{
			Name:       "from-" + n.Geo,
			Conditions: &api.Conditions{NeighborSet: anyOf(n.Geo)},
			Actions:    actions,
		})
	}
	if err := r.server.AddPolicy(ctx, &api.AddPolicyRequest{Policy: policy}); err != nil {
		return fmt.Errorf("import policy: %w", err)
	}
	for _, a := range []*api.PolicyAssignment{
		{
			Name: "global", Direction: api.PolicyDirection_POLICY_DIRECTION_IMPORT, DefaultAction: api.RouteAction_ROUTE_ACTION_REJECT,
			Policies: []*api.Policy{{Name: policy.Name}},
		},
		{Name: "global", Direction: api.PolicyDirection_POLICY_DIRECTION_EXPORT, DefaultAction: api.RouteAction_ROUTE_ACTION_REJECT},
	} {
		if err := r.server.SetPolicyAssignment(ctx, &api.SetPolicyAssignmentRequest{Assignment: a}); err != nil {
			return fmt.Errorf("assign the %s policy: %w", a.Direction, err)
		}
	}
	return nil
}

func anyOf(set string) *api.MatchSet {
	return &api.MatchSet{Type: api.MatchSet_TYPE_ANY, Name: set}
}
