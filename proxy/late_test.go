package proxy_test

import (
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"anyedge/proxy"
)

// lateEnv marks the process that runs TestLateAddress in a namespace of its own.
const lateEnv = "PROXY_TEST_NAMESPACE"

// A VIP's address may come late: what is there is served meanwhile.
func TestLateAddress(t *testing.T) {
	if os.Getenv(lateEnv) == "" {
		if os.Geteuid() != 0 {
			missing(t, "root")
		}
		if _, err := exec.LookPath("ip"); err != nil {
			missing(t, "ip")
		}
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestLateAddress$", "-test.timeout=2m")
		cmd.Env = append(os.Environ(), lateEnv+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("in a namespace: %v\n%s", err, out)
		}
		return
	}
	ip := func(args ...string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), "ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v\n%s", args, err, out)
		}
	}
	ip("link", "set", "lo", "up")
	l := secure("web")
	l.Config.VIPs = []string{"www", "api"}
	l.Addresses = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:8443"), netip.MustParseAddrPort("203.0.113.10:8443")}
	e := start(t, proxy.Setup{Listeners: []proxy.Listener{l}, Services: []proxy.ServiceConfig{shop(backend(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "hello")
	}).URL)}})
	status := func() proxy.ListenerStatus { return e.Listeners()[0] }
	if got := status(); !got.Up || len(got.Addresses) != 1 || len(got.Missing) != 1 || got.Missing[0] != l.Addresses[1] {
		t.Errorf("before: %+v", got)
	}
	answers := func(c *http.Client, at string) error {
		r, err := http.NewRequestWithContext(t.Context(), "GET", "https://"+at+"/", nil)
		if err != nil {
			return err
		}
		r.Host = "shop.example"
		resp, err := c.Do(r)
		if err != nil {
			return err
		}
		b, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if string(b) != "hello" {
			t.Errorf("%s answers %d %q", at, resp.StatusCode, b)
		}
		return err
	}
	if err := answers(e.client(t), "127.0.0.1:8443"); err != nil {
		t.Error(err)
	}
	select {
	case <-e.Changed(): // of the start
	default:
	}
	ip("address", "add", "203.0.113.10/32", "dev", "lo")
	waitFor(t, "the address to be bound", func() bool { return len(status().Missing) == 0 })
	if got := status(); !got.Up || len(got.Addresses) != 2 {
		t.Errorf("after: %+v", got)
	}
	<-e.Changed()
	for _, at := range []string{"127.0.0.1:8443", "203.0.113.10:8443"} {
		if err := answers(e.client(t), at); err != nil {
			t.Error(err)
		}
	}
	if err := answers(e.http3Client(t), "203.0.113.10:8443"); err != nil {
		t.Error("h3:", err)
	}
	e.stop()
	if status().Up {
		t.Error("it says that it is up")
	}
}
