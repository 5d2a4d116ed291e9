// Package host looks at the machine that edged runs on: its kernel, interfaces,
// kernel settings, ports, clock and limits.
//
// A [Machine] reads /proc and /sys; what the kernel tells only through system
// calls is read by functions of their own ([ReadNIC], [ReadClock], …) into plain
// values. Pure functions judge both and return a [Finding] each. What they cannot
// see without a privilege is a warning that says so.
//
// The one thing that the package changes is the addresses of lo: [Addresses]
// keeps VIPs there and remembers, across the end of the process, what it added;
// [Cleanup] takes that away. Kernel settings, routes and other interfaces are
// never changed.
package host

import (
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// A Verdict says how grave a finding is.
type Verdict string

// Verdicts.
const (
	OK   Verdict = "ok"
	Warn Verdict = "warn" // edged serves, but less well; or it could not be seen
	Fail Verdict = "FAIL" // a part of edged does not work like this
)

// Areas of findings.
const (
	AreaKernel = "kernel"
	AreaNIC    = "nic"
	AreaMTU    = "mtu"
	AreaSysctl = "sysctl"
	AreaTCP    = "tcp"
	AreaPorts  = "ports"
	AreaTime   = "time"
	AreaLimits = "limits"
)

// A Finding is one thing that was looked at.
type Finding struct {
	Area    string   `json:"area"`
	Verdict Verdict  `json:"verdict"`
	Text    string   `json:"text"`             // what is the case, for a person
	Fix     string   `json:"fix,omitempty"`    // what to do, for a person
	Script  []string `json:"script,omitempty"` // shell commands that do it; empty where no command can
}

// ok, warn and fail return findings.
func ok(area, format string, args ...any) Finding {
	return Finding{Area: area, Verdict: OK, Text: fmt.Sprintf(format, args...)}
}

func warn(area, format string, args ...any) Finding {
	return Finding{Area: area, Verdict: Warn, Text: fmt.Sprintf(format, args...)}
}

func fail(area, format string, args ...any) Finding {
	return Finding{Area: area, Verdict: Fail, Text: fmt.Sprintf(format, args...)}
}

// advise adds what to do, in words.
func (f Finding) advise(format string, args ...any) Finding {
	f.Fix = fmt.Sprintf(format, args...)
	return f
}

// mend adds the one command that mends it.
func (f Finding) mend(command string) Finding {
	f.Fix, f.Script = command, []string{command}
	return f
}

// A Machine is read through its files.
type Machine struct {
	Root fs.FS // holds proc and sys
}

// Here returns the machine of this process.
func Here() Machine { return Machine{Root: os.DirFS("/")} }

// text returns a file's text without spaces around it.
func (m Machine) text(name string) (string, error) {
	b, err := fs.ReadFile(m.Root, name)
	return strings.TrimSpace(string(b)), err
}

// number returns the number in a file.
func (m Machine) number(name string) (int, error) {
	s, err := m.text(name)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(s)
}

// Quote returns s as one word of a shell.
func Quote(s string) string {
	plain := func(r rune) bool {
		return r < 0x80 && (r == '_' || r == '-' || r == '.' || r == '/' || r == ':' || r == '=' || r == '@' || r == '%' || r == '+' || r == ',' ||
			r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z')
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
