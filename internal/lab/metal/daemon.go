package metal

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"anyedge/internal/lab/netns"
)

// answerWait bounds how long a daemon may take to answer its shell.
const answerWait = 10 * time.Second

// A daemon is a child process in a namespace.
type daemon struct {
	space *netns.Space
	log   string

	mu    sync.Mutex // guards what follows
	cmd   *exec.Cmd
	ended chan struct{} // nil: never started
}

// run starts the program; it must not run.
func (d *daemon) run(program string, args ...string) error {
	out, err := os.OpenFile(d.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = out.Close() }()    // the child has its own
	cmd := exec.Command(program, args...) //nolint:noctx // kill ends it
	cmd.Stdout, cmd.Stderr = out, out
	if err := d.space.Start(cmd); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // how it ended is in its log
		close(ended)
	}()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cmd, d.ended = cmd, ended
	return nil
}

// end is closed when the process ends; nil when none was ever started.
func (d *daemon) end() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ended
}

func (d *daemon) running() bool {
	end := d.end()
	if end == nil {
		return false
	}
	select {
	case <-end:
		return false
	default:
		return true
	}
}

// signal sends sig to the process; nothing happens when it has ended.
func (d *daemon) signal(sig syscall.Signal) {
	if !d.running() {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	_ = d.cmd.Process.Signal(sig)
}

func (d *daemon) kill() {
	d.signal(syscall.SIGKILL)
	if end := d.end(); end != nil {
		<-end
	}
}

// await waits until a daemon answers.
func await(d *daemon, answers func() bool) error {
	late := time.After(answerWait)
	for !answers() {
		if !d.running() {
			return fmt.Errorf("it ended by itself; its log says:\n%s", tail(d.log))
		}
		select {
		case <-late:
			return fmt.Errorf("it does not answer; its log says:\n%s", tail(d.log))
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

// tail returns the last lines of a file.
func tail(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-8):], "\n")
}
