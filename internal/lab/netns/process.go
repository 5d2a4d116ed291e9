package netns

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const (
	endWait   = 5 * time.Second // for a killed process to end
	endRounds = 10              // a process may start others while it is being killed
)

// killInside ends every process inside a namespace with SIGKILL. The kernel
// kills children with their parent only as long as they keep their user, which
// FRR's daemons do not.
func killInside(name string) error {
	var want unix.Stat_t
	if err := unix.Stat(dir+name, &want); errors.Is(err, unix.ENOENT) {
		return nil
	} else if err != nil {
		return fmt.Errorf("namespace %s: %w", name, err)
	}
	for range endRounds {
		found, err := killOnce(&want)
		if err != nil {
			return fmt.Errorf("namespace %s: %w", name, err)
		}
		if found == 0 {
			return nil
		}
	}
	return fmt.Errorf("namespace %s: its processes start ever new ones", name)
}

// killOnce kills what is inside now and waits for its end.
func killOnce(space *unix.Stat_t) (found int, err error) {
	procs, err := os.ReadDir("/proc")
	if err != nil {
		return 0, err
	}
	var errs []error
	for _, p := range procs {
		pid, err := strconv.Atoi(p.Name())
		if err != nil || pid == os.Getpid() || !inside(pid, space) {
			continue
		}
		killed, err := kill(pid, space)
		if killed {
			found++
		}
		errs = append(errs, err)
	}
	return found, errors.Join(errs...)
}

// inside reports whether a process is in a namespace; one that has ended is in
// none.
func inside(pid int, space *unix.Stat_t) bool {
	var its unix.Stat_t
	err := unix.Stat(fmt.Sprintf("/proc/%d/ns/net", pid), &its)
	return err == nil && its.Dev == space.Dev && its.Ino == space.Ino
}

// kill holds the process before it looks again: its number may be another's by
// now.
func kill(pid int, space *unix.Stat_t) (killed bool, err error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return false, nil // it has ended
	}
	defer func() { _ = unix.Close(fd) }()
	if !inside(pid, space) {
		return false, nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil {
		if errors.Is(err, unix.ESRCH) {
			return false, nil
		}
		return false, fmt.Errorf("kill process %d: %w", pid, err)
	}
	return true, ended(fd, pid)
}

// ended waits for the end of a killed process.
func ended(fd, pid int) error {
	late := time.Now().Add(endWait)
	for left := endWait; left > 0; left = time.Until(late) {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(left.Milliseconds())+1)
		if n > 0 {
			return nil
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
	}
	return fmt.Errorf("process %d does not end", pid)
}
