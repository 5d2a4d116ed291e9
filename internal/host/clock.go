package host

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// maxClockError is how far the clock may be off: certificates and the ages of
// what other geos report depend on it.
const maxClockError = time.Second

// A Clock is what the kernel knows of its clock's quality.
type Clock struct {
	Synchronised bool
	Offset       time.Duration // that the kernel still has to correct
	MaxError     time.Duration // bound that the kernel's time keeper gives
}

// ReadClock asks the kernel; it changes nothing.
func ReadClock() (Clock, error) {
	var t unix.Timex // no modes: only read
	state, err := unix.Adjtimex(&t)
	if err != nil {
		return Clock{}, fmt.Errorf("adjtimex: %w", err)
	}
	unit := time.Microsecond
	if t.Status&unix.STA_NANO != 0 {
		unit = time.Nanosecond
	}
	return Clock{
		Synchronised: state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0,
		Offset:       time.Duration(t.Offset) * unit,
		MaxError:     time.Duration(t.Maxerror) * time.Microsecond,
	}, nil
}

// JudgeClock says whether the clock can be trusted; err is of reading it.
func JudgeClock(c Clock, err error) Finding {
	switch {
	case err != nil:
		return warn(AreaTime, "clock unknown: %v", err)
	case !c.Synchronised:
		return warn(AreaTime, "the clock is not synchronised: certificates may seem out of their time").
			advise("run chrony or systemd-timesyncd (timedatectl set-ntp true)")
	case c.MaxError > maxClockError:
		return warn(AreaTime, "the clock may be off by %s", milliseconds(c.MaxError)).advise("look at chronyc tracking or timedatectl timesync-status")
	}
	return ok(AreaTime, "synchronised, offset %s, error at most %s", milliseconds(c.Offset), milliseconds(c.MaxError))
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}

// Files is how many files and connections edged should be able to open.
const Files = 1 << 20

// enoughFiles is the least that is worth no warning.
const enoughFiles = 1 << 16

// ReadFiles returns how many files this process may open at most.
func ReadFiles() (uint64, error) {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return 0, fmt.Errorf("getrlimit: %w", err)
	}
	return r.Max, nil
}

// JudgeFiles judges the hard limit, to which a Go program raises its own.
func JudgeFiles(limit uint64, err error) Finding {
	switch {
	case err != nil:
		return warn(AreaLimits, "nofile unknown: %v", err)
	case limit < enoughFiles:
		return warn(AreaLimits, "nofile %d: each connection needs one or two; want %d", limit, Files).
			advise("LimitNOFILE=%d in the unit, or ulimit -Hn %d as root before edged is started", Files, Files)
	}
	return ok(AreaLimits, "nofile %d", limit)
}
