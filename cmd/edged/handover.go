package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"anyedge/proxy"
)

// Environment by which open sockets come in. The first is ours; the others are
// those of sd_listen_fds(3).
const (
	envHandOver   = "EDGED_HANDOVER"
	envListenFDs  = "LISTEN_FDS"
	envListenPID  = "LISTEN_PID"
	envListenName = "LISTEN_FDNAMES"
)

// firstFD is the first file descriptor that a process finds open beside its
// standard ones.
const firstFD = 3

// Files at the head of what a predecessor hands over; listeners' sockets follow.
const (
	fdReady = iota // written to when the successor serves
	fdHold         // ends when the UDP sockets are free
	fdAdmin        // the admin socket
	fdSockets
)

// startWithin is how long a successor may take until it serves.
const startWithin = time.Minute

// An inheritance is what this process was started with.
type inheritance struct {
	sockets *proxy.Sockets // nil: none
	ready   *os.File       // nil: nobody waits
	hold    *os.File       // nil: nobody else reads
	admin   *os.File       // nil: none
}

// inherit takes over what the environment says is open.
func inherit(getenv func(string) string, pid int) (inheritance, error) {
	var in inheritance
	handed, fromManager := getenv(envHandOver), getenv(envListenFDs)
	if handed == "" && getenv(envListenPID) != strconv.Itoa(pid) {
		return in, nil
	}
	text := fromManager
	if handed != "" {
		text = handed
	}
	n, err := strconv.ParseUint(text, 10, 10)
	if err != nil {
		return in, fmt.Errorf("environment: %q is no count of open files", text)
	}
	var files []*os.File
	for fd := range int(n) {
		syscall.CloseOnExec(firstFD + fd)
		files = append(files, os.NewFile(uintptr(firstFD+fd), strconv.Itoa(firstFD+fd)))
	}
	if handed != "" {
		if len(files) < fdSockets {
			return in, fmt.Errorf("environment: %s=%s: want %d at least", envHandOver, handed, fdSockets)
		}
		in.ready, in.hold, in.admin = files[fdReady], files[fdHold], files[fdAdmin]
		files = files[fdSockets:]
	}
	in.sockets, err = proxy.NewSockets(files)
	return in, err
}

// released returns a channel that is closed when the predecessor has left the UDP
// sockets; nil: there is none.
func (in inheritance) released() <-chan struct{} {
	if in.hold == nil {
		return nil
	}
	free := make(chan struct{})
	go func() {
		defer close(free)
		_, _ = in.hold.Read(make([]byte, 1)) // it ends, whatever becomes of the predecessor
		_ = in.hold.Close()
	}()
	return free
}

// tellReady lets the predecessor go.
func (in inheritance) tellReady() error {
	if in.ready == nil {
		return nil
	}
	_, err := in.ready.Write([]byte{1})
	return errors.Join(err, in.ready.Close())
}

// tied returns what of this node cannot be two processes' at once; "": nothing.
func (n *node) tied() string {
	switch {
	case n.speaker != nil:
		return "bgp"
	case n.fabric != nil:
		return "fabric"
	case n.path != nil:
		return "l4"
	case n.addresses != nil:
		return "vips"
	case n.dns != nil:
		return "node.dns"
	case n.metrics != nil:
		return "node.metrics"
	}
	return ""
}

// handOver starts a successor that takes this process's sockets, and returns when
// that serves. Until then, and when it does not, nothing has changed here.
func (n *node) handOver(ctx context.Context) error {
	if part := n.tied(); part != "" {
		return fmt.Errorf("%s is one process's at a time: drain this node and restart it", part)
	}
	files, err := n.handOverFiles()
	defer func() {
		for _, f := range files {
			_ = f.Close()
		}
	}()
	if err != nil {
		return err
	}
	ready, tell, err := os.Pipe()
	if err != nil {
		return err
	}
	defer func() { _ = ready.Close() }()
	held, hold, err := os.Pipe()
	if err != nil {
		return errors.Join(err, tell.Close())
	}
	child, err := successor(append([]*os.File{tell, held}, files...))
	_, _ = tell.Close(), held.Close()
	if err != nil {
		return errors.Join(err, hold.Close())
	}
	if err := awaitReady(ctx, ready); err != nil {
		_ = child.Kill()
		_, _ = child.Wait()
		return errors.Join(err, hold.Close())
	}
	n.admin.HandOver()
	n.proxy.HandOver(func() { _ = hold.Close() })
	n.manager.handedOver(child.Pid)
	n.log.Info("another process has the sockets; this one ends with what it has", "pid", child.Pid)
	return child.Release()
}

// handOverFiles returns the admin socket and those of the listeners.
func (n *node) handOverFiles() ([]*os.File, error) {
	files, err := n.proxy.Files()
	if err != nil {
		return nil, err
	}
	admin, err := n.admin.File()
	if err != nil {
		return files, err
	}
	return append([]*os.File{admin}, files...), nil
}

// successor starts this program, as it lies on disk now, with open files.
func successor(files []*os.File) (*os.Process, error) {
	path, err := exec.LookPath(os.Args[0])
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(path, os.Args[1:]...) //nolint:noctx,gosec // it outlives this process, and is its own program
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = os.Stdout, os.Stderr, files
	for _, v := range os.Environ() {
		switch name, _, _ := strings.Cut(v, "="); name {
		case envHandOver, envListenFDs, envListenPID, envListenName, "WATCHDOG_PID":
		default:
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, envHandOver+"="+strconv.Itoa(len(files)))
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return cmd.Process, nil
}

// awaitReady waits for the successor's word.
func awaitReady(ctx context.Context, from *os.File) error {
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = from.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	_, err := io.ReadFull(from, make([]byte, 1))
	switch {
	case errors.Is(err, io.EOF):
		return errors.New("the new process ended before it served; its log says why")
	case err != nil:
		return fmt.Errorf("the new process did not serve in time: %w", err)
	}
	return nil
}
