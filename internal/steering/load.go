package steering

import "anyedge/internal/world"

// Load is what this geo says of itself in its probes, given the view and the
// plan that was decided from it.
func Load(v *View, p *Plan) world.Load {
	m := &p.Memory.Shed
	return world.Load{
		At:       v.Now,
		Capacity: p.Shed.Capacity,
		Offered:  p.Shed.Offered,
		Served:   m.Served,
		ShedOut:  m.Out,
		ShedIn:   m.In,
		Budget:   p.Shed.Budget,
		Urgent:   p.Shed.BudgetUrgent,
		Left:     p.Shed.Left,
	}
}
