package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	idleConns = 10_000
	// idleWait is longer than two minutes: Go's runtime collects an idle
	// program's garbage that often, and gives the memory back by itself. Nothing
	// is forced.
	idleWait = 150 * time.Second
	rssEvery = 30 * time.Second

	holdArg = "hold-connections" // an argument of this program for itself
)

// measureIdle returns the KiB of resident memory that a contestant needs for
// each of 10,000 TLS connections after one HTTP/1.1 request each. All of them
// hold theirs at the same time, so the wait is once. Memory of the kernel is
// not in it.
func measureIdle(ctx context.Context, w io.Writer, all []*contestant, _ int) ([]float64, error) {
	before := make([]int, len(all))
	for i, c := range all {
		// What a first request needs once is no cost of a connection. More of
		// them would leave garbage that makes room for what is measured.
		if err := newConnections(ctx, c, 20); err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
		var err error
		if before[i], err = residentKiB(c.pid()); err != nil {
			return nil, err
		}
		release, err := holdConnections(ctx, c)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
		defer release()
	}
	figures := make([]float64, len(all))
	tick := time.NewTicker(rssEvery)
	defer tick.Stop()
	for start := time.Now(); ; {
		for i, c := range all {
			now, err := residentKiB(c.pid())
			if err != nil {
				return nil, err
			}
			figures[i] = float64(now-before[i]) / idleConns
			fmt.Fprintf(w, "idle  %3.0f s  %-24s %6.1f KiB/connection\n", time.Since(start).Seconds(), c.name, figures[i])
		}
		if time.Since(start) > idleWait {
			return figures, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// holdConnections lets a process of its own, because of the limit of open
// files, hold connections until release.
func holdConnections(ctx context.Context, c *contestant) (release func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, holdArg, strconv.Itoa(c.tls))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	release = func() {
		_ = stdin.Close()
		_ = cmd.Wait()
	}
	if _, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		release()
		return nil, errors.New("connections could not be opened")
	}
	return release, nil
}

// hold is that process: it opens connections, asks once over each, says so,
// and keeps them until its input ends.
func hold(ctx context.Context, port string) error {
	number, err := strconv.Atoi(port)
	if err != nil {
		return err
	}
	var mu sync.Mutex // guards held
	var held []net.Conn
	config := clientTLS("http/1.1")
	err = spread(newWorkers, idleConns, func() error {
		conn, err := dialTLS(ctx, number, config)
		if err != nil {
			return err
		}
		mu.Lock()
		held = append(held, conn.NetConn()) // its TLS state is not needed any more
		mu.Unlock()
		if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: bench.example.net\r\n\r\n"); err != nil {
			return err
		}
		return readAnswer(bufio.NewReaderSize(conn, 4<<10), smallContent)
	})
	if err != nil {
		return err
	}
	fmt.Println("ready")
	_, err = io.Copy(io.Discard, os.Stdin)
	runtime.KeepAlive(held)
	return err
}

// residentKiB returns the resident memory of a process.
func residentKiB(pid int) (int, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, rest, ok := strings.Cut(string(b), "\nVmRSS:")
	if !ok {
		return 0, errors.New("unexpected form of /proc/PID/status")
	}
	return strconv.Atoi(strings.Fields(rest)[0])
}
