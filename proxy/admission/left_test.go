package admission_test

import (
	"testing"

	"anyedge/internal/steering"
	"anyedge/proxy/admission"
)

func TestLeft(t *testing.T) {
	d := admission.New(admission.Config{})
	d.SetPlan(&steering.Plan{VIPs: []steering.VIPPlan{
		{Name: "on", State: steering.Announced},
		{Name: "going", State: steering.Draining},
		{Name: "off", State: steering.Withdrawn},
		{Name: "off2", State: steering.Withdrawn},
		{Name: "new", State: steering.Idle},
	}})
	for _, tt := range []struct {
		vips []string
		want bool
	}{
		{nil, false},
		{[]string{"off"}, true},
		{[]string{"off", "off2"}, true},
		{[]string{"off", "on"}, false},
		{[]string{"going"}, false},
		{[]string{"new"}, false},
		{[]string{"nobody"}, false},
	} {
		if got := d.Left(tt.vips); got != tt.want {
			t.Errorf("%v: %t", tt.vips, got)
		}
	}
}
