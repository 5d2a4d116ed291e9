package main

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// sayWithin bounds how long a word to the service manager may take.
	sayWithin = time.Second
	// statusEvery is how often the status line is looked at without a watchdog.
	statusEvery = 5 * time.Second
)

// A manager is the service manager that started this process and wants to hear
// how it is (sd_notify(3)). Without one, every method does nothing.
type manager struct {
	socket   string        // a path, or @NAME in the abstract namespace; "": nobody listens
	watchdog time.Duration // silence after which it takes this process for hung; 0: never
	log      *slog.Logger

	serving atomic.Bool // ready was said, and stopping was not
	other   atomic.Bool // another process is the service now, and says how it is
}

// newManager reads what the service manager left in the environment.
func newManager(getenv func(string) string, log *slog.Logger) *manager {
	m := &manager{socket: getenv("NOTIFY_SOCKET"), log: log}
	if pid := getenv("WATCHDOG_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return m
	}
	if us, err := strconv.ParseInt(getenv("WATCHDOG_USEC"), 10, 64); err == nil && us > 0 && m.socket != "" {
		m.watchdog = time.Duration(us) * time.Microsecond
	}
	return m
}

// say sends assignments in one datagram. That nobody could be told is logged:
// serving goes on.
func (m *manager) say(assignments ...string) {
	if m.socket == "" || m.other.Load() {
		return
	}
	if err := send(m.socket, strings.Join(assignments, "\n")); err != nil {
		m.log.Warn("the service manager does not hear", "socket", m.socket, "err", err)
	}
}

// send sends one datagram to a socket.
func send(socket, text string) error {
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // what was written is on its way
	if err := conn.SetWriteDeadline(time.Now().Add(sayWithin)); err != nil {
		return err
	}
	_, err = conn.Write([]byte(text))
	return err
}

// ready says that everything serves.
func (m *manager) ready(status string) {
	m.serving.Store(true)
	m.say("READY=1", "STATUS="+status)
}

// reloading says that files are read again, until reloaded. The time is that
// of sd_notify(3)'s MONOTONIC_USEC.
func (m *manager) reloading() {
	if !m.serving.Load() {
		return // a start or a stop it stays
	}
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return // the kernel has this clock
	}
	m.say("RELOADING=1", fmt.Sprintf("MONOTONIC_USEC=%d", now.Nano()/1000))
}

// reloaded says that this is over.
func (m *manager) reloaded() {
	if m.serving.Load() {
		m.say("READY=1")
	}
}

// stopping says that the end has begun and may take so long.
func (m *manager) stopping(status string, most time.Duration) {
	m.serving.Store(false)
	m.say("STOPPING=1", "STATUS="+status, fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", most.Microseconds()))
}

// handedOver says that another process is the service now.
func (m *manager) handedOver(pid int) {
	m.serving.Store(false)
	m.say(fmt.Sprintf("MAINPID=%d", pid))
	m.other.Store(true)
}

// watch pats the watchdog while the request path is alive, and tells changes of
// the status line, until the function that it returns is called.
func (m *manager) watch(alive func() time.Time, status func() string) (stop func()) {
	every := statusEvery
	if m.watchdog > 0 {
		every = min(every, m.watchdog/4)
	}
	if m.socket == "" {
		return func() {}
	}
	ended := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		said := ""
		for {
			m.look(alive, status, &said)
			select {
			case <-ended:
				return
			case <-tick.C:
			}
		}
	})
	return func() {
		close(ended)
		running.Wait()
	}
}

// look says what is due.
func (m *manager) look(alive func() time.Time, status func() string, said *string) {
	var words []string
	if m.watchdog > 0 && time.Since(alive()) < m.watchdog/2 {
		words = append(words, "WATCHDOG=1")
	}
	if now := status(); now != *said {
		words = append(words, "STATUS="+now)
		*said = now
	}
	if len(words) > 0 {
		m.say(words...)
	}
}

// statusLine is one line about this node for whoever asks its service manager.
func (n *node) statusLine() string {
	words := []string{n.geo + "/" + n.name}
	if n.stopping.Load() {
		words = append(words, "draining")
	}
	for _, v := range n.steer.Plan().VIPs {
		words = append(words, v.Name+" "+string(v.State))
	}
	down := 0
	for _, s := range n.proxy.Health() {
		down += s.Total - s.Healthy
	}
	if down > 0 {
		words = append(words, fmt.Sprintf("%d backend%s down", down, plural(down, "s")))
	}
	return strings.Join(words, ", ")
}
