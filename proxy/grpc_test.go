package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"anyedge/proxy"
	"anyedge/proxy/upstream"
)

// grpcService is a service of gRPC.
func grpcService(addr string) proxy.ServiceConfig {
	s := proxy.ServiceConfig{Name: "grpc", Hosts: []string{"shop.example"}}
	s.Backends = []upstream.BackendConfig{{Name: "a", URL: "h2c://" + addr}}
	return s
}

// serveGRPC runs a gRPC server without TLS.
func serveGRPC(t *testing.T, impl testgrpc.TestServiceServer) (addr string, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	testgrpc.RegisterTestServiceServer(s, impl)
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	stop = func() { s.Stop(); <-done }
	t.Cleanup(stop)
	return l.Addr().String(), stop
}

// dialGRPC connects to e over TLS.
func dialGRPC(t *testing.T, e *edge) *grpc.ClientConn {
	t.Helper()
	creds, err := credentials.NewClientTLSFromFile(e.ca, "shop.example")
	if err != nil {
		t.Fatal(err)
	}
	cc, err := grpc.NewClient("passthrough:///"+e.addr("https"), grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cc.Close() })
	return cc
}

// The cases of gRPC's interoperability tests, by its own client and server (see
// doc/interop-test-descriptions.md of github.com/grpc/grpc). Those of credentials
// and load balancing have nothing to do with a proxy. One that fails says why and
// ends the process.
func TestGRPCInterop(t *testing.T) {
	addr, _ := serveGRPC(t, interop.NewTestServer())
	e := start(t, proxy.Setup{Services: []proxy.ServiceConfig{grpcService(addr)}})
	cc := dialGRPC(t, e)
	tc := testgrpc.NewTestServiceClient(cc)
	zipped := grpc.UseCompressor(gzip.Name)
	for _, tt := range []struct {
		name string
		run  func(ctx context.Context)
	}{
		{"empty_unary", func(ctx context.Context) { interop.DoEmptyUnaryCall(ctx, tc) }},
		{"large_unary", func(ctx context.Context) { interop.DoLargeUnaryCall(ctx, tc) }},
		{"client_compressed_unary", func(ctx context.Context) { interop.DoLargeUnaryCall(ctx, tc, zipped) }},
		{"client_streaming", func(ctx context.Context) { interop.DoClientStreaming(ctx, tc) }},
		{"client_compressed_streaming", func(ctx context.Context) { interop.DoClientStreaming(ctx, tc, zipped) }},
		{"server_streaming", func(ctx context.Context) { interop.DoServerStreaming(ctx, tc) }},
		{"server_compressed_streaming", func(ctx context.Context) { interop.DoServerStreaming(ctx, tc, zipped) }},
		{"ping_pong", func(ctx context.Context) { interop.DoPingPong(ctx, tc) }},
		{"empty_stream", func(ctx context.Context) { interop.DoEmptyStream(ctx, tc) }},
		{"custom_metadata", func(ctx context.Context) { interop.DoCustomMetadata(ctx, tc) }},
		{"status_code_and_message", func(ctx context.Context) { interop.DoStatusCodeAndMessage(ctx, tc) }},
		{"special_status_message", func(ctx context.Context) { interop.DoSpecialStatusMessage(ctx, tc) }},
		{"unimplemented_method", func(ctx context.Context) { interop.DoUnimplementedMethod(ctx, cc) }},
		{"unimplemented_service", func(ctx context.Context) {
			interop.DoUnimplementedService(ctx, testgrpc.NewUnimplementedServiceClient(cc))
		}},
		{"cancel_after_begin", func(ctx context.Context) { interop.DoCancelAfterBegin(ctx, tc) }},
		{"cancel_after_first_response", func(ctx context.Context) { interop.DoCancelAfterFirstResponse(ctx, tc) }},
		{"timeout_on_sleeping_server", func(ctx context.Context) { interop.DoTimeoutOnSleepingServer(ctx, tc) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			tt.run(ctx)
		})
	}
}

// A chatServer tells what happens to its streams.
type chatServer struct {
	testgrpc.UnimplementedTestServiceServer
	began    chan metadata.MD
	deadline chan time.Duration
	ended    chan error
}

// FullDuplexCall answers each message, then waits for its end. One that asks for
// nothing is not answered.
func (s *chatServer) FullDuplexCall(stream testgrpc.TestService_FullDuplexCallServer) error {
	md, _ := metadata.FromIncomingContext(stream.Context())
	s.began <- md
	left := time.Duration(0)
	if d, ok := stream.Context().Deadline(); ok {
		left = time.Until(d)
	}
	s.deadline <- left
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			stream.SetTrailer(metadata.Pairs("half", "closed"))
			return nil
		}
		if err != nil {
			s.ended <- stream.Context().Err()
			return err
		}
		if len(m.GetResponseParameters()) > 0 {
			if err := stream.Send(&testgrpc.StreamingOutputCallResponse{Payload: m.GetPayload()}); err != nil {
				s.ended <- stream.Context().Err()
				return err
			}
		}
	}
}

func newChat() *chatServer {
	return &chatServer{began: make(chan metadata.MD, 1), deadline: make(chan time.Duration, 1), ended: make(chan error, 1)}
}

func within[T any](t *testing.T, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("%s: nothing after %v", what, patience)
		panic("unreachable")
	}
}

func word(text string) *testgrpc.StreamingOutputCallRequest {
	return &testgrpc.StreamingOutputCallRequest{
		Payload: &testgrpc.Payload{Body: []byte(text)}, ResponseParameters: []*testgrpc.ResponseParameters{{Size: 1}},
	}
}

// Each message goes at once, the client's end is half of the stream, and the
// trailers come behind it.
func TestGRPCHalfClose(t *testing.T) {
	chat := newChat()
	addr, _ := serveGRPC(t, chat)
	e := start(t, proxy.Setup{Services: []proxy.ServiceConfig{grpcService(addr)}})
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(t.Context(), "own-bin", "\x00\xff"), time.Minute)
	defer cancel()
	stream, err := testgrpc.NewTestServiceClient(dialGRPC(t, e)).FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		want := fmt.Sprint("message ", i)
		if err := stream.Send(word(want)); err != nil {
			t.Fatal(err)
		}
		if m, err := stream.Recv(); err != nil || string(m.GetPayload().GetBody()) != want {
			t.Fatalf("%v, %v", m, err)
		}
	}
	if md := within(t, "metadata", chat.began); strings.Join(md["own-bin"], "") != "\x00\xff" {
		t.Error(md)
	}
	if left := within(t, "deadline", chat.deadline); left <= 0 || left > time.Minute {
		t.Errorf("the backend has %v", left)
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) || strings.Join(stream.Trailer()["half"], "") != "closed" {
		t.Errorf("%v, %v", err, stream.Trailer())
	}
}

// A client that gives up ends the call at the backend, and the other way round.
func TestGRPCCancel(t *testing.T) {
	chat := newChat()
	addr, stop := serveGRPC(t, chat)
	e := start(t, proxy.Setup{Services: []proxy.ServiceConfig{grpcService(addr)}})
	tc := testgrpc.NewTestServiceClient(dialGRPC(t, e))
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := tc.FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(word("hello")); err != nil {
		t.Fatal(err)
	}
	within(t, "the call", chat.began)
	within(t, "the call", chat.deadline)
	cancel()
	if err := within(t, "the call's end", chat.ended); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}

	stream, err = tc.FullDuplexCall(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(word("hello")); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	stop()
	if _, err := stream.Recv(); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("the call ended well: %v", err)
	}
}

// What the edge itself has to say, it says as gRPC does.
func TestGRPCErrorsOfTheEdge(t *testing.T) {
	addr, stop := serveGRPC(t, newChat())
	svc := grpcService(addr)
	svc.Paths = []string{"/grpc.testing.TestService"}
	slow := grpcService(silent(t))
	slow.Name, slow.Paths = "slow", []string{"/grpc.testing.UnimplementedService"}
	slow.Timeouts.ResponseHeader = new(50 * time.Millisecond)
	e := start(t, proxy.Setup{Services: []proxy.ServiceConfig{svc, slow}})
	cc := dialGRPC(t, e)
	call := func(method string) *status.Status {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		err := cc.Invoke(ctx, method, &testgrpc.Empty{}, &testgrpc.Empty{})
		s, _ := status.FromError(err)
		return s
	}
	for _, tt := range []struct {
		name, method string
		before       func()
		code         codes.Code
		message      string
	}{
		{"the backend's own", "/grpc.testing.TestService/EmptyCall", nil, codes.Unimplemented, "method EmptyCall not implemented"},
		{"no such path", "/other.Service/Call", nil, codes.Unimplemented, "has this path"},
		{"too late", "/grpc.testing.UnimplementedService/UnimplementedCall", nil, codes.DeadlineExceeded, "no answer in time"},
		{"no backend", "/grpc.testing.TestService/EmptyCall", stop, codes.Unavailable, "nobody can serve this now"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.before != nil {
				tt.before()
			}
			waitFor(t, tt.message, func() bool { // a call may meet the backend's end
				s := call(tt.method)
				if s.Code() != tt.code {
					t.Errorf("%v", s)
				}
				return t.Failed() || strings.Contains(s.Message(), tt.message)
			})
		})
	}
}

// silent is an h2c backend that takes requests and answers none.
func silent(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte{0, 0, 0, 4, 0, 0, 0, 0, 0}) // SETTINGS
			t.Cleanup(func() { _ = c.Close() })
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr().String()
}
