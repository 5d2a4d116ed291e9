package host

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"strconv"
	"strings"
)

// Networks of a port.
const (
	TCP = "tcp"
	UDP = "udp"
)

// A Socket waits for packets of anybody.
type Socket struct {
	Network string // TCP or UDP
	Local   netip.AddrPort
	Inode   uint64
}

// stateListen and stateUnconnected are the states of sockets that wait for
// anybody, as /proc/net has them.
const (
	stateListen      = "0A"
	stateUnconnected = "07"
)

// ParseSockets reads /proc/net/tcp, udp, tcp6 or udp6 and returns the sockets
// that wait for anybody. Lines that it does not understand are passed over.
func ParseSockets(network string, r io.Reader) []Socket {
	want := stateListen
	if network == UDP {
		want = stateUnconnected
	}
	var out []Socket
	for s := bufio.NewScanner(r); s.Scan(); {
		f := strings.Fields(s.Text())
		if len(f) < 10 || f[3] != want {
			continue
		}
		local, ok := parseAddress(f[1])
		inode, err := strconv.ParseUint(f[9], 10, 64)
		if !ok || err != nil {
			continue
		}
		out = append(out, Socket{network, local, inode})
	}
	return out
}

// parseAddress reads 0100007F:0050: 32-bit words in the machine's order, then
// the port.
func parseAddress(s string) (netip.AddrPort, bool) {
	host, port, found := strings.Cut(s, ":")
	b, err := hex.DecodeString(host)
	p, perr := strconv.ParseUint(port, 16, 16)
	if !found || err != nil || perr != nil || len(b) != 4 && len(b) != 16 {
		return netip.AddrPort{}, false
	}
	for i := 0; i < len(b); i += 4 {
		binary.NativeEndian.PutUint32(b[i:], binary.BigEndian.Uint32(b[i:]))
	}
	a, _ := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(a, uint16(p)), true
}

// Sockets returns every socket of this network namespace that waits for
// anybody.
func (m Machine) Sockets() ([]Socket, error) {
	var out []Socket
	for _, file := range []string{"tcp", "tcp6", "udp", "udp6"} {
		b, err := fs.ReadFile(m.Root, "proc/self/net/"+file)
		if err != nil && !strings.HasSuffix(file, "6") { // a kernel may have no IPv6
			return nil, err
		}
		out = append(out, ParseSockets(file[:3], strings.NewReader(string(b)))...)
	}
	return out, nil
}

// A Process has a socket open.
type Process struct {
	PID  int // 0: not known
	Name string
}

func (p Process) String() string {
	if p.PID == 0 {
		return "a process that this user may not see"
	}
	return fmt.Sprintf("%s (pid %d)", p.Name, p.PID)
}

// Owner returns the process that has the socket open; one that this user may
// not look into is not found.
func (m Machine) Owner(inode uint64) Process {
	want := fmt.Sprintf("socket:[%d]", inode)
	processes, _ := fs.ReadDir(m.Root, "proc") // not there: nothing is found
	for _, p := range processes {
		pid, err := strconv.Atoi(p.Name())
		if err != nil {
			continue
		}
		dir := "proc/" + p.Name() + "/fd"
		files, _ := fs.ReadDir(m.Root, dir) // not permitted: it is not found
		for _, f := range files {
			if target, err := fs.ReadLink(m.Root, dir+"/"+f.Name()); err == nil && target == want {
				name, _ := m.text("proc/" + p.Name() + "/comm")
				return Process{pid, name}
			}
		}
	}
	return Process{}
}

// A Port is one that the configuration wants to bind.
type Port struct {
	Network string // TCP or UDP
	Address netip.AddrPort
	For     string // who: "listener web"
	VIP     bool   // the address belongs on lo, whatever machine this is
	Adds    bool   // edged adds it to lo when it starts
}

func (p Port) String() string { return fmt.Sprintf("%s/%s", p.Address, p.Network) }

// Port judges whether a port can be bound; sockets are those of the machine,
// local says whether its address is this machine's. own is the name of a
// process that may have it already: the daemon that is configured like this.
func (m Machine) Port(p Port, sockets []Socket, local bool, own string) Finding {
	for _, s := range sockets {
		if taken := m.taken(p, s, own); taken != nil {
			return *taken
		}
	}
	if local {
		return ok(AreaPorts, "%s (%s) is free", p, p.For)
	}
	if p.Adds {
		return ok(AreaPorts, "%s (%s) is free; edged adds the address to lo", p, p.For)
	}
	f := fail(AreaPorts, "%s (%s): the address is not on this machine", p, p.For)
	family := "ipv4"
	if p.Address.Addr().Is6() {
		family = "ipv6"
	}
	if v, err := m.number("proc/sys/net/" + family + "/ip_nonlocal_bind"); err == nil && v == 1 {
		f.Verdict = Warn
		f.Text += "; it can be bound (ip_nonlocal_bind), but nothing for it is delivered"
	}
	if p.VIP {
		return f.mend(AddCommand(p.Address.Addr()))
	}
	return f.advise("correct the address of %s, or assign it", p.For)
}

// taken judges what the socket s means for p; nil: nothing.
func (m Machine) taken(p Port, s Socket, own string) *Finding {
	same, sure := clash(p, s)
	if !same {
		return nil
	}
	owner := m.Owner(s.Inode)
	f := fail(AreaPorts, "%s (%s) is used by %s", p, p.For, owner).advise("stop it, or give %s another port", p.For)
	switch {
	case owner.PID != 0 && owner.Name == own:
		f = ok(AreaPorts, "%s (%s) is used by %s, which runs", p, p.For, owner)
	case !sure:
		f = warn(AreaPorts, "%s (%s) may be used by %s, which waits at %s", p, p.For, owner, s.Local).
			advise("see that it takes IPv6 alone, or give %s another port", p.For)
	case owner.PID == 0:
		f = f.advise("run doctor as root to see which, and stop it")
	}
	return &f
}

// clash reports whether both want the same packets. A socket that waits for
// all of IPv6 may or may not take IPv4 as well: then it is not sure.
func clash(p Port, s Socket) (same, sure bool) {
	a, b := p.Address.Addr().Unmap(), s.Local.Addr().Unmap()
	if p.Network != s.Network || p.Address.Port() != s.Local.Port() || p.Address.Port() == 0 {
		return false, true
	}
	switch {
	case a == b, a.Is4() == b.Is4() && (a.IsUnspecified() || b.IsUnspecified()):
		return true, true
	case a.IsUnspecified() && a.Is6(): // Go's own listener for all takes both
		return true, true
	case b.IsUnspecified() && b.Is6():
		return true, false
	}
	return false, true
}
