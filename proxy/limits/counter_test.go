package limits_test

import (
	"net/netip"
	"sync"
	"testing"

	"anyedge/proxy/limits"
)

func client(text string) limits.Client { return limits.ClientOf(netip.MustParseAddr(text)) }

func TestClientOf(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		same bool
	}{
		{"192.0.2.1", "192.0.2.1", true},
		{"192.0.2.1", "::ffff:192.0.2.1", true},
		{"192.0.2.1", "192.0.2.2", false},
		{"2001:db8::1", "2001:db8::2", true},
		{"2001:db8::1", "2001:db8::ffff:0:0:1", true},
		{"2001:db8::1", "2001:db8:0:1::1", false},
	} {
		if same := client(tt.a) == client(tt.b); same != tt.same {
			t.Errorf("%s and %s are one client: %v, want %v", tt.a, tt.b, same, tt.same)
		}
	}
}

func TestCounter(t *testing.T) {
	c := limits.NewCounter(2)
	a, b := client("192.0.2.1"), client("192.0.2.2")
	for i, want := range []bool{true, true, false, false} {
		if half := c.Half(a); half != (i >= 1) {
			t.Errorf("before take %d: half %v", i, half)
		}
		if got := c.Take(a); got != want {
			t.Errorf("take %d: %v, want %v", i, got, want)
		}
	}
	if !c.Take(b) {
		t.Error("one client's things count against another")
	}
	c.Give(a)
	if !c.Take(a) || c.Take(a) {
		t.Error("what was given back is not there, or more is")
	}
	c.Give(a)
	c.Give(a)
	c.Give(b)
	if n := c.Clients(); n != 0 {
		t.Errorf("%d clients have something, want 0", n)
	}
}

// Many clients that come and go leave nothing.
func TestCounterForgets(t *testing.T) {
	c := limits.NewCounter(10)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			a := netip.AddrFrom4([4]byte{10, byte(w)})
			for range 50_000 {
				a = a.Next()
				one := limits.ClientOf(a)
				c.Take(one)
				c.Give(one)
			}
		})
	}
	wg.Wait()
	if n := c.Clients(); n != 0 {
		t.Errorf("%d clients have something, want 0", n)
	}
}
