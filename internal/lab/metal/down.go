package metal

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"anyedge/internal/lab/netns"
)

// A File describes a lab: /run/PREFIX.json. It is there from before the first
// namespace is made until after the last one is gone, so that a lab whose owner
// was killed at any moment can be taken down.
type File struct {
	PID   int    `json:"pid"`     // of its owner
	Since string `json:"started"` // when the kernel started that process, in its own ticks
	Dir   string `json:"dir"`
}

// ownerSocket is the socket of a lab's owner in its directory.
const ownerSocket = "owner.sock"

// termWait bounds how long an owner may take to end after SIGTERM.
const termWait = 15 * time.Second

func filePath(prefix string) string {
	return filepath.Join("/run", cmp.Or(prefix, DefaultPrefix)+".json")
}

// claim writes the lab's File; there must be none.
func (l *Lab) claim() error {
	text, err := json.MarshalIndent(File{PID: os.Getpid(), Since: startedAt(os.Getpid()), Dir: l.dir}, "", "  ")
	if err != nil {
		return err
	}
	path := filePath(l.opts.Prefix)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("the file of a lab is there (%s): another one runs, or was killed; take it down first", path)
	}
	if err != nil {
		return err
	}
	l.claimed = true
	_, err = f.Write(append(text, '\n'))
	return errors.Join(err, f.Close())
}

// startedAt returns when a process started, in the kernel's ticks (proc(5)); ""
// when there is none, or only what is left of it after its end.
func startedAt(pid int) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	// The name before may hold anything; field 3 follows it.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return ""
	}
	return fields[19]
}

// lives reports whether the owner runs; another process may have its number.
func (f File) lives() bool { return f.Since != "" && startedAt(f.PID) == f.Since }

var (
	// ErrNoLab means that no lab runs.
	ErrNoLab = errors.New("no lab of that prefix runs")
	// ErrUnreachable means that a lab's owner does not answer.
	ErrUnreachable = errors.New("the lab does not answer")
)

// A Remote asks the owner of a lab.
type Remote struct {
	File
	prefix string
}

// Find returns the lab of that prefix; its owner may be dead.
func Find(prefix string) (*Remote, error) {
	text, err := os.ReadFile(filePath(prefix))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w: start one with: %s", ErrNoLab, Command("up", prefix))
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%w; a lab belongs to root: use sudo", err)
	case err != nil:
		return nil, err
	}
	r := &Remote{prefix: prefix}
	if err := json.Unmarshal(text, &r.File); err != nil {
		return nil, fmt.Errorf("%s: %w", filePath(prefix), err)
	}
	return r, nil
}

// Ask sends a request: "GET /status", "POST /break", "POST /heal", "POST /down".
func (r *Remote) Ask(ctx context.Context, request string, body, answer any) error {
	method, path, _ := strings.Cut(request, " ")
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://lab"+path, bytes.NewReader(text))
	if err != nil {
		return err
	}
	var d net.Dialer
	c := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return d.DialContext(ctx, "unix", filepath.Join(r.Dir, ownerSocket))
	}}}
	defer c.CloseIdleConnections()
	resp, err := c.Do(req)
	switch {
	case err != nil && !r.lives():
		return fmt.Errorf("%w: its owner (process %d) is dead; remove what is left with: %s", ErrUnreachable, r.PID, Command("down", r.prefix))
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: it is still coming up (process %d)", ErrUnreachable, r.PID)
	case err != nil:
		return fmt.Errorf("%w (process %d): %w; take it down with: %s", ErrUnreachable, r.PID, err, Command("down", r.prefix))
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		why, _ := io.ReadAll(resp.Body)
		return errors.New(strings.TrimSpace(string(why)))
	}
	return json.NewDecoder(resp.Body).Decode(answer)
}

// Down takes a lab down, whether its owner lives or not, and returns what it had
// to remove itself.
func Down(ctx context.Context, prefix string) (removed []string, err error) {
	prefix = cmp.Or(prefix, DefaultPrefix)
	r, err := Find(prefix)
	if err != nil && !errors.Is(err, ErrNoLab) {
		return nil, err
	}
	if r != nil {
		if gone, err := r.end(ctx, prefix); gone || err != nil {
			return nil, err
		}
	}
	left := spacesOf(prefix)
	if r == nil && len(left) == 0 {
		return nil, fmt.Errorf("%w: start one with: %s", ErrNoLab, Command("up", prefix))
	}
	for _, name := range left {
		if err := netns.Delete(name); err != nil {
			return removed, err
		}
		removed = append(removed, "namespace "+name)
	}
	if r == nil {
		return removed, nil
	}
	if err := errors.Join(os.RemoveAll(pinDir(r.Dir)), os.RemoveAll(r.Dir)); err != nil {
		return removed, err
	}
	return append(removed, r.Dir), os.Remove(filePath(prefix))
}

// end ends the owner and reports whether it took the lab down.
func (r *Remote) end(ctx context.Context, prefix string) (gone bool, err error) {
	isGone := func() bool { _, err := os.Stat(filePath(prefix)); return errors.Is(err, fs.ErrNotExist) }
	var nothing any
	if r.Ask(ctx, "POST /down", nil, &nothing) == nil {
		return true, awaitCond(ctx, "the lab's end", isGone)
	}
	if !r.lives() {
		return false, nil
	}
	if r.PID == os.Getpid() {
		return false, errors.New("the lab is this process's own: close it")
	}
	// It is coming up, or hangs.
	process, err := os.FindProcess(r.PID)
	if err != nil {
		return false, err
	}
	defer func() { _ = process.Release() }()
	if !r.lives() { // looked at again now that the number is held
		return isGone(), nil
	}
	_ = process.Signal(syscall.SIGTERM)
	term, cancel := context.WithTimeout(ctx, termWait)
	defer cancel()
	if awaitCond(term, "", func() bool { return !r.lives() }) != nil {
		_ = process.Signal(syscall.SIGKILL)
		if err := awaitCond(ctx, fmt.Sprintf("the end of process %d", r.PID), func() bool { return !r.lives() }); err != nil {
			return false, err
		}
	}
	return isGone(), nil
}
