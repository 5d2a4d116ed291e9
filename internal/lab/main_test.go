package lab_test

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// GoBGP, which plays the regions' routers, leaves a peer's queue behind when
	// the peer went while something was in it; package bgp's tests know it too.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/eapache/channels.(*InfiniteChannel).infiniteBuffer"))
}
