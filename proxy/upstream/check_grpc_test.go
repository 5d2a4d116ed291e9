package upstream_test

import (
	"net"
	"testing"
	"time"

	"anyedge/proxy/upstream"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// The check follows what a real gRPC server says of the service.
func TestGRPCCheck(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	word := health.NewServer()
	srv := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(srv, word)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	t.Cleanup(func() { srv.Stop(); <-done })

	list := []upstream.BackendConfig{{Name: "a", URL: "h2c://" + l.Addr().String()}}
	check := func(service string) *upstream.Pool {
		return startReported(t, upstream.Config{Backends: list, Health: upstream.HealthConfig{
			GRPC: &upstream.GRPCCheckConfig{Service: service, Interval: new(10 * time.Millisecond), Timeout: new(5 * time.Second), Rise: 1, Fall: 1},
		}})
	}
	shop, whole := check("shop.Cart"), check("")
	waitFor(t, "the word on a service that is not there", func() bool { return state(shop, 0) == upstream.Unhealthy })
	if got := shop.Status()[0].LastError; got[:13] != `gRPC status "` {
		t.Errorf("last error %q", got)
	}
	if state(whole, 0) != upstream.Healthy {
		t.Errorf("the whole server: %+v", whole.Status()[0])
	}
	for _, step := range []struct {
		says grpc_health_v1.HealthCheckResponse_ServingStatus
		want upstream.State
	}{
		{grpc_health_v1.HealthCheckResponse_SERVING, upstream.Healthy},
		{grpc_health_v1.HealthCheckResponse_NOT_SERVING, upstream.Unhealthy},
		{grpc_health_v1.HealthCheckResponse_SERVING, upstream.Healthy},
		{grpc_health_v1.HealthCheckResponse_UNKNOWN, upstream.Unhealthy},
	} {
		word.SetServingStatus("shop.Cart", step.says)
		waitFor(t, string(step.want), func() bool { return state(shop, 0) == step.want })
	}
}
