// Command edgectl tells an engineer what edged does and why, and gives it
// orders. It speaks to the local daemon over its admin socket; some commands
// need no daemon.
//
// Every command has a file of its own. A command that shows something makes a
// [view], which knows its table and its data; output.go prints it in the
// format that was asked for. Data goes to standard output, hints and questions
// to standard error.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/term"

	"anyedge/internal/admin/client"
	"anyedge/internal/lab/metal"
)

// Exit codes, the same for edged and edgectl; `edgectl help exit-codes`.
const (
	exitOK          = 0
	exitUnhealthy   = 1 // also: any other failure
	exitUsage       = 2
	exitConfig      = 3
	exitUnreachable = 4
	exitNotAllowed  = 5
	exitTimeout     = 6
)

var (
	// errUnhealthy means that what was shown is not well; the output says so.
	errUnhealthy = errors.New("not healthy")
	// errConfig means that a configuration has errors; they were printed.
	errConfig = errors.New("configuration is not valid")
	// errUsage is a mistake on the command line.
	errUsage = errors.New("usage")
	// errTimeout means that what was waited for did not come in time.
	errTimeout = errors.New("timed out")
)

// An env is what a command sees of the world outside.
type env struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	getenv         func(string) string
	self           string // edgectl, as the user called it
	now            func() time.Time
	answers        bool // stdin is a terminal: somebody can answer
	width          int  // columns of the terminal that stdout is; 0: it is none
}

func main() {
	os.Exit(execute(hostEnv(), os.Args[1:]))
}

// hostEnv returns the env of this process.
func hostEnv() env {
	e := env{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, getenv: os.Getenv, self: os.Args[0], now: time.Now}
	e.answers = term.IsTerminal(int(os.Stdin.Fd()))
	if fd := int(os.Stdout.Fd()); term.IsTerminal(fd) {
		e.width = 80
		if w, _, err := term.GetSize(fd); err == nil && w > 0 {
			e.width = w
		}
	}
	return e
}

// execute runs one command until it ends or is interrupted, prints its error
// and returns the exit code.
func execute(e env, args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, e, args)
	code, silent := exitCode(err)
	if !silent {
		_, _ = fmt.Fprintf(e.stderr, "edgectl: %v\n", err) // nobody is left to tell
	}
	return code
}

// exitCode maps an error to its exit code; silent errors were printed already.
func exitCode(err error) (code int, silent bool) {
	switch {
	case err == nil:
		return exitOK, true
	case errors.Is(err, errUnhealthy):
		return exitUnhealthy, true
	case errors.Is(err, errConfig):
		return exitConfig, true
	case errors.Is(err, errUsage):
		return exitUsage, false
	case errors.Is(err, client.ErrNotAllowed), errors.Is(err, fs.ErrPermission):
		return exitNotAllowed, false
	case errors.Is(err, client.ErrUnreachable), errors.Is(err, metal.ErrUnreachable), errors.Is(err, metal.ErrNoLab):
		return exitUnreachable, false
	case errors.Is(err, errTimeout):
		return exitTimeout, false
	}
	return exitUnhealthy, false
}
