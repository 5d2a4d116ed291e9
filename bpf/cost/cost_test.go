package cost_test

import (
	"errors"
	"os"
	"testing"

	"github.com/cilium/ebpf"

	"anyedge/bpf/cost"
)

// TestSample checks that the wrapper keeps feeding packets that the program
// under test takes for good ones: any other verdict than the wanted is an error.
func TestSample(t *testing.T) {
	b, err := cost.Load()
	if errors.Is(err, os.ErrPermission) && os.Getenv("EDGE_TEST_STRICT") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	v4 := make([]byte, 66)
	copy(v4, []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 52, 0, 0, 0, 0, 64, 6, 0, 0, 198, 18, 0, 0, 192, 0, 2, 10})
	v6 := make([]byte, 86)
	copy(v6, []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 32, 6, 64})
	for name, tt := range map[string]struct {
		prog  *ebpf.Program
		frame []byte
	}{
		"nothing":     {b.Nothing(), v4},
		"constant":    {b.Constant(), v4},
		"constant v6": {b.Constant(), v6},
	} {
		ns, err := b.Sample(tt.prog, tt.frame, 12, 3)
		if err != nil || ns <= 0 {
			t.Errorf("%s: %f ns, %v", name, ns, err)
		}
	}
	if _, err := b.Sample(b.Nothing(), v4, 12, 2); err == nil {
		t.Error("a verdict that is not the wanted one passed")
	}
	if _, err := b.Sample(b.Nothing(), v4[:40], 12, 3); err == nil {
		t.Error("a short frame passed")
	}
}
