package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// termWait is how long a process may take to end on SIGTERM.
const termWait = 8 * time.Second

// A spawner starts processes that die with this one, however it ends. The
// kernel ties their death to that of the thread that started them, so one
// thread starts them all and lives until end is called.
type spawner struct {
	jobs chan func()
	end  context.CancelFunc
	done <-chan struct{} // closed by end
}

func newSpawner() *spawner {
	ctx, end := context.WithCancel(context.Background())
	s := &spawner{jobs: make(chan func()), end: end, done: ctx.Done()}
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		for {
			select {
			case f := <-s.jobs:
				f()
			case <-s.done:
				return
			}
		}
	}()
	return s
}

// start starts cmd in a process group of its own.
func (s *spawner) start(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error, 1)
	select {
	case s.jobs <- func() { started <- cmd.Start() }:
		return <-started
	case <-s.done:
		return errors.New("the demo is over")
	}
}

// A process is one geo's edged, which can be killed and started again.
type process struct {
	geo     string
	listen  netip.AddrPort
	binary  string
	config  string
	logFile string
	spawn   *spawner
	changed *beacon          // lit when site or cmd changes
	ended   func(how string) // told when the process ends unasked

	mu   sync.Mutex // guards what follows
	cmd  *exec.Cmd  // nil: not running
	site *Site      // of the last start; nil: never started
	done chan struct{}
	// asked: the end of this life is what someone wanted.
	asked bool
}

// up starts the process. It fails when it runs already.
func (p *process) up(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		return fmt.Errorf("geo %s is alive", p.geo)
	}
	log, err := os.OpenFile(p.logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the process has its own copy
	// The process outlives the request that starts it: stop and kill end it.
	cmd := exec.CommandContext(context.WithoutCancel(ctx), p.binary, "--config", p.config)
	cmd.Stdout, cmd.Stderr = log, log
	if err := p.spawn.start(cmd); err != nil {
		return fmt.Errorf("geo %s: %w", p.geo, err)
	}
	site, done := NewSite(p.geo, p.listen), make(chan struct{})
	p.cmd, p.site, p.done, p.asked = cmd, site, done, false
	go p.wait(cmd, site, done)
	p.changed.light()
	return nil
}

// wait sees one life of the process to its end.
func (p *process) wait(cmd *exec.Cmd, site *Site, done chan<- struct{}) {
	_ = cmd.Wait() // its state says how it ended
	site.Die()
	p.mu.Lock()
	p.cmd = nil
	asked := p.asked
	p.mu.Unlock()
	close(done)
	p.changed.light()
	if !asked {
		p.ended(cmd.ProcessState.String())
	}
}

// kill sends SIGKILL and waits for the end. It fails when the process is dead.
func (p *process) kill() error {
	cmd, site, done := p.claim()
	if cmd == nil {
		return fmt.Errorf("geo %s is dead", p.geo)
	}
	site.Die()
	err := cmd.Process.Kill()
	<-done
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// stop ends the process gently, and with SIGKILL when that takes too long.
func (p *process) stop() {
	cmd, _, done := p.claim()
	if cmd == nil {
		return
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-done:
		return
	case <-time.After(termWait):
	}
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	<-done
}

// claim returns the running process, which the caller is going to end.
func (p *process) claim() (*exec.Cmd, *Site, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = true
	return p.cmd, p.site, p.done
}

// pid returns the process's number, 0 when it does not run.
func (p *process) pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// current returns the last life of the process, nil before its first.
func (p *process) current() *Site {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.site
}
