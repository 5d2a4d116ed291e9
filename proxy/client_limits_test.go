package proxy_test

import (
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"anyedge/proxy"
)

// limited is a shop with limits, behind a plain listener that believes
// X-Forwarded-For.
func limited(t *testing.T, l proxy.ServiceLimits, h http.HandlerFunc) *edge {
	t.Helper()
	s := shop(backend(t, h).URL)
	s.Limits = l
	p := plain("http")
	p.Config.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	return start(t, proxy.Setup{Services: []proxy.ServiceConfig{s}, Listeners: []proxy.Listener{p}})
}

// rps_per_ip and burst: a client that asks more often hears when to come again.
func TestClientRate(t *testing.T) {
	e := limited(t, proxy.ServiceLimits{RPSPerIP: 0.001, Burst: 3}, says("here"))
	as := func(client string) answer {
		return e.get(t, "http://shop.example/", "X-Forwarded-For", client)
	}
	for i := range 3 {
		if got := as("192.0.2.1"); got.Status != 200 {
			t.Errorf("request %d: %d", i, got.Status)
		}
	}
	got := as("192.0.2.1")
	wait, err := strconv.Atoi(got.Header.Get("Retry-After"))
	if got.Status != 429 || err != nil || wait < 900 || wait > 1000 || !strings.Contains(got.Body, "0.001 requests/s") {
		t.Errorf("got %d, Retry-After %q, %q", got.Status, got.Header.Get("Retry-After"), got.Body)
	}
	if got := as("192.0.2.2"); got.Status != 200 {
		t.Errorf("another client: %d", got.Status)
	}
	for i, want := range []int{200, 200, 200, 429} { // one /64
		if got := as("2001:db8::" + strconv.Itoa(i)); got.Status != want {
			t.Errorf("address %d of a /64: %d, want %d", i, got.Status, want)
		}
	}
	if n := e.service("shop").Refused[0]; n != (proxy.Refusal{Rule: proxy.RuleClientRate, Count: 2}) {
		t.Errorf("refused %v", n)
	}
}

// concurrent_per_ip: what is under way counts until its answer has ended.
func TestClientConcurrency(t *testing.T) {
	began, release := make(chan struct{}, 4), make(chan struct{})
	e := limited(t, proxy.ServiceLimits{ConcurrentPerIP: 2}, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			_ = http.NewResponseController(w).Flush()
			began <- struct{}{}
			<-release
		}
	})
	ended := make(chan int, 2)
	for range 2 {
		go func() { ended <- e.get(t, "http://shop.example/slow").Status }()
		<-began
	}
	if got := e.get(t, "http://shop.example/"); got.Status != 429 || got.Header.Get("Retry-After") != "1" {
		t.Errorf("a third at once: %d", got.Status)
	}
	if got := e.get(t, "http://shop.example/", "X-Forwarded-For", "192.0.2.9"); got.Status != 200 {
		t.Errorf("another client: %d", got.Status)
	}
	close(release)
	for range 2 {
		if status := <-ended; status != 200 {
			t.Errorf("one of two: %d", status)
		}
	}
	waitFor(t, "room", func() bool { return e.get(t, "http://shop.example/").Status == 200 })
	if n := e.service("shop").Refused[1]; n.Rule != proxy.RuleClientConcurrent || n.Count == 0 {
		t.Errorf("refused %v", n)
	}
}
