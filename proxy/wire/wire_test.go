package wire_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"anyedge/proxy/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second

// pair returns the two ends of a connection.
func pair(t *testing.T) (*wire.Conn, *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	far, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	near, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	w, err := wire.New(near.(*net.TCPConn))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = far.Close(), w.Close() })
	_ = far.SetDeadline(time.Now().Add(patience))
	_ = w.SetDeadline(time.Now().Add(patience))
	return w, far.(*net.TCPConn)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Attend misses nothing, whether it comes before, with or behind what was read.
func TestAttend(t *testing.T) {
	w, far := pair(t)
	var got []byte
	buf := make([]byte, 4)
	parts := []string{"before", "abcd", "12345678", "x", ""} // "": the end of far's sending half, with x
	send := func() {
		must(t, second(io.WriteString(far, parts[0])))
		if parts = parts[1:]; parts[0] == "" {
			must(t, far.CloseWrite())
		}
	}
	send()
	err := w.Attend(func() bool {
		for {
			n, err := w.Read(buf)
			got = append(got, buf[:n]...)
			switch {
			case errors.Is(err, wire.ErrNothing):
				if len(parts) > 1 {
					send()
				}
				return false
			case err == io.EOF: //nolint:errorlint // exactly that
				return true
			case err != nil:
				t.Error(err)
				return true
			}
		}
	})
	if err != nil || string(got) != "beforeabcd12345678x" {
		t.Errorf("read %q, %v", got, err)
	}
}

func second(_ int, err error) error { return err }

// A deadline ends Attend, which may go on.
func TestAttendDeadline(t *testing.T) {
	w, far := pair(t)
	step := func() bool {
		_, err := w.Read(make([]byte, 10))
		return !errors.Is(err, wire.ErrNothing)
	}
	must(t, w.SetReadDeadline(time.Now().Add(10*time.Millisecond)))
	if err := w.Attend(step); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("Attend() = %v", err)
	}
	must(t, w.SetReadDeadline(time.Now().Add(patience)))
	must(t, second(io.WriteString(far, "x")))
	must(t, w.Attend(step))
}

// Reads and writes outside of Attend are those of any connection.
func TestConn(t *testing.T) {
	w, far := pair(t)
	want := bytes.Repeat([]byte("0123456789"), 300_000) // more than the kernel takes at once
	go func() {
		_, _ = w.Write(want)
		_ = w.CloseWrite()
	}()
	got, err := io.ReadAll(far)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("far read %d bytes, %v", len(got), err)
	}
	go func() {
		_, _ = far.Write(want)
		_ = far.Close()
	}()
	if got, err = io.ReadAll(w); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("read %d bytes, %v", len(got), err)
	}
	if _, err := w.Write(want); !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		t.Errorf("write to a closed peer: %v", err)
	}
}

// What is gathered leaves with Flush, and before that only for want of room.
func TestGather(t *testing.T) {
	w, far := pair(t)
	w.Gather()
	must(t, second(w.Write([]byte("one "))))
	must(t, second(w.Write([]byte("two"))))
	_ = far.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if n, err := far.Read(make([]byte, 10)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%d bytes before Flush, %v", n, err)
	}
	_ = far.SetReadDeadline(time.Now().Add(patience))
	must(t, w.Flush())
	want := []byte("one two")
	got := make([]byte, len(want))
	if _, err := io.ReadFull(far, got); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("read %q, %v", got, err)
	}
	go func() {
		w.Gather()
		for range 50 {
			_, _ = w.Write(bytes.Repeat([]byte("x"), 10_000))
		}
		_, _ = w.Write(bytes.Repeat([]byte("y"), 100_000))
		_ = w.Flush()
		_ = w.CloseWrite()
	}()
	if got, err := io.ReadAll(far); err != nil || len(got) != 600_000 || got[499_999] != 'x' || got[500_000] != 'y' {
		t.Fatalf("read %d bytes, %v", len(got), err)
	}
}

// A peer that takes nothing, or too little, has its time; one that keeps the pace
// has as long as it needs.
func TestPace(t *testing.T) {
	for _, tt := range []struct {
		name  string
		takes int // bytes every 10 ms
		want  error
	}{
		{"nothing", 0, wire.ErrSlow},
		{"enough", 1 << 20, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w, far := pair(t)
			w.Pace(300*time.Millisecond, 1000)
			stop := make(chan struct{})
			var reading sync.WaitGroup
			reading.Go(func() {
				for p := make([]byte, tt.takes); len(p) > 0; {
					if _, err := io.ReadFull(far, p); err != nil {
						return
					}
					select {
					case <-stop:
						return
					case <-time.After(10 * time.Millisecond):
					}
				}
			})
			_, err := w.Write(make([]byte, 32<<20)) // more than fits on the way
			if !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
				t.Errorf("Write() = %v, want %v", err, tt.want)
			}
			close(stop)
			_ = far.SetDeadline(time.Unix(1, 0))
			reading.Wait()
		})
	}
}

// A lookout tells of the end of a peer whatever lies unread before it, and of none
// that it does not watch any more.
func TestLookout(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(*net.TCPConn) error
		want wire.Hangup
	}{
		{"half", (*net.TCPConn).CloseWrite, wire.HalfClosed},
		{"reset", func(c *net.TCPConn) error { return errors.Join(c.SetLinger(0), c.Close()) }, wire.Gone},
	} {
		for _, before := range []bool{false, true} {
			t.Run(tt.name, func(t *testing.T) {
				var l wire.Lookout
				defer l.Close()
				w, far := pair(t)
				other, otherFar := pair(t)
				told := make(chan wire.Hangup, 2)
				must(t, second(io.WriteString(far, "unread")))
				if before {
					must(t, tt.end(far))
				}
				one, err := l.Watch(w, func(h wire.Hangup) { told <- h })
				must(t, err)
				two, err := l.Watch(other, func(wire.Hangup) { t.Error("told of what is not watched") })
				must(t, err)
				l.End(other, two)
				must(t, otherFar.Close())
				if !before {
					must(t, tt.end(far))
				}
				select {
				case got := <-told:
					if got != tt.want {
						t.Errorf("told %d, want %d", got, tt.want)
					}
				case <-time.After(patience):
					t.Fatal("not told")
				}
				l.End(w, one)
				again, err := l.Watch(w, func(h wire.Hangup) { told <- h })
				must(t, err)
				<-told
				l.End(w, again)
			})
		}
	}
}
